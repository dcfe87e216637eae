"""Command lines, and what the real CMake and Ninja print."""

from __future__ import annotations

import subprocess

import pytest

from rocmbuild.tools import cmake
from rocmbuild.tools.sandbox import Host, Mounts, Sandbox


@pytest.fixture(scope="module")
def tools():
    return cmake.find_build_tools()


@pytest.fixture
def host(tmp_path, tools):
    for name in ("source", "build", "stage", "prefix"):
        (tmp_path / name).mkdir()
    places = {name: tmp_path / name for name in ("source", "build", "stage", "prefix")}
    return Host(Mounts("hip", **places, final_prefix="/opt/rocm-1", tools=tools.mounts))


def in_sandbox(tmp_path):
    mounts = Mounts("hip", *[tmp_path] * 4, final_prefix="/opt/rocm-1", tools={"cmake": tmp_path, "ninja": tmp_path})
    return Sandbox(tmp_path, mounts)


def test_the_tools_are_those_that_were_installed_with_us(tools):
    for argv, name in (([tools.cmake / "bin/cmake", "--version"], "cmake"), ([tools.ninja, "--version"], "ninja")):
        output = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        assert ".".join(tools.versions[name].split(".")[:3]) in output
    assert set(tools.mounts) == {"cmake", "ninja"}


def test_the_command_that_configures(tmp_path):
    argv = cmake.configure(in_sandbox(tmp_path), ".", {"B": "x;y", "A": "ON"})
    assert argv == [
        "/usr/lib/rocmbuild/cmake/bin/cmake",
        *("-G", "Ninja", "-S", "/src/hip", "-B", "/build"),
        *("-DA=ON", "-DB=x;y"),
    ]
    assert cmake.configure(in_sandbox(tmp_path), "deep/er", {})[4] == "/src/hip/deep/er"


def test_the_command_that_builds_leaves_the_number_of_jobs_to_the_jobserver(tmp_path):
    argv = cmake.build(in_sandbox(tmp_path), ("all", "doc"))
    assert argv == ["/usr/lib/rocmbuild/ninja", "-C", "/build", "all", "doc"]


def test_the_command_that_installs(tmp_path):
    argv = cmake.install(in_sandbox(tmp_path))
    assert argv == ["/usr/lib/rocmbuild/cmake/bin/cmake", "--install", "/build"]


def test_the_commands_configure_build_and_install_a_real_project(host, tmp_path):
    (tmp_path / "source/CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(x NONE)\n"
        "add_custom_target(all_of_it ALL COMMAND ${CMAKE_COMMAND} -E touch made)\n"
        'install(FILES ${CMAKE_BINARY_DIR}/made DESTINATION "${WHERE}")\n'
    )
    env = {"PATH": "/usr/bin:/bin", "NINJA_STATUS": cmake.NINJA_STATUS}
    configure = [
        *cmake.configure(host, ".", {"WHERE": "lib/of it"}),
        f"-DCMAKE_MAKE_PROGRAM={host.path('tool', 'ninja')}",
    ]
    subprocess.run(configure, env=env, check=True, capture_output=True)
    output = subprocess.run(cmake.build(host, ()), env=env, check=True, capture_output=True, text=True).stdout
    assert [cmake.progress(line) for line in output.splitlines() if cmake.progress(line)][-1][:2] == (1, 1)
    env["DESTDIR"] = host.path("stage")
    subprocess.run(cmake.install(host), env=env, check=True, capture_output=True)
    assert [path.parent.name for path in (tmp_path / "stage").rglob("made")] == ["of it"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("[1/20] Building CXX object x.o", (1, 20, "Building CXX object x.o")),
        ("[20/20] Linking", (20, 20, "Linking")),
        ("[ 50%] Building", None),
        ("  [1/2] indented", None),
        ("[1/2]", None),
        ("", None),
    ],
)
def test_progress(line, found):
    assert cmake.progress(line) == found


