"""The steps that turn one component's source into a stage tree."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rocmbuild.errors import StepError
from rocmbuild.model.recipe import Discard
from rocmbuild.model.template import substitute
from rocmbuild.plan.plan import Job, Plan
from rocmbuild.process import ProcessError, Runner, describe_exit
from rocmbuild.run.stamps import Stamps
from rocmbuild.run.task import StepContext, StepFunction
from rocmbuild.tools import cmake
from rocmbuild.tools.prefix import merge
from rocmbuild.tools.root import Root
from rocmbuild.tools.runpath import relocate_tree
from rocmbuild.tools.sandbox import Environment, Host, Mounts, Sandbox
from rocmbuild.tools.split import discarded, entries
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import Workspace, new_directory, remove_tree, tree_digest, write_text

EPOCH = 1704067200
"""SOURCE_DATE_EPOCH of all builds: a constant, since a build must not know when it runs (2024-01-01)."""

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


@dataclass
class Stopwatch:
    """Add up the seconds that the steps of one component take."""

    seconds: float = 0.0

    def timed(self, function: StepFunction) -> StepFunction:
        """Return ``function`` with its time counted."""

        async def step(context: StepContext) -> None:
            begun = time.monotonic()
            await function(context)
            self.seconds += time.monotonic() - begun

        return step


@dataclass
class BuildRoot:
    """What commands run over: a root, and Python packages beside it; both are None until they are made."""

    root: Root | None = None
    python: Path | None = None


@dataclass(frozen=True)
class Site:
    """Where and with what components are built."""

    plan: Plan
    workspace: Workspace
    stamps: Stamps
    tools: cmake.BuildTools
    jobserver: Path | None
    makeflags: str
    made: BuildRoot

    @property
    def root(self) -> Root | None:
        """Return the build root; None when building on the host."""
        return self.made.root

    @property
    def mounted_tools(self) -> dict[str, Path]:
        """Return what a sandbox gets besides the root, by name."""
        python = {"python": self.made.python} if self.made.python else {}
        return {**self.tools.mounts, **python}

    @property
    def root_digest(self) -> str | None:
        """Return the digest of the build root's package versions."""
        return self.root.digest if self.root else None


def mounts(site: Site, job: Job) -> Mounts:
    """Return the directories of a component, making those that it writes to."""
    workspace = site.workspace
    if not workspace.stage(job.name).is_dir():
        site.stamps.forget(job.name)  # it spoke of a stage tree that somebody removed
    for directory in (workspace.build(job.name), workspace.stage(job.name), workspace.prefix(job.name)):
        directory.mkdir(parents=True, exist_ok=True)
    return Mounts(
        component=job.node.component,
        source=workspace.source(job.node.component),
        build=workspace.build(job.name),
        stage=workspace.stage(job.name),
        prefix=workspace.prefix(job.name),
        final_prefix=site.plan.selection.manifest.prefix,
        sources={name: workspace.source(name) for name in job.recipe.needs.sources},
        tools=site.mounted_tools,
        jobserver=site.jobserver,
        writable_source=job.recipe.writable_source,
    )


def environment(site: Site, job: Job) -> Environment:
    """Return where the commands of a component run."""
    if site.root is None:
        return Host(mounts(site, job))
    return Sandbox(site.root.path, mounts(site, job))


def variables(site: Site, job: Job, where: Environment) -> dict[str, str]:
    """Return the CMake variables of a component: what every component gets, then its recipe's own."""
    distribution = site.plan.selection.distribution
    common = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": site.plan.selection.manifest.prefix,
        "CMAKE_INSTALL_LIBDIR": "lib",
        "CMAKE_INSTALL_RPATH": "$ORIGIN/../lib",
        "CMAKE_C_COMPILER": distribution.cc,
        "CMAKE_CXX_COMPILER": distribution.cxx,
        "CMAKE_MAKE_PROGRAM": where.path("tool", "ninja"),
        "CMAKE_PREFIX_PATH": where.path("prefix"),
        "CMAKE_FIND_USE_PACKAGE_REGISTRY": "OFF",
        "FETCHCONTENT_FULLY_DISCONNECTED": "ON",
    }
    if site.root is None:
        common |= {"CMAKE_C_COMPILER": "/usr/bin/cc", "CMAKE_CXX_COMPILER": "/usr/bin/c++"}
    own = {key: _located(value, where) for key, value in job.recipe.variables.items()}
    if isinstance(where, Host):
        own = {key: value if key == "CMAKE_INSTALL_PREFIX" else where.relocated(value) for key, value in own.items()}
    return {**common, **own}


