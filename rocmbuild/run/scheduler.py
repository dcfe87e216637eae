"""Run tasks as soon as their needs are met, those on the longest remaining path first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rocmbuild import events
from rocmbuild.errors import OutOfMemory, RocmBuildError, refusal
from rocmbuild.plan.makespan import ordered, remaining
from rocmbuild.process import Runner
from rocmbuild.run.failure import complete, lacks_memory, out_of_memory
from rocmbuild.run.governor import Governor, size
from rocmbuild.run.meter import Meter, Watch
from rocmbuild.run.resources import Resources
from rocmbuild.run.task import Step, StepContext, Task, Uses
from rocmbuild.tools.waiting import spending

_GOOD = ("done", "kept")


@dataclass(frozen=True)
class Outcome:
    """How each task ended; the errors and the seconds of those that ran.

    ``done``, ``kept`` (some of its steps were not needed), ``failed`` or ``skipped``.
    """

    status: Mapping[str, str]
    errors: Mapping[str, RocmBuildError]
    seconds: Mapping[str, float]


@dataclass
class Taken:
    """What a task took of the machine: CPU seconds in all, and the largest peak of memory of a step, in bytes."""

    cpu_seconds: float = 0.0
    memory: int = 0

    def add(self, watch: Watch) -> None:
        """Add a step."""
        self.cpu_seconds += watch.cpu_seconds
        self.memory = max(self.memory, watch.memory)


@dataclass
class Scheduler:
    """Run tasks side by side within ``resources``; what happens is told through ``emit``.

    A failure stops everything that runs, unless ``keep_going``: then only what depends on it is skipped.
    """

    resources: Resources
    emit: events.Emit
    keep_going: bool = False
    _begun: float = field(default_factory=time.monotonic, init=False)
    _status: dict[str, str] = field(default_factory=dict, init=False)
    _errors: dict[str, RocmBuildError] = field(default_factory=dict, init=False)
    _seconds: dict[str, float] = field(default_factory=dict, init=False)
    _ended: dict[str, asyncio.Event] = field(default_factory=dict, init=False)
    _priority: dict[str, float] = field(default_factory=dict, init=False)
    _meter: Meter = field(default_factory=Meter, init=False)
    _taken: dict[str, Taken] = field(default_factory=lambda: defaultdict(Taken), init=False)
    _started: dict[str, float] = field(default_factory=dict, init=False)
    _reserved: set[str] = field(default_factory=set, init=False)

    async def run(self, tasks: Iterable[Task]) -> Outcome:
        """Run all tasks; cancelling this stops every program they started."""
        tasks = list(tasks)
        by_name = {task.name: task for task in tasks}
        needs = {task.name: task.needs for task in tasks}
        self._priority = remaining(needs, {name: by_name[name].cost for name in ordered(needs)}) if tasks else {}
        self._ended = {task.name: asyncio.Event() for task in tasks}
        first = sorted(tasks, key=lambda task: -self._priority[task.name])  # whoever asks first gets a free token
        running = [asyncio.create_task(self._task(task)) for task in first]
        governor = Governor(self.resources.jobserver, self.resources.memory.budget, self._tell)
        metering = asyncio.create_task(self._meter.run(governor.look))
        try:
            while running:
                finished, _ = await asyncio.wait([*running, metering], return_when=asyncio.FIRST_COMPLETED)
                running = [item for item in running if item not in finished]
                bugs = [error for item in finished if (error := item.exception()) is not None]
                if bugs:
                    raise bugs[0]
                if self._errors and not self.keep_going:
                    break
        finally:
            governor.close()
            await _cancel([metering, *running])
        for task in tasks:
            if task.name not in self._status:
                self._status[task.name] = "skipped"
        return Outcome(dict(self._status), dict(self._errors), dict(self._seconds))

    def now(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self._begun

    async def _task(self, task: Task) -> None:
        for need in sorted(task.needs):
            await self._ended[need].wait()
        failed = next((need for need in sorted(task.needs) if self._status[need] not in _GOOD), None)
        if failed is not None:
            self._end(task, "skipped")
            self.emit(events.TaskSkipped(self.now(), task.name, failed))
            return
        await self._steps(task)

    async def _steps(self, task: Task) -> None:
        status = "done"
        async with contextlib.AsyncExitStack() as reservation:
            for step in task.steps:
                if not step.needed():
                    status = "kept"
                    continue
                try:
                    await self._attempt(task, step, reservation)
                except (RocmBuildError, OSError) as error:
                    known = error if isinstance(error, RocmBuildError) else refusal(error)
                    if known is None:
                        raise
                    self._fail(task, step, known)
                    return
        taken = self._taken[task.name]
        seconds = self._seconds[task.name] = self._since(task)
        if taken.memory > task.memory > 0:
            self._note(task, f"took {size(taken.memory)} of memory where {size(task.memory)} were expected")
        self._end(task, status)
        self.emit(events.TaskEnded(self.now(), task.name, status, seconds, taken.cpu_seconds, taken.memory))

    async def _attempt(self, task: Task, step: Step, reservation: contextlib.AsyncExitStack) -> None:
        """Run a step, and once more alone if there was not enough memory for it beside others."""
        try:
            if step.uses is Uses.CPU:
                await self._reserve(task, reservation)
            async with self._resource(task, step):
                await self._step(task, step)
        except OutOfMemory as error:
            how = f"{step.name} is repeated alone, one program at a time"
            self._note(task, f"not enough memory, so {how} ({error.message})")
            await reservation.aclose()
            self._reserved.discard(task.name)
            async with self.resources.alone():
                await self._alone(task, step)

    async def _alone(self, task: Task, step: Step) -> None:
        try:
            await self._step(task, step)
        except OutOfMemory as error:
            error.hint = (
                f"it failed alone too: raise --memory ({size(self.resources.memory.budget)}), or add memory or swap"
            )
            raise

    async def _reserve(self, task: Task, reservation: contextlib.AsyncExitStack) -> None:
        if task.memory and task.name not in self._reserved:
            await reservation.enter_async_context(self.resources.memory.reserve(task.memory, self._priority[task.name]))
            self._reserved.add(task.name)

    async def _step(self, task: Task, step: Step) -> None:
        log = task.logs(step.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        begun = self.now()
        if task.name not in self._started:
            self._started[task.name] = begun
            self.emit(events.TaskStarted(begun, task.name))
        self.emit(events.StepStarted(begun, task.name, step.name, str(log)))
        with self._meter.watch(task.name, expendable=step.expendable) as watch:
            try:
                with spending(watch.spend):
                    await step.function(self._context(task, step, log, watch))
            except RocmBuildError as error:
                if watch.crowded_out or (step.uses is Uses.CPU and lacks_memory(error)):
                    raise out_of_memory(error) from error
                raise
            finally:
                self._taken[task.name].add(watch)
        seconds = self.now() - begun
        self.emit(events.StepEnded(self.now(), task.name, step.name, seconds, watch.cpu_seconds, watch.memory))

    def _since(self, task: Task) -> float:
        return self.now() - self._started.get(task.name, self.now())

    def _note(self, task: Task, text: str) -> None:
        self._tell(task.name, text)

    def _tell(self, task: str, text: str) -> None:
        self.emit(events.Note(self.now(), task, text))

    def _context(self, task: Task, step: Step, log: Path, watch: Watch) -> StepContext:
        def line(text: str) -> None:
            self.emit(events.OutputLine(self.now(), task.name, step.name, text))

        def progress(done: int, total: int, text: str) -> None:
            self.emit(events.StepProgress(self.now(), task.name, step.name, done, total, text))

        def note(text: str) -> None:
            self._note(task, text)

        def started(pid: int) -> None:
            self._meter.started(watch, pid)

        runner = Runner(log, line, inherit=self.resources.locks, on_start=started, on_end=watch.ended)
        return StepContext(runner, log, progress, note)

    @contextlib.asynccontextmanager
    async def _resource(self, task: Task, step: Step) -> AsyncIterator[None]:
        if step.uses is Uses.CPU:
            async with self.resources.jobserver.token(self._priority[task.name]):
                yield
        elif step.uses is Uses.NETWORK:
            async with self.resources.downloads:
                yield
        else:
            yield

    def _fail(self, task: Task, step: Step, error: RocmBuildError) -> None:
        tail = complete(error, task.logs(step.name), task.rerun)
        self._errors[task.name] = error
        self._seconds[task.name] = self._since(task)
        self._end(task, "failed")
        taken = self._taken[task.name]
        self.emit(
            events.TaskFailed(
                self.now(),
                task.name,
                step.name,
                error.message,
                where=error.where,
                log=error.log,
                rerun=error.rerun,
                hint=error.hint,
                tail=tail,
                cpu_seconds=taken.cpu_seconds,
                memory=taken.memory,
            )
        )

    def _end(self, task: Task, status: str) -> None:
        self._status[task.name] = status
        self._ended[task.name].set()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until every program they run has ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
