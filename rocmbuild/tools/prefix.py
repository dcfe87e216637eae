"""Merge stage trees into one prefix by hard links."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from rocmbuild.errors import StepError


def merge(trees: Iterable[tuple[str, Path]], target: Path) -> None:
    """Hard-link the files of ``trees`` (name, directory) into ``target``; StepError if two own one file.

    Hard links, not symbolic ones: clang finds its resources by its own real path.
    """
    owners: dict[str, str] = {}
    target.mkdir(parents=True, exist_ok=True)
    for name, tree in trees:
        for directory, names, files in os.walk(tree):
            relative = os.path.relpath(directory, tree)
            destination = target / relative
            destination.mkdir(parents=True, exist_ok=True)
            links = [entry for entry in names if os.path.islink(os.path.join(directory, entry))]
            names[:] = [entry for entry in names if entry not in links]
            for entry in (*files, *links):
                _claim(owners, os.path.normpath(os.path.join(relative, entry)), name)
                _link(os.path.join(directory, entry), os.path.join(destination, entry))


def _claim(owners: dict[str, str], path: str, name: str) -> None:
    if path in owners:
        raise StepError(
            f"{owners[path]} and {name} both install {path}",
            hint=f"let one of them own it: discard it in the recipe of {owners[path]} or {name}",
        )
    owners[path] = name


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target, follow_symlinks=False)
