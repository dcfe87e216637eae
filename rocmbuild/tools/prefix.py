"""Merge stage trees into one prefix by hard links."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from rocmbuild.errors import StepError

_NO_HARD_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
"""Another file system, one without hard links, or one that has no more of them for this file."""


def merge(trees: Iterable[tuple[str, Path]], target: Path, below: Iterable[tuple[str, Path]] = ()) -> None:
    """Hard-link the files of ``trees`` (name, directory) into the new directory ``target``.

    Hard links, not symbolic ones: clang finds its resources by its own real path. Raises StepError if two trees
    own one file, or one has a directory where another has none. Trees ``below`` only fill up what is not there.
    """
    owners: dict[str, str] = {}
    directories: dict[str, str] = {}
    target.mkdir(parents=True, exist_ok=True)
    for name, tree in trees:
        for directory, names, files in os.walk(tree):
            relative = os.path.relpath(directory, tree)
            destination = target / relative
            _refuse(owners.get(relative), name, relative)
            directories.setdefault(relative, name)
            destination.mkdir(parents=True, exist_ok=True)
            links = [entry for entry in names if os.path.islink(os.path.join(directory, entry))]
            names[:] = [entry for entry in names if entry not in links]
            for entry in (*files, *links):
                path = os.path.normpath(os.path.join(relative, entry))
                _refuse(owners.get(path) or directories.get(path), name, path)
                owners[path] = name
                _link(os.path.join(directory, entry), os.path.join(destination, entry))

    for _, tree in below:
        _fill_up(tree, target)


def _fill_up(tree: Path, target: Path) -> None:
    for directory, names, files in os.walk(tree):
        destination = target / os.path.relpath(directory, tree)
        links = [entry for entry in names if os.path.islink(os.path.join(directory, entry))]
        # what a tree before has as a file or a link hides a directory of this one
        names[:] = [entry for entry in names if entry not in links and _is_directory_or_free(destination / entry)]
        destination.mkdir(parents=True, exist_ok=True)
        for entry in (*files, *links):
            if not os.path.lexists(destination / entry):
                _link(os.path.join(directory, entry), os.path.join(destination, entry))


def _is_directory_or_free(path: Path) -> bool:
    return not os.path.lexists(path) or (path.is_dir() and not path.is_symlink())


def _refuse(owner: str | None, name: str, path: str) -> None:
    if owner is not None:
        raise StepError(
            f"{owner} and {name} both install {path}",
            hint=f"let one of them own it: discard it in the recipe of {owner} or {name}",
        )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        shutil.copy2(source, target, follow_symlinks=False)
