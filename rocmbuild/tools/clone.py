"""Make a tree once more, as cheaply as the file system can: shared blocks, hard links, or copies."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from pathlib import Path

_FICLONE = 0x40049409
"""The ioctl that makes two files share their blocks until one is written (btrfs, XFS, bcachefs): linux/fs.h."""

_CANNOT = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL)
"""Another file system, one that cannot share, one that has no more links for a file, or a file of somebody else."""


class Cloner:
    """Clone files by the best way that works between two directories; ``ways`` counts the files by way.

    Hard links share their inode, so that writing to one of them in place writes to all: only with ``links``.
    """

    def __init__(self, *, links: bool) -> None:
        self.ways = {"reflink": 0, "link": 0, "copy": 0}
        self._reflinks = True
        self._links = links

    def tree(self, source: Path, target: Path) -> None:
        """Fill the directory ``target`` with what is below ``source``; OSError if something is no file, or there."""
        target.mkdir(exist_ok=True)
        for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
            self._entry(entry, target / entry.name)
        shutil.copystat(source, target)

    def _entry(self, entry: os.DirEntry[str], target: Path) -> None:
        if entry.is_symlink():
            target.symlink_to(os.readlink(entry.path))
            shutil.copystat(entry.path, target, follow_symlinks=False)
        elif entry.is_dir():
            self.tree(Path(entry.path), target)
        elif entry.is_file():
            self._file(Path(entry.path), target)
        else:
            raise OSError(errno.EINVAL, "this is neither a file nor a directory", entry.path)

    def _file(self, source: Path, target: Path) -> None:
        if self._reflinks and _reflink(source, target):
            way = "reflink"
        elif self._links and _link(source, target):
            self._reflinks, way = False, "link"
        else:
            self._reflinks, way = False, "copy"
            shutil.copy2(source, target)
        self.ways[way] += 1


def clone_tree(source: Path, target: Path, *, links: bool) -> dict[str, int]:
    """Clone a tree with modes, times and symbolic links; return how many files were cloned in which way."""
    cloner = Cloner(links=links)
    cloner.tree(source, target)
    return cloner.ways


def tree_signature(root: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return what tells cheaply that a tree was touched: names, kinds and modes, sizes, times of its files."""
    found = []
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                found.append((os.path.relpath(path, root), status.st_mode, status.st_size, status.st_mtime_ns))
    return tuple(sorted(found))


def _reflink(source: Path, target: Path) -> bool:
    with source.open("rb") as from_file:
        try:
            with target.open("xb") as to_file:
                fcntl.ioctl(to_file, _FICLONE, from_file.fileno())
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            target.unlink()
            return False
    shutil.copystat(source, target)
    return True


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True
