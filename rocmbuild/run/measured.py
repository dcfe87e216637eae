"""What building components took on this machine, kept in the cache for the plans and priorities of later runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.events import Event, StepEnded, TaskEnded, TaskStarted
from rocmbuild.machine import available_cpus
from rocmbuild.plan.estimate import Known, Measurement
from rocmbuild.run.efforts import NINJA, Effort, Efforts
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import read_json, write_json

_LINKED = frozenset({"prefix", "sysroot-prefix"})
"""Directories of a component that are hard links into the stage trees of others."""

_MODELS = ("model name", "uarch", "cpu model", "CPU part", "isa")
"""Fields of /proc/cpuinfo that tell processors apart: of x86, RISC-V, MIPS, ARM, and older RISC-V."""


def machine_slug(cpuinfo: Path = Path("/proc/cpuinfo"), cpus: int | None = None) -> str:
    """Return a name for machines that are as fast as this one: the model of its CPU, and how many there are."""
    found: dict[str, str] = {}
    for line in _text(cpuinfo).splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    model = next((found[name] for name in _MODELS if found.get(name)), os.uname().machine)
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:60]
    return f"{slug or 'unknown'}-{available_cpus() if cpus is None else cpus}"


@dataclass(frozen=True)
class Measured:
    """The measurements below a directory of one kind of machine: ``<area>/<component>.json``.

    An area is a branch and the name of its area in workspaces.
    """

    directory: Path

    def known(self, area: str, names: Iterable[str]) -> Known:
        """Return what is known of some components for an area, and of those it knows nothing of, what others say."""
        names = set(names)
        if not names or not self.directory.is_dir():
            return Known({}, {})
        here = self._read(area, names)
        missing = names - {name for name, found in here.items() if found.whole}
        elsewhere: dict[str, tuple[str, Measurement]] = {}
        for other in sorted(self._areas() - {area}) if missing else ():
            for name, found in self._read(other, missing).items():
                if found.whole and (name not in elsewhere or found.cpu_seconds > elsewhere[name][1].cpu_seconds):
                    elsewhere[name] = (other, found)
        return Known(here, elsewhere)

    def record(self, area: str, name: str, found: Measurement) -> None:
        """Remember what building a component took; see ``Measurement.after``."""
        path = self.directory / area / f"{name}.json"
        write_json(path, found.after(Measurement.parse(read_json(path))).record())

    def _areas(self) -> set[str]:
        return {str(path.relative_to(self.directory)) for path in self.directory.glob("*/*") if path.is_dir()}

    def _read(self, area: str, names: set[str]) -> dict[str, Measurement]:
        files = {path.stem: path for path in (self.directory / area).glob("*.json")}
        read = {name: Measurement.parse(read_json(files[name])) for name in names & files.keys()}
        return {name: found for name, found in read.items() if found is not None}


@dataclass(frozen=True)
class Place:
    """Where a task's component is: its area and name among the measurements, its directory, what marks a new tree."""

    area: str
    component: str
    directory: Path
    build: Path
    configured: Path
    """the file that is written anew whenever the build tree begins anew"""


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
            task = asyncio.create_task(self._record(event.task, self._efforts.of(event.task)))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    def _is_built(self, event: TaskEnded) -> bool:
        return event.status == "done" and NINJA in self._steps.get(event.task, ())

    async def finish(self) -> None:
        """Wait until everything is written."""
        await asyncio.gather(*self._writing)

    async def _record(self, task: str, effort: Effort) -> None:
        with contextlib.suppress(OSError):  # a full disk or a read-only cache takes nothing from what was built
            await in_thread(self._write, task, effort)

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
    for line in _text(log).splitlines():
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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
