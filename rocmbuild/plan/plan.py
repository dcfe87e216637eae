"""The plan as a value: which components, in which order, with which action, key and cost, and why."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rocmbuild.model.manifest import Component, Source
from rocmbuild.model.recipe import Provided, Resolved
from rocmbuild.plan import fingerprint
from rocmbuild.plan.graph import Machine, Node, make_graph, order, twin, visible
from rocmbuild.plan.selection import Selection, resolve, root_packages, shared_values
from rocmbuild.plan.values import deb_version, substituted

if TYPE_CHECKING:
    from rocmbuild.plan.graph import Graph, Recipes


class Action(enum.Enum):
    """What a plan does about a component."""

    BUILD = "BUILD"
    KEEP = "KEEP"
    PROVIDED = "PROVIDED"


@dataclass(frozen=True)
class Built:
    """What a component's stamps say was made: the keys, the root's digest, the seconds it took."""

    key: str
    root: str | None
    packages: str | None
    seconds: float
    output: str


@dataclass(frozen=True)
class Job:
    """One component in a plan; strings of its recipe are substituted with ``values``."""

    node: Node
    action: Action
    reason: str
    key: str
    source_key: str
    tree_key: str
    """names what its build tree may go on with; a local source's content is not in it, for Ninja sees to that"""
    package_key: str
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

    def row(self) -> dict[str, Any]:
        """Return the job as ``rocmbuild plan --format json`` shows it."""
        return {
            "component": self.node.component,
            "machine": self.node.machine_name,
            "action": self.action.value,
            "version": self.component.version,
            "fingerprint": self.key,
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
        shared = {machine: shared_values(selection, recipes[machine], machine) for machine in selection.machines}
        self.provided = shared[Machine.HOST][0]
        self.shared = {machine: values for machine, (_, values) in shared.items()}
        self.roots = root_packages(selection)
        host = recipes[Machine.HOST]
        self.python_packages = tuple(sorted({name for recipe in host.values() for name in recipe.needs.python}))
        self.package_versions = {
            rule.name: self._deb_version(name) for name, recipe in host.items() for rule in recipe.packages
        }

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
        inputs = self._inputs(node, recipe, source_key, seen) if other is None else self._taken_over(other)
        key = fingerprint.build_key(inputs)
        local = component.source.kind == "local"
        package_key = fingerprint.package_key(key, self._package_inputs(node, recipe, values, seen))
        before = [*seen, other] if other is not None else seen
        action, reason, repackage = self._decide(node, key, package_key, before)
        known = self.built.get(node)
        self.jobs[node] = Job(
            node=node,
            action=action,
            reason=reason,
            key=key,
            source_key=source_key,
            tree_key=fingerprint.build_key({**inputs, "source": component.source.path}) if local else key,
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

    def _inputs(self, node: Node, recipe: Resolved, source_key: str, seen: Iterable[Node]) -> dict[str, Any]:
        selection, target = self.selection, self.selection.target_of(node.machine)
        return {
            "component": node.component,
            "source": source_key,
            "sources": [self.jobs[Node(name, node.machine_name)].source_key for name in recipe.needs.sources],
            "subdir": recipe.subdir,
            "targets": list(recipe.targets),
            "variables": dict(recipe.variables),
            "environment": dict(recipe.environment),
            "additions": [[item.path, item.text, item.link] for item in recipe.additions],
            **({"discards": [list(item.files) for item in recipe.discards]} if recipe.discards else {}),
            "builds": recipe.builds,
            "provided": self._provided_inputs(node.component),
            "target": [target.triple, list(target.flags)],
            "prefix": selection.manifest.prefix,
            "compilers": self._compilers(node.machine),
            "root": [
                selection.distribution.name,
                {kind: list(names) for kind, names in self.roots[node.machine].items()},
                list(self.python_packages),
            ],
            "where": selection.environment,
            "tools": dict(selection.tools),
            "needs": self._keys(node, seen, "key"),
        }

    def _taken_over(self, other: Node) -> dict[str, Any]:
        return {"component": other.component, "taken over": self.jobs[other].key, "source": ""}

    def _compilers(self, machine: Machine) -> list[Any]:
        """Return what compiles for a machine; in a cross build also GCC's place, CMake's processor, an emulator."""
        distribution, target = self.selection.distribution, self.selection.target_of(machine)
        if not self.selection.is_cross(machine) or distribution.cross is None:
            return [distribution.cc, distribution.cxx, list(target.gcc_flags)]
        tools = distribution.cross
        emulator = target.emulator
        return [
            *(tools.cc, tools.cxx, tools.linker, tools.binutils, tools.gcc, target.machines[0]),
            [emulator.program, emulator.cpu] if emulator else None,
        ]

    def _keys(self, node: Node, seen: Iterable[Node], which: str) -> dict[str, str]:
        """Return a key of each need; a need's name says its machine only if that is another one.

        So a component for the build machine has the same key in a cross build and in a native one.
        """
        return {
            need.component if need.machine is node.machine else str(need): getattr(self.jobs[need], which)
            for need in seen
        }

    def _provided_inputs(self, name: str) -> Any:
        provided = self.provided[name]
        return None if provided is None else [provided.version, provided.home, [list(link) for link in provided.links]]

    def _package_inputs(
        self, node: Node, recipe: Resolved, values: Mapping[str, str], seen: Iterable[Node]
    ) -> dict[str, Any]:
        provided = self.provided[node.component]
        return {
            **fingerprint.recipe_packages(recipe),
            "needs": self._keys(node, seen, "package_key"),
            "values": fingerprint.package_values(recipe, values),
            "runtime": list(provided.runtime) if provided else [],
            "versions": self.package_versions,
            "arch": self.selection.target_of(node.machine).arch,
        }

    def _decide(self, node: Node, key: str, package_key: str, seen: Iterable[Node]) -> tuple[Action, str, bool]:
        """Return the action, why, and whether packages are to be made."""
        built = self.built.get(node)
        root_digest = self.root_digests.get(node.machine)
        stale = next((need for need in seen if self.jobs[need].action is Action.BUILD), None)
        packaged = built is not None and built.packages == package_key
        packages = bool(self.recipes[node.machine][node.component].packages) and self._is_shipped(node)
        repackage = packages and not packaged
        if self.provided[node.component] is not None:
            same = built is not None and built.key == key
            return Action.PROVIDED, f"by {self.selection.distribution.name}", repackage or not same
        if built is None:
            return Action.BUILD, "not built yet", True
        if built.key != key:
            return Action.BUILD, f"{stale} is built anew" if stale else "its inputs changed", True
        if root_digest is not None and built.root != root_digest:
            return Action.BUILD, "the build root has other package versions", True
        if stale is not None:
            return Action.BUILD, f"{stale} is built anew", True
        return Action.KEEP, "up to date", repackage

    def _is_shipped(self, node: Node) -> bool:
        """Return whether packages are made of it: tools of a cross build stay on the build machine."""
        return node.machine is Machine.HOST

    def _deb_version(self, name: str) -> str:
        manifest = self.selection.manifest
        return deb_version(manifest.components[name].version, manifest.version, self.selection.distribution.tag)