def process_environment(site: Site, job: Job, where: Environment) -> dict[str, str]:
    """Return the whole environment of a component's commands; nothing is inherited."""
    source, build, cmake_bin = where.path("source"), where.path("build"), f"{where.path('tool', 'cmake')}/bin"
    # __FILE__ and debug information name sources as component/file, wherever they were compiled
    maps = [f"-ffile-prefix-map={source}={job.node.component}", f"-ffile-prefix-map={build}=build"]
    flags = " ".join([*maps, *site.plan.selection.target.flags])
    own = {key: _located(value, where) for key, value in job.recipe.environment.items()}
    return {
        "PATH": f"{cmake_bin}:{Path(where.path('tool', 'ninja')).parent}:{SYSTEM_PATH}",
        "HOME": "/home",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "CFLAGS": flags,
        "CXXFLAGS": flags,
        "ROCM_PATH": where.path("prefix"),
        "CMAKE_PREFIX_PATH": where.path("prefix"),
        "PKG_CONFIG_PATH": f"{where.path('prefix')}/lib/pkgconfig:{where.path('prefix')}/share/pkgconfig",
        "NINJA_STATUS": cmake.NINJA_STATUS,
        "PYTHONDONTWRITEBYTECODE": "1",
        **({"PYTHONPATH": where.path("tool", "python")} if site.made.python else {}),
        **own,
    }


async def configure(site: Site, job: Job, context: StepContext) -> None:
    """Merge the prefix and configure; do nothing if the build tree fits already."""
    if site.stamps.tree_fits(job, site.root_digest):
        context.note("goes on in the build tree of an earlier run")
        await make_prefix(site, job)
        return
    site.stamps.forget_tree(job)
    await in_thread(remove_tree, site.workspace.build(job.name))
    await make_prefix(site, job)
    where = environment(site, job)
    argv = cmake.configure(where, job.recipe.subdir, variables(site, job, where))
    try:
        await _run(site, job, argv, context.runner)
    except ProcessError as error:
        hint = _configure_hint(site.plan, job, _read(context.log))
        raise _failed(job, "configured", context.log, error, hint) from error
    site.stamps.record_tree(job, site.root_digest)


async def build(site: Site, job: Job, context: StepContext) -> None:
    """Run Ninja as a client of the run's jobserver."""
    where = environment(site, job)
    argv = cmake.build(where, job.recipe.targets)

    def line(text: str) -> None:
        status = cmake.progress(text)
        if status is not None:
            context.progress(*status)
        if context.runner.on_line is not None:
            context.runner.on_line(text)

    runner = replace(context.runner, on_line=line)
    flags = {"MAKEFLAGS": site.makeflags + where.path("jobserver")} if site.jobserver else {}
    try:
        await _run(site, job, argv, runner, flags)
    except ProcessError as error:
        hint = f"look into the log, or try by hand: {_shell(job, site)}"
        raise _failed(job, "built", context.log, error, hint) from error


async def install(site: Site, job: Job, seconds: float, context: StepContext) -> None:
    """Install into a new stage tree, make it position independent, and stamp it."""
    begun = time.monotonic()
    site.stamps.forget(job.name)
    stage = site.workspace.stage(job.name)
    await in_thread(remove_tree, stage)
    if job.recipe.builds:
        where = environment(site, job)
        try:
            await _run(site, job, cmake.install(where), context.runner, {"DESTDIR": where.path("stage")})
        except ProcessError as error:
            hint = f"look into the log, or try by hand: {_shell(job, site)}"
            raise _failed(job, "installed", context.log, error, hint) from error
    stage.mkdir(parents=True, exist_ok=True)
    output = await in_thread(_finish_stage, site.plan, job, stage)
    site.stamps.record(job, site.root_digest, output, seconds + time.monotonic() - begun)


