"""Keep what all build processes take together below a budget of memory.

First no further compilers are started, then the youngest are paused, and only if what goes on still grows the
youngest of the paused is ended: its step is repeated alone. A paused compiler keeps its token: nobody takes its place.
Only what ends with us is paused, in a sandbox; on the host it would stay stopped for ever if we were killed.
"""

from __future__ import annotations

import re
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rocmbuild import procfs
from rocmbuild.run.meter import INTERVAL, Member, Sample, Watch
from rocmbuild.run.resources import Jobserver

CLOSE = 0.6
"""Parts of the budget: above this one looks are frequent."""
ROOMY = 0.7
"""Below this one all goes on."""
HIGH = 0.8
"""Above this one nothing new begins."""
FULL = 0.88
"""Above this one the youngest job is paused."""
OVER = 0.96
"""Above this one the youngest paused job is ended."""

SMALL = 0.04
"""Part of the budget; to end a job that has less helps nobody, and one that has less has just begun."""

FREQUENT = 0.05
"""Seconds between two looks when memory gets scarce."""

PRESSURE = 20.0
"""Percent of the last ten seconds in which somebody on this machine waited for memory (see /proc/pressure/memory)."""

STALL = 10.0
"""Seconds without any progress of the jobs that go on, after which they may be waiting for a paused one."""

BUSY = 0.1
"""CPU seconds that count as progress; who looks again and again whether it may go on takes less."""

QUIET = 300.0
"""Seconds between two notes of the same kind."""

_GIB = 1 << 30


@dataclass(frozen=True)
class Job:
    """What Ninja started for one edge, a process group of its own: a shell, a compiler, its assembler."""

    members: tuple[Member, ...]

    @property
    def group(self) -> int:
        return self.members[0].process.group

    @property
    def start(self) -> int:
        return min(member.process.start for member in self.members)

    @property
    def watch(self) -> Watch:
        return self.members[0].watch

    @property
    def memory(self) -> int:
        return sum(member.process.memory for member in self.members)

    @property
    def cpu(self) -> float:
        return sum(member.process.cpu for member in self.members)

    @property
    def ends_with_us(self) -> bool:
        return procfs.in_namespace(self.members[0].process.pid)

    @property
    def name(self) -> str:
        """Return the name of the process that takes most."""
        return max(self.members, key=lambda member: member.process.memory).process.name


def jobs(sample: Sample) -> list[Job]:
    """Return what may be paused, the oldest first: groups below a Ninja in which nobody has children in others."""
    groups: defaultdict[int, list[Member]] = defaultdict(list)
    of = {member.process.pid: member.process.group for member in sample.members}
    for member in sample.members:
        groups[member.process.group].append(member)
    leading = {of.get(one.process.parent) for one in sample.members if of.get(one.process.parent) != one.process.group}
    leading |= {member.process.session for member in sample.members}
    found = [Job(tuple(members)) for group, members in groups.items() if group not in leading]
    return sorted(found, key=lambda job: (job.start, job.group))


