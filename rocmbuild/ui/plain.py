"""A line for everything worth knowing, for logs and pipes: ``[ 123s] rocr: build 50/111``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

from rocmbuild.events import (
    Event,
    Note,
    OutputLine,
    RunEnded,
    RunStarted,
    StepProgress,
    StepStarted,
    TaskEnded,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
)
from rocmbuild.ui import lines
from rocmbuild.ui.failure import failure_lines, from_event
from rocmbuild.ui.format import ASCII, Marks, clean, duration
from rocmbuild.ui.state import RunState, Status, fold

EVERY_PART = 0.1
EVERY_SECONDS = 30.0
LEAST_SECONDS = 5.0
"""Progress is told after a tenth more, but not before 5 seconds, and at the latest after 30 seconds."""


class PlainLines:
    """Write lines to a stream; ``verbosity`` -1 tells failures and the end only, 1 every line of output."""

    def __init__(self, stream: IO[str], *, verbosity: int = 0, marks: Marks = ASCII) -> None:
        self._stream = stream
        self._verbosity = verbosity
        self._marks = marks
        self._state = RunState()
        self._told: dict[str, tuple[float, float]] = {}

    def __call__(self, event: Event) -> None:
        self._state = fold(self._state, event)
        tell = _TELLERS.get(type(event))
        if tell is not None and (self._verbosity >= 0 or isinstance(event, TaskFailed | RunEnded)):
            tell(self, event)

    def _started(self, event: RunStarted) -> None:
        self._told.clear()
        self._stamped(event, [lines.plain(lines.header(event, self._state))])
        if event.kept:
            self._stamped(event, ["up to date: " + ", ".join(event.kept)])

    def _task_started(self, event: TaskStarted) -> None:
        self._about(event, event.task, "started")

    def _step_started(self, event: StepStarted) -> None:
        self._told[event.task] = (event.time, 0.0)
        self._about(event, event.task, event.step)

    def _progress(self, event: StepProgress) -> None:
        task = self._state.tasks[event.task]
        part = task.fraction
        if part is None:
            return
        time, told = self._told.get(event.task, (event.time, 0.0))
        since = event.time - time
        if since >= EVERY_SECONDS or (since >= LEAST_SECONDS and part - told >= EVERY_PART):
            self._told[event.task] = (event.time, part)
            self._about(event, event.task, f"{event.step} {lines.progress(task)}")

    def _output(self, event: OutputLine) -> None:
        if self._verbosity > 0:
            self._about(event, event.task, f"| {clean(event.line)}")

    def _note(self, event: Note) -> None:
        self._about(event, event.task, f"note: {clean(event.text)}")

    def _ended(self, event: TaskEnded) -> None:
        task = self._state.tasks[event.task]
        if task.status is Status.DONE:
            self._about(event, event.task, f"done in {duration(event.seconds)}")
        elif task.status is Status.KEPT:
            self._about(event, event.task, lines.UNCHANGED)
        elif task.failure is None:
            self._about(event, event.task, f"failed after {duration(event.seconds)}")

    def _failed(self, event: TaskFailed) -> None:
        self._write(lines.plain(text) for text in failure_lines(from_event(event), self._marks))

    def _skipped(self, event: TaskSkipped) -> None:
        self._about(event, event.task, f"skipped: {event.because} failed")

    def _over(self, event: RunEnded) -> None:
        texts = [lines.plain(text) for text in lines.outcome(self._state, self._marks)]
        self._stamped(event, texts[:1])
        self._write(texts[1:])

    def _about(self, event: Event, task: str, text: str) -> None:
        self._stamped(event, [f"{task}: {text}"])

    def _stamped(self, event: Event, texts: Iterable[str]) -> None:
        self._write(f"[{event.time:4.0f}s] {text}" for text in texts)

    def _write(self, texts: Iterable[str]) -> None:
        self._stream.write("".join(f"{text}\n" for text in texts))
        self._stream.flush()


_TELLERS: Mapping[type[Event], Callable[[PlainLines, Any], None]] = {
    RunStarted: PlainLines._started,
    TaskStarted: PlainLines._task_started,
    StepStarted: PlainLines._step_started,
    StepProgress: PlainLines._progress,
    OutputLine: PlainLines._output,
    Note: PlainLines._note,
    TaskEnded: PlainLines._ended,
    TaskFailed: PlainLines._failed,
    TaskSkipped: PlainLines._skipped,
    RunEnded: PlainLines._over,
}
