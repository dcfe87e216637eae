"""What a run leaves besides its result: processes, mounts, files of its own under passing names."""

from __future__ import annotations

import os
import re
from pathlib import Path

_PASSING = re.compile(
    r"/\.[^/]+\.[a-z0-9_]{8}(~[a-z0-9_]{8})?$"  # files and directories that are to be renamed
    r"|/tmp_(pack|idx|rev|obj)_\w+$|\.git/.*\.lock$|\.git/objects/incoming-"  # git's
    r"|\.part$|/jobserver$"
)

_NOT_OURS = re.compile(  # a database of Conan's that was damaged is set aside; rocmbuild store gc removes it
    r"/build/[^/]+/[^/]+/[^/]+/build/"  # Ninja's trees
    r"|/workspace/logs/|/cache/git/[^/]+\.git/|/cache/store/conan(/|[.]damaged-)|/cache/(roots|apt)(/|$)|/cache/downloads/debs|/lost\+found/"
)


def names_below(directory: Path) -> frozenset[str]:
    """Return the files and directories whose names do not depend on what happened in a run."""
    found = (f"/{os.path.relpath(path, directory)}" for path in _walk(directory))
    return frozenset(name for name in found if not _NOT_OURS.search(f"{name}/"))


def passing(directory: Path) -> list[str]:
    """Return what has the name of something that was to get another one."""
    found = (f"/{os.path.relpath(path, directory)}" for path in _walk(directory))
    return sorted(name for name in found if _PASSING.search(name) and "/build/CMakeFiles/" not in name)


def _walk(directory: Path):
    for place, names, files in os.walk(directory):
        yield from (os.path.join(place, name) for name in (*names, *files))


def mounts(directory: Path) -> int:
    """Return how many file systems are mounted below a directory; others may mount what they like."""
    return Path("/proc/self/mountinfo").read_text().count(f" {directory}")


def loops(directory: Path) -> int:
    """Return how many files of a directory are in use as disks."""
    found = 0
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found += path.read_text().startswith(str(directory))
        except OSError:
            continue  # it has just been given back
    return found


def descendants(pid: int) -> dict[int, str]:
    """Return the processes that a process has started, directly or not, with the names of their programs."""
    parents: dict[int, list[int]] = {}
    names = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        state, parent = text.rpartition(")")[2].split()[:2]
        if state == "Z":
            continue
        parents.setdefault(int(parent), []).append(int(path.parent.name))
        names[int(path.parent.name)] = text[text.index("(") + 1 : text.rindex(")")]
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        for child in parents.get(waiting.pop(), []):
            found[child] = names[child]
            waiting.append(child)
    return found
