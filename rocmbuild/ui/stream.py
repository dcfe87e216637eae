"""What a stream can do: tell a terminal from a file, and never fail at a character it cannot write."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO


def is_terminal(stream: IO[str]) -> bool:
    """Tell whether a stream is a terminal; a closed one is not."""
    try:
        return stream.isatty()
    except ValueError:
        return False


def can_draw(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Tell whether a stream is a terminal that can move its cursor, by its TERM."""
    return is_terminal(stream) and environ.get("TERM", "") not in {"", "dumb", "unknown"}


def tolerate(stream: IO[str]) -> None:
    """Make a stream write what its encoding lacks as ``\\u…`` escapes, for a file name may hold anything."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
