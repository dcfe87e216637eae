"""Clones of trees: what they keep, what they share, what they refuse."""

import errno
import os
import stat

import pytest

from rocmbuild.tools import clone
from rocmbuild.tools.clone import clone_tree, tree_signature
from rocmbuild.workspace import tree_digest


@pytest.fixture
def tree(tmp_path):
    """A tree with all that a stage tree may have."""
    root = tmp_path / "tree"
    (root / "opt" / "lib").mkdir(parents=True)
    (root / "opt" / "empty").mkdir(mode=0o750)
    (root / "opt" / "lib" / "libx.so.1").write_bytes(b"\x7fELF" + bytes(100_000))
    (root / "opt" / "lib" / "libx.so").symlink_to("libx.so.1")
    (root / "opt" / "lib64").symlink_to("lib")
    (root / "opt" / "dangling").symlink_to("/nowhere/at/all")
    tool = root / "opt" / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    (root / "opt" / "read-only").write_text("x")
    (root / "opt" / "read-only").chmod(0o444)
    os.utime(tool, (1_000_000_000, 1_000_000_000))
    return root


def inode(path):
    return path.stat().st_ino


@pytest.mark.parametrize("links", [True, False])
def test_a_clone_is_the_same_tree(tree, tmp_path, links):
    clone_tree(tree, tmp_path / "new", links=links)
    assert tree_digest(tmp_path / "new") == tree_digest(tree)
    assert tree_signature(tmp_path / "new") == tree_signature(tree)
    new = tmp_path / "new" / "opt"
    assert stat.S_IMODE((new / "empty").stat().st_mode) == 0o750
    assert stat.S_IMODE((new / "read-only").stat().st_mode) == 0o444
    assert (new / "tool").stat().st_mtime == 1_000_000_000
    assert os.readlink(new / "dangling") == "/nowhere/at/all"
    assert os.readlink(new / "lib64") == "lib"


def test_without_links_nothing_written_to_a_clone_reaches_the_tree(tree, tmp_path):
    ways = clone_tree(tree, tmp_path / "new", links=False)
    assert ways["link"] == 0 and sum(ways.values()) == 3
    with (tmp_path / "new" / "opt" / "tool").open("r+") as file:
        file.write("something else")
    assert (tree / "opt" / "tool").read_text() == "#!/bin/sh\n"


def test_with_links_no_byte_is_copied_on_one_file_system(tree, tmp_path):
    ways = clone_tree(tree, tmp_path / "new", links=True)
    assert ways["copy"] == 0 and ways["reflink"] + ways["link"] == 3
    if ways["link"]:
        assert inode(tmp_path / "new" / "opt" / "tool") == inode(tree / "opt" / "tool")


def test_a_file_is_copied_where_it_can_be_neither_shared_nor_linked(tree, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EMLINK, "too many links")

    monkeypatch.setattr(clone.fcntl, "ioctl", refuse)
    monkeypatch.setattr(clone.os, "link", refuse)
    assert clone_tree(tree, tmp_path / "new", links=True) == {"reflink": 0, "link": 0, "copy": 3}
    assert tree_digest(tmp_path / "new") == tree_digest(tree)


def test_another_failure_is_not_taken_for_a_file_system_that_cannot(tree, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(clone.fcntl, "ioctl", full)
    with pytest.raises(OSError, match="no space left"):
        clone_tree(tree, tmp_path / "new", links=True)


def test_what_is_no_file_is_refused_and_not_waited_for(tree, tmp_path):
    os.mkfifo(tree / "opt" / "pipe")
    with pytest.raises(OSError, match="neither a file nor a directory") as caught:
        clone_tree(tree, tmp_path / "new", links=False)
    assert caught.value.filename == str(tree / "opt" / "pipe")


def test_a_signature_moves_with_what_is_touched_but_not_with_links_to_it(tree, tmp_path):
    before = tree_signature(tree)
    clone_tree(tree, tmp_path / "new", links=True)
    assert tree_signature(tree) == before
    (tree / "opt" / "tool").write_text("#!/bin/zs\n")
    assert tree_signature(tree) != before