def configure_log(host, tmp_path, text):
    """Return what the real CMake says about a project that wants something."""
    (tmp_path / "source/CMakeLists.txt").write_text(f"cmake_minimum_required(VERSION 3.16)\nproject(x NONE)\n{text}\n")
    argv = [*cmake.configure(host, ".", {}), f"-DCMAKE_MAKE_PROGRAM={host.path('tool', 'ninja')}"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode != 0
    return done.stdout + done.stderr


LONG = "a-package-with-a-very-long-name-that-does-not-fit-on-the-line"


@pytest.mark.parametrize("name", ["hsa-runtime64", LONG])
@pytest.mark.parametrize("mode", ["CONFIG", ""])
def test_missing_packages_are_found_in_what_cmake_says(host, tmp_path, name, mode):
    log = configure_log(host, tmp_path, f"find_package({name} REQUIRED {mode})")
    assert cmake.missing_packages(log) == [name]


def test_packages_that_a_module_of_cmake_finds(host, tmp_path):
    module = tmp_path / "source/FindElf99.cmake"
    module.write_text(
        "include(FindPackageHandleStandardArgs)\nfind_library(ELF99 elf99)\n"
        "find_package_handle_standard_args(Elf99 REQUIRED_VARS ELF99)\n"
    )
    text = "list(APPEND CMAKE_MODULE_PATH ${CMAKE_SOURCE_DIR})\nfind_package(Elf99 REQUIRED)"
    assert cmake.missing_packages(configure_log(host, tmp_path, text)) == ["Elf99"]


def test_packages_are_listed_once_in_order():
    text = "Could NOT find Zeta (missing: Z)\nCould NOT find Alpha (missing: A)\nCould NOT find Zeta (missing: Z)\n"
    assert cmake.missing_packages(text) == ["Zeta", "Alpha"]
    assert cmake.missing_packages("-- Configuring done\n") == []


STARVED = {
    "a program that is killed": "python3 -c 'import os; os.kill(os.getpid(), 9)'",
    "a shell's last program that is killed": "sh -c 'kill -9 $$$$' && true",
    "a compiler that is killed": "g++ -wrapper ./kill -c ok.cpp -o ok.o",
    "a linker that is killed": "g++ -B. ok.cpp -o ok",
    "a compiler that may not have more": "ulimit -v 60000; g++ -include bits/stdc++.h -c ok.cpp -o ok.o",
    "a program that may not have more": "ulimit -v 400000; python3 -c 'bytearray(1 << 30)'",
}

WELL_FED = {
    "a mistake": "g++ -c wrong.cpp -o wrong.o",
    "a program that ends itself": "sh -c 'kill -TERM $$$$'",
    "a program that breaks off": "python3 -c 'import os; os.abort()'",
}


def ninja(tools, directory, *commands):
    """Run real edges one after another; return what Ninja says."""
    (directory / "ok.cpp").write_text("int main() { return 0; }\n")
    (directory / "wrong.cpp").write_text("int main() { return wrong; }\n")
    for name in ("kill", "ld"):
        (directory / name).write_text("#!/bin/sh\nkill -9 $$\n")
        (directory / name).chmod(0o755)
    edges = "".join(f"build {number}: run {number - 1 or ''}\n  command = {command}\n" for number, command in commands)
    (directory / "build.ninja").write_text(f"rule run\n  command = $command\n{edges}")
    argv = [tools.ninja, "-C", directory, "-k", "0"]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("name", STARVED)
def test_a_lack_of_memory_is_known_by_what_real_programs_say(tools, tmp_path, name):
    text = ninja(tools, tmp_path, (1, STARVED[name]))
    assert "FAILED: " in text
    assert cmake.out_of_memory(text)


@pytest.mark.parametrize("name", WELL_FED)
def test_other_failures_are_not_taken_for_a_lack_of_memory(tools, tmp_path, name):
    text = ninja(tools, tmp_path, (1, WELL_FED[name]))
    assert "FAILED: " in text
    assert not cmake.out_of_memory(text)


def test_what_was_said_before_the_failure_does_not_count(tools, tmp_path):
    text = ninja(tools, tmp_path, (1, "echo 'warning: out of memory'; touch 1"), (2, "false"))
    assert "out of memory" in text
    assert not cmake.out_of_memory(text)


@pytest.mark.parametrize(
    "line",
    [
        "clang++: error: unable to execute command: Killed",
        "LLVM ERROR: out of memory",
        "ld.lld: error: failed to open lib.so: Cannot allocate memory",
        "/usr/bin/ld: final link failed: memory exhausted",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "cc1plus: out of memory allocating 65536 bytes after a total of 1048576 bytes",
    ],
)
def test_words_of_programs_that_are_not_here(line):
    assert cmake.out_of_memory(f"[1/2] clang++ x.cpp\nFAILED: [code=1] x.o\nclang++ x.cpp\n{line}\n")
