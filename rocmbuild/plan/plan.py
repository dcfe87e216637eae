"""The plan as a value: which components, in which order, with which action, key and cost, and why."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rocmbuild.model.condition import Facts
from rocmbuild.model.manifest import Component, Manifest, Source
from rocmbuild.model.recipe import Provided, Recipe, Resolved
from rocmbuild.model.target import Distribution, Target
from rocmbuild.model.template import substitute
from rocmbuild.plan import fingerprint
from rocmbuild.plan.graph import Node, make_graph, order, visible
from rocmbuild.plan.values import deb_version, placeholders, substituted

if TYPE_CHECKING:
    from rocmbuild.plan.graph import Graph


class Action(enum.Enum):
    """What a plan does about a component."""

    BUILD = "BUILD"
    KEEP = "KEEP"
    PROVIDED = "PROVIDED"


@dataclass(frozen=True)
class Selection:
    """What a plan is made for; sources are identified already (commits known, local trees hashed)."""

    manifest: Manifest
    recipes: Mapping[str, Recipe]
    target: Target
    distribution: Distribution
    gpus: tuple[str, ...]
    system: frozenset[str]
    components: tuple[str, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    """sources that take the place of the manifest's, by component"""
    environment: str = "sandbox"
    tools: Mapping[str, str] = field(default_factory=dict)
    """versions of the CMake and Ninja in use"""
    cross: bool = False


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
    needs: tuple[str, ...]
    """components whose outputs it sees"""
    after: tuple[str, ...]
    """components that have to be there before it starts"""
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
            "needs": list(self.after),
            "estimate": self.cost if self.action is Action.BUILD else 0.0,
            "reason": self.reason,
            "package": self.repackage,
        }


@dataclass(frozen=True)
class Plan:
    """All jobs, each after its needs, and the graph they come from."""

    selection: Selection
    jobs: tuple[Job, ...]
    system_packages: tuple[str, ...]
    """distribution packages of the build root: what all recipes of the release ask for"""
    python_packages: tuple[str, ...]
    package_versions: Mapping[str, str]
    """version of every package of the release, by name"""
    values: Mapping[str, str]
    """placeholders that all recipes share"""
    recipes: Mapping[str, Resolved]
    """of all components of the release, selected or not; their placeholders are not replaced"""

    def job(self, name: str) -> Job:
        """Return the job of a component."""
        return next(job for job in self.jobs if job.node.component == name)

    @property
    def building(self) -> tuple[Job, ...]:
        """Return the jobs that build something."""
        return tuple(job for job in self.jobs if job.action is Action.BUILD)


def resolve(selection: Selection) -> dict[str, Resolved]:
    """Return the recipe of every component of the release, with its conditions decided."""
    return {
        name: selection.recipes[name].resolve(facts(selection, component))
        for name, component in selection.manifest.components.items()
    }


def facts(selection: Selection, component: Component) -> Facts:
    """Return what conditions may ask about a component."""
    llvm = selection.manifest.components.get("llvm")
    provided = _provided(selection, "llvm") if llvm else None
    return Facts(
        version=component.version,
        release=selection.manifest.version,
        llvm=provided.version if provided else (llvm.version if llvm else ""),
        arch=selection.target.arch,
        components=frozenset(selection.manifest.components),
        system=component.name in selection.system,
    )


def make_plan(selection: Selection, built: Mapping[str, Built], root_digest: str | None) -> Plan:
    """Return the plan; ``built`` is what stamps say, ``root_digest`` that of the build root if it exists."""
    recipes = resolve(selection)
    selected = selection.components or tuple(recipes)
    graph = make_graph(recipes, selected, cross=selection.cross)
    planner = _Planner(selection, recipes, graph, built, root_digest)
    for node in order(graph):
        planner.add(node)
    return Plan(
        selection=selection,
        jobs=tuple(planner.jobs.values()),
        system_packages=planner.system_packages,
        python_packages=planner.python_packages,
        package_versions=planner.package_versions,
        values=planner.shared,
        recipes=recipes,
    )


def system_packages(selection: Selection) -> tuple[str, ...]:
    """Return the distribution packages of the build root: what all recipes of the release ask for, sorted.

    All of the release, not of the selected components, so that every selection has the same root.
    """
    recipes = resolve(selection)
    provided, shared = _shared(selection, recipes)
    names = set(selection.distribution.system)
    for name, component in selection.manifest.components.items():
        values = {**shared, "version": component.version}
        names |= {substitute(package, values, recipes[name].where) for package in recipes[name].needs.system}
        by_system = provided[name]
        names |= set(by_system.system) if by_system else set()
    return tuple(sorted(names))


