"""A plan as a table for people and as a Graphviz graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rocmbuild.ui.format import about, duration, plural, size

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

Row = Mapping[str, Any]
"""A row of ``rocmbuild plan --json``: component, machine, action, version, fingerprint, needs, estimate, reason …"""

KEY_LENGTH = 8
GAP = 2
"""Spaces between two columns."""

_COLUMNS = ("component", "machine", "action", "version", "key", "needs", "estimate", "memory", "disk", "reason")
_NUMBERS = ("estimate", "memory", "disk")
_PROSE = ("needs", "reason")

_STYLES = {"build": "yellow", "restore": "cyan", "keep": "green", "provided": "dim"}
_FILLS = {"build": "#ffe4b3", "restore": "#cfe8ff", "keep": "#d5f0d0", "provided": "#e6e6e6"}


def render_table(rows: Sequence[Row], *, reasons: bool = False, outlook: Row | None = None) -> PlanTable:
    """Return the plan as a table in the order of its rows, with lines that sum it up.

    ``reasons`` adds a column that says why each component has its action; ``outlook`` is what ``rocmbuild plan
    --json`` has as the estimate of it all.
    """
    return PlanTable(tuple(rows), reasons=reasons, outlook=outlook)


@dataclass(frozen=True)
class PlanTable:
    """A plan that rich can print; the columns that a terminal is too narrow for are left out, needs first."""

    rows: tuple[Row, ...]
    reasons: bool = False
    outlook: Row | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        leaving = tuple(name for name in ("memory", "disk") if not any(row.get(name) for row in self.rows))
        leaving += () if self.reasons else ("reason",)
        columns = {name: [_cell(row, name) for row in self.rows] for name in _COLUMNS if name not in leaving}
        for name in ("needs", "disk", "memory", "machine", "version", "key"):
            if _least_width(columns) <= options.max_width:
                break
            columns.pop(name, None)
        yield _table(columns)
        yield Text("\n").join(Text(text) for text in (sums(self.rows), *forecast(self.outlook)))


def _table(columns: Mapping[str, Sequence[Text]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for name, cells in columns.items():
        justify: Literal["left", "right"] = "right" if name in _NUMBERS else "left"
        least = max((cell.cell_len for cell in cells), default=0) if name in _NUMBERS else None
        table.add_column(name, justify=justify, no_wrap=name not in _PROSE, overflow="fold", min_width=least)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def sums(rows: Sequence[Row]) -> str:
    """Sum a plan up: ``2 BUILD, 1 BUILD unless what it needs comes out unchanged; about 2h 05m of work``."""
    if not rows:
        return "the plan is empty"
    counts = Counter(_action(row) for row in rows)
    unless = "unless what it needs comes out unchanged"
    words = {action: f"{action[:-1]} {unless}" if action.endswith("?") else action for action in counts}
    text = ", ".join(f"{count} {words[action]}" for action, count in sorted(counts.items()))
    seconds = sum(float(row.get("estimate") or 0) for row in rows)
    bound = "at most " if any(row.get("conditional") for row in rows) else ""
    return f"{text}; {bound}{about(seconds)} of work" if seconds else text


def forecast(outlook: Row | None) -> list[str]:
    """Say what carrying a plan out will take, and where that is known from; nothing if it builds nothing."""
    if outlook is None or not outlook["basis"]:
        return []
    took = f"{about(outlook['seconds'])} on {plural(outlook['jobs'], 'job')}"
    basis = "; ".join(f"{count} {name}" for name, count in sorted(outlook["basis"].items()))
    return [
        f"{took}, {size(outlook['memory'])} of memory, {size(outlook['disk'])} of disk",
        f"basis: {basis}",
    ]


def render_dot(rows: Sequence[Row]) -> str:
    """Return the plan as a Graphviz graph; arrows point from a component to what it needs."""
    nodes = sorted(rows, key=_identity)
    known = {_identity(row): row for row in nodes}
    lines = [
        "digraph plan {",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor="#ffffff", fontname="sans-serif"];',
        *(_node(row) for row in nodes),
        *(
            f"  {_quoted(_identity(row))} -> {_quoted(_resolved(need, row, known))};"
            for row in nodes
            for need in sorted(row.get("needs") or ())
        ),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _least_width(columns: Mapping[str, Sequence[Text]]) -> int:
    """Return the columns of a terminal that a table needs so that no word of it is broken."""
    widths = (max(len(name), *(_least(name, cell) for cell in cells), 0) for name, cells in columns.items())
    return sum(widths) + GAP * (len(columns) - 1)


def _least(name: str, cell: Text) -> int:
    return max(map(len, cell.plain.split()), default=0) if name in _PROSE else cell.cell_len


def _cell(row: Row, name: str) -> Text:
    from rich.text import Text

    value = row.get({"key": "fingerprint"}.get(name, name))
    if name == "action":
        return Text(_action(row), style=_STYLES.get(str(value).lower(), ""))
    if name == "estimate":
        return Text(duration(float(value)) if value else "")
    if name in ("memory", "disk"):
        return Text(size(value) if value else "")
    if name == "key":
        return Text(str(value or "")[:KEY_LENGTH], style="dim")
    if name == "needs":
        return Text(" ".join(value or ()))
    return Text(str(value or ""), style="bold" if name == "component" else "")


def _action(row: Row) -> str:
    """Return the action, with a question mark if what the needs come to decides about it."""
    return f"{row['action']}?" if row.get("conditional") else str(row["action"])


def _identity(row: Row) -> str:
    machine = row.get("machine")
    return f"{row['component']}:{machine}" if machine else str(row["component"])


def _resolved(need: str, row: Row, known: Mapping[str, Row]) -> str:
    """Return the node a need means: itself, the one on the same machine, or the component on another."""
    same = f"{need}:{row.get('machine')}"
    others = [name for name, other in known.items() if other["component"] == need]
    return next((name for name in (need, same, *others) if name in known), need)


def _node(row: Row) -> str:
    action = str(row["action"])
    label = "\n".join(str(part) for part in (row["component"], row.get("version"), _action(row)) if part)
    fill = _FILLS.get(action.lower(), "#ffffff")
    return f"  {_quoted(_identity(row))} [label={_quoted(label)}, fillcolor={_quoted(fill)}];"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n")
    return f'"{escaped}"'
