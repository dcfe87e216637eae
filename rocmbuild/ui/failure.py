"""A failure as the user reads it: what, where, how to repeat just that, what to try, the log's last lines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rocmbuild.errors import DocumentError, Problem, RocmBuildError
from rocmbuild.events import TaskFailed
from rocmbuild.process import ProcessError
from rocmbuild.ui.format import UNICODE, Marks, clean, marks_for, plural
from rocmbuild.ui.lines import Line, line

if TYPE_CHECKING:
    from rich.console import Console

TAIL = 15
"""Log lines to show; the whole log is named above them."""

_LONGEST = 240
"""Characters to show of a log line; compiler commands are longer and say little."""

_READ = 1 << 16
"""Bytes at the end of a log that are looked at."""

_MARGIN = 8
"""Columns that the names of an error's parts take."""


@dataclass(frozen=True)
class Failure:
    """Everything that is told about a failure; empty parts are left out."""

    title: str
    message: str
    where: str | None = None
    log: str | None = None
    rerun: str | None = None
    hint: str | None = None
    tail: tuple[str, ...] = ()


def from_event(event: TaskFailed) -> Failure:
    """Return the failure of a task."""
    title = f"{event.task} failed in {event.step}" if event.step else f"{event.task} failed"
    tail = tuple(event.tail)[-TAIL:]
    hint = None if _repeats(event.hint, tail) else event.hint
    return Failure(title, event.message, event.where, event.log, event.rerun, hint, tail)


def from_error(error: RocmBuildError) -> Failure:
    """Return the failure an error tells of, with the end of its log if it names one that can be read."""
    tail = error.tail if isinstance(error, ProcessError) else ()
    shown = tail[-TAIL:] or log_tail(error.log)
    hint = None if _repeats(error.hint, shown) else error.hint
    return Failure("error", error.message, error.where, error.log, error.rerun, hint, tuple(shown))


def failure_lines(failure: Failure, marks: Marks = UNICODE, width: int | None = None) -> list[Line]:
    """Lay a failure out in lines; prose is wrapped at ``width``, never a path, a command or the log."""
    lines = [_title(failure.title, marks, width)]
    lines += [line((text, "bold")) for text in _wrap(failure.message, width, "")]
    lines += [_fact("where", failure.where)] if failure.where else []
    lines += [_fact("log", failure.log)] if failure.log else []
    if failure.rerun:
        lines += [line(("to run just this again:", "dim")), line("  ", (failure.rerun, "bold cyan"))]
    lines += _advice(failure, width)
    if failure.tail:
        lines.append(line(("last lines of the log:", "dim")))
        lines += [line("  ", (_crop(text, marks), "")) for text in failure.tail]
    lines.append(line((marks.rule * _rule_width(width), "red")))
    return lines


def error_lines(error: RocmBuildError, marks: Marks = UNICODE, width: int | None = None) -> list[Line]:
    """Lay an error out for the command line: the first line reads ``error: what``, the rest is indented."""
    if isinstance(error, DocumentError):
        return _document_lines(error)
    failure = from_error(error)
    prose = width - _MARGIN if width is not None else None
    first, *more = _wrap(failure.message, prose, "") or [""]
    lines = [line(("error: ", "bold red"), (first, "bold")), *(line(" " * _MARGIN + text) for text in more)]
    facts = (("where", failure.where), ("log", failure.log), ("rerun", failure.rerun))
    lines += [_fact(name, value) for name, value in facts if value]
    advice = _wrap(failure.hint or "", prose, "")
    lines += [_fact("try" if number == 0 else "", text) for number, text in enumerate(advice)]
    if failure.tail:
        lines.append(line(("  last lines of the log:", "dim")))
        lines += [line("    ", (_crop(text, marks), "")) for text in failure.tail]
    return lines


def render_error(error: RocmBuildError, console: Console) -> None:
    """Print an error on a console made by ``ui.console.make_console``."""
    from rocmbuild.ui.console import print_lines, wrap_width

    print_lines(console, error_lines(error, marks_for(console.encoding), wrap_width(console)))


def log_tail(log: str | None, count: int = TAIL) -> tuple[str, ...]:
    """Return the last lines of a log file, none if it cannot be read."""
    if log is None:
        return ()
    try:
        with Path(log).open("rb") as file:
            start = max(0, file.seek(0, 2) - _READ)
            file.seek(start)
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ()
    return tuple(lines[1 if start else 0 :][-count:])


def _title(title: str, marks: Marks, width: int | None) -> Line:
    rest = max(2, _rule_width(width) - len(title) - 6)
    return line((f"{marks.rule * 2} {marks.failed} {title} {marks.rule * rest}", "bold red"))


def _rule_width(width: int | None) -> int:
    return min(width or 72, 100)


def _fact(name: str, value: str) -> Line:
    return line((f"  {name:<5} ", "dim"), value)


def _advice(failure: Failure, width: int | None) -> list[Line]:
    hint = failure.hint
    if not hint and failure.log:
        hint = "read the whole log, named above" if failure.tail else "read the log named above"
    texts = _wrap(hint or "", width, "  ")
    return [line(("what to try:", "dim")), *(line(text) for text in texts)] if texts else []


def _document_lines(error: DocumentError) -> list[Line]:
    lines = [text for problem in error.problems for text in _problem_lines(problem)]
    return [*lines, line((plural(len(error.problems), "problem"), "bold red"), " found")]


def _problem_lines(problem: Problem) -> list[Line]:
    first, *more = problem.message.splitlines() or [""]
    lines = [line((f"{problem.where}: ", "bold"), ("error: ", "bold red"), first)]
    lines += [line(f"    {text}") for text in more]
    return lines + [line(("    try: ", "dim"), text) for text in (problem.hint or "").splitlines()]


def _wrap(text: str, width: int | None, indent: str) -> list[str]:
    """Wrap each line at spaces; a word longer than the line, such as a path, stays whole."""
    lines = [clean(part) for part in text.splitlines()]
    if width is None:
        return [indent + part for part in lines]
    return [
        wrapped
        for part in lines
        for wrapped in textwrap.wrap(
            part,
            max(20, width),
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        or [""]
    ]


def _crop(text: str, marks: Marks) -> str:
    text = clean(text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " " + marks.ellipsis


def _repeats(hint: str | None, tail: Sequence[str]) -> bool:
    """Tell whether a hint is only the end of the log, which is shown anyway."""
    lines = (hint or "").splitlines()
    return bool(lines) and lines == list(tail[-len(lines) :])
