"""Files that are not what was written: which there are, and in what ways they are spoiled."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.integration.conftest import Toy

_PLACES = {
    "stage tree": "workspace/build/*/*/*/stage/**/*",
    "stamp": "workspace/build/*/*/*/*.json",
    "packages": "workspace/build/*/*/*/debs/*",
    "repository": "workspace/out/*/*/*",
    "source": "workspace/src/*/*/*/**/*",
    "source stamp": "workspace/src/*/*/*.json",
    "git": "cache/git/*.git/**/*",
    "download": "cache/downloads/*/toywide*",
}
"""Files by what they are; what Ninja made in a build tree is its own, and nobody else could tell what it should be."""


def places(user: Toy) -> dict[str, list[Path]]:
    """Return the files that can be spoiled, by what they are."""
    found = {
        name: [path for path in sorted(user.directory.glob(pattern)) if _is_own(path, user.directory)]
        for name, pattern in _PLACES.items()
    }
    return {name: paths for name, paths in found.items() if paths}


def _is_own(path: Path, directory: Path) -> bool:
    """Return whether a file is the user's alone: the roots, and what they are made of, are shared by all tests."""
    return path.is_file() and not path.is_symlink() and path.resolve().is_relative_to(directory.resolve())


def damage(path: Path, chance: random.Random) -> str:
    """Spoil a file, and say how.

    A disk that forgets a bit does not change the file's time, a program that writes does.
    """
    status, content = path.lstat(), bytearray(path.read_bytes())
    place = chance.randrange(len(content)) if content else 0
    how = chance.choice(("bit", "bit", "bit, same time", "cut", "empty", "zeros", "gone"))
    match how:
        case "bit" | "bit, same time" if content:
            content[place] ^= 1 << chance.randrange(8)
        case "cut":
            del content[place:]
        case "empty":
            content.clear()
        case "zeros":
            content[place:] = bytes(len(content) - place)
        case "gone":
            path.unlink()
            return how
    replacement = path.with_name(f"{path.name}-spoiled")  # other hard links of it stay as they are
    replacement.write_bytes(content)
    replacement.chmod(status.st_mode)
    if how == "bit, same time":
        os.utime(replacement, ns=(status.st_atime_ns, status.st_mtime_ns))
    replacement.rename(path)
    return how
