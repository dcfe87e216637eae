"""What CMake and pkg-config make of the files and variables that a cross build gives them, asked of the real CMake."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import subprocess

import pytest

from rocmbuild.process import Runner
from rocmbuild.tools import cmake, toolchain
from rocmbuild.tools.sandbox import Mounts, Sandbox
from tests.releases import BOARD, CROSS_TOOLS

FINAL = "/opt/rocm-5.6.1"


@pytest.fixture(scope="module")
def tools():
    return cmake.find_build_tools()


@pytest.fixture
def values(tools, tmp_path):
    """Return a function that tells what variables are once CMake has read a toolchain file."""

    def read(target, *names):
        (tmp_path / "toolchain.cmake").write_text(toolchain.toolchain_file(target, CROSS_TOOLS))
        lines = "".join(f'message("${{{name}}}")\n' for name in names)
        (tmp_path / "ask.cmake").write_text(f"include({tmp_path}/toolchain.cmake)\n{lines}")
        argv = [tools.cmake / "bin/cmake", "-P", tmp_path / "ask.cmake"]
        answers = subprocess.run(argv, check=True, capture_output=True, text=True).stderr.splitlines()
        return dict(zip(names, answers, strict=True))

    return read


def test_the_toolchain_file_names_machine_compilers_and_tools(values):
    wanted = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "riscv64",
        "CMAKE_LIBRARY_ARCHITECTURE": "riscv64-linux-gnu",
        "CMAKE_SYSROOT": "/sysroot",
        "CMAKE_C_COMPILER": "/usr/lib/llvm-17/bin/clang",
        "CMAKE_CXX_COMPILER": "/usr/lib/llvm-17/bin/clang++",
        "CMAKE_ASM_COMPILER": "/usr/lib/llvm-17/bin/clang",
        **{f"CMAKE_{language}_COMPILER_TARGET": "riscv64-linux-gnu" for language in ("C", "CXX", "ASM")},
        **{f"CMAKE_{language}_FLAGS_INIT": "--config=/usr/lib/rocmbuild/clang.cfg" for language in ("C", "CXX", "ASM")},
        "CMAKE_AR": "/usr/lib/llvm-17/bin/llvm-ar",
        "CMAKE_RANLIB": "/usr/lib/llvm-17/bin/llvm-ranlib",
        "CMAKE_STRIP": "/usr/lib/llvm-17/bin/llvm-strip",
        "CMAKE_OBJCOPY": "/usr/lib/llvm-17/bin/llvm-objcopy",
        "CMAKE_LINKER": "/usr/lib/llvm-19/bin/ld.lld",
        "CMAKE_FIND_ROOT_PATH": "/sysroot;/src;/build",
        "CMAKE_FIND_ROOT_PATH_MODE_PROGRAM": "NEVER",
        "CMAKE_FIND_ROOT_PATH_MODE_LIBRARY": "ONLY",
        "CMAKE_FIND_ROOT_PATH_MODE_INCLUDE": "ONLY",
        "CMAKE_FIND_ROOT_PATH_MODE_PACKAGE": "ONLY",
        "CMAKE_CROSSCOMPILING_EMULATOR": "/usr/lib/rocmbuild/emulator;-cpu;thead-c906;-L;/sysroot",
    }
    assert values(BOARD, *wanted) == wanted


def test_the_processor_is_the_first_name_of_the_machine(values):
    target = dataclasses.replace(BOARD, machines=("aarch64", "arm64"))
    assert values(target, "CMAKE_SYSTEM_PROCESSOR") == {"CMAKE_SYSTEM_PROCESSOR": "aarch64"}


def test_a_target_that_nothing_emulates(values):
    target = dataclasses.replace(BOARD, emulator=None)
    assert values(target, "CMAKE_CROSSCOMPILING_EMULATOR") == {"CMAKE_CROSSCOMPILING_EMULATOR": ""}
    assert toolchain.emulator_command(target) == []


def test_an_emulator_of_any_processor():
    target = dataclasses.replace(BOARD, emulator=dataclasses.replace(BOARD.emulator, cpu=None))
    assert toolchain.emulator_command(target) == ["/usr/lib/rocmbuild/emulator", "-L", "/sysroot"]


def test_the_configuration_of_clang_has_an_option_in_each_line():
    text = toolchain.clang_configuration(BOARD, CROSS_TOOLS)
    assert text.endswith("\n")
    assert text.splitlines() == [
        "--target=riscv64-linux-gnu",
        "--sysroot=/sysroot",
        "--gcc-install-dir=/sysroot/usr/lib/gcc/riscv64-linux-gnu/14",
        "--ld-path=/usr/lib/llvm-19/bin/ld.lld",
        "-Wl,--undefined-version",
        "-march=rv64gc",
        "-mabi=lp64d",
    ]


def test_flags_that_only_gcc_knows_do_not_reach_clang():
    assert BOARD.gcc_flags[0] not in toolchain.clang_configuration(BOARD, CROSS_TOOLS)
    assert BOARD.gcc_flags[0] not in toolchain.toolchain_file(BOARD, CROSS_TOOLS)


def test_pkg_config_looks_only_below_the_sysroot():
    env = toolchain.environment(BOARD, FINAL)
    assert env["PKG_CONFIG_SYSROOT_DIR"] == "/sysroot"
    assert env["PKG_CONFIG_LIBDIR"].split(":") == [
        "/sysroot/opt/rocm-5.6.1/lib/pkgconfig",
        "/sysroot/opt/rocm-5.6.1/share/pkgconfig",
        "/sysroot/usr/lib/riscv64-linux-gnu/pkgconfig",
        "/sysroot/usr/lib/pkgconfig",
        "/sysroot/usr/share/pkgconfig",
    ]


PROJECT = """\
cmake_minimum_required(VERSION 3.16)
project(x NONE)
file(WRITE ${CMAKE_BINARY_DIR}/generated/made.h "")
find_path(HEADER elf.h)
find_path(MADE made.h PATHS ${CMAKE_BINARY_DIR}/generated)
find_path(OWN own.h PATHS ${CMAKE_SOURCE_DIR})
find_path(NATIVE native.h PATHS /usr/include)
find_library(LIBRARY NAMES libelf.so)
find_program(CLANG clang PATHS ${LLVM}/bin NO_DEFAULT_PATH)
find_program(FOREIGN foreign)
find_package(hsa CONFIG)
foreach(name CMAKE_CROSSCOMPILING HEADER MADE OWN NATIVE LIBRARY CLANG FOREIGN hsa_DIR)
  message("${name}=${${name}}")
