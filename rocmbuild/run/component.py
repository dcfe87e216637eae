"""The steps that turn one component's source into a stage tree."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rocmbuild.errors import RootError, StepError
from rocmbuild.model.recipe import Discard
from rocmbuild.model.template import substitute
from rocmbuild.plan.graph import Machine
from rocmbuild.plan.plan import Job, Plan
from rocmbuild.plan.values import CONFIGURATION, SYSROOT
from rocmbuild.process import ProcessError, Runner, describe_exit
from rocmbuild.run.site import Site
from rocmbuild.run.task import StepContext, StepFunction
from rocmbuild.tools import cmake, toolchain
from rocmbuild.tools.prefix import merge
from rocmbuild.tools.runpath import relocate_tree
from rocmbuild.tools.sandbox import Environment, Host, Mounts, Sandbox
from rocmbuild.tools.split import discarded, entries
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import new_directory, remove_tree, tree_digest, write_text

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


def mounts(site: Site, job: Job) -> Mounts:
    """Return the directories of a component, making those that it writes to."""
    area, name = site.area(job.node), job.node.component
    workspace = area.workspace
    if not workspace.stage(name).is_dir():
        area.stamps.forget(name)  # it spoke of a stage tree that somebody removed
    for directory in (workspace.build(name), workspace.stage(name), workspace.prefix(name)):
        directory.mkdir(parents=True, exist_ok=True)
    common = Mounts(
        component=name,
        source=workspace.source(name),
        build=workspace.build(name),
        stage=workspace.stage(name),
        prefix=workspace.prefix(name),
        final_prefix=site.plan.selection.manifest.prefix,
        sources={name: workspace.source(name) for name in job.recipe.needs.sources},
        tools=_tools(site, job),
        jobserver=site.jobserver,
        writable_source=job.recipe.writable_source,
    )
    if not site.is_cross(job.node) or area.made.sysroot is None:
        return common
    return replace(
        common,
        sysroot=area.made.sysroot.path,
        sysroot_prefix=workspace.sysroot_prefix(name),
        native=_native_programs(site, job),
    )


def _tools(site: Site, job: Job) -> dict[str, Path]:
    """Return what a sandbox gets besides the root, by name."""
    made, target = site.area(job.node).made, site.plan.selection.target
    found = dict(site.tools.mounts)
    if made.python is not None:
        found["python"] = made.python
    if site.is_cross(job.node) and made.root is not None:
        place = site.area(job.node).workspace.toolchain
        found |= {Path(path).name: place / Path(path).name for path in (toolchain.TOOLCHAIN, CONFIGURATION)}
        if target.emulator is not None:
            found[Path(toolchain.EMULATOR).name] = made.emulator(target.emulator.program)
    return found


def _native_programs(site: Site, job: Job) -> dict[str, Path]:
    """Return directories below the sysroot whose programs have to be the build machine's, to be run."""
    found = {}
    made = site.area(job.node).made
    for need in (need for need in job.needs if site.is_cross(need)):
        needed = site.plan.at(need)
        if needed.recipe.build_programs is None or made.root is None:
            continue
        place = f"{needed.values[f'home:{need.component}']}/{needed.recipe.build_programs}"
        tool = replace(need, machine_name=Machine.BUILD.value)
        root = made.root.path if needed.provided is not None else site.stage(tool)
        found[place] = root / place[1:]
    return found


def environment(site: Site, job: Job) -> Environment:
    """Return where the commands of a component run."""
    root = site.area(job.node).made.root
    if root is None:
        return Host(mounts(site, job))
    return Sandbox(root.path, mounts(site, job))


def variables(site: Site, job: Job, where: Environment) -> dict[str, str]:
    """Return the CMake variables of a component: what every component gets, then its recipe's own."""
    common = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": site.plan.selection.manifest.prefix,
        "CMAKE_INSTALL_LIBDIR": "lib",
        "CMAKE_INSTALL_RPATH": "$ORIGIN/../lib",
        "CMAKE_MAKE_PROGRAM": where.path("tool", "ninja"),
        "CMAKE_PREFIX_PATH": where.path("prefix"),
        "CMAKE_FIND_USE_PACKAGE_REGISTRY": "OFF",
        "FETCHCONTENT_FULLY_DISCONNECTED": "ON",
        **_compilers(site, job, where),
    }
    own = {key: _located(value, where) for key, value in job.recipe.variables.items()}
    if isinstance(where, Host):
        own = {key: value if key == "CMAKE_INSTALL_PREFIX" else where.relocated(value) for key, value in own.items()}
    return {**common, **own}


def _compilers(site: Site, job: Job, where: Environment) -> dict[str, str]:
    distribution = site.plan.selection.distribution
    if isinstance(where, Host):
        return {"CMAKE_C_COMPILER": "/usr/bin/cc", "CMAKE_CXX_COMPILER": "/usr/bin/c++"}
    if site.is_cross(job.node):
        return {"CMAKE_TOOLCHAIN_FILE": toolchain.TOOLCHAIN}
    return {"CMAKE_C_COMPILER": distribution.cc, "CMAKE_CXX_COMPILER": distribution.cxx}


