"""From settings to a plan: choose manifest, target, distribution and GPUs, identify sources, read stamps."""

from __future__ import annotations

import asyncio
import json
import platform
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rocmbuild.errors import DocumentError, Problem, UsageError, nearest
from rocmbuild.model.catalog import Catalog, make_catalog
from rocmbuild.model.gpu import select
from rocmbuild.model.manifest import Manifest, Source
from rocmbuild.model.recipe import Recipe
from rocmbuild.model.target import Distribution, Target
from rocmbuild.plan.graph import Machine, Node, make_graph
from rocmbuild.plan.plan import Plan
from rocmbuild.plan.planner import make_plan
from rocmbuild.plan.selection import SYSROOT, Selection, resolve, root_packages
from rocmbuild.process import Runner, network_environment
from rocmbuild.run.site import Area, Made, Site
from rocmbuild.run.sourcing import Sourcing
from rocmbuild.run.stamps import Stamps
from rocmbuild.settings import Settings, default_cache
from rocmbuild.tools.apt import Apt, ArchiveFinder
from rocmbuild.tools.cmake import BuildTools, find_build_tools
from rocmbuild.tools.download import Downloads
from rocmbuild.tools.git import Git
from rocmbuild.tools.pypi import python_place
from rocmbuild.tools.root import RootSpec, find_root
from rocmbuild.workspace import Cache, Workspace, read_json, tree_digest, write_json


@dataclass(frozen=True)
class Session:
    """What the verbs of a build share: the catalog, the plan, and the means to carry it out."""

    settings: Settings
    plan: Plan
    areas: Mapping[Machine, Area]
    cache: Cache
    sourcing: Sourcing
    finder: ArchiveFinder
    tools: BuildTools

    @property
    def distribution(self) -> Distribution:
        return self.plan.selection.distribution

    @property
    def workspace(self) -> Workspace:
        """Return the area of the workspace that packages go to."""
        return self.areas[Machine.HOST].workspace

    @property
    def sandboxed(self) -> bool:
        return self.plan.selection.environment == "sandbox"

    def site(self, jobserver: Path | None, makeflags: str) -> Site:
        """Return where and with what components are built."""
        return Site(plan=self.plan, areas=self.areas, tools=self.tools, jobserver=jobserver, makeflags=makeflags)

    async def apt(self, runner: Runner, arch: str) -> Apt:
        """Return apt for the distribution and an architecture, in private directories below the cache."""
        if self.settings.offline:
            raise UsageError(
                f"a root of {self.distribution.name} for {arch} is not in the cache, and --offline forbids to fetch it",
                hint="run rocmbuild fetch once without --offline",
            )
        return Apt(
            archive=await self.finder.find(runner),
            distribution=self.distribution,
            arch=arch,
            directory=self.cache.apt / f"{self.distribution.name}-{arch}",
            archives=self.cache.downloads / "debs",
        )

    def rerun(self, machine: Machine = Machine.HOST) -> str:
        """Return the options that repeat this run for a machine, without verb and components."""
        settings, selection = self.settings, self.plan.selection
        if machine is Machine.BUILD:
            target = selection.target_of(machine).name
            settings = replace(settings, target=target, distribution=selection.distribution.name)
        return shlex.join(_options(settings))


async def open_session(settings: Settings, runner: Runner) -> Session:
    """Make the plan the settings ask for; nothing is downloaded but the refs of git sources."""
    settings = remembered(settings)
    catalog = make_catalog(settings.manifests, settings.recipes, settings.targets)
    manifest = catalog.manifest(settings.required_branch())
    cache = Cache(settings.cache)
    environment = network_environment(settings.environ)
    finder = ArchiveFinder(environment, settings.apt_mirror, settings.allow_stale_archive)
    git = Git(cache.git, environment, settings.mirrors, settings.offline)
    sourcing = Sourcing(git, Downloads(cache.downloads, finder, git.rewrite, environment, settings.offline))
    tools = find_build_tools()
    selection = await _identified(_selection(settings, catalog, manifest, tools), sourcing, runner)
    areas = _areas(settings, selection, cache)
    built = {
        Node(name, machine.value): known
        for machine, area in areas.items()
        for name, known in area.stamps.built(manifest.components).items()
    }
    plan = make_plan(selection, built, {machine: area.made.digest for machine, area in areas.items()})
    python = python_place(cache.roots, plan.python_packages)
    for area in areas.values():
        area.made.python = python if plan.python_packages and python.is_dir() else None
    return Session(settings, plan, areas, cache, sourcing, finder, tools)


