"""The graph of components: what has to exist before what, and on which machine."""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from rocmbuild.errors import UsageError, nearest
from rocmbuild.model.recipe import Resolved


class Machine(enum.Enum):
    """Where a component's output runs, in the words of Meson and Conan."""

    BUILD = "build"
    HOST = "host"


_HOST = Machine.HOST.value
_MACHINES: Mapping[str, Machine] = {machine.value: machine for machine in Machine}


class Node(NamedTuple):
    """A component for one machine; in a native build every node is for the host machine."""

    component: str
    machine_name: str = _HOST

    @property
    def machine(self) -> Machine:
        """Return the machine the component is built for."""
        return _MACHINES[self.machine_name]

    def __str__(self) -> str:
        return self.component if self.machine_name == _HOST else f"{self.component} ({self.machine_name})"


BUILD_EDGES = frozenset({"tools", "libs", "sources", "twin"})
"""Edges that order the build; ``run`` edges only make a selection complete."""

Recipes = Mapping[Machine, Mapping[str, Resolved]]
"""The recipes of a release for each machine; a native build has only those for the host machine."""


@dataclass(frozen=True)
class Graph:
    """Components and what each of them needs, with the kinds of the need: tools, libs, sources, run, twin."""

    needs: Mapping[Node, Mapping[Node, frozenset[str]]]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.needs)

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """Return the nodes so that each comes after its needs; ties are broken by name. Raises CycleError."""
        edges = {
            node: [need for need, kinds in needs.items() if kinds & BUILD_EDGES] for node, needs in self.needs.items()
        }
        sorter = TopologicalSorter(edges)
        sorter.prepare()
        ready: list[tuple[str, Node]] = []
        found: list[Node] = []
        while sorter.is_active():
            for node in sorter.get_ready():
                heapq.heappush(ready, (node.component, node))
            found.append(heapq.heappop(ready)[1])
            sorter.done(found[-1])
        return tuple(found)

    @cached_property
    def visible(self) -> Mapping[Node, frozenset[Node]]:
        """Return for each node those whose outputs it may see: the tools and libs it declares, transitively."""
        seen: dict[Node, frozenset[Node]] = {}
        for node in self.order:
            shown = [need for need, kinds in self.needs[node].items() if kinds & {"tools", "libs"}]
            seen[node] = frozenset(shown).union(*(seen[need] for need in shown))
        return seen


def make_graph(recipes: Recipes, selection: Iterable[str]) -> Graph:
    """Return the graph of the selected components and all they need.

    In a cross build tools are for the build machine, and what is the same on every machine is built there: its node of
    the host machine only takes it over, from its twin. Raises UsageError for an unknown component and for a cycle,
    which is printed as a path.
    """
    found: dict[Node, dict[Node, frozenset[str]]] = {}
    waiting = [Node(_known(name, recipes[Machine.HOST], None)) for name in sorted(selection)]
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        needs = found[node] = {}
        for kind, need in _needs(node, recipes):
            needs[need] = needs.get(need, frozenset()) | {kind}
        waiting += needs
    graph = Graph(found)
    try:
        graph.order  # noqa: B018  # it is kept
    except CycleError as error:
        raise _circle(error.args[1]) from None
    return graph


def order(graph: Graph) -> list[Node]:
    """Return the nodes so that each comes after its needs; ties are broken by name."""
    return list(graph.order)


def visible(graph: Graph, node: Node) -> list[Node]:
    """Return the nodes whose outputs ``node`` may see, sorted: the tools and libs it declares, transitively."""
    return sorted(graph.visible[node])


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


def _circle(path: list[Node]) -> UsageError:
    """Return the error for a path that ends where it begins, each node needed by the next."""
    users = path[:0:-1]
    first = users.index(min(users))
    text = " → ".join(str(node) for node in (*users[first:], *users[:first], users[first]))
    return UsageError(
        f"components need each other in a circle: {text}",
        hint="remove one of these edges from needs.tools, needs.libs or needs.sources of its recipe",
    )