@dataclass
class Governor:
    """Look at samples of the meter and act on them; ``note`` is told what was done, with a task or ``memory``."""

    jobserver: Jobserver
    budget: int
    note: Callable[[str, str], None]
    pressure: Path = Path("/proc/pressure/memory")
    _paused: dict[int, float] = field(default_factory=dict)
    """when a group was paused"""
    _excused: set[int] = field(default_factory=set)
    _before: tuple[float, int] = (0.0, 0)
    """when the last sample was, and its memory"""
    _ending: set[int] = field(default_factory=set)
    _progress: tuple[float, float] = (0.0, 0.0)
    """when the jobs that go on were seen to compute, and their CPU seconds then"""
    _told: dict[str, float] = field(default_factory=dict)
    _closed: bool = False

    def look(self, sample: Sample) -> float:
        """Act on a sample; return the seconds until the next one."""
        if self._closed:
            return INTERVAL
        used = self._expected(sample.memory)
        found = jobs(sample)
        alive = {job.group for job in found}
        self._paused = {group: since for group, since in self._paused.items() if group in alive}
        self._excused &= alive
        self._ending &= alive
        self._narrow(used)
        if used > OVER * self.budget and not self._ending:  # it takes a moment to give memory back
            self._end(found)
        self._pause(used, [job for job in found if job.group not in self._paused])
        self._resume(used, [job for job in found if job.group not in self._paused])
        self._tell_of_the_largest(sample)
        return FREQUENT if used > CLOSE * self.budget else INTERVAL

    def _expected(self, memory: int) -> int:
        """Return what may be taken at the next look, if it goes on as it did since the last one."""
        now = time.monotonic()
        seconds, growth = now - self._before[0], memory - self._before[1]
        self._before = (now, memory)
        return memory + max(0, int(growth * FREQUENT / max(seconds, FREQUENT)))

    def close(self) -> None:
        """Let everything go on and pause nothing more; who is to be stopped can only then do so."""
        self._closed = True
        for group in self._paused:
            procfs.send_group(group, signal.SIGCONT)
        self._paused.clear()
        self.jobserver.widen(self)

    def _narrow(self, used: int) -> None:
        scarce = used > HIGH * self.budget
        if scarce or self._pressed():
            self.jobserver.narrow(self)
            reason = f"build processes take {size(used)} of {size(self.budget)}" if scarce else "memory is scarce"
            self._tell("memory", f"{reason}: no further compilers start for now")
        elif used < ROOMY * self.budget:
            self.jobserver.widen(self)

    def _pressed(self) -> bool:
        try:
            match = re.match(r"some avg10=([0-9.]+)", self.pressure.read_text(encoding="ascii"))
        except OSError:
            return False
        return match is not None and float(match[1]) > PRESSURE

    def _pause(self, used: int, running: list[Job]) -> None:
        """Pause the youngest: when memory is scarce one that has just begun, and any when it is nearly all taken."""
        while len(running) > 1 and used > HIGH * self.budget:
            job = running.pop()
            if job.group in self._excused or (used <= FULL * self.budget and job.memory > SMALL * self.budget):
                continue
            if not job.ends_with_us:
                continue
            if procfs.send_group(job.group, signal.SIGSTOP):
                self._paused[job.group] = time.monotonic()
                self._progress = (time.monotonic(), -1.0)
                text = f"paused {job.name} until there is memory: {size(used)} of {size(self.budget)} are taken"
                self._tell(job.watch.task, text, "paused")
            if used <= OVER * self.budget:
                return

    def _end(self, found: list[Job]) -> None:
        """End the youngest job that has memory to give back, unless it is the only one: a paused one if that can be.

        Not what a configure step tries to compile: its failure would be taken for an answer.
        """
        stopped = {*self._paused, *self._excused}
        ending = [job for job in found if job.watch.expendable and (job.group in stopped or not job.ends_with_us)]
        job = next((job for job in reversed(ending) if job.memory > SMALL * self.budget), None)
        if job is not None and len(found) > 1 and procfs.send_group(job.group, signal.SIGKILL):
            job.watch.crowded_out = True
            self._ending.add(job.group)
            self.note(job.watch.task, f"ended {job.name}: there is no room for the {size(job.memory)} it has")

    def _resume(self, used: int, running: list[Job]) -> None:
        """Let the job go on that was paused first, if there is room, or nothing else gets on."""
        if not self._paused:
            return
        stalled = self._stalled(running)
        if used < ROOMY * self.budget or not running or stalled:
            group = min(self._paused, key=lambda group: self._paused[group])
            procfs.send_group(group, signal.SIGCONT)
            del self._paused[group]
            if stalled:  # it had what the others wait for
                self._excused.add(group)

    def _stalled(self, running: list[Job]) -> bool:
        """Return whether those that go on have computed next to nothing for a while."""
        now, cpu = time.monotonic(), sum(job.cpu for job in running)
        if abs(cpu - self._progress[1]) > BUSY:
            self._progress = (now, cpu)
        return now - self._progress[0] > STALL

    def _tell_of_the_largest(self, sample: Sample) -> None:
        for member in sample.members:
            process = member.process
            if process.memory > self.budget:
                text = f"{process.name} alone takes {size(process.memory)}, and --memory is {size(self.budget)}"
                self._tell(member.watch.task, text, f"large {member.watch.task}")

    def _tell(self, task: str, text: str, kind: str = "narrow") -> None:
        now = time.monotonic()
        if now - self._told.get(kind, -QUIET) >= QUIET:
            self._told[kind] = now
            self.note(task, text)


def size(number: int) -> str:
    """Return bytes in words."""
    return f"{number / _GIB:.1f} GiB"
