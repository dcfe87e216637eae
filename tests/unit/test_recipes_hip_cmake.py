"""HIP's CMake files: what projects for another machine are linked with."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from textwrap import indent

import pytest

from rocmbuild.tools.cmake import find_build_tools
from rocmbuild.tools.edits import apply_edits
from tests.changes import change
from tests.compilers import edits

EXECUTE = """\
# Use HIP_CXX option -print-libgcc-file-name --rtlib=compiler-rt
execute_process(
  COMMAND {command}
  OUTPUT_VARIABLE CLANGRT_BUILTINS
  ERROR_VARIABLE  CLANGRT_Error
  OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE CLANGRT_BUILTINS_FETCH_EXIT_CODE)
message("found ${{CLANGRT_BUILTINS_FETCH_EXIT_CODE}}: ${{CLANGRT_BUILTINS}}")
"""
ASK = "${HIP_CXX_COMPILER} -print-libgcc-file-name --rtlib=compiler-rt"
QUIET = "${CMAKE_COMMAND} -E env HIPCC_VERBOSE=0\n  "
CONFIGS = [
    ("5.6", "hip-config.cmake.in", ASK),
    ("5.7", "hip-config-amd.cmake", ASK),
    ("6.4", "hip-config-amd.cmake.in", QUIET + ASK),
]
CLANG = """\
#!/bin/sh
# like clang: a library that is not there is named as if every target had a directory of its own
resources={root}/native; target=x86_64
for word; do
  case $word in
    --target=*) target=${{word#--target=}}; target=${{target%%-*}} ;;
    -resource-dir=*) resources=${{word#-resource-dir=}} ;;
  esac
done
library=$resources/lib/linux/libclang_rt.builtins-$target.a
[ -f "$library" ] || library=$resources/lib/$target-unknown-linux-gnu/libclang_rt.builtins.a
echo "$library"
"""


def found_library(tree: Path, file: str, **variables: str) -> str:
    """Return what a project that is configured with some variables finds; the sysroot has riscv64's library."""
    clang = tree / "clang++"
    clang.write_text(CLANG.format(root=tree))
    clang.chmod(0o755)
    for place in (tree / "native", Path(f"{tree}/sysroot{tree}/native")):
        (place / "lib/linux").mkdir(parents=True, exist_ok=True)
    (tree / "native/lib/linux/libclang_rt.builtins-x86_64.a").touch()
    Path(f"{tree}/sysroot{tree}/native/lib/linux/libclang_rt.builtins-riscv64.a").touch()
    cmake = find_build_tools().cmake / "bin/cmake"
    given = {"HIP_CXX_COMPILER": str(clang), **variables}
    argv = [str(cmake), *(f"-D{key}={value}" for key, value in given.items()), "-P", str(tree / file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    (line,) = re.findall(r"^found (.*)$", done.stderr, re.MULTILINE)
    return str(line).replace(str(tree), "")


def config(release: str, command: str) -> str:
    """Return the text as a release has it: until 5.6 it was for one of two compilers, and indented."""
    text = EXECUTE.format(command=command)
    return f"if(NOT HIP_COMPILER)\n{indent(text, '  ')}endif()\n" if release == "5.6" else text


@pytest.mark.parametrize(("release", "name", "command"), CONFIGS)
def test_a_project_links_the_builtins_of_its_own_machine(tmp_path: Path, release: str, name: str, command: str) -> None:
    file = f"hipamd/{name}"
    chosen = [edit for edit in edits("clr-hip", "riscv64", release) if edit.file == file]
    assert [outcome.kind for outcome in change(tmp_path, chosen, {file: config(release, command)})] == ["applied"]
    assert found_library(tmp_path, file) == "0: /native/lib/linux/libclang_rt.builtins-x86_64.a"
    sysroot = {"CMAKE_CXX_COMPILER_TARGET": "riscv64-linux-gnu", "CMAKE_SYSROOT": f"{tmp_path}/sysroot"}
    below = found_library(tmp_path, file, **sysroot)
    assert below == "0: /sysroot/native/lib/linux/libclang_rt.builtins-riscv64.a"
    assert [outcome.kind for outcome in apply_edits(tmp_path, chosen)] == ["present"]


@pytest.mark.parametrize(("release", "name", "command"), CONFIGS)
def test_a_project_does_without_builtins_that_are_nowhere(
    tmp_path: Path, release: str, name: str, command: str
) -> None:
    file = f"hipamd/{name}"
    change(tmp_path, edits("clr-hip", "arm64", release), {file: config(release, command)})
    found = found_library(tmp_path, file, CMAKE_CXX_COMPILER_TARGET="aarch64-linux-gnu")
    assert found.startswith("none at /native/lib/aarch64-unknown-linux-gnu/")


@pytest.mark.parametrize(("release", "name", "command"), CONFIGS)
def test_hip_config_of_x86_stays_as_it_is(release: str, name: str, command: str) -> None:
    assert not [edit for edit in edits("clr-hip", "amd64", release) if edit.file == f"hipamd/{name}"]
    assert [edit for edit in edits("clr-hip", "riscv64", release) if edit.file == f"hipamd/{name}"]


LANGUAGE = EXECUTE.replace(
    "{command}", "${{CMAKE_HIP_COMPILER}} -print-libgcc-file-name --rtlib=compiler-rt ${{OPTION}}"
)


def test_the_language_hip_asks_for_the_library_of_its_target(tmp_path: Path) -> None:
    file = "hip-lang-config.cmake.in"
    outcomes = change(tmp_path, edits("hip"), {file: LANGUAGE.format()})
    assert [outcome.kind for outcome in outcomes] == ["applied"]
    clang = {"CMAKE_HIP_COMPILER": f"{tmp_path}/clang++"}
    assert found_library(tmp_path, file, **clang).endswith("/linux/libclang_rt.builtins-x86_64.a")
    asked = found_library(tmp_path, file, **clang, CMAKE_HIP_COMPILER_TARGET="riscv64-linux-gnu")
    assert asked.endswith("/riscv64-unknown-linux-gnu/libclang_rt.builtins.a")
    assert [outcome.kind for outcome in apply_edits(tmp_path, edits("hip"))] == ["present"]


def test_a_language_file_that_searches_for_itself_is_left_alone(tmp_path: Path) -> None:
    source = "find_library(CLANGRT_BUILTINS NAMES clang_rt.builtins)\n"
    outcomes = change(tmp_path, edits("hip"), {"hip-lang-config.cmake.in": source})
    assert [outcome.kind for outcome in outcomes] == ["present"]
