"""What the commands of a component see and are told, natively and in a cross build."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from rocmbuild.errors import RootError
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.selection import CROSS_ROOT, EMULATOR, ROOT, SYSROOT
from rocmbuild.run import surroundings
from rocmbuild.run.site import Made
from rocmbuild.tools.sandbox import Host, Sandbox

PREFIX = "opt/rocm-5.6.1"


def texts(tree: Path) -> dict[str, str]:
    """Return the texts of the files below a directory."""
    return {
        os.path.relpath(os.path.join(directory, name), tree): Path(directory, name).read_text()
        for directory, _, names in os.walk(tree)
        for name in names
    }


BUILD_MACHINE, HOST_MACHINE = "for the build machine", "for the host machine"


def test_a_native_build_has_one_prefix(make_site):
    site = make_site(cross=False)
    job = site.plan.job("app")
    asyncio.run(surroundings.make_prefix(site, job))
    assert set(texts(site.workspace.prefix("app"))) == {
        *("own-llvm", "llvm/bin/clang", "own-zstd", "own-device", "own-runtime"),
    }
    assert not site.workspace.sysroot_prefix("app").exists()
    assert not site.workspace.toolchain.exists()


def test_a_cross_build_has_two_prefixes(make_site):
    """This machine's programs go first where programs are looked for, the other's libraries where libraries are."""
    site = make_site()
    asyncio.run(surroundings.make_prefix(site, site.plan.job("app")))
    programs, libraries = (texts(place("app")) for place in (site.workspace.prefix, site.workspace.sysroot_prefix))
    names = {"own-llvm", "llvm/bin/clang", "own-zstd", "own-device", "own-runtime"}
    assert set(programs) == set(libraries) == names
    tools = {"own-llvm", "llvm/bin/clang", "own-zstd", "own-device"}
    assert {name for name, text in programs.items() if text == BUILD_MACHINE} == tools
    assert {name for name, text in libraries.items() if text == BUILD_MACHINE} == set()


def test_without_tools_of_ours_both_prefixes_are_the_same(make_site):
    site = make_site()
    asyncio.run(surroundings.make_prefix(site, site.plan.job("runtime")))
    programs = texts(site.workspace.prefix("runtime"))
    assert programs == texts(site.workspace.sysroot_prefix("runtime")) == {"own-device": HOST_MACHINE}


def test_tools_are_built_in_the_area_of_native_builds(make_site):
    site = make_site()
    asyncio.run(surroundings.make_prefix(site, site.plan.job("device", Machine.BUILD)))
    native = site.areas[Machine.BUILD].workspace
    assert set(texts(native.prefix("device"))) == {"own-llvm", "llvm/bin/clang", "own-zstd"}
    assert not native.sysroot_prefix("device").exists()
    assert not site.workspace.prefix("device").exists()


def test_the_toolchain_is_written_once(make_site):
    site = make_site()
    surroundings.write_toolchain(site)
    files = sorted(site.workspace.toolchain.iterdir())
    assert [path.name for path in files] == ["clang.cfg", "toolchain.cmake"]
    assert "--target=riscv64-linux-gnu\n" in files[0].read_text()
    assert 'set(CMAKE_SYSTEM_PROCESSOR "riscv64")\n' in files[1].read_text()
    before = [path.stat().st_ino for path in files]
    surroundings.write_toolchain(site)
    assert [path.stat().st_ino for path in files] == before, "a build that goes on has no newer file"
    files[0].write_text("of an older rocmbuild")
    surroundings.write_toolchain(site)
    assert "--target=riscv64-linux-gnu\n" in files[0].read_text()


def test_without_cross_compilers_there_is_no_toolchain(make_site, release):
    site = make_site(distribution=replace(release.distribution, cross=None))
    with pytest.raises(RootError, match="testix has no cross compilers"):
        surroundings.write_toolchain(site)


def test_a_cross_build_mounts_a_sysroot_and_programs_of_this_machine(make_site, tmp_path):
    site = make_site()
    mounts = surroundings.mounts(site, site.plan.job("app"))
    roots = tmp_path / "roots/host"
    assert mounts.sysroot == roots / SYSROOT
    assert mounts.sysroot_prefix == site.workspace.sysroot_prefix("app")
    tool = site.stage(Node("llvm", "build")) / PREFIX / "llvm/bin"
    assert mounts.native == {f"/{PREFIX}/llvm/bin": tool}
    assert mounts.tools["emulator"] == roots / EMULATOR / "usr/bin/qemu-riscv64"
    assert {"cmake", "ninja", "toolchain.cmake", "clang.cfg", "emulator"} == set(mounts.tools)
    assert mounts.sources == {"runtime": site.workspace.source("runtime")}
    where = surroundings.environment(site, site.plan.job("app"))
    assert isinstance(where, Sandbox)
    assert where.root == roots / CROSS_ROOT


def test_programs_that_the_distribution_provides_are_those_of_the_build_root(make_site, tmp_path):
    site = make_site(system=frozenset({"llvm"}))
    place = "usr/lib/llvm-17/bin"
    native = surroundings.mounts(site, site.plan.job("app")).native
    assert native == {f"/{place}": tmp_path / "roots/host" / CROSS_ROOT / place}


def test_what_is_not_seen_has_no_programs(make_site):
    site = make_site()
    assert surroundings.mounts(site, site.plan.job("runtime")).native == {}


def test_a_target_that_nothing_emulates_has_no_emulator(make_site):
    site = make_site()
    selection = replace(site.plan.selection, target=replace(site.plan.selection.target, emulator=None))
    site = replace(site, plan=replace(site.plan, selection=selection))
    assert "emulator" not in surroundings.mounts(site, site.plan.job("app")).tools


@pytest.mark.parametrize(("cross", "node"), [(True, Node("device", "build")), (False, Node("app"))])
def test_what_runs_where_it_is_built_has_no_sysroot(make_site, tmp_path, cross, node):
    site = make_site(cross=cross)
    mounts = surroundings.mounts(site, site.plan.at(node))
    assert (mounts.sysroot, mounts.sysroot_prefix, mounts.native) == (None, None, {})
    assert set(mounts.tools) == {"cmake", "ninja"}
    where = surroundings.environment(site, site.plan.at(node))
    assert where.root == tmp_path / "roots" / node.machine_name / ROOT


def variables(site, node):
    job = site.plan.at(node)
    return surroundings.variables(site, job, surroundings.environment(site, job))


def test_cmake_gets_a_toolchain_file_instead_of_compilers(make_site):
    site = make_site()
    found = variables(site, Node("app"))
    assert found["CMAKE_TOOLCHAIN_FILE"] == "/usr/lib/rocmbuild/toolchain.cmake"
    assert not {"CMAKE_C_COMPILER", "CMAKE_CXX_COMPILER"} & set(found)
    assert found["LLVM_DIR"] == f"/sysroot/{PREFIX}/llvm/lib/cmake"
    assert found["RUNTIME"] == "/src/runtime"
    assert (found["CMAKE_INSTALL_PREFIX"], found["CMAKE_PREFIX_PATH"]) == (f"/{PREFIX}", f"/{PREFIX}")
    tool = variables(site, Node("device", "build"))
    assert (tool["CMAKE_C_COMPILER"], tool["CMAKE_CXX_COMPILER"]) == ("/usr/bin/gcc", "/usr/bin/g++")
    assert "CMAKE_TOOLCHAIN_FILE" not in tool


def environ(site, node):
    job = site.plan.at(node)
    return surroundings.process_environment(site, job, surroundings.environment(site, job))


def test_compilers_of_a_cross_build_know_their_flags_from_a_file(make_site):
    found = environ(make_site(), Node("app"))
    maps = "-ffile-prefix-map=/src/app=app -ffile-prefix-map=/build=build"
    assert found["CFLAGS"] == found["CXXFLAGS"] == f"{maps} -ffile-prefix-map=/sysroot="
    assert found["PKG_CONFIG_SYSROOT_DIR"] == "/sysroot"
    assert "PKG_CONFIG_PATH" not in found
    assert found["LLVM"] == f"/sysroot/{PREFIX}/llvm"


@pytest.mark.parametrize(("cross", "node"), [(True, Node("device", "build")), (False, Node("app"))])
def test_compilers_for_this_machine_get_its_flags(make_site, cross, node):
    found = environ(make_site(cross=cross), node)
    maps = f"-ffile-prefix-map=/src/{node.component}={node.component} -ffile-prefix-map=/build=build"
    assert found["CFLAGS"] == found["CXXFLAGS"] == f"{maps} -O2 -mtune=generic"
    assert found["PKG_CONFIG_PATH"] == f"/{PREFIX}/lib/pkgconfig:/{PREFIX}/share/pkgconfig"
    assert "PKG_CONFIG_SYSROOT_DIR" not in found


def test_tools_of_a_cross_build_are_told_what_a_native_build_tells_them(make_site):
    cross, native = make_site(), make_site(cross=False)
    assert environ(cross, Node("device", "build")) == environ(native, Node("device"))
    assert variables(cross, Node("device", "build")) == variables(native, Node("device"))


def test_without_a_sandbox_commands_run_on_the_host(make_site):
    site = make_site(cross=False, environment="host")
    bare = {machine: replace(area, made=Made()) for machine, area in site.areas.items()}
    site = replace(site, areas=bare)
    assert isinstance(surroundings.environment(site, site.plan.job("app")), Host)
    assert variables(site, Node("app"))["CMAKE_C_COMPILER"] == "/usr/bin/cc"


def test_programs_that_count_processors_are_told_of_one(make_site):
    site = make_site(cross=False)
    told = environ(site, Node("app"))
    assert told.items() >= {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1", "XZ_DEFAULTS": "-T1"}.items()
    assert "CMAKE_BUILD_PARALLEL_LEVEL" not in told, "a nested Ninja would leave the jobserver for it"
