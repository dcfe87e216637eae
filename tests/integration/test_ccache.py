"""Compilations through ccache, by the program's own command line: what comes out is what comes out without."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Toy

OPTIONS = ("--ccache", "--no-reuse")

MANIFEST = """\
format: 1
branch: bits
version: "9.9.1"
distribution: debian-12
gpus: [gfx900]
sources:
  bits: {bundled: source}
  user: {bundled: source}
components:
  bits: {version: "1.0"}
  user: {version: "1.0"}
"""

RECIPE = """\
format: 1
component: {name}
summary: {name}, of a release that has bitcode
license: {{spdx: MIT}}
{needs}packages: [{{name: {name}, summary: "{name}", files: ["**"]}}]
"""

BITS = """\
cmake_minimum_required(VERSION 3.20)
project(bits LANGUAGES NONE)
install(DIRECTORY files/ DESTINATION . USE_SOURCE_PERMISSIONS)
"""

USER = """\
cmake_minimum_required(VERSION 3.20)
project(user LANGUAGES C CXX)
add_library(user SHARED one.c two.cpp ${CMAKE_BINARY_DIR}/three.c)
target_include_directories(user PRIVATE ${CMAKE_INSTALL_PREFIX}/include)
file(WRITE ${CMAKE_BINARY_DIR}/three.c "int three(void) { return 3; }")
install(TARGETS user)
"""

ONE = "#include <bits.h>\nint one(void) { return BITS; }\nconst char *name(void) { return __FILE__; }\n"
TWO = "#include <vector>\nint two() { return static_cast<int>(std::vector<int>(2).size()); }\n"


def put(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def bits(toy: Toy, name: str) -> Path:
    """Return a file that the need of ``user`` installs."""
    return toy.directory / "recipes/bits/source/files" / name


@pytest.fixture
def release(new_toy, tmp_path) -> Callable[[str], Toy]:
    """Return a function that makes a user of the release with bitcode; all of them share the compiled files."""
    (tmp_path / "compiled").mkdir()

    def make(name: str) -> Toy:
        toy = new_toy(tmp_path / name, "bits")
        (toy.cache / "ccache").symlink_to(tmp_path / "compiled")
        put(toy.directory / "manifests/bits.yaml", MANIFEST)
        for component, needs in (("bits", ""), ("user", "needs: {libs: [bits]}\n")):
            put(toy.directory / "recipes" / component / "recipe.yaml", RECIPE.format(name=component, needs=needs))
        put(toy.directory / "recipes/bits/source/CMakeLists.txt", BITS)
        put(bits(toy, "amdgcn/bitcode/ocml.bc"), "bitcode")
        put(bits(toy, "include/bits.h"), "#define BITS 1\n")
        source = toy.directory / "recipes/user/source"
        for file, text in (("CMakeLists.txt", USER), ("one.c", ONE), ("two.cpp", TWO)):
            put(source / file, text)
        return toy

    return make


def told(toy: Toy) -> dict[str, str]:
    """Return what the last build said of ccache, by component."""
    notes = (event for event in toy.happened() if event["event"] == "Note" and event["text"].startswith("ccache: "))
    return {note["task"]: note["text"].removeprefix("ccache: ") for note in notes}


ALL_NEW = "0 of 3 compilations out of the cache (0%)"
ALL_KNOWN = "3 of 3 compilations out of the cache (100%)"


def stamps(toy: Toy) -> dict[str, list[str]]:
    """Return the keys and outputs of what was built."""
    kept = ("key", "root", "output")
    paths = sorted(toy.area("").glob("[a-z]*/stamp.json"))
    return {path.parent.name: [json.loads(path.read_text())[name] for name in kept] for path in paths}


def test_with_and_without_ccache_all_is_the_same(release):
    plain, first, second = release("plain"), release("first"), release("second")
    before = plain.plan(*OPTIONS[1:])
    assert plain.plan(*OPTIONS) == before, "it moves no key"
    plain.build("--no-reuse")
    assert not list((plain.cache / "ccache").iterdir())
    assert "compilations" not in plain.run("build", "--no-verify", "--no-reuse").stdout
    first.build(*OPTIONS)
    assert told(first) == {"user": ALL_NEW}
    done = second.build(*OPTIONS)
    assert told(second) == {"user": ALL_KNOWN}
    assert f"\nccache: {ALL_KNOWN}\n" in done.stdout
    assert plain.debs() == first.debs() == second.debs()
    assert stamps(plain) == stamps(first) == stamps(second)
    record = [json.loads((toy.out / "build.json").read_text()) for toy in (plain, first, second)]
    assert record[0] == record[1] == record[2]
    for toy, options in ((first, OPTIONS[1:]), (plain, OPTIONS)):
        assert set(toy.actions(*options).values()) == {"KEEP"}, "it comes and goes without building anything"
    second.no_orphans()


def test_what_takes_part_in_a_compilation_counts_and_nothing_else(release):
    toy = release("user")
    toy.build(*OPTIONS)
    put(bits(toy, "share/bits/README"), "words")
    toy.build(*OPTIONS)
    assert told(toy) == {"user": ALL_KNOWN}, "it was built again, for its need is another one"
    put(bits(toy, "include/bits.h"), "#define BITS 2\n")
    toy.build(*OPTIONS)
    assert told(toy) == {"user": "2 of 3 compilations out of the cache (66%)"}
    put(bits(toy, "amdgcn/bitcode/ocml.bc"), "other bitcode")
    toy.build(*OPTIONS)
    assert told(toy) == {"user": ALL_NEW}
    put(bits(toy, "bin/clang"), "#!/bin/sh\n", 0o755)
    toy.build(*OPTIONS)
    assert told(toy) == {"user": ALL_NEW}, "a program may be a compiler"
    put(bits(toy, "bin/clang"), "#!/bin/sh\nexit 1\n", 0o755)
    toy.build(*OPTIONS)
    assert told(toy) == {"user": ALL_NEW}, "it is another one now"
    shutil.rmtree(bits(toy, "bin"))
    put(bits(toy, "share/bits/README"), "other words, or it would be kept")
    toy.build(*OPTIONS)
    assert told(toy) == {"user": ALL_KNOWN}


def test_a_build_tree_goes_on_with_ccache_and_without(release):
    toy = release("user")
    checkout = toy.directory / "checkout"
    shutil.copytree(toy.directory / "recipes/user/source", checkout)
    source = ("--source", f"user={checkout}")
    toy.build(*OPTIONS, *source)
    assert told(toy) == {"user": ALL_NEW}
    for number, options in enumerate((OPTIONS[1:], OPTIONS), start=2):
        put(checkout / "one.c", ONE.replace("BITS", f"{number} * BITS"))
        toy.build(*options, *source)
        notes = [event["text"] for event in toy.happened() if event["event"] == "Note"]
        assert "goes on in the build tree of an earlier run" in notes
    assert told(toy) == {"user": "0 of 1 compilations out of the cache (0%)"}, "Ninja compiles what changed"
    fresh = release("fresh")
    fresh.build("--no-reuse", *source)
    assert fresh.debs() == toy.debs()


def test_a_damaged_cache_costs_time_only(release):
    first, second = release("first"), release("second")
    first.build(*OPTIONS)
    for path in (first.cache / "ccache").resolve().rglob("*"):
        if path.is_file() and path.name[-1] in "MR":
            content = bytearray(path.read_bytes())
            content[-20] ^= 1
            path.chmod(0o644)
            path.write_bytes(content)
    second.build(*OPTIONS)
    assert told(second) == {"user": ALL_NEW}
    assert second.debs() == first.debs()


def test_a_shell_compiles_in_a_tree_that_had_ccache(release):
    toy = release("user")
    toy.build(*OPTIONS)
    for options in (OPTIONS[1:], OPTIONS):
        done = toy.run(
            "shell", *options, "user", "--", "sh", "-c", "touch three.c && /usr/lib/rocmbuild/ninja -C /build"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "three.c.o" in done.stdout


def test_the_host_takes_the_machines_ccache_or_says_what_to_install(release):
    toy = release("user")
    toy.environ["ROCMBUILD_CCACHE"] = "yes"
    found = shutil.which("ccache", path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    done = toy.run("build", "--environment", "host", "--no-verify", "--no-reuse")
    if found is None:
        assert done.returncode == 2
        assert "--ccache: this machine has no ccache" in done.stderr
        assert "sudo apt install ccache" in done.stderr
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        assert ALL_NEW in done.stdout
