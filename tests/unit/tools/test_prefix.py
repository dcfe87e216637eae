from __future__ import annotations

import errno
import os

import pytest

from rocmbuild.errors import StepError
from rocmbuild.tools.prefix import merge


@pytest.fixture
def trees(tmp_path):
    """Return a function that makes trees of ``name={path: text}`` and returns what ``merge`` takes."""

    def make(**contents):
        made = []
        for name, files in contents.items():
            for path, text in files.items():
                file = tmp_path / name / path
                file.parent.mkdir(parents=True, exist_ok=True)
                if text is None:
                    file.mkdir()
                elif text.startswith("-> "):
                    file.symlink_to(text[3:])
                else:
                    file.write_text(text)
            made.append((name, tmp_path / name))
        return made

    return make


def listing(path):
    return sorted(str(entry.relative_to(path)) for entry in path.rglob("*"))


def test_files_are_hard_links_of_one_tree(trees, tmp_path):
    found = trees(llvm={"bin/clang": "c", "lib/a/b.h": "x"}, hip={"lib/hip.so": "h", "share/doc": "d"})
    merge(found, tmp_path / "prefix")
    prefix = tmp_path / "prefix"
    assert listing(prefix) == ["bin", "bin/clang", "lib", "lib/a", "lib/a/b.h", "lib/hip.so", "share", "share/doc"]
    assert (prefix / "bin/clang").samefile(tmp_path / "llvm/bin/clang")
    assert (prefix / "lib/hip.so").stat().st_nlink == 2


def test_symbolic_links_are_kept_as_they_are(trees, tmp_path):
    found = trees(
        hip={"lib/hip.so.5": "h", "lib/hip.so": "-> hip.so.5", "lib64": "-> lib", "bin/x": "-> /nowhere"},
        llvm={"lib/clang/16": "-> ../../deep", "deep/x": "y"},
    )
    merge(found, tmp_path / "prefix")
    prefix = tmp_path / "prefix"
    links = {name: os.readlink(prefix / name) for name in ("lib/hip.so", "lib64", "bin/x", "lib/clang/16")}
    assert links == {"lib/hip.so": "hip.so.5", "lib64": "lib", "bin/x": "/nowhere", "lib/clang/16": "../../deep"}
    assert (prefix / "lib64/hip.so").read_text() == "h"


def test_modes_are_kept(trees, tmp_path):
    found = trees(a={"bin/run": "x"})
    (tmp_path / "a/bin/run").chmod(0o755)
    merge(found, tmp_path / "prefix")
    assert (tmp_path / "prefix/bin/run").stat().st_mode & 0o777 == 0o755


def test_empty_directories_are_there(trees, tmp_path):
    merge(trees(a={"lib/empty": None}), tmp_path / "prefix")
    assert (tmp_path / "prefix/lib/empty").is_dir()


@pytest.mark.parametrize("nothing", [[], [("a", None)]])
def test_nothing_to_merge_is_an_empty_prefix(tmp_path, nothing):
    merge([(name, tmp_path / name) for name, _ in nothing], tmp_path / "prefix")
    assert listing(tmp_path / "prefix") == []


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        ({"lib/x": "1"}, {"lib/x": "2"}, "lib/x"),
        ({"lib/x": "1"}, {"lib/x": "1"}, "lib/x"),
        ({"lib/x": "-> y"}, {"lib/x": "-> y"}, "lib/x"),
        ({"top": "1"}, {"top": "1"}, "top"),
        ({"lib/x": "a file"}, {"lib/x/y": "in a directory"}, "lib/x"),
        ({"lib/x/y": "in a directory"}, {"lib/x": "a file"}, "lib/x"),
        ({"lib64": "-> lib", "lib/x": "1"}, {"lib64/y": "2"}, "lib64"),
        ({"lib64/y": "2"}, {"lib64": "-> lib"}, "lib64"),
    ],
)
def test_what_two_trees_own_is_named_with_both(trees, tmp_path, first, second, path):
    with pytest.raises(StepError) as caught:
        merge(trees(hip=first, rocr=second), tmp_path / "prefix")
    assert caught.value.message == f"hip and rocr both install {path}"
    assert caught.value.hint == "let one of them own it: discard it in the recipe of hip or rocr"


