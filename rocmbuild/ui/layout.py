"""The lines of the live board for a terminal's width and height: pure, so that every size can be tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rocmbuild.ui import lines
from rocmbuild.ui.estimate import remaining
from rocmbuild.ui.format import Marks, about, duration, plural, shorten
from rocmbuild.ui.lines import Line, Span
from rocmbuild.ui.state import RunState, Status, TaskState

_ELAPSED = 7
_STEP = 9
_LEAST_BAR = 8
_MOST_BAR = 40
_LEAST_TEXT = 20


@dataclass(frozen=True)
class _Columns:
    """Widths of the columns that depend on the terminal; 0 leaves a column out."""

    names: int
    bar: int
    counts: int
    text: int


def board_lines(state: RunState, now: float, width: int, height: int, marks: Marks) -> list[Line]:
    """Return a line per running task, as many as fit, and a last line about the whole run."""
    running = state.running()
    room = max(1, height - 2)
    shown = running if len(running) <= room else running[: room - 1]
    rows = _rows(state, shown, now, width, marks)
    if len(shown) < len(running):
        rows.append(lines.line((f"{marks.ellipsis} and {len(running) - len(shown)} more running", "dim")))
    return [*rows, overall(state, now, width, marks)]


def overall(state: RunState, now: float, width: int, marks: Marks) -> Line:
    """Sum the run up in one line: ``12/17 tasks · 3 running · 6m 42s elapsed · about 4 min left``."""
    done, failed = len(state.having(Status.DONE, Status.KEPT)), len(state.having(Status.FAILED))
    left = remaining(state, now)
    parts: list[Span] = [(f"{done}/{plural(len(state.tasks), 'task')}", "bold")]
    if failed:
        parts.append((f"{failed} failed", "bold red"))
    parts.append((f"{len(state.running())} running", ""))
    parts.append((f"{duration(now)} elapsed", ""))
    if left is not None:
        parts.append((f"{about(left)} left", "cyan"))
    separator = f" {marks.dot} "
    while len(parts) > 2 and _length(parts, separator) >= width:
        parts.pop(-2)
    spans = [span for part in parts for span in ((separator, "dim"), part)][1:]
    return _fit(lines.line(*spans), width - 1, marks)


def name_width(state: RunState) -> int:
    """Return the width of the column of names: that of the longest name of the run, within reason."""
    return min(28, max((len(name) for name in state.tasks), default=0))


def _rows(state: RunState, tasks: Sequence[TaskState], now: float, width: int, marks: Marks) -> list[Line]:
    """Lay tasks out in columns: name, step, bar, count, elapsed, and what is being made if there is room.

    The last column of the terminal stays free: a full line would be wrapped by some terminals.
    """
    names = min(name_width(state), max(8, width // 3))
    counts = max([9, *(len(lines.progress(task)) for task in tasks)])
    free = width - 1 - names - 1 - _STEP - 1 - _ELAPSED
    if free < 0:
        return [_fit(lines.line(f"{task.name} {task.step}"), width - 1, marks) for task in tasks]
    counts = counts if free >= counts + 1 else 0
    free -= counts + 1 if counts else 0
    bar = min(_MOST_BAR, free - 1)
    bar = bar if bar >= _LEAST_BAR else 0
    free -= bar + 1 if bar else 0
    text = free - 2 if free - 2 >= _LEAST_TEXT else 0
    columns = _Columns(names, bar, counts, text)
    return [_row(task, now, columns, marks) for task in tasks]


def _row(task: TaskState, now: float, columns: _Columns, marks: Marks) -> Line:
    spans: list[Span] = [
        (f"{shorten(task.name, columns.names, marks):<{columns.names}} ", "bold"),
        (f"{shorten(task.step, _STEP, marks):<{_STEP}} ", "cyan"),
        *_bar(task.fraction, columns.bar, marks),
    ]
    if columns.counts:
        spans.append((f"{lines.progress(task):>{columns.counts}} ", ""))
    spans.append((f"{duration(task.elapsed(now)):>{_ELAPSED}}", "yellow"))
    if columns.text and task.text != "bytes":
        spans.append((f"  {shorten(task.text, columns.text, marks)}".rstrip(), "dim"))
    return lines.line(*spans)


def _bar(fraction: float | None, width: int, marks: Marks) -> list[Span]:
    if not width:
        return []
    if fraction is None:
        return [(" " * (width + 1), "")]
    full = int(fraction * width)
    return [(marks.bar * full, "green"), (marks.bar_rest * (width - full) + " ", "dim")]


def _length(parts: Sequence[Span], separator: str) -> int:
    return sum(len(text) for text, _ in parts) + len(separator) * (len(parts) - 1)


def _fit(styled: Line, width: int, marks: Marks) -> Line:
    if len(lines.plain(styled)) <= width:
        return styled
    return lines.line(shorten(lines.plain(styled), width, marks))