def process_environment(site: Site, job: Job, where: Environment) -> dict[str, str]:
    """Return the whole environment of a component's commands; nothing is inherited."""
    cmake_bin, prefix = f"{where.path('tool', 'cmake')}/bin", where.path("prefix")
    flags = " ".join(_flags(site, job, where))
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
        "ROCM_PATH": prefix,
        "CMAKE_PREFIX_PATH": prefix,
        **_pkg_config(site, job, prefix),
        "NINJA_STATUS": cmake.NINJA_STATUS,
        "PYTHONDONTWRITEBYTECODE": "1",
        **({"PYTHONPATH": where.path("tool", "python")} if site.area(job.node).made.python else {}),
        **own,
    }


def _flags(site: Site, job: Job, where: Environment) -> list[str]:
    """Return the compiler's flags, in a cross build besides those of clang's configuration file."""
    source, build = where.path("source"), where.path("build")
    # __FILE__ and debug information name sources as component/file, wherever they were compiled
    maps = [f"-ffile-prefix-map={source}={job.node.component}", f"-ffile-prefix-map={build}=build"]
    if site.is_cross(job.node):
        return [*maps, f"-ffile-prefix-map={SYSROOT}="]
    target = site.plan.selection.target_of(job.node.machine)
    return [*maps, *target.flags, *target.gcc_flags]


def _pkg_config(site: Site, job: Job, prefix: str) -> dict[str, str]:
    if site.is_cross(job.node):
        return toolchain.environment(site.plan.selection.target, prefix)
    return {"PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig:{prefix}/share/pkgconfig"}


async def configure(site: Site, job: Job, context: StepContext) -> None:
    """Merge the prefix and configure; do nothing if the build tree fits already."""
    area = site.area(job.node)
    if area.stamps.tree_fits(job, area.made.digest):
        context.note("goes on in the build tree of an earlier run")
        await make_prefix(site, job)
        return
    area.stamps.forget_tree(job)
    await in_thread(remove_tree, area.workspace.build(job.node.component))
    await make_prefix(site, job)
    where = environment(site, job)
    argv = cmake.configure(where, job.recipe.subdir, variables(site, job, where))
    try:
        await _run(site, job, argv, context.runner)
    except ProcessError as error:
        hint = _configure_hint(site.plan, job, _read(context.log))
        raise _failed(job, "configured", context.log, error, hint) from error
    area.stamps.record_tree(job, area.made.digest)


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
    area, stage = site.area(job.node), site.stage(job.node)
    area.stamps.forget(job.node.component)
    await in_thread(remove_tree, stage)
    if job.twin is not None:
        await in_thread(merge, [(str(job.twin), site.stage(job.twin))], stage)
    elif job.recipe.builds:
        where = environment(site, job)
        try:
            await _run(site, job, cmake.install(where), context.runner, {"DESTDIR": where.path("stage")})
        except ProcessError as error:
            hint = f"look into the log, or try by hand: {_shell(job, site)}"
            raise _failed(job, "installed", context.log, error, hint) from error
    stage.mkdir(parents=True, exist_ok=True)
    output = await in_thread(_finish_stage, site.plan, job, stage)
    area.stamps.record(job, area.made.digest, output, seconds + time.monotonic() - begun)


def _finish_stage(plan: Plan, job: Job, stage: Path) -> str:
    if job.twin is not None:
        return tree_digest(stage, ignore=frozenset())
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
    """Hard-link the stage trees of all the component may see into its prefix.

    A cross build has two: one for programs, in which the build machine's tools go before what is for the host
    machine, and one below the sysroot for headers and libraries, where it is the other way round.
    """
    inside = site.plan.selection.manifest.prefix[1:]
    tools = [(str(need), site.stage(need) / inside) for need in job.needs if need.machine is Machine.BUILD]
    libs = [(str(need), site.stage(need) / inside) for need in job.needs if need.machine is Machine.HOST]
    workspace, name = site.area(job.node).workspace, job.node.component

    def fill() -> None:
        with new_directory(workspace.prefix(name)) as directory:
            merge(tools, directory, below=libs) if tools else merge(libs, directory)
        if site.is_cross(job.node):
            with new_directory(workspace.sysroot_prefix(name)) as directory:
                merge(libs, directory, below=tools)
            write_toolchain(site)

    await in_thread(fill)


def write_toolchain(site: Site) -> None:
    """Write what makes CMake and clang build for the host machine, unless it is there."""
    selection, place = site.plan.selection, site.workspace.toolchain
    tools = selection.distribution.cross
    if tools is None:
        raise RootError(f"{selection.distribution.name} has no cross compilers")
    texts = {
        place / Path(toolchain.TOOLCHAIN).name: toolchain.toolchain_file(selection.target, tools),
        place / Path(CONFIGURATION).name: toolchain.clang_configuration(selection.target, tools),
    }
    for path, text in texts.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)


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
            if package in recipe.cmake_packages and name not in {need.component for need in job.needs}:
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
