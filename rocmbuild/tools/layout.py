"""Arrange files of an unpacked archive as a component expects its source tree."""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rocmbuild.errors import UsageError, nearest
from rocmbuild.model.manifest import LayoutRule


@dataclass(frozen=True)
class _Copy:
    """One file (or symbolic link) and where it goes, both relative."""

    source: PurePosixPath
    target: PurePosixPath


def apply_layout(tree: Path, rules: Sequence[LayoutRule], target: Path) -> None:
    """Copy what the rules name from ``tree`` to the new tree ``target``; UsageError with all that do not fit.

    ``source`` is a glob; below its first wildcard directories are kept, ``**`` stands for any number
    of them. A target that ends in ``/`` or gets several files is a directory; else it is the new
    name of the file or directory. ``exclude`` are patterns of names, at any depth. A rule without a
    source makes an empty directory.
    """
    files = sorted(_files(tree))
    problems: list[str] = []
    copies: dict[PurePosixPath, _Copy] = {}
    for rule in rules:
        if not rule.source:
            (target / rule.target).mkdir(parents=True, exist_ok=True)
            continue
        found = list(_matches(files, rule))
        if not found:
            problems.append(f"nothing matches {rule.source!r}; {nearest(rule.source, map(str, files))}")
        for copy in found:
            other = copies.setdefault(copy.target, copy)
            if other.source != copy.source:
                problems.append(f"both {other.source} and {copy.source} become {copy.target}")
    if problems:
        raise UsageError("the layout does not fit the source: " + "; ".join(problems))
    for copy in copies.values():
        _copy(tree, copy, target)


def _files(tree: Path) -> Iterator[PurePosixPath]:
    """Yield every file and link below ``tree``, not following links."""
    for directory, names, files in os.walk(tree):
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]
        for name in (*files, *links):
            yield PurePosixPath(os.path.relpath(os.path.join(directory, name), tree))


def _matches(files: Sequence[PurePosixPath], rule: LayoutRule) -> Iterator[_Copy]:
    pattern = PurePosixPath(rule.source)
    fixed = _fixed(pattern)
    inner = [(file, file.relative_to(fixed)) for file in files if _covers(pattern.parts, file.parts)]
    chosen = [(file, below) for file, below in inner if not _excluded(below, rule.exclude)]
    target = PurePosixPath(rule.target)
    if fixed == pattern and rule.target.endswith("/"):  # a file or directory that keeps its name
        target /= pattern.name
    for file, below in chosen:
        renamed = fixed != pattern and len(chosen) == 1 and not rule.target.endswith("/")
        yield _Copy(file, target if renamed else target / below)


def _fixed(pattern: PurePosixPath) -> PurePosixPath:
    """Return the directories of a pattern before its first wildcard."""
    plain = [index for index, part in enumerate(pattern.parts) if any(sign in part for sign in "*?[")]
    return PurePosixPath(*pattern.parts[: plain[0]]) if plain else pattern


def _covers(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Tell whether a path, or a directory it lies in, matches a pattern."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_covers(pattern[1:], parts[index:]) for index in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _covers(pattern[1:], parts[1:])


def _excluded(path: PurePosixPath, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(part, pattern) for part in path.parts for pattern in patterns)


def _copy(tree: Path, copy: _Copy, target: Path) -> None:
    """Copy a file; a link becomes the file it leads to if that is in the tree, else it stays a link."""
    source, place = tree / copy.source, target / copy.target
    if not place.parent.resolve().is_relative_to(target.resolve()):
        raise UsageError(f"the layout writes {copy.target} through a link that leads out of the source tree")
    place.parent.mkdir(parents=True, exist_ok=True)
    real = source.resolve()
    inside = real.is_file() and real.is_relative_to(tree.resolve())
    shutil.copy2(source, place, follow_symlinks=inside)
