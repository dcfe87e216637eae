"""A build tree after the machine went down, and after it did not."""

from __future__ import annotations

import os

import pytest

from rocmbuild.run import outage

LOG = """# ninja log v7
1\t2\t0\told.o\tabc
3\t4\t0\tdeep/new.o\tabc
5\t6\t0\t/build/newer.so\tabc
7\t8\t0\tgone.o\tabc
9\t9\t0\t../outside\tabc
unfinished line"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A component with a tree whose last file was made 1000 seconds ago, while Ninja worked in it."""
    monkeypatch.setattr(outage, "BOOT", tmp_path / "boot_id")
    outage.BOOT.write_text("first\n")
    (tmp_path / "outside").write_text("x")
    path = tmp_path / "build"
    (path / "deep").mkdir(parents=True)
    now = outage.BOOT.stat().st_mtime
    for name, age in {
        "old.o": 2000,
        "deep/new.o": 1100,
        "newer.so": 1000,
        "made.txt": 1000,
        ".ninja_log": 1000,
    }.items():
        (path / name).write_text(LOG if name == ".ninja_log" else "")
        os.utime(path / name, (now - age, now - age))
    outage.mark(tmp_path)
    return path


def left(tree):
    return sorted(path.name for path in tree.rglob("*") if path.is_file())


EVERYTHING = [".ninja_log", "made.txt", "new.o", "newer.so", "old.o"]


def test_what_was_made_last_is_made_again_after_another_start(tree):
    outage.BOOT.write_text("second\n")
    assert outage.distrust(tree.parent, tree) == 2
    assert left(tree) == [".ninja_log", "made.txt", "old.o"]
    assert (tree.parent / "outside").exists()


def test_a_run_that_was_only_killed_loses_nothing(tree):
    assert outage.distrust(tree.parent, tree) == 0
    assert left(tree) == EVERYTHING


def test_what_was_brought_to_the_disk_is_trusted(tree):
    outage.unmark(tree.parent)
    outage.BOOT.write_text("second\n")
    assert outage.distrust(tree.parent, tree) == 0
    assert left(tree) == EVERYTHING
    outage.unmark(tree.parent)


def test_the_mark_is_of_the_last_start(tree):
    outage.BOOT.write_text("second\n")
    outage.mark(tree.parent)
    assert outage.distrust(tree.parent, tree) == 0


@pytest.mark.parametrize("log", [None, "", "# ninja log v7\n", "\0" * 50])
def test_a_tree_without_a_log_that_says_something_is_left_to_ninja(tree, log):
    outage.BOOT.write_text("second\n")
    if log is None:
        (tree / ".ninja_log").unlink()
    else:
        (tree / ".ninja_log").write_text(log)
    assert outage.distrust(tree.parent, tree) == 0
    assert {"old.o", "new.o", "newer.so"} < {*left(tree)}


def test_a_machine_without_the_number_of_its_start_trusts_everything(tree):
    outage.BOOT.unlink()
    outage.mark(tree.parent)
    assert outage.distrust(tree.parent, tree) == 0
