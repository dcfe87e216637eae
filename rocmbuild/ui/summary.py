"""What a run leaves behind: times, sizes, verification, where the packages are and how to install them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rocmbuild.model.verdict import VerifyRow
from rocmbuild.plan.makespan import Bound
from rocmbuild.tools.aptconf import PREFERENCES
from rocmbuild.tools.ccache import Counts
from rocmbuild.ui.format import Marks, duration, marks_for, plural, size
from rocmbuild.ui.lines import Line, line
from rocmbuild.ui.state import RunState, Status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

INSTALL = ("rocm-hip-runtime-dev",)
"""The package that brings the whole HIP runtime and compiler."""

_LEAST_BOUND = 1.0
"""Seconds; below this, starting programs is all that a run does."""

CHECK_STATUSES = ("pass", "fail", "warning", "waived", "skipped")
_BECAME = {
    Status.KEPT: "kept",
    Status.QUEUED: "not run",
    Status.FAILED: "failed",
    Status.SKIPPED: "skipped",
    Status.STOPPED: "stopped",
}
_STYLES = {"pass": "green", "fail": "bold red", "warning": "yellow", "waived": "yellow", "skipped": "dim"}


@dataclass(frozen=True)
class ComponentRow:
    """One component; ``size`` is bytes of all its debs, ``memory`` those of the peak of its steps.

    ``seconds`` is None where nothing ran, ``cpu_seconds`` and ``memory`` also where they were not measured.
    """

    component: str
    action: str
    seconds: float | None = None
    cpu_seconds: float | None = None
    packages: int = 0
    size: int = 0
    memory: int | None = None


@dataclass(frozen=True)
class Makespan:
    """The seconds from the first task to the last, and the bound of any schedule on ``jobs`` CPUs."""

    seconds: float
    bound: Bound
    jobs: int


@dataclass(frozen=True)
class Summary:
    """Everything the summary tells; ``out`` is the apt repository, ``seconds`` the wall time of the run.

    ``machine`` names where the packages are meant to be installed if that is another machine. ``makespan`` is left
    out of a run that did not come to its end, ``cached`` of one without ccache.
    """

    components: tuple[ComponentRow, ...]
    seconds: float
    out: Path | None = None
    checks: tuple[VerifyRow, ...] = ()
    install: tuple[str, ...] = INSTALL
    machine: str | None = None
    makespan: Makespan | None = None
    cached: Counts | None = None


def component_rows(
    state: RunState, actions: Mapping[str, str], debs: Mapping[str, Sequence[Path]]
) -> tuple[ComponentRow, ...]:
    """Return the rows of the components in ``actions``, with the times of a run and the sizes of their files.

    A component whose task did not end well is told by what became of it instead of its action.
    """
    return tuple(
        _component_row(name, action, state, [path.stat().st_size for path in debs.get(name, ())])
        for name, action in actions.items()
    )


def print_summary(summary: Summary, console: Console) -> None:
    """Print a summary: tables, then paths and commands on lines of their own that are never wrapped or cut."""
    from rocmbuild.ui.console import print_lines, show

    marks = marks_for(console.encoding)
    if summary.components:
        print_lines(console, [line()])
        show(console, component_table(summary))
    if summary.checks:
        print_lines(console, [line()])
        show(console, verify_table(summary.checks))
        print_lines(console, verify_lines(summary.checks, marks))
    print_lines(console, [line(), *where_lines(summary)])


def component_table(summary: Summary) -> Table:
    """Return the table of components, CPU time and memory only if they were measured, and a line of sums."""
    measured = any(row.cpu_seconds is not None or row.memory is not None for row in summary.components)
    table = _table("component", "action", ">time", *([">cpu", ">memory"] if measured else []), ">debs", ">size")
    table.show_footer = True
    for row in summary.components:
        table.add_row(
            row.component,
            row.action,
            "" if row.seconds is None else duration(row.seconds),
            *(_measured(row) if measured else ()),
            str(row.packages) if row.packages else "",
            size(row.size) if row.packages else "",
        )
    _foot(table, summary, measured=measured)
    return table


def _measured(row: ComponentRow) -> tuple[str, str]:
    cpu = "" if row.cpu_seconds is None else duration(row.cpu_seconds)
    return cpu, "" if row.memory is None else size(row.memory)


def verify_table(checks: Sequence[VerifyRow]) -> Table:
    """Return the table of checks: how many subjects of each had which outcome, for the outcomes there were."""
    found = {row.status for row in checks}
    statuses = [status for status in CHECK_STATUSES if status in {"pass", *found}]
    table = _table("check", *(f">{status}" for status in statuses))
    counts: dict[str, Counter[str]] = {}
    for row in checks:
        counts.setdefault(row.check, Counter())[row.status] += 1
    for check, counter in counts.items():
        table.add_row(check, *(_count(counter[status], status) for status in statuses))
    return table


def verify_lines(checks: Sequence[VerifyRow], marks: Marks) -> list[Line]:
    """Name everything that is not a pass, failures last, where the eye ends."""
    signs = {"fail": marks.failed, "warning": marks.note, "waived": marks.note, "skipped": marks.skipped}
    ordered = [row for status in ("skipped", "waived", "warning", "fail") for row in checks if row.status == status]
    return [
        line(
            (f"{signs[row.status]} {row.status} ", _STYLES[row.status]),
            f"{row.check}: {row.subject}",
            f": {row.detail}" if row.detail else "",
        )
        for row in ordered
    ]


def where_lines(summary: Summary) -> list[Line]:
    """Say where the packages are and how to install them, and how long everything took."""
    lines: list[Line] = []
    packages = sum(row.packages for row in summary.components)
    if summary.out is not None and packages:
        total = size(sum(row.size for row in summary.components))
        lines += [line((plural(packages, "package"), "bold"), f", {total}, in"), line(f"  {summary.out}"), line()]
        lines += _install_lines(summary, summary.out)
    if summary.makespan is not None:
        lines += makespan_lines(summary.makespan)
    if summary.cached is not None and summary.cached != Counts():
        lines.append(line(f"ccache: {summary.cached}"))
    return [*lines, line("total time ", (duration(summary.seconds), "bold"))]


def makespan_lines(makespan: Makespan) -> list[Line]:
    """Say how near a run came to the shortest there could be; nothing of one that computed next to nothing."""
    least = makespan.bound.seconds
    if least < _LEAST_BOUND:
        return []
    what = f"work on {plural(makespan.jobs, 'job')}" if makespan.bound.by_work else "critical path"
    ratio = makespan.seconds / least
    return [line(f"makespan {duration(makespan.seconds)}; bound {duration(least)} ({what}), ratio {ratio:.2f}")]


def source_line(out: Path) -> str:
    """Return the line for apt's list of sources; apt wants spaces and the like as %20."""
    return f"deb [trusted=yes] file:{quote(str(out.absolute()))} ./"


