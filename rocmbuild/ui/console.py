"""Consoles that write whole paths, in any encoding, on terminals and into files."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import IO

from rich.console import Console, RenderableType
from rich.text import Text

from rocmbuild.ui.lines import Line
from rocmbuild.ui.stream import is_terminal, tolerate

_UNBOUNDED = 10_000


def make_console(stream: IO[str], *, force_terminal: bool | None = None) -> Console:
    """Return a console that colors only terminals and writes what the encoding lacks as ``\\u…`` escapes."""
    tolerate(stream)
    terminal = is_terminal(stream) if force_terminal is None else force_terminal
    return Console(file=stream, force_terminal=terminal, highlight=False, markup=False, emoji=False)


def wrap_width(console: Console) -> int | None:
    """Return the width to wrap prose at, None where lines may be of any length."""
    return console.width if console.is_terminal else None


def text_of(styled: Line) -> Text:
    """Return a line as rich text that is never wrapped or cut."""
    return Text.assemble(*styled, no_wrap=True, overflow="ignore", end="")


def print_lines(console: Console, lines: Iterable[Line]) -> None:
    """Print lines at once; long ones are left to the terminal, so that they can be copied whole."""
    texts = [text_of(styled) for styled in lines]
    if texts:
        console.print(Text("\n").join(texts), soft_wrap=True)


def to_text(renderable: RenderableType) -> str:
    """Return a table as plain text of its natural width, without spaces at the ends of lines."""
    file = io.StringIO()
    console = Console(file=file, width=_UNBOUNDED, color_system=None, force_terminal=False, markup=False)
    console.print(renderable)
    return "".join(f"{row.rstrip()}\n" for row in file.getvalue().splitlines())


def show(console: Console, renderable: RenderableType) -> None:
    """Print a table: fitted to a terminal, in its natural width into anything else."""
    if console.is_terminal:
        console.print(renderable)
    else:
        console.file.write(to_text(renderable))
        console.file.flush()
