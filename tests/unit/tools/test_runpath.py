"""Run paths are rewritten in place, and what they were is nowhere in the file any more."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rocmbuild.errors import PackageError
from rocmbuild.tools.elf import inspect
from rocmbuild.tools.runpath import relocate_runpath, relocate_tree

PREFIX = "/opt/rocm-5.6.1"


def built(path: Path, run_path: str, *options: str, code: str = "int f(void) { return 1; }") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.parent.parent / f"{path.name}.c"
    source.write_text(code)
    rpath = ("-Wl,-rpath," + run_path,) if run_path else ()
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(path), str(source), *rpath, *options], check=True)
    return path


def relocated(path: Path, location: str = f"{PREFIX}/lib/libf.so") -> tuple[str, ...]:
    relocate_runpath(path, location, PREFIX)
    elf = inspect(path)
    assert elf is not None
    return elf.runpath or elf.rpath


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"{PREFIX}/lib", ("$ORIGIN",)),
        (f"{PREFIX}/lib/", ("$ORIGIN",)),
        (f"{PREFIX}/lib/../lib64", ("$ORIGIN/../lib64",)),
        (f"{PREFIX}/llvm/lib:{PREFIX}/lib", ("$ORIGIN/../llvm/lib", "$ORIGIN")),
        (f"{PREFIX}/lib:/build/hip/lib:{PREFIX}/lib/:", ("$ORIGIN",)),
        (f"/usr/lib/llvm-17/lib:{PREFIX}/lib", ("/usr/lib/llvm-17/lib", "$ORIGIN")),
        (f"{PREFIX}-beta/lib:lib:/../lib:{PREFIX}/lib", ("$ORIGIN",)),
        ("$ORIGIN/../lib:/home/me/build", ("$ORIGIN/../lib",)),
        ("$ORIGIN:$ORIGIN/../../lib:${ORIGIN}/../../lib64:$ORIGIN/../lib64", ("$ORIGIN", "$ORIGIN/../lib64")),
    ],
)
def test_entries_are_relative_to_the_file(tmp_path, before, after):
    path = built(tmp_path / "stage/libf.so", before)
    assert relocated(path) == after
    assert PREFIX.encode() not in path.read_bytes()
    assert b"/build" not in path.read_bytes()


def test_the_older_kind_of_run_path_is_relocated_too(tmp_path):
    path = built(tmp_path / "s/libf.so", f"{PREFIX}/lib", "-Wl,--disable-new-dtags")
    assert relocated(path) == ("$ORIGIN",)


def test_a_run_path_that_names_only_the_build_tree_goes_away_with_its_tag(tmp_path):
    path = built(tmp_path / "s/libf.so", "/home/me/build/lib", "-lm", "-Wl,--no-as-needed")
    before = inspect(path)
    assert relocated(path) == ()
    after = inspect(path)
    assert before is not None and after is not None
    assert after.needed == before.needed
    assert b"/home/me" not in path.read_bytes()
    dump = subprocess.run(["readelf", "-dW", str(path)], check=True, capture_output=True, text=True)
    assert "RUNPATH" not in dump.stdout
    assert dump.stderr == ""


def test_a_relocated_program_runs_from_anywhere(tmp_path):
    stage = tmp_path / "stage"
    library = built(stage / PREFIX[1:] / "lib/libf.so.1", "", "-Wl,-soname,libf.so.1")
    (stage / PREFIX[1:] / "bin").mkdir()
    program = stage / PREFIX[1:] / "bin/program"
    source = tmp_path / "main.c"
    source.write_text("int f(void); int main(void) { return f() - 1; }")
    rpath = f"-Wl,-rpath,{PREFIX}/lib"
    subprocess.run(["gcc", "-o", str(program), str(source), str(library), rpath], check=True)
    assert relocate_tree(stage, PREFIX) == [f"{PREFIX[1:]}/bin/program"]
    moved = tmp_path / "elsewhere"
    stage.rename(moved)
    assert subprocess.run([str(moved / PREFIX[1:] / "bin/program")], check=False, env={}).returncode == 0
    assert relocate_tree(moved, PREFIX) == []


def test_hard_links_in_other_trees_keep_their_bytes_and_the_file_its_mode_and_time(tmp_path):
    path = built(tmp_path / "s/libf.so", f"{PREFIX}/lib")
    path.chmod(0o750)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    other = tmp_path / "other.so"
    os.link(path, other)
    original = other.read_bytes()
    assert relocated(path) == ("$ORIGIN",)
    assert other.read_bytes() == original
    status = path.stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o750, 1_000_000_000)
    assert sorted(p.name for p in path.parent.iterdir()) == ["libf.so"]


def test_a_file_outside_the_prefix_keeps_the_absolute_path(tmp_path):
    path = built(tmp_path / "s/libf.so", f"{PREFIX}/lib")
    assert not relocate_runpath(path, "/usr/lib/libf.so", PREFIX)


def test_no_room_for_the_new_text_is_an_error_with_a_remedy(tmp_path):
    path = built(tmp_path / "s/libf.so", f"{PREFIX}")
    original = path.read_bytes()
    with pytest.raises(PackageError, match="there is no room for it") as caught:
        relocate_runpath(path, f"{PREFIX}/a/very/deep/directory/libf.so", PREFIX)
    assert caught.value.where == f"{PREFIX}/a/very/deep/directory/libf.so"
    assert "CMAKE_INSTALL_RPATH" in str(caught.value.hint)
    assert path.read_bytes() == original


def test_a_string_shared_with_a_symbol_is_not_overwritten(tmp_path):
    """The linker stores a name that is the end of another one inside of it: here ``lib`` in ``/opt/rocm-5.6.1/lib``."""
    path = built(tmp_path / "s/libf.so", f"{PREFIX}/lib", code="int lib(void) { return 1; }")
    original = path.read_bytes()
    with pytest.raises(PackageError, match="shares its bytes with the name lib"):
        relocate_runpath(path, f"{PREFIX}/lib/libf.so", PREFIX)
    assert path.read_bytes() == original


def test_device_code_and_text_are_left_alone(tmp_path):
    path = built(tmp_path / "s/kernel.co", f"{PREFIX}/lib")
    data = bytearray(path.read_bytes())
    data[18:20] = (224).to_bytes(2, "little")
    path.write_bytes(data)
    assert not relocate_runpath(path, f"{PREFIX}/lib/kernel.co", PREFIX)
    (tmp_path / "s/text").write_text("x")
    assert not relocate_runpath(tmp_path / "s/text", f"{PREFIX}/text", PREFIX)