def _escaped(text: str) -> str:
    return text.replace("\n", "\\n")


def _install_lines(summary: Summary, out: Path) -> list[Line]:
    if not summary.install:
        return []
    place = f" on {summary.machine}" if summary.machine else ""
    commands = (
        f"echo {shlex.quote(source_line(out))} | sudo tee /etc/apt/sources.list.d/rocm.list",
        f"printf {shlex.quote(_escaped(PREFERENCES))} | sudo tee /etc/apt/preferences.d/rocm",
        "sudo apt update",
        f"sudo apt install {shlex.join(summary.install)}",
    )
    return [line(f"to install them{place}:"), *(line("  ", (command, "bold cyan")) for command in commands), line()]


def _component_row(name: str, action: str, state: RunState, sizes: Sequence[int]) -> ComponentRow:
    task = state.tasks.get(name)
    ran = task is not None and task.status in {Status.DONE, Status.FAILED, Status.STOPPED}
    seconds = task.seconds if task is not None and ran else None
    if task is not None:
        action = _BECAME.get(task.status, action)
    cpu, memory = (task.cpu_seconds, task.memory) if task is not None and ran else (0.0, 0)
    return ComponentRow(name, action, seconds, cpu or None, len(sizes), sum(sizes), memory or None)


def _count(count: int, status: str) -> Text:
    from rich.text import Text

    return Text(str(count), style=_STYLES[status]) if count else Text()


def _table(*columns: str) -> Table:
    """Return a table without a frame; a name that begins with ``>`` is a column of numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", footer_style="bold")
    for name in columns:
        number = name.startswith(">")
        table.add_column(name.lstrip(">"), justify="right" if number else "left", no_wrap=number, overflow="fold")
    return table


def _foot(table: Table, summary: Summary, *, measured: bool) -> None:
    rows = summary.components
    footer = ["total", "", ""]  # tasks overlap: the sum of their times means nothing
    if measured:
        footer += [duration(sum(row.cpu_seconds or 0 for row in rows)), ""]  # nor does that of their peaks
    footer += [str(sum(row.packages for row in rows)), size(sum(row.size for row in rows))]
    for column, text in zip(table.columns, footer, strict=True):
        column.footer = text
