"""Observers of a run: live board, plain lines, JSON lines, summary. Nothing below imports them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Literal

from rocmbuild.events import Emit
from rocmbuild.ui.reactor import Reactor
from rocmbuild.ui.stream import can_draw, tolerate

Mode = Literal["auto", "plain", "board"]

__all__ = ["Mode", "Reactor", "make_observer"]


def make_observer(
    mode: Mode = "auto", verbosity: int = 0, events_file: Path | None = None, stream: IO[str] | None = None
) -> Reactor:
    """Return the observers of a run as one: board or lines on ``stream``, JSON lines in ``events_file``.

    ``auto`` takes the board on a terminal that can move its cursor. UsageError if the file cannot be written.
    """
    observers: list[Emit] = []
    if events_file is not None:
        from rocmbuild.ui.jsonl import JsonLines

        observers.append(JsonLines(events_file))
    if stream is not None:
        board = mode == "board" or (mode == "auto" and can_draw(stream, os.environ))
        observers.append(_board(stream, verbosity, forced=mode == "board") if board else _plain(stream, verbosity))
    return Reactor(*observers)


def _board(stream: IO[str], verbosity: int, *, forced: bool) -> Emit:
    from rocmbuild.ui.board import Board
    from rocmbuild.ui.console import make_console

    return Board(make_console(stream, force_terminal=True if forced else None), verbosity=verbosity)


def _plain(stream: IO[str], verbosity: int) -> Emit:
    from rocmbuild.ui.format import marks_for
    from rocmbuild.ui.plain import PlainLines

    tolerate(stream)
    return PlainLines(stream, verbosity=verbosity, marks=marks_for(getattr(stream, "encoding", None)))
