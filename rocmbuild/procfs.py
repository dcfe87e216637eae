"""Processes as /proc shows them; those in bubblewrap's own process namespaces are visible from outside."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment; ``cpu`` are its seconds and those of its children that it waited for.

    ``memory`` is resident memory in bytes, ``start`` the clock ticks between the machine's start and its own,
    which together with ``pid`` names a process for good. ``state`` is a letter: T is stopped, Z has ended.
    """

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int
    cpu: float
    start: int
    memory: int


def pids() -> list[int]:
    """Return the ids of all processes, parents before their children unless the numbers went round."""
    with os.scandir("/proc") as entries:
        return sorted(int(entry.name) for entry in entries if entry.name.isdecimal())


def read(pid: int) -> Process | None:
    """Return a process, or None if it is gone."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        data = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return _parsed(data)


def _parsed(data: bytes) -> Process | None:
    """Return the process of a line of /proc/PID/stat (see proc(5)); a name may hold spaces and brackets."""
    begin, end = data.find(b"("), data.rfind(b")")
    if begin < 0 or end < 0:
        return None
    values = data[end + 2 :].split(None, 22)
    return Process(
        pid=int(data[:begin]),
        name=data[begin + 1 : end].decode("utf-8", "replace"),
        state=values[0].decode(),
        parent=int(values[1]),
        group=int(values[2]),
        session=int(values[3]),
        cpu=sum(map(int, values[11:15])) * _TICK,
        start=int(values[19]),
        memory=int(values[21]) * _PAGE,
    )


def processes() -> list[Process]:
    """Return all processes of the machine."""
    return [process for pid in pids() if (process := read(pid)) is not None]


def family(root: int) -> list[Process]:
    """Return a process and all that descend from it or are in its session, the oldest first."""
    everything = processes()
    found: dict[int, Process] = {}
    grown = True
    while grown:
        joining = [
            process
            for process in everything
            if process.pid not in found and (root in (process.pid, process.session) or process.parent in found)
        ]
        found |= {process.pid: process for process in joining}
        grown = bool(joining)
    return list(found.values())


def having_open(path: Path) -> list[Process]:
    """Return the other processes that have a file open, as far as they are the user's own."""
    wanted, found = path.stat(), []
    for process in (one for one in processes() if one.pid != os.getpid()):
        with contextlib.suppress(OSError), os.scandir(f"/proc/{process.pid}/fd") as descriptors:
            if any(os.path.samestat(wanted, descriptor.stat()) for descriptor in descriptors):
                found.append(process)
    return found


def in_namespace(pid: int) -> bool:
    """Return whether a process is in another process namespace than we are, and so ends with whoever made that."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:  # noqa: PTH123
            return any(line.startswith("NSpid:") and len(line.split()) > 2 for line in status)
    except OSError:
        return False


def send(ids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes, as far as they are still there."""
    for pid in ids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def send_group(group: int, number: signal.Signals) -> bool:
    """Send a signal to a process group; return whether there was one that could be sent to."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