def test_a_conflict_leaves_the_trees_alone(trees, tmp_path):
    found = trees(hip={"x": "one"}, rocr={"x": "two"})
    with pytest.raises(StepError):
        merge(found, tmp_path / "prefix")
    assert [(tree / "x").read_text() for _, tree in found] == ["one", "two"]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_files_are_copied_where_there_are_no_hard_links(trees, tmp_path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    found = trees(a={"lib/x": "text", "lib/y": "-> x"})
    (tmp_path / "a/lib/x").chmod(0o755)
    merge(found, tmp_path / "prefix")
    copy = tmp_path / "prefix/lib/x"
    assert (copy.read_text(), copy.stat().st_mode & 0o777, copy.stat().st_nlink) == ("text", 0o755, 1)
    assert os.readlink(tmp_path / "prefix/lib/y") == "x"


def test_another_failure_is_not_taken_for_a_lack_of_hard_links(trees, tmp_path):
    found = trees(a={"x": "new"})
    (tmp_path / "prefix").mkdir()
    (tmp_path / "other").write_text("precious")
    (tmp_path / "prefix/x").hardlink_to(tmp_path / "other")
    with pytest.raises(FileExistsError):
        merge(found, tmp_path / "prefix")
    assert (tmp_path / "other").read_text() == "precious"


def texts(path):
    """Return what a tree has: texts of files, targets of links, None for directories without anything."""
    found = {}
    for entry in path.rglob("*"):
        name = str(entry.relative_to(path))
        if entry.is_symlink():
            found[name] = f"-> {os.readlink(entry)}"
        elif entry.is_file():
            found[name] = entry.read_text()
        elif not any(entry.iterdir()):
            found[name] = None
    return found


def test_trees_below_fill_up_what_is_not_there(trees, tmp_path):
    tools, libs = (
        trees(llvm={"bin/clang": "runs here", "lib/libLLVM.so": "runs here"}),
        trees(board={"bin/clang": "runs there", "bin/other": "runs there", "include/llvm/x.h": "h"}),
    )
    merge(tools, tmp_path / "prefix", below=libs)
    assert texts(tmp_path / "prefix") == {
        "bin/clang": "runs here",
        "lib/libLLVM.so": "runs here",
        "bin/other": "runs there",
        "include/llvm/x.h": "h",
    }
    assert (tmp_path / "prefix/bin/other").samefile(tmp_path / "board/bin/other")
    assert (tmp_path / "board/bin/clang").read_text() == "runs there", "a tree below is not touched"


def test_the_other_way_round_it_is_the_other_way_round(trees, tmp_path):
    one, two = trees(one={"x": "1", "a": "1"}), trees(two={"x": "2", "b": "2"})
    merge(one, tmp_path / "above", below=two)
    merge(two, tmp_path / "below", below=one)
    assert texts(tmp_path / "above") == {"x": "1", "a": "1", "b": "2"}
    assert texts(tmp_path / "below") == {"x": "2", "a": "1", "b": "2"}


def test_of_several_trees_below_the_first_goes_before(trees, tmp_path):
    merge([], tmp_path / "prefix", below=trees(one={"x": "1"}, two={"x": "2", "y": "2"}))
    assert texts(tmp_path / "prefix") == {"x": "1", "y": "2"}


@pytest.mark.parametrize(
    ("above", "below", "result"),
    [
        ({"lib64": "-> lib", "lib/a": "1"}, {"lib64/b": "2"}, {"lib64": "-> lib", "lib/a": "1"}),
        ({"lib64/a": "1"}, {"lib64": "-> lib", "lib/b": "2"}, {"lib64/a": "1", "lib/b": "2"}),
        ({"x": "a file"}, {"x/y": "in a directory"}, {"x": "a file"}),
        ({"x/y": "in a directory"}, {"x": "a file"}, {"x/y": "in a directory"}),
        ({"x": "-> missing"}, {"x": "a file"}, {"x": "-> missing"}),
        ({"a": "1"}, {"lib/empty": None, "lib64": "-> lib"}, {"a": "1", "lib/empty": None, "lib64": "-> lib"}),
    ],
)
def test_what_a_tree_has_as_another_kind_hides_that_of_one_below(trees, tmp_path, above, below, result):
    merge(trees(above=above), tmp_path / "prefix", below=trees(below=below))
    assert texts(tmp_path / "prefix") == result


def test_two_trees_above_may_still_not_own_one_file(trees, tmp_path):
    with pytest.raises(StepError, match="hip and rocr both install x"):
        merge(trees(hip={"x": "1"}, rocr={"x": "2"}), tmp_path / "prefix", below=trees(other={"x": "3"}))