def _areas(settings: Settings, selection: Selection, cache: Cache) -> dict[Machine, Area]:
    """Return the area of each machine, with the roots that have been made.

    Tools of a cross build are in the area of native builds: they are the same.
    """
    areas = {}
    for machine, packages in root_packages(selection).items():
        workspace = Workspace(settings.workspace, selection.manifest.branch, _area_name(selection, machine))
        specs = _specs(selection, machine, packages) if settings.environment == "sandbox" else {}
        found = {kind: find_root(cache.roots, spec) for kind, spec in specs.items()}
        roots = {kind: root for kind, root in found.items() if root is not None}
        areas[machine] = Area(workspace, Stamps(workspace), Made(specs, roots))
    return areas


def _area_name(selection: Selection, machine: Machine) -> str:
    return f"{selection.distribution.name}-{selection.target_of(machine).area}"


def _specs(selection: Selection, machine: Machine, packages: Mapping[str, tuple[str, ...]]) -> dict[str, RootSpec]:
    """Return what the roots of a machine are made of; only a sysroot is of the host machine's architecture."""
    runs = selection.target_of(selection.machines[0]).arch
    archs = {SYSROOT: selection.target_of(machine).arch}
    return {kind: RootSpec(selection.distribution, archs.get(kind, runs), names) for kind, names in packages.items()}


def remembered(settings: Settings) -> Settings:
    """Return settings in which what was not said is as in the last build, for verbs that look at what it left.

    A shell sees what the build saw, also if only the branch is named again.
    """
    last = read_json(settings.workspace / "last.json") or {}
    if settings.verb not in ("shell", "verify", "package") or "branch" not in last:
        return settings
    if settings.branch not in (None, last["branch"]) or (settings.branch and settings.verb != "shell"):
        return settings
    unsaid = {name: _restored(name, last[name]) for name in _REMEMBERED if name in last and not getattr(settings, name)}
    if settings.environment == "sandbox":
        unsaid["environment"] = last["environment"]
    if settings.cache == default_cache(settings.environ):
        unsaid["cache"] = Path(last["cache"])
    return replace(settings, **unsaid)


def remember(settings: Settings) -> None:
    """Keep what a build was asked for, for the verbs that look at what it left."""
    record = {name: getattr(settings, name) for name in (*_REMEMBERED, "environment", "cache")}
    write_json(settings.workspace / "last.json", json.loads(json.dumps(record, default=str)))


_PATHS = ("manifests", "recipes", "targets")
_REMEMBERED = (
    *("branch", "target", "distribution", "gpus", "system", "sources", "mirrors"),
    *("apt_mirror", "allow_stale_archive", *_PATHS),
)


def _restored(name: str, value: Any) -> Any:
    if name == "sources":
        return {component: Path(path) for component, path in value.items()}
    if name in _PATHS:
        return tuple(Path(path) for path in value)
    if name == "mirrors":
        return tuple((prefix, url) for prefix, url in value)
    return tuple(value) if isinstance(value, list) else value


def _selection(settings: Settings, catalog: Catalog, manifest: Manifest, tools: BuildTools) -> Selection:
    recipes = load_recipes(catalog, manifest)
    machine = platform.machine()
    target = catalog.target(settings.target) if settings.target else catalog.target_for(machine)
    build = None if target.runs_on(machine) else catalog.target_for(machine)
    distribution = _distribution(settings, catalog, manifest, target)
    _refuse_impossible(settings, target, build, distribution)
    return Selection(
        manifest=manifest,
        recipes=recipes,
        target=target,
        distribution=distribution,
        gpus=select(settings.gpus or manifest.gpus, catalog.gpus(), manifest.version),
        system=_system(settings, manifest, recipes, distribution),
        components=_components(settings.components, manifest),
        sources={name: _local(name, path, manifest) for name, path in settings.sources.items()},
        environment=settings.environment,
        tools=tools.versions,
        build=build,
    )


def load_recipes(catalog: Catalog, manifest: Manifest) -> dict[str, Recipe]:
    """Return the recipes of all components of a release; DocumentError has the problems of all of them."""
    recipes: dict[str, Recipe] = {}
    problems: list[Problem] = []
    for name, component in manifest.components.items():
        try:
            recipes[name] = catalog.recipe(name)
        except DocumentError as error:
            problems += error.problems
        except UsageError as error:
            problems.append(Problem(component.where, f"components.{name}: {error.message}", error.hint))
    if problems:
        raise DocumentError(problems)
    return recipes


