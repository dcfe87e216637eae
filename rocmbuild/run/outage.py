"""What Ninja's tree may lack after the machine went down: files that were written, but not yet to the disk.

Ninja compares times, and the time of an empty object file is right. So while Ninja works in a tree, a mark beside it
says since which start of the machine; whoever goes on in the tree after another start makes the last files again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rocmbuild.workspace import write_text

UNSAFE = 120.0
"""Seconds before the last change of a tree in which files may have been lost: Linux begins to write what is cached
after 30 of them (vm.dirty_expire_centisecs)."""

BOOT = Path("/proc/sys/kernel/random/boot_id")

_MARK = "boot"


def mark(component: Path) -> None:
    """Note before Ninja runs that what it makes is not on the disk."""
    if _read(component / _MARK) != _boot():
        write_text(component / _MARK, _boot())


def unmark(component: Path) -> None:
    """Note that all is on the disk."""
    (component / _MARK).unlink(missing_ok=True)


def distrust(component: Path, tree: Path) -> int:
    """Remove what Ninja made last if the machine was started again since, so that it is made again; return how many."""
    if _read(component / _MARK) in ("", _boot()):
        return 0
    made = {path: path.stat().st_mtime for path in _outputs(tree)}
    newest = max([*made.values(), (tree / ".ninja_log").stat().st_mtime] if made else [0.0])
    unsafe = [path for path, time in made.items() if time > newest - UNSAFE]
    for path in unsafe:
        path.unlink()
    return len(unsafe)


def _outputs(tree: Path) -> Iterator[Path]:
    """Yield the files of a tree that are in Ninja's log; the sandbox has the tree at /build."""
    try:
        lines = (tree / ".ninja_log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    names = {line.split("\t")[3] for line in lines if line.count("\t") == 4}
    for name in sorted(names):
        path = tree / (os.path.relpath(name, "/build") if name.startswith("/build/") else name)
        if path.is_file() and not path.is_symlink() and path.is_relative_to(tree) and ".." not in path.parts:
            yield path


def _boot() -> str:
    return _read(BOOT)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
