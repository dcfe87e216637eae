"""The plan as a value: which components, in which order, with which action, key and cost, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rocmbuild.model.manifest import Component, Source
from rocmbuild.model.recipe import Provided, Resolved
from rocmbuild.plan import fingerprint
from rocmbuild.plan.graph import Machine, Node, make_graph, order, twin, visible
from rocmbuild.plan.history import Action, Built, Decision, Record, Wanted, decide
from rocmbuild.plan.inputs import Inputs, readable, split, taken_over
from rocmbuild.plan.selection import Selection, resolve, root_packages, shared_values
from rocmbuild.plan.values import deb_version, substituted

if TYPE_CHECKING:
    from rocmbuild.plan.graph import Graph, Recipes


@dataclass(frozen=True)
class Job:
    """One component in a plan; strings of its recipe are substituted with ``values``."""

    node: Node
    action: Action
    reason: str
    conditional: bool
    """whether a build is left out if the outputs of its needs come out as they were"""
    key: str
    """the static key: its own inputs, and its needs by their static keys"""
    own_key: str
    """the key of its own inputs"""
    outputs: Mapping[str, str | None]
    """what its needs give, by their names in keys; None for one that has to be built first"""
    inputs: Mapping[str, Any]
    """its own inputs as people read them"""
    source_key: str
    tree_key: str
    """names what its build tree may go on with; a local source's content is not in it, for Ninja sees to that"""
    package_key: str
    """what shapes its packages, besides stage trees"""
    repackage: bool
    component: Component
    recipe: Resolved
    provided: Provided | None
    values: Mapping[str, str]
    deb_version: str
    needs: tuple[Node, ...]
    """components whose outputs it sees"""
    after: tuple[Node, ...]
    """components that have to be there before it starts"""
    twin: Node | None
    """the node of the build machine whose output it takes over"""
    cost: float
    """estimated seconds of CPU"""

    @property
    def name(self) -> str:
        """Return the name under which the job runs and logs."""
        return str(self.node)

    @property
    def consumed(self) -> dict[str, Node]:
        """Return the nodes whose outputs it is made from, by the names under which its keys have them."""
        twin = (self.twin,) if self.twin is not None else ()
        return {_need_name(self.node, need): need for need in (*self.needs, *twin)}

    @property
    def action_key(self) -> str | None:
        """Return the key of its own inputs and the outputs of its needs; None while one of these is not known."""
        return None if None in self.outputs.values() else fingerprint.action_key(self.own_key, self.outputs)

    def wanted(self, root: str | None) -> Wanted:
        """Return what the plan wants of it, with the digest of its root if that is known."""
        return Wanted(self.key, self.own_key, root, self.outputs)

    def record(self, needs: Mapping[str, str | None]) -> Record:
        """Return what it was made from, given the outputs of its needs."""
        return Record(self.key, self.own_key, needs)

    def debs_key(self, output: str | None, needs: Mapping[str, str | None], root: str | None) -> str:
        """Return the key of its packages, given its stage tree and those of its needs."""
        return fingerprint.debs_key(self.package_key, output, needs, root)

    def row(self) -> dict[str, Any]:
        """Return the job as ``rocmbuild plan --format json`` shows it."""
        return {
            "component": self.node.component,
            "machine": self.node.machine_name,
            "action": self.action.value,
            "version": self.component.version,
            "fingerprint": self.key,
            "action_key": self.action_key,
            "conditional": self.conditional,
            "needs": [str(node) for node in self.after],
            "estimate": self.cost if self.action is Action.BUILD else 0.0,
            "reason": self.reason,
            "package": self.repackage,
        }


@dataclass(frozen=True)
class Plan:
    """All jobs, each after its needs, and the graph they come from."""

    selection: Selection
    jobs: tuple[Job, ...]
    roots: Mapping[Machine, Mapping[str, tuple[str, ...]]]
    """distribution packages of each kind of root for each machine; see ``root_packages``"""
    python_packages: tuple[str, ...]
    package_versions: Mapping[str, str]
    """version of every package of the release, by name"""
    values: Mapping[str, str]
    """placeholders that all recipes for the host machine share"""
    recipes: Mapping[str, Resolved]
    """of all components of the release, selected or not, for the host machine; placeholders are not replaced"""

    def job(self, name: str, machine: Machine = Machine.HOST) -> Job:
        """Return the job of a component."""
        return self.at(Node(name, machine.value))

    def at(self, node: Node) -> Job:
        """Return the job of a node."""
        return next(job for job in self.jobs if job.node == node)

    @property
    def building(self) -> tuple[Job, ...]:
        """Return the jobs that build something."""
        return tuple(job for job in self.jobs if job.action is Action.BUILD)


def make_plan(
    selection: Selection, built: Mapping[Node, Built], root_digests: Mapping[Machine, str | None] | None = None
) -> Plan:
    """Return the plan; ``built`` is what stamps say, ``root_digests`` those of the build roots that exist."""
    recipes = resolve(selection)
    selected = selection.components or tuple(recipes[Machine.HOST])
    graph = make_graph(recipes, selected)
    planner = _Planner(selection, recipes, graph, built, root_digests or {})
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


