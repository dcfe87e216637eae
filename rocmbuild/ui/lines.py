"""The sentences of a run, as styled text that a terminal colors and a file takes as it is."""

from __future__ import annotations

from rocmbuild.events import Note, RunStarted, TaskSkipped
from rocmbuild.ui.estimate import remaining
from rocmbuild.ui.format import Marks, about, clean, duration, plural, size_of
from rocmbuild.ui.state import RunState, Status, TaskState

Span = tuple[str, str]
"""A piece of text and the name of its style, empty for none."""

Line = tuple[Span, ...]


def line(*spans: str | Span) -> Line:
    """Make a line out of plain strings and styled spans."""
    return tuple((span, "") if isinstance(span, str) else span for span in spans)


def plain(styled: Line) -> str:
    """Return a line's text without its styles."""
    return "".join(text for text, _ in styled)


def header(event: RunStarted, state: RunState) -> Line:
    """Say what will run and how long it is expected to take."""
    parts = [plural(len(event.tasks), "task")]
    left = remaining(state, event.time)
    if left is not None:
        parts.append(about(left))
    return line((event.title or "rocmbuild", "bold"), ": " + ", ".join(parts))


def kept(event: RunStarted, marks: Marks) -> Line:
    """Name the components that need not be built again."""
    return line((f"{marks.kept} ", "dim"), ("up to date: " + ", ".join(event.kept), "dim"))


def finished(task: TaskState, marks: Marks, width: int = 0) -> Line:
    """Say that a task is done and how long it took; names are filled up to ``width``."""
    return line((marks.done, "green"), f" {task.name:<{width}}  {duration(task.seconds)}")


UNCHANGED = "kept: its needs came out unchanged"


def unchanged(task: TaskState, marks: Marks, width: int = 0) -> Line:
    """Say that what a task would make was there already."""
    return line((f"{marks.kept} {task.name:<{width}}  {UNCHANGED}", "dim"))


def failed(task: TaskState, marks: Marks, width: int = 0) -> Line:
    """Say that a task failed, for a failure that brought no details."""
    return line((f"{marks.failed} {task.name:<{width}}  failed after {duration(task.seconds)}", "red"))


def skipped(event: TaskSkipped, marks: Marks, width: int = 0) -> Line:
    """Say that a task was not tried and why."""
    return line((f"{marks.skipped} {event.task:<{width}}  skipped: {event.because} failed", "yellow"))


def note(event: Note, marks: Marks) -> Line:
    """Tell a note and whose it is."""
    return line((f"{marks.note} ", "cyan"), f"{event.task}: {clean(event.text)}")


def progress(task: TaskState) -> str:
    """Write a step's progress: ``50/111``, or ``12.3/40.0 MiB`` where the unit is bytes."""
    if task.total <= 0:
        return ""
    if task.text == "bytes":
        return size_of(task.done, task.total)
    return f"{task.done}/{task.total}"


def outcome(state: RunState, marks: Marks) -> list[Line]:
    """Say in one line how the run ended, then how to repeat each failed task."""
    if state.status == "done":
        return [_success(state, marks)]
    if state.status == "interrupted":
        return [_interruption(state, marks)]
    counts = [
        f"{len(tasks)} {word}"
        for word, tasks in (
            ("done", state.having(Status.DONE)),
            ("kept", state.having(Status.KEPT)),
            ("failed", state.having(Status.FAILED)),
            ("skipped", state.having(Status.SKIPPED)),
            ("stopped", state.having(Status.STOPPED, Status.QUEUED)),
        )
        if tasks
    ]
    first = line(
        (f"{marks.failed} failed", "bold red"),
        f" after {duration(state.seconds)}",
        ": " + ", ".join(counts) if counts else "",
    )
    return [first, *(again for task in state.having(Status.FAILED) for again in _again(task))]


def _success(state: RunState, marks: Marks) -> Line:
    done = len(state.having(Status.DONE))
    kept = len(state.kept) + len(state.having(Status.KEPT))
    rest = f", {kept} up to date" if kept else ""
    if not state.tasks:
        return line((f"{marks.done} nothing to do", "bold green"), rest)
    return line((f"{marks.done} done", "bold green"), f": {plural(done, 'task')} in {duration(state.seconds)}{rest}")


def _interruption(state: RunState, marks: Marks) -> Line:
    done = len(state.having(Status.DONE, Status.KEPT))
    return line(
        (f"{marks.failed} interrupted", "bold yellow"),
        f" after {duration(state.seconds)}: {done} of {plural(len(state.tasks), 'task')} done;"
        " the same command goes on from here",
    )


def _again(task: TaskState) -> list[Line]:
    where = f"  {task.name} failed in {task.step}" if task.step else f"  {task.name} failed"
    if task.failure is not None and task.failure.rerun:
        return [line(f"{where}; to run just this again:"), line("    ", (task.failure.rerun, "bold cyan"))]
    return [line(where, f"; log: {task.log}" if task.log else "")]
