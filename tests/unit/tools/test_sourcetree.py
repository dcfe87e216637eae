"""Source trees: copies, modes and the times that decide what is built again."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.tools.sourcetree import EARLIEST, copy_tree, newest, settle, subdirectory

MADE = 1690000000


def make(path: Path, **files: str) -> Path:
    for name, content in files.items():
        file = path / name.replace("_", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return path


def test_a_new_tree_has_one_time_and_plain_modes(tmp_path: Path) -> None:
    tree = make(tmp_path / "new", a="1", d_b="2")
    (tree / "a").chmod(0o600)
    (tree / "d/b").chmod(0o700)
    (tree / "l").symlink_to("nowhere")
    settle(tree, tmp_path / "none", MADE)
    assert {os.lstat(path).st_mtime for path in (tree, *tree.rglob("*"))} == {MADE}
    assert (tree / "a").stat().st_mode & 0o777 == 0o644
    assert (tree / "d/b").stat().st_mode & 0o777 == 0o755


def test_times_are_neither_ancient_nor_in_the_future(tmp_path: Path) -> None:
    tree = make(tmp_path / "new", a="1")
    settle(tree, tmp_path / "none", 0)
    assert (tree / "a").stat().st_mtime == EARLIEST
    settle(tree, tmp_path / "none", int(time.time()) + 10**6)
    assert (tree / "a").stat().st_mtime <= time.time()


def test_only_what_changed_gets_the_present(tmp_path: Path) -> None:
    old = make(tmp_path / "old", same="1", changed="1", mode="1", gone="1", d_x="1", kind_x="1")
    (old / "link").symlink_to("same")
    (old / "other").symlink_to("same")
    settle(old, tmp_path / "none", MADE)
    new = make(tmp_path / "new", same="1", changed="2", mode="1", added="1", d_x="1", kind="1")
    (new / "mode").chmod(0o755)
    (new / "link").symlink_to("same")
    (new / "other").symlink_to("changed")
    before = time.time()
    settle(new, old, MADE - 1000)
    present = {path.name for path in (new, *new.rglob("*")) if os.lstat(path).st_mtime >= before - 1}
    assert present == {"new", "changed", "mode", "added", "other", "kind"}
    assert all(os.lstat(new / name).st_mtime == MADE for name in ("same", "link", "d", "d/x"))


def test_what_is_from_the_future_is_of_the_present_in_the_next_tree_too(tmp_path: Path) -> None:
    old, new = make(tmp_path / "old", same="1"), make(tmp_path / "new", same="1")
    ahead = time.time() + 3600
    for path in (old, old / "same"):
        os.utime(path, (ahead, ahead))
    settle(new, old, MADE)
    assert max(path.stat().st_mtime for path in (new, new / "same")) <= time.time()


def test_the_youngest_file_counts_not_its_directory(tmp_path: Path) -> None:
    tree = make(tmp_path / "x", a="1", b="2")
    os.utime(tree / "a", (MADE, MADE))
    os.utime(tree / "b", (MADE - 5, MADE - 5))
    assert newest(tree) == MADE
    (tmp_path / "empty").mkdir()
    assert newest(tmp_path / "empty") == EARLIEST


def test_a_copy_is_without_git_and_sockets(tmp_path: Path) -> None:
    tree = make(tmp_path / "x", a="1", d_b="2")
    (tree / ".git").mkdir()
    (tree / "d/.git").write_text("gitdir: elsewhere")
    (tree / "l").symlink_to("/nowhere")
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tree / "socket"))
        copy_tree(tree, tmp_path / "y")
    assert sorted(str(path.relative_to(tmp_path / "y")) for path in (tmp_path / "y").rglob("*")) == [
        "a",
        "d",
        "d/b",
        "l",
    ]
    assert (tmp_path / "y/l").readlink() == Path("/nowhere")


def test_what_cannot_be_copied_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be copied"):
        copy_tree(tmp_path / "gone", tmp_path / "y")


def test_a_subdirectory_must_be_in_the_tree(tmp_path: Path) -> None:
    tree = make(tmp_path / "x", amd_comgr_a="1")
    assert subdirectory(tree, "amd/comgr") == (tree / "amd/comgr").resolve()
    assert subdirectory(tree, ".") == tree.resolve()
    with pytest.raises(UsageError) as caught:
        subdirectory(tree, "amd/comgrr")
    assert caught.value.hint is not None and "amd/comgr" in caught.value.hint
    (tree / "out").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="no directory out"):
        subdirectory(tree, "out")
