"""What the events of a run add up to: a pure fold that board, lines and summary share."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rocmbuild.events import (
    Event,
    RunEnded,
    RunStarted,
    StepEnded,
    StepProgress,
    StepStarted,
    TaskEnded,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
)


class Status(enum.Enum):
    """Where a task is; KEPT found what it makes to be there, STOPPED was running when the run was interrupted."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    KEPT = "kept"
    FAILED = "failed"
    SKIPPED = "skipped"
    STOPPED = "stopped"


WAITING = "waiting"
"""What a task does between two steps: until a CPU is free for the next one."""


@dataclass(frozen=True)
class TaskState:
    """One task; ``estimate`` and ``seconds`` are durations, ``started`` and ``step_started`` times of the run.

    ``cpu_seconds`` is the sum and ``memory`` the peak, in bytes, of the steps that ended.
    """

    name: str
    estimate: float = 0.0
    status: Status = Status.QUEUED
    started: float = 0.0
    seconds: float = 0.0
    step: str = ""
    step_started: float = 0.0
    done: int = 0
    total: int = 0
    text: str = ""
    log: str | None = None
    cpu_seconds: float = 0.0
    memory: int = 0
    failure: TaskFailed | None = None
    because: str = ""

    @property
    def fraction(self) -> float | None:
        """Return how much of the step is done, 0 to 1; None if the step does not tell."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else None

    def elapsed(self, now: float) -> float:
        """Return the seconds the task has run, or ran."""
        return max(0.0, now - self.started) if self.status is Status.RUNNING else self.seconds


@dataclass(frozen=True)
class RunState:
    """All tasks of a run in the order they were announced; ``status`` is that of RunEnded, empty before."""

    title: str = ""
    tasks: Mapping[str, TaskState] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    status: str = ""
    seconds: float = 0.0

    def having(self, *statuses: Status) -> list[TaskState]:
        """Return the tasks with one of these statuses."""
        return [task for task in self.tasks.values() if task.status in statuses]

    def running(self) -> list[TaskState]:
        """Return the running tasks, the longest running first."""
        return sorted(self.having(Status.RUNNING), key=lambda task: (task.started, task.name))


def fold(state: RunState, event: Event) -> RunState:
    """Return the state after an event; an event about a task that was not announced adds the task."""
    if isinstance(event, RunStarted):
        tasks = {name: TaskState(name, estimate=seconds) for name, seconds in event.tasks.items()}
        return RunState(title=event.title, tasks=tasks, kept=event.kept)
    if isinstance(event, RunEnded):
        return _ended(state, event)
    change = _CHANGES.get(type(event))
    if change is None:
        return state
    name: str = event.task  # type: ignore[attr-defined]  # every key of _CHANGES has a task
    task = state.tasks.get(name, TaskState(name))
    return replace(state, tasks={**state.tasks, name: change(task, event)})


def _ended(state: RunState, event: RunEnded) -> RunState:
    tasks = {
        name: replace(task, status=Status.STOPPED, seconds=task.elapsed(event.time))
        if task.status is Status.RUNNING
        else task
        for name, task in state.tasks.items()
    }
    return replace(state, tasks=tasks, status=event.status, seconds=event.seconds)


def _task_started(task: TaskState, event: TaskStarted) -> TaskState:
    return TaskState(task.name, estimate=task.estimate, status=Status.RUNNING, started=event.time)


def _step_started(task: TaskState, event: StepStarted) -> TaskState:
    step = replace(task, step=event.step, step_started=event.time, log=event.log)
    return replace(step, done=0, total=0, text="")


def _step_progress(task: TaskState, event: StepProgress) -> TaskState:
    return replace(task, done=event.done, total=event.total, text=event.text)


def _step_ended(task: TaskState, event: StepEnded) -> TaskState:
    cpu, memory = task.cpu_seconds + event.cpu_seconds, max(task.memory, event.memory)
    task = replace(task, cpu_seconds=cpu, memory=memory)
    return replace(task, step=WAITING, done=0, total=0, text="") if task.step == event.step else task


def _task_ended(task: TaskState, event: TaskEnded) -> TaskState:
    status = {"failed": Status.FAILED, "kept": Status.KEPT}.get(event.status, Status.DONE)
    return replace(task, status=status, seconds=event.seconds, **_taken(task, event))


def _task_failed(task: TaskState, event: TaskFailed) -> TaskState:
    failed = replace(task, status=Status.FAILED, seconds=task.elapsed(event.time), step=event.step, failure=event)
    return replace(failed, **_taken(task, event))


def _taken(task: TaskState, event: TaskEnded | TaskFailed) -> dict[str, Any]:
    """Return what a task took, as its end has it; the step that failed is in it."""
    return {
        "cpu_seconds": max(task.cpu_seconds, event.cpu_seconds),
        "memory": max(task.memory, event.memory),
    }


def _task_skipped(task: TaskState, event: TaskSkipped) -> TaskState:
    return replace(task, status=Status.SKIPPED, because=event.because)


_CHANGES: Mapping[type[Event], Callable[[TaskState, Any], TaskState]] = {
    TaskStarted: _task_started,
    StepStarted: _step_started,
    StepProgress: _step_progress,
    StepEnded: _step_ended,
    TaskEnded: _task_ended,
    TaskFailed: _task_failed,
    TaskSkipped: _task_skipped,
}