class _Planner:
    """Make jobs in order, so that the keys of needs are known."""

    def __init__(
        self,
        selection: Selection,
        recipes: Recipes,
        graph: Graph,
        built: Mapping[Node, Built],
        root_digests: Mapping[Machine, str | None],
    ) -> None:
        self.selection = selection
        self.recipes = recipes
        self.graph = graph
        self.built = built
        self.root_digests = root_digests
        self.jobs: dict[Node, Job] = {}
        self.outputs: dict[Node, str | None] = {}
        self.splits: dict[Node, list[list[Any]]] = {}
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
        values = {**self.shared[node.machine], "version": component.version, "source": f"{{source:{name}}}"}
        recipe = substituted(self.recipes[node.machine][name], values, component, cross=cross)
        seen = visible(self.graph, node)
        source_key = fingerprint.source_key(component, recipe)
        other = twin(node, self.recipes)
        own, key = self._static(node, recipe, source_key, seen, other)
        inputs = {**readable(own, component, recipe), **self._programs(node, seen)}
        own_key = fingerprint.build_key(inputs)
        local = component.source.kind == "local"
        needs = {_need_name(node, need): self.outputs[need] for need in (*seen, *((other,) if other else ()))}
        splits = {need.component: self.splits[need] for need in seen if self._is_shipped(need)}
        package_key = fingerprint.package_key(self.inputs.packages(node, recipe, values, source_key, splits))
        wanted = Wanted(key, own_key, self.root_digests.get(node.machine), needs)
        decision, repackage = self._decide(node, wanted, package_key)
        known = self.built.get(node)
        self.outputs[node] = self._output(node, decision, key)
        self.splits[node] = split(recipe, values)
        self.jobs[node] = Job(
            node=node,
            action=decision.action,
            reason=decision.reason,
            conditional=decision.conditional,
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
            after=tuple(sorted(need for need in self.graph.predecessors(node) if self._orders(need, node))),
            twin=other,
            cost=known.seconds if known and known.seconds else (recipe.cost if recipe.builds and not other else 1.0),
        )

    def _local(self, component: Component, source: Source) -> Component:
        """Return the component with a checkout in place of its source: of its repository, or of its directory."""
        whole = (Path(source.path) / component.subdir).is_dir()
        return replace(component, source=source, subdir=component.subdir if whole else ".")

    def _orders(self, need: Node, node: Node) -> bool:
        return bool(self.graph.edges[need, node]["kinds"] - {"run"})

    def _static(
        self, node: Node, recipe: Resolved, source_key: str, seen: Iterable[Node], other: Node | None
    ) -> tuple[dict[str, Any], str]:
        """Return a component's own inputs, and the static key: with its needs by their static keys."""
        if other is not None:
            own = taken_over(other)
            return own, fingerprint.build_key({**own, "taken over": self.jobs[other].key})
        sources = [self.jobs[Node(name, node.machine_name)].source_key for name in recipe.needs.sources]
        own = self.inputs.own(node, recipe, source_key, sources)
        keys = {_need_name(node, need): self.jobs[need].key for need in seen}
        return own, fingerprint.build_key({**own, "needs": keys})

    def _programs(self, node: Node, seen: Iterable[Node]) -> dict[str, Any]:
        """Return the needs whose programs for the host machine have those of the build machine in their place."""
        if not self.selection.is_cross(node.machine):
            return {}
        needed = {need.component: self.jobs[need] for need in seen if self.jobs[need].recipe.build_programs}
        places = {name: [job.values[f"home:{name}"], job.recipe.build_programs] for name, job in needed.items()}
        return {"programs": places} if places else {}

    def _decide(self, node: Node, wanted: Wanted, package_key: str) -> tuple[Decision, bool]:
        """Return what is done and why, and whether packages are to be made."""
        built = self.built.get(node)
        packages = bool(self.recipes[node.machine][node.component].packages) and self._is_shipped(node)
        packaged = built is not None and built.packages == fingerprint.debs_key(
            package_key, built.output, wanted.needs, built.root
        )
        if self.provided[node.component] is not None:
            same = built is not None and built.key == wanted.key
            decision = Decision(Action.PROVIDED, f"by {self.selection.distribution.name}")
            return decision, (packages and not packaged) or not same
        decision = decide(wanted, built)
        return decision, decision.action is Action.BUILD or (packages and not packaged)

    def _output(self, node: Node, decision: Decision, key: str) -> str | None:
        """Return what users of a component get from it; None if it has to be built first.

        What the distribution provides lies in the root, and only links to it in the stage tree: its key stands for it.
        """
        if decision.action is Action.PROVIDED:
            return key
        return self.built[node].output if decision.action is Action.KEEP else None

    def _is_shipped(self, node: Node) -> bool:
        """Return whether packages are made of it: tools of a cross build stay on the build machine."""
        return node.machine is Machine.HOST

    def _deb_version(self, name: str) -> str:
        manifest = self.selection.manifest
        return deb_version(manifest.components[name].version, manifest.version, self.selection.distribution.tag)


def _need_name(node: Node, need: Node) -> str:
    """Return the name of a need in keys: it says its machine only if that is another one.

    So a component for the build machine has the same key in a cross build and in a native one.
    """
    return need.component if need.machine is node.machine else str(need)
