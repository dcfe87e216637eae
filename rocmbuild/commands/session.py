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
from rocmbuild.plan.graph import make_graph
from rocmbuild.plan.plan import Plan, Selection, make_plan, resolve, system_packages
from rocmbuild.process import Runner, network_environment
from rocmbuild.run.component import BuildRoot
from rocmbuild.run.sourcing import Sourcing
from rocmbuild.run.stamps import Stamps
from rocmbuild.settings import Settings, default_cache
from rocmbuild.tools.apt import Apt, ArchiveFinder
from rocmbuild.tools.cmake import BuildTools, find_build_tools
from rocmbuild.tools.download import Downloads
from rocmbuild.tools.git import Git
from rocmbuild.tools.pypi import python_place
from rocmbuild.tools.root import Root, RootSpec, find_root
from rocmbuild.workspace import Cache, Workspace, read_json, tree_digest, write_json


@dataclass(frozen=True)
class Session:
    """What the verbs of a build share: the catalog, the plan, and the means to carry it out."""

    settings: Settings
    plan: Plan
    workspace: Workspace
    cache: Cache
    stamps: Stamps
    sourcing: Sourcing
    finder: ArchiveFinder
    tools: BuildTools
    root_spec: RootSpec | None

    @property
    def distribution(self) -> Distribution:
        return self.plan.selection.distribution

    def root(self) -> Root | None:
        """Return the build root if it has been made."""
        return find_root(self.cache.roots, self.root_spec) if self.root_spec else None

    def made(self) -> BuildRoot:
        """Return the build root and the Python packages beside it, as far as they have been made."""
        place = python_place(self.cache.roots, self.plan.python_packages)
        return BuildRoot(self.root(), place if self.plan.python_packages and place.is_dir() else None)

    async def apt(self, runner: Runner) -> Apt:
        """Return apt for the distribution, in private directories below the cache."""
        arch = self.plan.selection.target.arch
        if self.settings.offline:
            raise UsageError(
                f"the build root of {self.distribution.name} is not in the cache, and --offline forbids to fetch it",
                hint="run rocmbuild fetch once without --offline",
            )
        return Apt(
            archive=await self.finder.find(runner),
            distribution=self.distribution,
            arch=arch,
            directory=self.cache.apt / f"{self.distribution.name}-{arch}",
            archives=self.cache.downloads / "debs",
        )

    def rerun(self) -> str:
        """Return the options that repeat this run, without verb and components."""
        return shlex.join(_options(self.settings))


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
    workspace = Workspace(settings.workspace, manifest.branch, f"{selection.distribution.name}-{selection.target.arch}")
    stamps = Stamps(workspace)
    spec = root_spec(selection) if settings.environment == "sandbox" else None
    root = find_root(cache.roots, spec) if spec else None
    plan = make_plan(selection, stamps.built(manifest.components), root.digest if root else None)
    return Session(settings, plan, workspace, cache, stamps, sourcing, finder, tools, spec)


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


def root_spec(selection: Selection) -> RootSpec:
    """Return what the build root of a selection is made of."""
    return RootSpec(selection.distribution, selection.target.arch, system_packages(selection))


def _selection(settings: Settings, catalog: Catalog, manifest: Manifest, tools: BuildTools) -> Selection:
    recipes = load_recipes(catalog, manifest)
    target = _target(settings, catalog)
    distribution = _distribution(settings, catalog, manifest)
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
    graph = make_graph(
        resolve(selection), selection.components or tuple(selection.manifest.components), cross=selection.cross
    )
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


def _target(settings: Settings, catalog: Catalog) -> Target:
    machine = platform.machine()
    target = catalog.target(settings.target) if settings.target else catalog.target_for(machine)
    if not target.runs_on(machine):
        raise UsageError(
            f"{target.name} is not this machine ({machine}), and cross builds are not there yet",
            hint="run rocmbuild on a machine of that architecture",
        )
    return target


def _distribution(settings: Settings, catalog: Catalog, manifest: Manifest) -> Distribution:
    name = settings.distribution or manifest.distribution
    distribution = catalog.distribution(name)
    if name not in manifest.distributions:
        raise UsageError(
            f"{manifest.branch} is not made for {name}",
            hint=f"choose with --distribution one of {', '.join(manifest.distributions)}",
        )
    return distribution


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