async def _identified(selection: Selection, sourcing: Sourcing, runner: Runner) -> Selection:
    """Find out the commits of the git sources that the selected components need."""
    graph = make_graph(resolve(selection), selection.components or tuple(selection.manifest.components))
    components = selection.manifest.components
    wanted = {node.component for node in graph.nodes} - set(selection.sources) - selection.system
    sources = {components[name].source.name: components[name].source for name in wanted}
    pinned = dict(zip(sources, await _identify(sources.values(), sourcing, runner), strict=True))
    identified = {
        name: replace(component, source=pinned.get(component.source.name, component.source))
        for name, component in components.items()
    }
    return replace(selection, manifest=replace(selection.manifest, components=identified))


async def _identify(sources: Iterable[Source], sourcing: Sourcing, runner: Runner) -> list[Source]:
    gate = asyncio.Semaphore(8)

    async def one(source: Source) -> Source:
        if source.kind != "git" or source.commit is not None:
            return source
        async with gate:
            return await sourcing.identify(source, replace(runner))

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(source)) for source in sources]
    except BaseExceptionGroup as errors:  # the first of them is told; the others are like it
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _distribution(settings: Settings, catalog: Catalog, manifest: Manifest, target: Target) -> Distribution:
    """Return the distribution asked for, or the one the target runs if the release is made for it."""
    usual = target.distribution if target.distribution in manifest.distributions else manifest.distribution
    name = settings.distribution or usual
    distribution = catalog.distribution(name)
    if name not in manifest.distributions:
        raise UsageError(
            f"{manifest.branch} is not made for {name}",
            hint=f"choose with --distribution one of {', '.join(manifest.distributions)}",
        )
    return distribution


def _refuse_impossible(settings: Settings, target: Target, build: Target | None, distribution: Distribution) -> None:
    if target.arch not in distribution.architectures:
        raise UsageError(
            f"{distribution.name} does not exist for {target.arch}, the architecture of {target.name}",
            hint=f"it exists for {', '.join(distribution.architectures)}; choose another one with --distribution",
        )
    if build is None:
        return
    if distribution.cross is None:
        raise UsageError(
            f"{distribution.name} names no compilers to build for another machine, and {target.name} is one",
            hint="choose another --distribution, or build on a machine of that architecture",
        )
    if settings.environment == "host":
        raise UsageError(
            f"{target.name} is another machine than this ({build.name}): that takes a sysroot, and so the sandbox",
            hint="leave --environment host out",
        )


def _system(
    settings: Settings, manifest: Manifest, recipes: Mapping[str, Recipe], distribution: Distribution
) -> frozenset[str]:
    chosen = frozenset(_components(settings.system, manifest)) | frozenset(manifest.system)
    for name in sorted(chosen):
        if distribution.name not in recipes[name].provided:
            known = ", ".join(sorted(recipes[name].provided)) or "no distribution does"
            raise UsageError(
                f"{distribution.name} does not provide {name}",
                where=recipes[name].document.where("provided"),
                hint=f"provided by: {known}; leave --system {name} out to build it",
            )
    return chosen


def _components(names: Iterable[str], manifest: Manifest) -> tuple[str, ...]:
    for name in names:
        if name not in manifest.components:
            raise UsageError(f"{manifest.branch} has no component {name}", hint=nearest(name, manifest.components))
    return tuple(names)


def _local(name: str, path: Path, manifest: Manifest) -> Source:
    _components([name], manifest)
    if not path.is_dir():
        raise UsageError(f"--source {name}={path}: there is no such directory")
    return Source(name, "local", path=str(path), sha256=tree_digest(path))


def _options(settings: Settings) -> Iterable[str]:
    """Yield the options that decide what is built, so that a rerun line builds the same."""
    yield from ("--branch", settings.required_branch())
    for option, value in (
        ("--target", settings.target),
        ("--distribution", settings.distribution),
        ("--apt-mirror", settings.apt_mirror),
    ):
        if value is not None:
            yield from (option, value)
    if settings.gpus:
        yield from ("--gpu", ",".join(settings.gpus))
    for name in settings.system:
        yield from ("--system", name)
    for name, path in settings.sources.items():
        yield from ("--source", f"{name}={path}")
    for prefix, url in settings.mirrors:
        yield from ("--mirror", f"{prefix}={url}")
    for option, directories in (
        ("--manifests", settings.manifests),
        ("--recipes", settings.recipes),
        ("--targets", settings.targets),
    ):
        for directory in directories:
            yield from (option, str(directory))
    if settings.environment != "sandbox":
        yield from ("--environment", settings.environment)
    for option, given in (("--allow-stale-archive", settings.allow_stale_archive), ("--offline", settings.offline)):
        if given:
            yield option
    yield from ("--workspace", str(settings.workspace))
    if settings.cache != default_cache(settings.environ):
        yield from ("--cache", str(settings.cache))
