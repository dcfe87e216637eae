"""What this process may use of the machine: processors and memory."""

from __future__ import annotations

import os
import re
from pathlib import Path


def available_cpus() -> int:
    """Return the number of processors this process may run on."""
    return len(os.sched_getaffinity(0))


def available_memory(root: Path = Path("/")) -> int:
    """Return 7/8 of the bytes this process may use: the machine's memory, or less if its control group says so.

    The last eighth is for the desktop, the page cache and this program. ``root`` is where /proc and /sys are.
    """
    return min([_memory_total(root / "proc/meminfo"), *_group_limits(root)]) * 7 // 8


def _memory_total(meminfo: Path) -> int:
    match = re.search(r"^MemTotal:\s+([0-9]+) kB", meminfo.read_text(), re.MULTILINE)
    return int(match.group(1)) << 10 if match else 2 << 30


def _group_limits(root: Path) -> list[int]:
    """Return the memory limits of this process's control groups and their parents (cgroup versions 1 and 2)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / "sys/fs/cgroup" / controllers
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            limits += [_limit(directory / name) for directory in _upwards(top, path)]
    return [limit for limit in limits if limit is not None]


def _upwards(top: Path, path: str) -> list[Path]:
    """Return a group's directory and those above it; inside a container only ``top`` itself may be there."""
    group = top / path.lstrip("/")
    return [group, *(parent for parent in group.parents if parent.is_relative_to(top))]


def _limit(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
