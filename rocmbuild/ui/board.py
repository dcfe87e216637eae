"""The live board of a terminal: what runs now at the bottom, what is over scrolls away above it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from rocmbuild.events import (
    Event,
    Note,
    OutputLine,
    RunEnded,
    RunStarted,
    TaskEnded,
    TaskFailed,
    TaskSkipped,
)
from rocmbuild.ui import lines
from rocmbuild.ui.console import print_lines, text_of, wrap_width
from rocmbuild.ui.failure import failure_lines, from_event
from rocmbuild.ui.format import clean, marks_for
from rocmbuild.ui.layout import board_lines, name_width
from rocmbuild.ui.lines import Line
from rocmbuild.ui.state import RunState, Status, fold

INTERVAL = 0.2
"""Seconds between two drawings, however many events come."""

_MOST_PENDING = 2000
"""Lines to hold back for the next drawing; with more, whoever brings them waits for the terminal."""


class Board:
    """Draw a run on a terminal; an own thread draws at most five times a second, so events cost little.

    ``verbosity`` -1 prints failures and the end only, 1 also every line of output. With ``interval`` None
    nothing is drawn but by ``tick()``.
    """

    def __init__(
        self,
        console: Console,
        *,
        verbosity: int = 0,
        clock: Callable[[], float] = time.monotonic,
        interval: float | None = INTERVAL,
    ) -> None:
        self._console = console
        self._verbosity = verbosity
        self._clock = clock
        self._marks = marks_for(console.encoding)
        self._state = RunState()
        self._began = clock()
        self._pending: list[Line] = []
        self._lock = threading.Lock()
        self._drawn: list[int] = []
        self._width = console.width
        self._interval = interval
        self._live: Live | None = None
        self._ticker: _Ticker | None = None

    def __call__(self, event: Event) -> None:
        self._began = self._clock() - event.time
        self._state = fold(self._state, event)
        tell = _TELLERS.get(type(event))
        if tell is not None and (self._verbosity >= 0 or isinstance(event, TaskFailed | RunEnded)):
            tell(self, event)
        if isinstance(event, RunStarted) and self._verbosity >= 0:
            self._open()
        if self._verbosity < 0 or isinstance(event, TaskFailed) or len(self._pending) > _MOST_PENDING:
            self.tick()
        if isinstance(event, RunEnded):
            self.close()
        if self._ticker is not None:
            self._ticker.check()

    def tick(self) -> None:
        """Print what has come up since the last time and draw the board again."""
        with self._lock:
            waiting, self._pending = self._pending, []
            if self._live is not None:
                self._mend_resized()
            if waiting:
                print_lines(self._console, waiting)
            elif self._live is not None:
                self._live.refresh()

    def close(self) -> None:
        """Take the board away, print what is left and give the cursor back."""
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.stop()
        live, self._live = self._live, None
        try:
            if live is not None:
                live.stop()
        finally:
            self.tick()

    def _open(self) -> None:
        if self._live is None:
            self._live = Live(self, console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        if self._ticker is None and self._interval is not None:
            self._ticker = _Ticker(self.tick, self._interval)
            self._ticker.start()

    def __rich__(self) -> Text:
        """Return the board as it is now; rich asks whenever it prints something above it."""
        now = max(0.0, self._clock() - self._began)
        size = self._console.size
        rows = board_lines(self._state, now, size.width, size.height, self._marks)
        self._drawn = [len(lines.plain(row)) for row in rows]
        return Text("\n", no_wrap=True, overflow="crop").join(text_of(row) for row in rows)

    def _mend_resized(self) -> None:
        """Go up the rows that the board has gained by the terminal getting narrower and wrapping it."""
        width, self._width = self._width, self._console.width
        if self._width >= width:
            return
        gained = sum(max(0, (length - 1) // self._width) for length in self._drawn)
        up = [ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)]
        self._console.control(Control(*(up * gained)))  # type: ignore[arg-type]  # a tuple is a ControlCode

    def _say(self, *styled: Line) -> None:
        with self._lock:
            self._pending.extend(styled)

    def _started(self, event: RunStarted) -> None:
        self._say(lines.header(event, self._state))
        if event.kept:
            self._say(lines.kept(event, self._marks))

    def _output(self, event: OutputLine) -> None:
        if self._verbosity > 0:
            self._say(lines.line((f"{event.task} {self._marks.pipe} ", "dim"), clean(event.line)))

    def _note(self, event: Note) -> None:
        self._say(lines.note(event, self._marks))

    def _ended(self, event: TaskEnded) -> None:
        task = self._state.tasks[event.task]
        if task.status is Status.DONE:
            self._say(lines.finished(task, self._marks, name_width(self._state)))
        elif task.status is Status.KEPT:
            self._say(lines.unchanged(task, self._marks, name_width(self._state)))
        elif task.failure is None:
            self._say(lines.failed(task, self._marks, name_width(self._state)))

    def _failed(self, event: TaskFailed) -> None:
        self._say(*failure_lines(from_event(event), self._marks, wrap_width(self._console)))

    def _skipped(self, event: TaskSkipped) -> None:
        self._say(lines.skipped(event, self._marks, name_width(self._state)))

    def _over(self, _: RunEnded) -> None:
        self._say(*lines.outcome(self._state, self._marks))


class _Ticker:
    """Call ``tick`` regularly in a thread; what goes wrong there is raised by ``check`` in the caller's."""

    def __init__(self, tick: Callable[[], None], interval: float) -> None:
        self._tick = tick
        self._interval = interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board", daemon=True)
        self._error: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def check(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self._tick()
            except Exception as error:
                self._error = error
                return


_TELLERS: Mapping[type[Event], Callable[[Board, Any], None]] = {
    RunStarted: Board._started,
    OutputLine: Board._output,
    Note: Board._note,
    TaskEnded: Board._ended,
    TaskFailed: Board._failed,
    TaskSkipped: Board._skipped,
    RunEnded: Board._over,
}