endforeach()
"""


@pytest.fixture
def configured(tools, tiny_root, tmp_path):
    """What the real CMake finds in the sandbox of a cross build over a real root."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    files = {
        "source/CMakeLists.txt": PROJECT,
        "source/own.h": "",
        "sysroot/usr/include/elf.h": "",
        "sysroot/usr/lib/riscv64-linux-gnu/libelf.so": "",
        "sysroot/usr/bin/foreign": "",
        "sysroot/opt/nothing": "",
        "sysroot-prefix/lib/cmake/hsa/hsaConfig.cmake": "",
        "sysroot-prefix/llvm/bin/clang": "for the board",
        "prefix/llvm/bin/clang": "for this machine",
        "toolchain.cmake": toolchain.toolchain_file(BOARD, CROSS_TOOLS),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    for name in ("build", "stage"):
        (tmp_path / name).mkdir()
    places = {name: tmp_path / name for name in ("source", "build", "stage", "prefix", "sysroot")}
    mounts = Mounts(
        component="hip",
        final_prefix=FINAL,
        sysroot_prefix=tmp_path / "sysroot-prefix",
        tools={**tools.mounts, "toolchain.cmake": tmp_path / "toolchain.cmake"},
        **places,
    )
    box = Sandbox(tiny_root.root.path, mounts)
    variables = {
        "CMAKE_TOOLCHAIN_FILE": toolchain.TOOLCHAIN,
        "CMAKE_MAKE_PROGRAM": box.path("tool", "ninja"),
        "CMAKE_PREFIX_PATH": FINAL,
        "LLVM": f"{FINAL}/llvm",
        "CMAKE_FIND_LIBRARY_SUFFIXES": ".so",
    }
    argv = box.wrap(cmake.configure(box, ".", variables), {"PATH": "/usr/bin"}, cwd="/build")
    log = tmp_path / "log"
    asyncio.run(Runner(log=log).run(argv))
    lines = log.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith(("$", " ", "-")))


def test_cmake_finds_programs_of_this_machine_and_files_of_the_other(configured):
    assert configured == {
        "CMAKE_CROSSCOMPILING": "TRUE",
        "HEADER": "/sysroot/usr/include",
        "MADE": "/build/generated",
        "OWN": "/src/hip",
        "NATIVE": "NATIVE-NOTFOUND",
        "LIBRARY": "/sysroot/usr/lib/riscv64-linux-gnu/libelf.so",
        "CLANG": "/opt/rocm-5.6.1/llvm/bin/clang",
        "FOREIGN": "FOREIGN-NOTFOUND",
        "hsa_DIR": "/sysroot/opt/rocm-5.6.1/lib/cmake/hsa",
    }
