"""What each running step takes of the machine, sampled from /proc for all of them at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from rocmbuild import procfs
from rocmbuild.procfs import Process

INTERVAL = 0.25
"""Seconds between two samples, unless somebody who looks at them asks for the next one earlier."""


@dataclass
class Watch:
    """What one step takes: CPU seconds, and its programs' peaks of memory in bytes and of their number.

    ``expendable`` says whether they may be ended for lack of memory, and ``crowded_out`` that one of them was;
    ``largest`` is the most that a single process took.
    """

    task: str
    expendable: bool = False
    memory: int = 0
    largest: int = 0
    processes: int = 0
    crowded_out: bool = False
    _cpu: dict[int, float] = field(default_factory=dict)
    """by programs that the step started itself and that still run"""
    _ended: float = 0.0

    @property
    def roots(self) -> Iterable[int]:
        """Return the programs that the step started itself and that still run."""
        return self._cpu.keys()

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU seconds so far; what programs took after the last sample is missing."""
        return self._ended + sum(self._cpu.values())

    def spend(self, seconds: float) -> None:
        """Add CPU seconds that are no program's, but of a thread of ours."""
        self._ended += seconds

    def started(self, pid: int) -> None:
        """Count a program from now on, with all that it starts."""
        self._cpu[pid] = 0.0

    def ended(self, pid: int) -> None:
        """Count a program no more; its number may soon be another's."""
        self._ended += self._cpu.pop(pid)

    def count(self, members: Iterable[tuple[int, Process]]) -> None:
        """Add a sample of the step's processes, each with the program that it belongs to."""
        cpu: dict[int, float] = {}
        memory = largest = number = 0
        for root, process in members:
            cpu[root] = cpu.get(root, 0.0) + process.cpu
            memory += process.memory
            largest = max(largest, process.memory)
            number += 1
        for root, seconds in cpu.items():  # a child that ends between two looks is missing in one of them
            if root in self._cpu:
                self._cpu[root] = max(self._cpu[root], seconds)
        self.memory, self.largest = max(self.memory, memory), max(self.largest, largest)
        self.processes = max(self.processes, number)


@dataclass(frozen=True)
class Member:
    """A process and the step it belongs to; ``root`` is the program of the step that it came from."""

    process: Process
    watch: Watch
    root: int


@dataclass(frozen=True)
class Sample:
    """All processes of all steps at one moment; ``memory`` is their sum in bytes, with our own."""

    members: tuple[Member, ...]
    memory: int


Look = Callable[[Sample], float]
"""Look at a sample; return the seconds until the next one."""


@dataclass
class Meter:
    """Sample the processes of the steps that are being watched.

    A process belongs to a step for good once it was seen below one of its programs or in a session of one: who is
    left by its parent stays with the step.
    """

    _watches: list[Watch] = field(default_factory=list)
    _members: dict[int, Member] = field(default_factory=dict)
    _foreign: set[int] = field(default_factory=set)

    @contextlib.contextmanager
    def watch(self, task: str, *, expendable: bool = False) -> Iterator[Watch]:
        """Watch a step of a task; see ``Step.expendable``."""
        watch = Watch(task, expendable)
        self._watches.append(watch)
        try:
            yield watch
        finally:
            self._watches.remove(watch)

    def started(self, watch: Watch, pid: int) -> None:
        """Let a program belong to a step, with all that it starts."""
        watch.started(pid)
        self._foreign.clear()  # it may have been seen before we were told

    async def run(self, look: Look) -> None:
        """Sample until cancelled."""
        while True:  # noqa: ASYNC110 - /proc has no events
            await asyncio.sleep(look(self.sample()) if self._watches else INTERVAL)

    def sample(self) -> Sample:
        """Look at all processes of the steps once, and add them to what is known of each step."""
        alive = procfs.pids()
        self._foreign.intersection_update(alive)
        new = [process for pid in alive if pid not in self._foreign and (process := procfs.read(pid)) is not None]
        members = self._belonging(new)
        self._foreign.update(process.pid for process in new if process.pid not in members)
        self._members = members
        for watch in self._watches:
            watch.count((one.root, one.process) for one in members.values() if one.watch is watch)
        own = procfs.read(os.getpid())
        total = sum(one.process.memory for one in members.values())
        return Sample(tuple(members.values()), total + (own.memory if own else 0))

    def _belonging(self, processes: list[Process]) -> dict[int, Member]:
        roots = {pid: watch for watch in self._watches for pid in watch.roots}
        found: dict[int, Member] = {}
        left, grown = processes, True
        while left and grown:  # again only if the numbers went round, and a child came before its parent
            before = len(found)
            for process in left:
                owner = self._owner(process, roots, found)
                if owner is not None:
                    found[process.pid] = Member(process, *owner)
            left = [process for process in left if process.pid not in found]
            grown = len(found) > before
        return found

    def _owner(self, process: Process, roots: dict[int, Watch], found: dict[int, Member]) -> tuple[Watch, int] | None:
        known = self._members.get(process.pid)
        if known is not None and known.process.start == process.start and known.watch in self._watches:
            return known.watch, known.root
        for place in (process.pid, process.session):
            if place in roots:
                return roots[place], place
        parent = found.get(process.parent)
        return (parent.watch, parent.root) if parent is not None else None
