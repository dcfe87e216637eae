"""The graph of components: what has to exist before what, and on which machine."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rocmbuild.errors import UsageError, nearest
from rocmbuild.model.recipe import Resolved

if TYPE_CHECKING:
    import networkx as nx

    Graph = nx.DiGraph["Node"]


class Machine(enum.Enum):
    """Where a component's output runs, in the words of Meson and Conan."""

    BUILD = "build"
    HOST = "host"


@dataclass(frozen=True, order=True)
class Node:
    """A component for one machine; in a native build every node is for the host machine."""

    component: str
    machine_name: str = Machine.HOST.value

    @property
    def machine(self) -> Machine:
        """Return the machine the component is built for."""
        return Machine(self.machine_name)

    def __str__(self) -> str:
        return self.component if self.machine is Machine.HOST else f"{self.component} ({self.machine_name})"


BUILD_EDGES = frozenset({"tools", "libs", "sources", "twin"})
"""Edges that order the build; ``run`` edges only make a selection complete."""

Recipes = Mapping[Machine, Mapping[str, Resolved]]
"""The recipes of a release for each machine; a native build has only those for the host machine."""


def make_graph(recipes: Recipes, selection: Iterable[str]) -> Graph:
    """Return the graph of the selected components and all they need; an edge leads from a need to its user.

    Edges carry ``kinds``, a set of tools, libs, sources, run, twin. In a cross build tools are for the build machine,
    and what is the same on every machine is built there: its node of the host machine only takes it over, from
    its twin. Raises UsageError for an unknown component and for a cycle, which is printed as a path.
    """
    import networkx as nx

    graph: Graph = nx.DiGraph()
    waiting = [Node(_known(name, recipes[Machine.HOST], None)) for name in sorted(selection)]
    while waiting:
        node = waiting.pop()
        if graph.nodes.get(node, {}).get("expanded"):
            continue
        graph.add_node(node, expanded=True)
        for kind, need in _needs(node, recipes):
            if graph.has_edge(need, node):
                graph.edges[need, node]["kinds"].add(kind)
            else:
                graph.add_edge(need, node, kinds={kind})
            waiting.append(need)
    _refuse_cycles(graph)
    return graph


def build_graph(graph: Graph) -> Graph:
    """Return the part of the graph that orders the build: without edges needed at run time only."""
    import networkx as nx

    ordered: Graph = nx.DiGraph()
    ordered.add_nodes_from(graph.nodes)
    ordered.add_edges_from(edge for edge in graph.edges if graph.edges[edge]["kinds"] & BUILD_EDGES)
    return ordered


def order(graph: Graph) -> list[Node]:
    """Return the nodes so that each comes after its needs; ties are broken by name."""
    import networkx as nx

    return list(nx.lexicographical_topological_sort(build_graph(graph), key=lambda node: (node.component, node)))


def visible(graph: Graph, node: Node) -> list[Node]:
    """Return the nodes whose outputs ``node`` may see: the tools and libs it declares, transitively."""
    import networkx as nx

    linked: Graph = nx.DiGraph()
    linked.add_nodes_from(graph.nodes)
    linked.add_edges_from(edge for edge in graph.edges if graph.edges[edge]["kinds"] & {"tools", "libs"})
    return sorted(nx.ancestors(linked, node))


def twin(node: Node, recipes: Recipes) -> Node | None:
    """Return the node of the build machine whose output is also that of ``node``; None if it has to be built itself."""
    recipe = recipes[node.machine][node.component]
    taken_over = Machine.BUILD in recipes and node.machine is Machine.HOST and recipe.builds
    return Node(node.component, Machine.BUILD.value) if taken_over and recipe.machine_independent else None


def _needs(node: Node, recipes: Recipes) -> list[tuple[str, Node]]:
    known = recipes[node.machine]
    recipe = known[node.component]
    other = twin(node, recipes)
    kinds = ("run",) if other is not None else ("tools", "libs", "sources", "run")
    found = [("twin", other)] if other is not None else []
    for kind in kinds:
        machine = Machine.BUILD.value if kind == "tools" and Machine.BUILD in recipes else node.machine_name
        names = getattr(recipe.needs, kind)
        found += [(kind, Node(_known(name, known, recipe), machine)) for name in sorted(names)]
    return found


def _known(name: str, recipes: Mapping[str, Resolved], user: Resolved | None) -> str:
    if name in recipes:
        return name
    what = (
        f"{user.name} needs {name}, but this release has no such component" if user else f"there is no component {name}"
    )
    raise UsageError(what, where=user.where if user else None, hint=nearest(name, recipes))


def _refuse_cycles(graph: Graph) -> None:
    import networkx as nx

    try:
        cycle = nx.find_cycle(build_graph(graph))
    except nx.NetworkXNoCycle:
        return
    users = [edge[0] for edge in cycle][::-1]  # an edge leads from a need to its user: backwards, each needs the next
    first = users.index(min(users))
    path = " → ".join(str(node) for node in (*users[first:], *users[:first], users[first]))
    raise UsageError(
        f"components need each other in a circle: {path}",
        hint="remove one of these edges from needs.tools, needs.libs or needs.sources of its recipe",
    )
