"""The observer of a run that remembers what each component took, for later plans."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from rocmbuild.events import Event, StepEnded, TaskEnded, TaskFailed, TaskStarted
from rocmbuild.plan.estimate import Measurement
from rocmbuild.plan.graph import Machine
from rocmbuild.plan.plan import Plan
from rocmbuild.run.efforts import NINJA, Effort, Efforts
from rocmbuild.run.measured import Measured, area_label, is_compiled
from rocmbuild.run.site import Area
from rocmbuild.run.stamps import TREE
from rocmbuild.tools.waiting import in_thread

P = ParamSpec("P")

_LINKED = frozenset({"prefix", "sysroot-prefix"})
"""Directories of a component that are hard links into the stage trees of others."""


@dataclass(frozen=True)
class Place:
    """Where a task's component is: its area and name among the measurements, its directory, what marks a new tree."""

    area: str
    component: str
    directory: Path
    build: Path
    configured: Path
    """the file that is written anew whenever the build tree begins anew"""


def places(plan: Plan, areas: Mapping[Machine, Area]) -> dict[str, Place]:
    """Return where the components are that a plan compiles, by their tasks."""
    return {job.name: _place(areas[job.node.machine], job.node.component) for job in plan.building if is_compiled(job)}


def _place(area: Area, name: str) -> Place:
    workspace = area.workspace
    return Place(
        area_label(area), name, workspace.component(name), workspace.build(name), workspace.component(name) / TREE
    )


class Recorder:
    """Observe a run, and remember what each component took as soon as it is built.

    ``helped`` says that a compiler cache may do a part of the work: then nothing is whole.
    """

    def __init__(
        self, measured: Measured, places: Mapping[str, Place], efforts: Efforts, *, helped: bool = False
    ) -> None:
        self._measured = measured
        self._places = places
        self._efforts = efforts
        self._helped = helped
        self._before: dict[str, object] = {}
        self._steps: dict[str, set[str]] = {}
        self._writing: set[asyncio.Task[None]] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, TaskStarted) and event.task in self._places:
            self._before[event.task] = _identity(self._places[event.task].configured)
        elif isinstance(event, StepEnded):
            self._steps.setdefault(event.task, set()).add(event.step)
        elif isinstance(event, TaskEnded) and event.task in self._places and self._is_built(event):
            self._begin(self._write, event.task, self._efforts.of(event.task))
        elif isinstance(event, TaskFailed) and event.task in self._places and event.memory:
            self._begin(self._write_memory, event.task, event.memory)

    def _is_built(self, event: TaskEnded) -> bool:
        return event.status == "done" and NINJA in self._steps.get(event.task, ())

    async def finish(self) -> None:
        """Wait until everything is written."""
        await asyncio.gather(*self._writing)

    def _begin(self, write: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        async def record() -> None:
            with contextlib.suppress(OSError):  # a full disk or a read-only cache takes nothing from what was built
                await in_thread(write, *args, **kwargs)

        task = asyncio.create_task(record())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def _write_memory(self, task: str, memory: int) -> None:
        """Record the peak of a build that failed: that may be why, and the next one is to have as much."""
        place = self._places[task]
        found = Measurement(0.0, 0.0, 0.0, 0.0, memory, 0, self._efforts.slots, whole=False)
        self._measured.record(place.area, place.component, found)

    def _write(self, task: str, effort: Effort) -> None:
        place = self._places[task]
        anew = _identity(place.configured) != self._before.get(task)
        longest = longest_edge(place.build / ".ninja_log", effort.shared) if anew else 0.0
        self._efforts.note_longest(task, longest)
        found = Measurement(
            seconds=effort.seconds,
            cpu_seconds=effort.cpu,
            serial=effort.serial_seconds,
            shared=effort.shared or effort.shared_seconds,
            memory=effort.memory,
            disk=disk_usage(place.directory, leave_out=_LINKED),
            jobs=self._efforts.slots,
            longest=longest,
            whole=anew and not self._helped,
        )
        self._measured.record(place.area, place.component, found)


def disk_usage(directory: Path, leave_out: frozenset[str] = frozenset()) -> int:
    """Return the bytes on disk of a directory; a file with several hard links in it counts once.

    ``leave_out`` are names directly in it. What disappears meanwhile does not count.
    """
    seen: set[tuple[int, int]] = set()
    total, waiting = 0, [str(directory)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                found = [(entry, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError:
            continue
        for entry, status in found:
            if entry.name in leave_out and Path(entry.path).parent == directory:
                continue
            if stat.S_ISDIR(status.st_mode):
                waiting.append(entry.path)
            elif status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    return total


def longest_edge(log: Path, cpu_seconds: float) -> float:
    """Return CPU seconds that one edge of a Ninja build took at least, by Ninja's log of its one and only run.

    The log has times of clocks, and an edge may have waited in its time, for a disk or a processor. But all edges
    together waited no longer than the sum of their times exceeds what Ninja and they computed: so an edge computed
    in its own time but for that. It is little or nothing where there are many edges, and a lot for a single large one.
    """
    times: dict[tuple[str, str, str], float] = {}
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0.0
    for line in lines:
        if not line.startswith("#"):
            begin, end, *_, command = line.split("\t")
            times[begin, end, command] = (int(end) - int(begin)) / 1000  # an edge has a line for each of its outputs
    waited = sum(times.values()) - cpu_seconds
    return max(0.0, max(times.values(), default=0.0) - max(0.0, waited))


def _identity(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
