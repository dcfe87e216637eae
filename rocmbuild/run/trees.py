"""Trees that will be installed over each other, looked at as the one they become."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

_MAX_LINKS = 40


class Trees:
    """Find installed paths in several trees; links lead from one into another, never to this machine's files."""

    def __init__(self, trees: Sequence[Path]) -> None:
        self._trees = tuple(trees)
        self._directories: dict[str, str | None] = {}

    def exists(self, location: str) -> bool:
        """Return whether an installed path will be there, as a file, a directory or a link."""
        directory = self._directory(posixpath.dirname(location))
        if directory is None:
            return False
        relative = posixpath.join(directory, posixpath.basename(location)).lstrip("/")
        return any(os.path.lexists(tree / relative) for tree in self._trees)

    def resolve(self, location: str) -> Path | None:
        """Return the file that an installed path leads to, None if it leads to none."""
        real = self._real(location)
        files = [] if real is None else [tree / real.lstrip("/") for tree in self._trees]
        return next((path for path in files if path.is_file()), None)

    def _directory(self, location: str) -> str | None:
        if location not in self._directories:
            self._directories[location] = self._real(location)
        return self._directories[location]

    def _real(self, location: str) -> str | None:
        """Return where an installed path really is, None for a circle of links."""
        done, todo, links = "", location.split("/")[::-1], 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            done = done.rpartition("/")[0] if part == ".." else f"{done}/{part}"
            target = self._link(done)
            if target is not None:
                links += 1
                if links > _MAX_LINKS:
                    return None
                done = "" if target.startswith("/") else done.rpartition("/")[0]
                todo += target.split("/")[::-1]
        return done or "/"

    def _link(self, location: str) -> str | None:
        """Return what a link says, that of the first tree that has one."""
        for tree in self._trees:
            try:
                return os.readlink(tree / location.lstrip("/"))
            except OSError:
                continue
        return None
