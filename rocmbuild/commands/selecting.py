"""From settings to a selection: manifest, recipes, target, distribution, GPUs, and the commits of its sources."""

from __future__ import annotations

import asyncio
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from rocmbuild.errors import DocumentError, Problem, UsageError, nearest
from rocmbuild.model import gpu
from rocmbuild.model.catalog import Catalog
from rocmbuild.model.manifest import Manifest, Source
from rocmbuild.model.recipe import Recipe
from rocmbuild.model.target import Distribution, Target
from rocmbuild.plan.graph import make_graph
from rocmbuild.plan.selection import Selection, resolve
from rocmbuild.process import Runner
from rocmbuild.run.sourcing import Sourcing
from rocmbuild.settings import Settings
from rocmbuild.tools.cmake import BuildTools
from rocmbuild.workspace import tree_digest

_SIGNS = re.compile(r"[\s,;'\"`$\\()&|<>]")
"""Signs that part words for Ninja's jobserver, CMake's lists, linkers, or shells."""


def select(settings: Settings, catalog: Catalog, manifest: Manifest, tools: BuildTools) -> Selection:
    """Return what to build; UsageError or DocumentError if that cannot be."""
    recipes = load_recipes(catalog, manifest)
    machine = platform.machine()
    target = catalog.target(settings.target) if settings.target else catalog.target_for(machine)
    build = None if target.runs_on(machine) else catalog.target_for(machine)
    distribution = _distribution(settings, catalog, manifest, target)
    refuse_impossible(settings, target, build, distribution)
    _refuse_signs(settings)
    return Selection(
        manifest=manifest,
        recipes=recipes,
        target=target,
        distribution=distribution,
        gpus=gpu.select(settings.gpus or manifest.gpus, catalog.gpus(), manifest.version),
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


async def identified(selection: Selection, sourcing: Sourcing, runner: Runner) -> Selection:
    """Find out the commits of the git sources that the selected components need."""
    if not any(_is_unknown(component.source) for component in selection.manifest.components.values()):
        return selection
    graph = make_graph(resolve(selection), selection.components or tuple(selection.manifest.components))
    components = selection.manifest.components
    wanted = {node.component for node in graph} - set(selection.sources) - selection.system
    sources = {components[name].source.name: components[name].source for name in wanted}
    pinned = dict(zip(sources, await _identify(sources.values(), sourcing, runner), strict=True))
    identified = {
        name: replace(component, source=pinned.get(component.source.name, component.source))
        for name, component in components.items()
    }
    return replace(selection, manifest=replace(selection.manifest, components=identified))


def _is_unknown(source: Source) -> bool:
    return source.kind == "git" and source.commit is None


async def _identify(sources: Iterable[Source], sourcing: Sourcing, runner: Runner) -> list[Source]:
    gate = asyncio.Semaphore(8)

    async def one(source: Source) -> Source:
        if not _is_unknown(source):
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


def refuse_impossible(settings: Settings, target: Target, build: Target | None, distribution: Distribution) -> None:
    """Raise UsageError if nothing can be built for a target; ``build`` is this machine if it is another one."""
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


def _refuse_signs(settings: Settings) -> None:
    """Raise UsageError if what is built without a sandbox would be told a path that cannot be told.

    Not all of it would fail: Ninja looks for its jobserver at the part before a space, finds none, and starts as many
    compilers as it likes.
    """
    found = _SIGNS.search(str(settings.workspace))
    if settings.environment == "host" and found:
        sign = "a space" if found[0].isspace() else found[0]
        raise UsageError(
            f"--environment host: Ninja, CMake and compilers would take {settings.workspace} apart, "
            f"for it has {sign} in it",
            hint="choose another directory with --workspace, or leave --environment host out: a sandbox hides the path",
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
