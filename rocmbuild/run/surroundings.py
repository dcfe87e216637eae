"""What the commands of a component see: directories, prefix, toolchain, CMake variables, environment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rocmbuild.errors import RootError
from rocmbuild.model.template import substitute
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.plan import Job
from rocmbuild.plan.values import CONFIGURATION, SYSROOT
from rocmbuild.run import compiler_cache
from rocmbuild.run.site import Site
from rocmbuild.tools import cmake, toolchain
from rocmbuild.tools.prefix import merge
from rocmbuild.tools.sandbox import Environment, Host, Mounts, Sandbox
from rocmbuild.tools.sourcetree import bring_to_present
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import new_directory, write_text

EPOCH = 1704067200
"""SOURCE_DATE_EPOCH of all builds: a constant, since a build must not know when it runs (2024-01-01)."""


ONE_THREAD = {
    "LOKY_MAX_CPU_COUNT": "1",  # of Python's joblib, which Tensile uses
    "OMP_NUM_THREADS": "1",
    "XZ_DEFAULTS": "-T1",
    "ZSTD_NBTHREADS": "1",
}
"""What keeps programs that count the processors themselves to the token that they run on.

Not CMAKE_BUILD_PARALLEL_LEVEL: it becomes ``-j`` of a nested Ninja, which then is no client of the jobserver.
"""

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


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
        tools=build_tools(site, job.node) | compiler_cache.tools(site, job),
        jobserver=site.jobserver,
        ccache=site.ccache.directory if site.ccache is not None else None,
        writable_source=job.recipe.writable_source,
    )
    if not site.is_cross(job.node) or area.made.sysroot is None:
        return common
    return replace(
        common,
        sysroot=area.made.sysroot.path,
        sysroot_prefix=workspace.sysroot_prefix(name),
        native=native_programs(site, job.needs),
    )


def build_tools(site: Site, node: Node) -> dict[str, Path]:
    """Return what a sandbox gets besides the root, by name."""
    made = site.area(node).made
    found = dict(site.tools.mounts)
    if made.python is not None:
        found["python"] = made.python
    if site.is_cross(node) and made.root is not None:
        found |= cross_tools(site)
    return found


def cross_tools(site: Site) -> dict[str, Path]:
    """Return the files that make CMake, clang and the host machine's programs work on the build machine."""
    emulator, place = site.plan.selection.target.emulator, site.workspace.toolchain
    found = {Path(path).name: place / Path(path).name for path in (toolchain.TOOLCHAIN, CONFIGURATION)}
    if emulator is not None:
        found[Path(toolchain.EMULATOR).name] = site.made.emulator(emulator.program)
    return found


def native_programs(site: Site, needs: Iterable[Node]) -> dict[str, Path]:
    """Return directories below the sysroot whose programs have to be the build machine's, to be run.

    CMake is led to the sysroot for what is needed as a tool too: libraries and programs are found in one place.
    """
    found = {}
    root = site.made.root
    for need in needs:
        needed = site.plan.at(need)
        if needed.recipe.build_programs is None or root is None:
            continue
        place = f"{needed.values[f'home:{need.component}']}/{needed.recipe.build_programs}"
        provider = root.path if needed.provided else site.stage(Node(need.component, Machine.BUILD.value))
        found[place] = provider / place[1:]
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
        **link_pool(site, job),
        **_compilers(site, job, where),
        **compiler_cache.variables(site, where),
    }
    own = {key: _located(value, where) for key, value in job.recipe.variables.items()}
    if isinstance(where, Host):
        own = {key: value if key == "CMAKE_INSTALL_PREFIX" else where.relocated(value) for key, value in own.items()}
    return {**common, **own}


def link_pool(site: Site, job: Job) -> dict[str, str]:
    """Return the variables that let no more linkers run at once than there is memory for.

    Linkers take the most memory of all, and at one moment. How many run changes nothing that is built.
    """
    limit = max(1, min(site.jobs, site.memory // job.recipe.memory_per_link))
    return {"CMAKE_JOB_POOLS": f"link={limit}", "CMAKE_JOB_POOL_LINK": "link"}


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
        **ONE_THREAD,
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


async def make_prefix(site: Site, job: Job) -> None:
    """Hard-link the stage trees of all the component may see into its prefix, and write what depends on it.

    A cross build has two: one for programs, in which the build machine's tools go before what is for the host
    machine, and one below the sysroot for headers and libraries, where it is the other way round.
    """
    inside = site.plan.selection.manifest.prefix[1:]
    tools = [(str(need), site.stage(need) / inside) for need in job.needs if need.machine is Machine.BUILD]
    libs = [(str(need), site.stage(need) / inside) for need in job.needs if need.machine is Machine.HOST]
    workspace, name = site.area(job.node).workspace, job.node.component

    def fill() -> None:
        for need in job.needs:
            bring_to_present(site.stage(need))
        with new_directory(workspace.prefix(name)) as directory:
            merge(tools, directory, below=libs) if tools else merge(libs, directory)
        if site.is_cross(job.node):
            with new_directory(workspace.sysroot_prefix(name)) as directory:
                merge(libs, directory, below=tools)
            write_toolchain(site)
        compiler_cache.prepare(site, job, environment(site, job))

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
    bring_to_present(place)


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
