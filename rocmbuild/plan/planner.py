"""Make a plan: keys, actions and reasons of all components, in the order of their needs."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rocmbuild.model.manifest import Component, Source
from rocmbuild.model.recipe import Resolved
from rocmbuild.plan import fingerprint
from rocmbuild.plan.estimate import BRIEF, cost_of, of_recipe
from rocmbuild.plan.graph import Machine, Node, make_graph, order, twin, visible
from rocmbuild.plan.history import Action, Built, Decision, Stored, Wanted, decide
from rocmbuild.plan.inputs import Inputs, readable, split, taken_over
from rocmbuild.plan.plan import Job, Plan, need_name
from rocmbuild.plan.selection import Selection, resolve, root_packages, shared_values
from rocmbuild.plan.values import deb_version, substituted

if TYPE_CHECKING:
    from rocmbuild.plan.graph import Graph, Recipes


def make_plan(
    selection: Selection,
    built: Mapping[Node, Built],
    root_digests: Mapping[Machine, str | None] | None = None,
    stored: Mapping[tuple[str, str], Stored] | None = None,
) -> Plan:
    """Return the plan.

    ``built`` is what stamps say, ``root_digests`` those of the build roots that exist, ``stored`` what the store has
    by component and key.
    """
    recipes = resolve(selection)
    selected = selection.components or tuple(recipes[Machine.HOST])
    graph = make_graph(recipes, selected)
    planner = _Planner(selection, recipes, graph, _Known(built, root_digests or {}, stored or {}))
    for node in order(graph):
        planner.add(node)
    return Plan(
        selection=selection,
        jobs=tuple(planner.jobs.values()),
        roots=planner.roots,
        python_packages=planner.python_packages,
        package_versions=planner.package_versions,
        values=planner.shared[Machine.HOST],
        recipes=recipes[Machine.HOST],
    )


@dataclass(frozen=True)
class _Known:
    """What is there already: see ``make_plan``."""

    built: Mapping[Node, Built]
    roots: Mapping[Machine, str | None]
    stored: Mapping[tuple[str, str], Stored]


class _Planner:
    """Make jobs in order, so that the keys of needs are known."""

    def __init__(self, selection: Selection, recipes: Recipes, graph: Graph, known: _Known) -> None:
        self.selection = selection
        self.recipes = recipes
        self.graph = graph
        self.known = known
        self.jobs: dict[Node, Job] = {}
        self.outputs: dict[Node, str | None] = {}
        self.splits: dict[Node, str] = {}
        shared = {machine: shared_values(selection, recipes[machine], machine) for machine in selection.machines}
        self.provided = shared[Machine.HOST][0]
        self.shared = {machine: values for machine, (_, values) in shared.items()}
        self.roots = root_packages(selection)
        host = recipes[Machine.HOST]
        self.python_packages = tuple(sorted({name for recipe in host.values() for name in recipe.needs.python}))
        self.package_versions = {
            rule.name: self._deb_version(name) for name, recipe in host.items() for rule in recipe.packages
        }
        self.inputs = Inputs(selection, self.roots, self.python_packages, self.provided, self.package_versions)

    def add(self, node: Node) -> None:
        name = node.component
        component = self.selection.manifest.components[name]
        if self.provided[name] is not None:
            component = replace(component, source=Source(name, "none"), subdir=".")
        elif name in self.selection.sources:
            component = self._local(component, self.selection.sources[name])
        cross = self.selection.is_cross(node.machine)
        own_values = {"version": component.version, "source": f"{{source:{name}}}"}
        values = ChainMap(own_values, self.shared[node.machine])  # thousands are shared
        recipe = substituted(self.recipes[node.machine][name], values, component, cross=cross)
        seen = visible(self.graph, node)
        source_key = fingerprint.source_key(component, recipe)
        other = twin(node, self.recipes)
        own, key = self._static(node, recipe, source_key, seen, other)
        inputs = {**readable(own, component, recipe), **self._programs(node, seen)}
        own_key = fingerprint.build_key(inputs)
        local = component.source.kind == "local"
        needs = {need_name(node, need): self.outputs[need] for need in (*seen, *((other,) if other else ()))}
        splits = {need.component: self.splits[need] for need in seen if self._is_shipped(need)}
        shaping = self.inputs.packages(node, component, recipe, values, source_key=source_key, splits=splits)
        package_key = fingerprint.package_key(shaping)
        wanted = Wanted(key, own_key, self.known.roots.get(node.machine), needs)
        storable = self._is_storable(node, component, recipe, other)
        stored = self.known.stored.get((name, wanted.store_key or "")) if storable else None
        decision, repackage = self._decide(node, wanted, stored, package_key)
        self.outputs[node] = self._output(node, decision, stored, key)
        self.splits[node] = fingerprint.digest(split(recipe, values))
        self.jobs[node] = Job(
            node=node,
            action=decision.action,
            reason=decision.reason,
            conditional=decision.conditional,
            stored=wanted.store_key if storable else None,
            storable=storable,
            key=key,
            own_key=own_key,
            outputs=needs,
            inputs=inputs,
            source_key=source_key,
            tree_key=fingerprint.build_key({**inputs, "source": component.source.path}) if local else own_key,
            package_key=package_key,
            repackage=repackage,
            component=component,
            recipe=recipe,
            provided=self.provided[name],
            values=values,
            deb_version=self._deb_version(name),
            needs=tuple(seen),
            after=tuple(sorted(need for need, kinds in self.graph.needs[node].items() if kinds - {"run"})),
            twin=other,
            estimate=of_recipe(cost_of(recipe)) if recipe.builds and other is None else BRIEF,
        )

    def _local(self, component: Component, source: Source) -> Component:
        """Return the component with a checkout in place of its source: of its repository, or of its directory."""
        whole = (Path(source.path) / component.subdir).is_dir()
        return replace(component, source=source, subdir=component.subdir if whole else ".")

    def _static(
        self, node: Node, recipe: Resolved, source_key: str, seen: Iterable[Node], other: Node | None
    ) -> tuple[dict[str, Any], str]:
        """Return a component's own inputs, and the static key: with its needs by their static keys."""
        if other is not None:
            own = taken_over(other)
            return own, fingerprint.build_key({**own, "taken over": self.jobs[other].key})
        sources = [self.jobs[Node(name, node.machine_name)].source_key for name in recipe.needs.sources]
        own = self.inputs.own(node, recipe, source_key, sources)
        keys = {need_name(node, need): self.jobs[need].key for need in seen}
        return own, fingerprint.build_key({**own, "needs": keys})

    def _programs(self, node: Node, seen: Iterable[Node]) -> dict[str, Any]:
        """Return the needs whose programs for the host machine have those of the build machine in their place."""
        if not self.selection.is_cross(node.machine):
            return {}
        needed = {need.component: self.jobs[need] for need in seen if self.jobs[need].recipe.build_programs}
        places = {name: [job.values[f"home:{name}"], job.recipe.build_programs] for name, job in needed.items()}
        return {"programs": places} if places else {}

    def _decide(self, node: Node, wanted: Wanted, stored: Stored | None, package_key: str) -> tuple[Decision, bool]:
        """Return what is done and why, and whether packages are to be made."""
        built = self.known.built.get(node)
        packages = bool(self.recipes[node.machine][node.component].packages) and self._is_shipped(node)

        def lack(there: Built | Stored | None, root: str | None) -> bool:
            key = None if there is None else fingerprint.debs_key(package_key, there.output, wanted.needs, root)
            return packages and (there is None or there.packages != key)

        unpackaged = lack(built, built.root if built else None)
        if self.provided[node.component] is not None:
            same = built is not None and built.key == wanted.key
            return Decision(Action.PROVIDED, f"by {self.selection.distribution.name}"), unpackaged or not same
        decision = decide(wanted, built)
        if decision.action is Action.BUILD and stored is not None:
            return Decision(Action.RESTORE, f"{decision.reason}; the store has it"), lack(stored, wanted.root)
        return decision, decision.action is Action.BUILD or unpackaged

    def _output(self, node: Node, decision: Decision, stored: Stored | None, key: str) -> str | None:
        """Return what users of a component get from it; None if it has to be built first.

        What the distribution provides lies in the root, and only links to it in the stage tree: its key stands for it.
        """
        if decision.action is Action.PROVIDED:
            return key
        if decision.action is Action.RESTORE and stored is not None:
            return stored.output
        return self.known.built[node].output if decision.action is Action.KEEP else None

    def _is_storable(self, node: Node, component: Component, recipe: Resolved, other: Node | None) -> bool:
        """Return whether the store may keep a component: it is made in the sandbox from what others have too.

        A checkout is not, its own or one that it reads besides: it may change while the component is built.
        """
        made_here = self.selection.environment != "sandbox" or self.provided[node.component] is not None
        where = (other or node).machine_name
        read = (self.jobs[Node(name, where)].component for name in recipe.needs.sources)
        return not made_here and all(item.source.kind != "local" for item in (component, *read))

    def _is_shipped(self, node: Node) -> bool:
        """Return whether packages are made of it: tools of a cross build stay on the build machine."""
        return node.machine is Machine.HOST

    def _deb_version(self, name: str) -> str:
        manifest = self.selection.manifest
        return deb_version(manifest.components[name].version, manifest.version, self.selection.distribution.tag)