class _Planner:
    """Make jobs in order, so that the keys of needs are known."""

    def __init__(
        self,
        selection: Selection,
        recipes: Mapping[str, Resolved],
        graph: Graph,
        built: Mapping[str, Built],
        root_digest: str | None,
    ) -> None:
        self.selection = selection
        self.recipes = recipes
        self.graph = graph
        self.built = built
        self.root_digest = root_digest
        self.jobs: dict[Node, Job] = {}
        self.provided, self.shared = _shared(selection, recipes)
        self.system_packages = system_packages(selection)
        self.python_packages = tuple(sorted({name for recipe in recipes.values() for name in recipe.needs.python}))
        self.package_versions = {
            rule.name: self._deb_version(name) for name, recipe in recipes.items() for rule in recipe.packages
        }

    def add(self, node: Node) -> None:
        name = node.component
        component = self.selection.manifest.components[name]
        if self.provided[name] is not None:
            component = replace(component, source=Source(name, "none"), subdir=".")
        elif name in self.selection.sources:
            component = self._local(component, self.selection.sources[name])
        values = {**self.shared, "version": component.version, "source": f"{{source:{name}}}"}
        recipe = substituted(self.recipes[name], values, component)
        seen = visible(self.graph, node)
        source_key = fingerprint.source_key(component, recipe)
        inputs = self._inputs(node, recipe, source_key, seen)
        key = fingerprint.build_key(inputs)
        local = component.source.kind == "local"
        package_key = fingerprint.package_key(key, self._package_inputs(name, recipe, values, seen))
        action, reason, repackage = self._decide(node, key, package_key, seen)
        known = self.built.get(name)
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
            needs=tuple(str(need) for need in seen),
            after=tuple(sorted(str(need) for need in self.graph.predecessors(node) if self._orders(need, node))),
            cost=known.seconds if known and known.seconds else (recipe.cost if recipe.builds else 1.0),
        )

    def _local(self, component: Component, source: Source) -> Component:
        """Return the component with a checkout in place of its source: of its repository, or of its directory."""
        whole = (Path(source.path) / component.subdir).is_dir()
        return replace(component, source=source, subdir=component.subdir if whole else ".")

    def _orders(self, need: Node, node: Node) -> bool:
        return bool(self.graph.edges[need, node]["kinds"] - {"run"})

    def _inputs(self, node: Node, recipe: Resolved, source_key: str, seen: Iterable[Node]) -> dict[str, Any]:
        selection = self.selection
        return {
            "component": node.component,
            "machine": node.machine_name,
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
            "target": [selection.target.triple, list(selection.target.flags)],
            "prefix": selection.manifest.prefix,
            "compilers": [selection.distribution.cc, selection.distribution.cxx],
            "root": [selection.distribution.name, list(self.system_packages), list(self.python_packages)],
            "where": selection.environment,
            "tools": dict(selection.tools),
            "needs": {str(need): self.jobs[need].key for need in seen},
        }

    def _provided_inputs(self, name: str) -> Any:
        provided = self.provided[name]
        return None if provided is None else [provided.version, provided.home, [list(link) for link in provided.links]]

    def _package_inputs(
        self, name: str, recipe: Resolved, values: Mapping[str, str], seen: Iterable[Node]
    ) -> dict[str, Any]:
        provided = self.provided[name]
        return {
            **fingerprint.recipe_packages(recipe),
            "needs": {str(need): self.jobs[need].package_key for need in seen},
            "values": fingerprint.package_values(recipe, values),
            "runtime": list(provided.runtime) if provided else [],
            "versions": self.package_versions,
            "arch": self.selection.target.arch,
        }

    def _decide(self, node: Node, key: str, package_key: str, seen: Iterable[Node]) -> tuple[Action, str, bool]:
        """Return the action, why, and whether packages are to be made."""
        built = self.built.get(node.component)
        stale = next((need for need in seen if self.jobs[need].action is Action.BUILD), None)
        packaged = built is not None and built.packages == package_key
        repackage = bool(self.recipes[node.component].packages) and not packaged
        if self.provided[node.component] is not None:
            same = built is not None and built.key == key
            return Action.PROVIDED, f"by {self.selection.distribution.name}", repackage or not same
        if built is None:
            return Action.BUILD, "not built yet", True
        if built.key != key:
            return Action.BUILD, f"{stale} is built anew" if stale else "its inputs changed", True
        if self.root_digest is not None and built.root != self.root_digest:
            return Action.BUILD, "the build root has other package versions", True
        if stale is not None:
            return Action.BUILD, f"{stale} is built anew", True
        return Action.KEEP, "up to date", repackage

    def _deb_version(self, name: str) -> str:
        manifest = self.selection.manifest
        return deb_version(manifest.components[name].version, manifest.version, self.selection.distribution.tag)


def _shared(selection: Selection, recipes: Mapping[str, Resolved]) -> tuple[dict[str, Provided | None], dict[str, str]]:
    provided = {name: _provided(selection, name) for name in selection.manifest.components}
    return provided, placeholders(selection.manifest, selection.target, selection.gpus, recipes, provided)


def _provided(selection: Selection, name: str) -> Provided | None:
    if name not in selection.system:
        return None
    return selection.recipes[name].provided[selection.distribution.name]