def _finish_stage(plan: Plan, job: Job, stage: Path) -> str:
    prefix = plan.selection.manifest.prefix
    for addition in job.recipe.additions:
        path = stage / addition.path[1:] if addition.path.startswith("/") else stage / prefix[1:] / addition.path
        _add(path, addition.text, addition.link)
    if job.provided is not None:
        for link, target in job.provided.links:
            _add(stage / prefix[1:] / link, None, substitute(target, {**job.values, "home": job.provided.home}))
    discard_files(stage, prefix, job.recipe.discards, job.recipe.where)
    relocate_tree(stage, prefix)
    return tree_digest(stage, ignore=frozenset())


def discard_files(stage: Path, prefix: str, discards: Sequence[Discard], where: str) -> None:
    """Remove what a recipe does not want, with the directories that are empty then.

    Raises PackageError for a pattern without a file, and then nothing is removed.
    """
    for name in discarded(entries(stage), prefix, discards, where):
        path = stage / name
        path.unlink()
        for directory in path.parents:
            if directory == stage or any(directory.iterdir()):
                break
            directory.rmdir()


def _add(path: Path, text: str | None, link: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if link is not None:
        path.unlink(missing_ok=True)
        path.symlink_to(link)
    else:
        write_text(path, text or "")


async def make_prefix(site: Site, job: Job) -> None:
    """Hard-link the stage trees of all the component may see into its prefix."""
    inside = site.plan.selection.manifest.prefix[1:]
    trees = [(name, site.workspace.stage(name) / inside) for name in job.needs]

    def fill() -> None:
        with new_directory(site.workspace.prefix(job.name)) as directory:
            merge(trees, directory)

    await in_thread(fill)


async def _run(
    site: Site, job: Job, argv: Sequence[str], runner: Runner, extra: Mapping[str, str] | None = None
) -> None:
    where = environment(site, job)
    env = {**process_environment(site, job, where), **(extra or {})}
    await runner.run(where.wrap(argv, env, cwd=where.path("build")))


def _located(value: str, where: Environment) -> str:
    """Replace ``{source:X}`` by the place where the commands see X's source tree."""
    names = _SourcePlaces(where)
    return substitute(value, names)


class _SourcePlaces(dict[str, str]):
    """A mapping from ``source:X`` to a path, asked of the environment."""

    def __init__(self, where: Environment) -> None:
        super().__init__()
        self._where = where

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.startswith("source:")

    def __getitem__(self, key: str) -> str:
        return self._where.path("source", key.removeprefix("source:"))


def _configure_hint(plan: Plan, job: Job, log: str) -> str:
    for package in cmake.missing_packages(log):
        for name, recipe in sorted(plan.selection.recipes.items()):
            if package in recipe.cmake_packages and name not in job.needs:
                return (
                    f"it looks for {package}, which the component {name} provides: "
                    f"add {name} to needs.libs or needs.tools in {job.recipe.where.split(':')[0]}"
                )
    missing = cmake.missing_packages(log)
    if missing:
        return f"it looks for {missing[0]}: add the distribution's package to needs.system in {job.recipe.where}"
    return f"the reason is in the log; the recipe is {job.recipe.where.split(':')[0]}"


def _failed(job: Job, what: str, log: Path, error: ProcessError, hint: str) -> StepError:
    reason = cmake.complaint(_read(log)) or describe_exit(error.returncode)
    return StepError(f"{job.name} could not be {what}: {reason}", log=str(log), hint=hint)


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _shell(job: Job, site: Site) -> str:
    return f"rocmbuild shell {job.node.component} --workspace {site.workspace.path}"
