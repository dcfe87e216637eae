"""Hand every event to every observer, and keep an observer's failure from reaching the build."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import TracebackType

from rocmbuild.events import Emit, Event
from rocmbuild.ui.state import RunState, fold


def report_to_stderr(text: str) -> None:
    """Print a line to whatever standard error is now; a board puts its own in place of it."""
    print(text, file=sys.stderr)


class Reactor:
    """Fan events out to observers; calling it is the ``emit`` of a run.

    An observer that raises is reported once and called again with the next event: a full disk or one
    event that cannot be drawn must not blind a run of hours.
    """

    def __init__(self, *observers: Emit, report: Callable[[str], None] = report_to_stderr) -> None:
        self._observers = list(observers)
        self._report = report
        self._reported: set[int] = set()
        self._state = RunState()
        self._closed = False

    @property
    def state(self) -> RunState:
        """Return what the events so far add up to."""
        return self._state

    def add(self, observer: Emit) -> None:
        """Add an observer; its ``close()``, if it has one, is called when the run is over."""
        self._observers.append(observer)

    def __call__(self, event: Event) -> None:
        self._state = fold(self._state, event)
        for observer in self._observers:
            self._guard(observer, functools.partial(observer, event))

    def close(self) -> None:
        """Close the observers, giving the terminal back; do nothing the second time."""
        if self._closed:
            return
        self._closed = True
        for observer in self._observers:
            close = getattr(observer, "close", None)
            if close is not None:
                self._guard(observer, close)

    def __enter__(self) -> Reactor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _guard(self, observer: Emit, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            if id(observer) not in self._reported:
                self._reported.add(id(observer))
                self._say(f"rocmbuild: {_name(observer)} failed, the run goes on: {type(error).__name__}: {error}")

    def _say(self, text: str) -> None:
        try:
            self._report(text)
        except Exception:
            return  # standard error is gone too: nobody is left to tell


def _name(observer: Emit) -> str:
    return getattr(observer, "__name__", type(observer).__name__)
