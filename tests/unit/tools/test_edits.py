"""Edits and patches: applied, already in, or an error that says what to look at."""

from __future__ import annotations

import asyncio
import difflib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from rocmbuild.errors import EditError
from rocmbuild.model.recipe import Edit, Patch
from rocmbuild.process import Runner
from rocmbuild.tools.edits import Outcome, apply_changes, apply_edits, apply_patches

CMAKE = """\
cmake_minimum_required(VERSION 3.7)
set(HSA_CXX_FLAGS "-m64 -mmwaitx")
include(utils)
add_custom_command(COMMAND llvm-objcopy --dump-section)
add_custom_command(COMMAND llvm-objcopy --strip)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    (path / "src").mkdir(parents=True)
    (path / "src/CMakeLists.txt").write_text(CMAKE)
    return path


def edit(file: str = "src/CMakeLists.txt", where: str = "recipe.yaml:3:5", **fields: object) -> Edit:
    return Edit(file=file, why="a reason", where=where, **fields)  # type: ignore[arg-type]


def text(tree: Path, name: str = "src/CMakeLists.txt") -> str:
    return (tree / name).read_text()


def rejected(tree: Path, *edits: Edit) -> EditError:
    with pytest.raises(EditError) as caught:
        apply_edits(tree, edits)
    return caught.value


# ---- edits


def test_an_edit_is_applied_with_groups_over_lines(tree: Path) -> None:
    outcome = apply_edits(tree, [edit(find=r'^(set\(HSA_CXX_FLAGS "-m64) -mmwaitx"\)$', replace=r'\1 @\g<1>@")')])
    assert outcome == [Outcome("applied", "src/CMakeLists.txt", 1, "a reason")]
    assert 'set(HSA_CXX_FLAGS "-m64 @set(HSA_CXX_FLAGS "-m64@")\ninclude' in text(tree)
    assert str(outcome[0]) == "applied once to src/CMakeLists.txt: a reason"


def test_an_optional_edit_that_does_not_fit_is_left_out_and_says_why(tree: Path) -> None:
    missing = edit(find="-msse", replace="", optional=True)
    absent = edit("src/other.txt", find="x", replace="y", optional=True)
    fitting = edit(find=" -mmwaitx", replace="", optional=True)
    outcomes = apply_edits(tree, [missing, absent, fitting])
    assert [outcome.kind for outcome in outcomes] == ["left out", "left out", "applied"]
    assert str(outcomes[0]).startswith(
        "left out: src/CMakeLists.txt: '-msse' matches nowhere, expected once (a reason)"
    )
    assert str(outcomes[1]) == "left out: there is no file src/other.txt"
    assert '"-m64")' in text(tree)


def test_an_edit_applies_as_often_as_it_says(tree: Path) -> None:
    (outcome,) = apply_edits(tree, [edit(find="llvm-objcopy", replace="objcopy", count=2)])
    assert outcome.times == 2 and text(tree).count("COMMAND objcopy") == 2


def test_edits_of_one_file_build_on_each_other(tree: Path) -> None:
    apply_edits(tree, [edit(find="utils", replace="helpers"), edit(find="helpers", replace="tools")])
    assert "include(tools)" in text(tree)


def test_an_edit_that_is_in_already_changes_nothing(tree: Path) -> None:
    before = (tree / "src/CMakeLists.txt").stat()
    (outcome,) = apply_edits(tree, [edit(find="-msse4", replace="", present="-mmwaitx")])
    assert outcome == Outcome("present", "src/CMakeLists.txt", 1, "a reason")
    assert str(outcome) == "already in src/CMakeLists.txt: a reason"
    assert (tree / "src/CMakeLists.txt").stat() == before


def test_a_second_run_finds_its_own_work(tree: Path) -> None:
    twice = edit(find="include\\(utils\\)", replace="include(helpers)", present=r"include\(helpers\)")
    assert [apply_edits(tree, [twice])[0].kind for _ in range(2)] == ["applied", "present"]


def test_an_edit_without_a_match_shows_lines_that_look_like_it(tree: Path) -> None:
    error = rejected(tree, edit(find=r'^set\(HSA_CXX_FLAGS "-m64 -mmwait"\)', replace="", present="nothing"))
    assert error.where == "recipe.yaml:3:5"
    assert error.message.startswith("src/CMakeLists.txt: '^set")
    assert "matches nowhere, expected once (a reason)" in error.message
    assert error.hint is not None
    assert 'src/CMakeLists.txt:2: set(HSA_CXX_FLAGS "-m64 -mmwaitx")' in error.hint
    assert "present" in error.hint
    assert error.exit_code == 1


def test_an_edit_with_too_many_matches_says_in_which_lines(tree: Path) -> None:
    error = rejected(tree, edit(find="llvm-objcopy", replace=""))
    assert "matches twice, expected once" in error.message
    assert error.hint == "it matches in line 4, 5: make it say more, or less"
    assert text(tree) == CMAKE


def test_a_wrong_count_is_an_error_even_if_the_change_seems_present(tree: Path) -> None:
    assert "matches twice" in rejected(tree, edit(find="llvm-objcopy", replace="", count=3, present="utils")).message


def test_a_missing_file_is_an_error_that_names_where_it_may_be(tree: Path) -> None:
    (tree / "lib").mkdir()
    (tree / "lib/util.h").touch()
    error = rejected(tree, edit("src/util.h", find="x", replace="y"))
    assert error.message == "there is no file src/util.h"
    assert error.hint == "did you mean lib/util.h?"


def test_all_problems_are_reported_and_nothing_is_changed(tree: Path) -> None:
    error = rejected(
        tree,
        edit(find="utils", replace="helpers"),
        edit(find="nowhere at all", replace="", where="recipe.yaml:10:5"),
        edit("gone.h", find="x", replace="", where="recipe.yaml:20:5"),
        edit(find="(", replace="", where="recipe.yaml:30:5"),
        edit(find="utils", replace=r"\7", where="recipe.yaml:40:5"),
    )
    lines = str(error)
    assert all(f"recipe.yaml:{line}:5: " in lines for line in (10, 20, 30, 40))
    assert "recipe.yaml:3:5" not in lines
    assert "is not a valid regular expression: missing )" in lines
    assert "invalid group reference 7" in lines
    assert text(tree) == CMAKE


def test_a_file_is_written_anew(tree: Path) -> None:
    outcomes = apply_edits(tree, [edit("new/VERSION", write="1\n"), edit("src/CMakeLists.txt", write="project(x)\n")])
    assert [outcome.kind for outcome in outcomes] == ["applied", "applied"]
    assert (text(tree, "new/VERSION"), text(tree)) == ("1\n", "project(x)\n")
    (again,) = apply_edits(tree, [edit("new/VERSION", write="1\n")])
    assert again.kind == "present"


def test_a_written_file_can_be_edited(tree: Path) -> None:
    apply_edits(tree, [edit("VERSION", write="1\n"), edit("VERSION", find="1", replace="2")])
    assert text(tree, "VERSION") == "2\n"


def test_a_directory_cannot_be_written(tree: Path) -> None:
    assert rejected(tree, edit("src", write="x")).message == "src is a directory, it cannot be written as a file"


def test_line_endings_modes_and_foreign_bytes_are_kept(tree: Path) -> None:
    path = tree / "run.bat"
    path.write_bytes(b"one\r\ntwo\r\n\xff\xfe three\r\n")
    path.chmod(0o755)
    apply_edits(tree, [edit("run.bat", find="^two$", replace="2\nand")])
    assert path.read_bytes() == b"one\r\n2\r\nand\r\n\xff\xfe three\r\n"
    assert path.stat().st_mode & 0o777 == 0o755
    mixed = tree / "mixed"
    mixed.write_bytes(b"a\r\nb\nc\n")
    apply_edits(tree, [edit("mixed", find="b", replace="B")])
    assert mixed.read_bytes() == b"a\r\nB\nc\n"


def test_a_hard_link_to_the_file_does_not_see_the_change(tree: Path) -> None:
    os.link(tree / "src/CMakeLists.txt", tree.parent / "other")
    apply_edits(tree, [edit(find="utils", replace="helpers")])
    assert (tree.parent / "other").read_text() == CMAKE


def test_an_edit_does_not_follow_links_out_of_the_tree(tree: Path) -> None:
    (tree.parent / "victim").write_text("x")
    (tree / "link").symlink_to("../victim")
    assert rejected(tree, edit("link", find="x", replace="y")).message == "link leads out of the source tree"
    assert rejected(tree, edit("link", write="y")).message == "link leads out of the source tree"
    (tree / "inner").symlink_to("src/CMakeLists.txt")
    apply_edits(tree, [edit("inner", find="utils", replace="helpers"), edit(find="helpers", replace="tools")])
    assert (tree / "inner").is_symlink() and "include(tools)" in text(tree)


# ---- patches


def make_patch(tree: Path, name: str, old: str, new: str, file: str = "src/CMakeLists.txt") -> Patch:
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"a/{file}", f"b/{file}")
    path = tree.parent / name
    path.write_text("".join(lines))
    return Patch(path, "new code", where="recipe.yaml:50:5")


def patch(tree: Path, *patches: Patch) -> Sequence[Outcome]:
    return asyncio.run(apply_patches(tree, patches, Runner()))


def test_a_patch_is_applied_and_then_already_in(tree: Path) -> None:
    one = make_patch(tree, "one.patch", CMAKE, CMAKE.replace("utils", "helpers"))
    assert patch(tree, one) == [Outcome("applied", "one.patch", 1, "new code")]
    assert "include(helpers)" in text(tree)
    assert patch(tree, one) == [Outcome("present", "one.patch", 1, "new code")]


def test_a_patch_that_does_not_fit_names_the_place(tree: Path) -> None:
    one = make_patch(tree, "one.patch", CMAKE.replace("utils", "tools"), CMAKE.replace("utils", "helpers"))
    missing = make_patch(tree, "two.patch", "a\n", "b\n", "gone.h")
    with pytest.raises(EditError) as caught:
        patch(tree, one, missing)
    assert "recipe.yaml:50:5: one.patch does not fit: src/CMakeLists.txt:1 (new code)" in str(caught.value)
    assert "two.patch does not fit: gone.h: No such file or directory" in str(caught.value)
    assert "try: the source differs" in str(caught.value)
    assert text(tree) == CMAKE


def test_a_patch_is_applied_inside_of_a_repository_too(tree: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tree.parent)], check=True)
    one = make_patch(tree, "one.patch", CMAKE, CMAKE.replace("utils", "helpers"))
    assert patch(tree, one)[0].kind == "applied"
    assert "include(helpers)" in text(tree)


def test_a_patch_cannot_leave_the_tree(tree: Path) -> None:
    (tree.parent / "victim").write_text("a\n")
    with pytest.raises(EditError, match="invalid path"):
        patch(tree, make_patch(tree, "evil.patch", "a\n", "b\n", "../victim"))
    assert (tree.parent / "victim").read_text() == "a\n"


def test_edits_come_before_patches_and_all_problems_together(tree: Path) -> None:
    edited = CMAKE.replace("utils", "helpers")
    one = make_patch(tree, "one.patch", edited, edited.replace("helpers", "tools"))
    change = edit(find="utils", replace="helpers")
    outcomes = asyncio.run(apply_changes(tree, [change], [one], Runner()))
    assert [outcome.kind for outcome in outcomes] == ["applied", "applied"]
    bad = make_patch(tree, "bad.patch", "a\n", "b\n")
    (tree / "src/CMakeLists.txt").write_text(CMAKE)
    with pytest.raises(EditError) as caught:
        asyncio.run(apply_changes(tree, [change, edit("gone", find="a", replace="b")], [one, bad], Runner()))
    assert "there is no file gone" in str(caught.value)
    assert "bad.patch does not fit" in str(caught.value)
    assert "one.patch" not in str(caught.value)
