"""Durations, sizes and marks as every view of a run writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")


@dataclass(frozen=True)
class Marks:
    """The signs that a terminal's encoding allows."""

    done: str = "✔"
    failed: str = "✘"
    skipped: str = "-"
    kept: str = "="
    note: str = "•"
    dot: str = "·"
    ellipsis: str = "…"
    rule: str = "━"
    bar: str = "━"
    bar_rest: str = "╌"
    pipe: str = "│"


UNICODE = Marks()
ASCII = Marks(
    done="+", failed="x", skipped="-", note="*", dot="|", ellipsis="~", rule="=", bar="#", bar_rest=".", pipe="|"
)


def marks_for(encoding: str | None) -> Marks:
    """Return the marks that can be written in an encoding, ASCII if the encoding is unknown."""
    try:
        "".join(vars(UNICODE).values()).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def duration(seconds: float) -> str:
    """Write seconds as ``42s``, ``6m 12s`` or ``1h 03m``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}h {minutes % 60:02}m"


def about(seconds: float) -> str:
    """Write an estimate no more precisely than it is known: ``under a minute``, ``about 4 min``."""
    if seconds < 50:
        return "under a minute"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"about {minutes} min"
    return f"about {minutes // 60}h {minutes % 60:02}m"


def size(count: float) -> str:
    """Write bytes as ``512 B``, ``1.5 KiB`` or ``12.3 MiB``."""
    if count < 1024:
        return f"{int(count)} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1023.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def size_of(done: float, total: float) -> str:
    """Write a part of some bytes in the unit of the whole: ``30.0/40.0 MiB``."""
    number, unit = size(total).split()
    power = ("B", "KiB", "MiB", "GiB", "TiB").index(unit)
    part = done / 1024**power
    return f"{part:.1f}/{number} {unit}" if power else f"{int(done)}/{number} {unit}"


def plural(count: int, word: str) -> str:
    """Write a number with its word: ``1 task``, ``2 tasks``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def clean(line: str) -> str:
    """Return a program's output line without escape sequences, and as a terminal would leave it after ``\\r``."""
    visible = line.rstrip("\r\n").rsplit("\r", 1)[-1]
    return _CONTROLS.sub("", _ESCAPES.sub("", visible)).expandtabs(8)


def shorten(text: str, width: int, marks: Marks = UNICODE) -> str:
    """Cut text to ``width`` characters, the last of them telling that it was cut."""
    if len(text) <= width:
        return text
    return text[: max(0, width - 1)] + marks.ellipsis if width > 0 else ""
