"""What a source tree must be before something is built from it: private, with plain modes and sensible times."""

from __future__ import annotations

import filecmp
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from rocmbuild.errors import UsageError, nearest

EARLIEST = 315532800
"""The oldest time a file gets, in seconds: zip archives know none before 1980."""


def copy_tree(source: Path, target: Path) -> None:
    """Copy a directory to the new directory ``target``: links as links, without ``.git``, sockets and pipes."""
    try:
        shutil.copytree(source, target, symlinks=True, ignore=_not_source)
    except (OSError, shutil.Error) as error:
        raise UsageError(f"{source} cannot be copied: {error}") from error


def newest(tree: Path) -> int:
    """Return the time of the youngest file of a tree, in seconds since the epoch."""
    found = map(os.lstat, _entries(tree))
    return max((int(one.st_mtime) for one in found if not stat.S_ISDIR(one.st_mode)), default=EARLIEST)


def subdirectory(tree: Path, name: str) -> Path:
    """Return a directory of a tree; UsageError with those that look like it if there is none."""
    path = (tree / name).resolve()
    if path.is_dir() and path.is_relative_to(tree.resolve()):
        return path
    known = [os.path.relpath(place, tree) for place, _, _ in os.walk(tree)]
    raise UsageError(f"the source has no directory {name}", hint=nearest(name, known))


def settle(tree: Path, previous: Path, made: int | None) -> None:
    """Give a tree plain modes (executable or not), and times that a build tree can rely on.

    Ninja rebuilds what has a newer source, so a file that is as it was in the tree ``previous``
    keeps its time and any other gets the present, however old it really is, and so does what is
    from the future, for a clock was ahead. Without a previous tree all get the time ``made``
    (seconds), so that all machines see the same; None is the present.
    """
    now = time.time_ns()
    first = now if made is None else min(max(made, EARLIEST) * 10**9, now)
    continues = previous.is_dir()
    for path in _entries(tree):
        _set_mode(path)
        if continues:
            old = os.path.join(previous, os.path.relpath(path, tree))
            moment = min(os.lstat(old).st_mtime_ns, now) if _same(path, old) else now
        else:
            moment = first
        os.utime(path, ns=(moment, moment), follow_symlinks=False)


def bring_to_present(tree: Path) -> None:
    """Give what is from the future, for a clock was ahead, the present: CMake and Ninja would begin again and again."""
    now = time.time_ns()
    for path in _entries(tree):
        if os.lstat(path).st_mtime_ns > now:
            os.utime(path, ns=(now, now), follow_symlinks=False)


def _entries(tree: Path) -> Iterator[str]:
    """Yield all files, links and directories, a directory after what is in it."""
    for place, names, files in os.walk(tree, topdown=False):
        links = [name for name in names if os.path.islink(os.path.join(place, name))]
        for name in (*files, *links):
            yield os.path.join(place, name)
        yield place


def _set_mode(path: str) -> None:
    mode = os.lstat(path).st_mode
    if not stat.S_ISLNK(mode):
        os.chmod(path, 0o755 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o644)


def _same(new: str, old: str) -> bool:
    try:
        mode, before = os.lstat(new).st_mode, os.lstat(old).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_IFMT(mode) != stat.S_IFMT(before) or (mode ^ before) & stat.S_IXUSR:
        return False
    if stat.S_ISLNK(mode):
        return os.readlink(new) == os.readlink(old)
    if stat.S_ISDIR(mode):
        return _names(new) == _names(old)
    return filecmp.cmp(new, old, shallow=False)


def _names(directory: str) -> set[str]:
    with os.scandir(directory) as entries:
        return {entry.name for entry in entries}


def _not_source(directory: str, names: list[str]) -> list[str]:
    modes = {name: os.lstat(os.path.join(directory, name)).st_mode for name in names}
    plain = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
    return [name for name, mode in modes.items() if name == ".git" or stat.S_IFMT(mode) not in plain]
