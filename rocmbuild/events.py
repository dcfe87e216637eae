"""What happens during a run, as small immutable values that observers receive.

``task`` is a component's name or one of the run's own tasks (``root``, ``verify`` …); times are
seconds of a monotonic clock, sizes are bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Anything that happened; ``time`` is seconds since the run began."""

    time: float

    def record(self) -> dict[str, Any]:
        """Return the event as plain data for JSON lines."""
        return {"event": type(self).__name__, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class RunStarted(Event):
    """A run began; ``tasks`` are all tasks that will run, with estimated seconds each."""

    title: str
    tasks: dict[str, float]
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskStarted(Event):
    """A task left the queue."""

    task: str


@dataclass(frozen=True)
class StepStarted(Event):
    """A step of a task began; ``log`` is the file its output goes to."""

    task: str
    step: str
    log: str | None = None


@dataclass(frozen=True)
class StepProgress(Event):
    """A step came to ``done`` of ``total`` units (Ninja edges, bytes); ``text`` says which."""

    task: str
    step: str
    done: int
    total: int
    text: str = ""


@dataclass(frozen=True)
class OutputLine(Event):
    """A program of a step printed a line."""

    task: str
    step: str
    line: str


@dataclass(frozen=True)
class Note(Event):
    """Something worth telling that is not an error."""

    task: str
    text: str


@dataclass(frozen=True)
class StepEnded(Event):
    """A step ended well after ``seconds``; ``memory`` is the peak of what its programs took together."""

    task: str
    step: str
    seconds: float
    cpu_seconds: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class TaskEnded(Event):
    """A task ended; ``status`` is ``done``, ``kept`` (what it would have made is there already) or ``failed``.

    ``cpu_seconds`` is the sum of its steps, ``memory`` the largest peak of them.
    """

    task: str
    status: str
    seconds: float
    cpu_seconds: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class TaskFailed(Event):
    """A task failed; the fields are those of the error, ``tail`` the last lines of its log."""

    task: str
    step: str
    message: str
    where: str | None = None
    log: str | None = None
    rerun: str | None = None
    hint: str | None = None
    tail: tuple[str, ...] = ()
    cpu_seconds: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class TaskSkipped(Event):
    """A task did not run because ``because`` failed."""

    task: str
    because: str


@dataclass(frozen=True)
class RunEnded(Event):
    """The run is over; ``status`` is ``done``, ``failed`` or ``interrupted``."""

    status: str
    seconds: float


Emit = Callable[[Event], None]
