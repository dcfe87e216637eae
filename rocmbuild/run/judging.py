"""Judge what a command of a check did, and say what was expected and what was seen."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from rocmbuild.model.recipe import CheckStep
from rocmbuild.model.template import substitute
from rocmbuild.process import describe_exit

SHOWN = 12
"""Lines of output, or files, that a failure repeats."""


def expected(step: CheckStep, values: Mapping[str, str], name: str) -> str | None:
    """Return the regular expression of a step; the value of a placeholder in it stands for itself."""
    literal = {key: re.escape(value) for key, value in values.items()}
    return substitute(step.expect, literal, name) if step.expect is not None else None


def judge(exit_: int, pattern: str | None, status: int, lines: Sequence[str]) -> str | None:
    """Return what was expected of a command and what was seen instead, None if it did right."""
    seen = f"; its last lines: {joined(lines[-SHOWN:])}" if lines else "; it printed nothing"
    if status != exit_:
        return f"must exit with status {exit_}, {_exit(status)}{seen}"
    if pattern is not None and not re.search(pattern, "\n".join(lines), re.MULTILINE):
        return f"must print something that matches {pattern}{seen}"
    return None


def _exit(status: int) -> str:
    """Describe an exit status; bubblewrap reports a signal as 128 and its number, like a shell."""
    known = status > 128 and status - 128 in {item.value for item in signal.Signals}
    return describe_exit(128 - status if known else status)


def difference(found: frozenset[str], asked: Sequence[str]) -> str | None:
    """Return how the GPU targets that were found differ from those asked for, None if they do not."""
    missing, extra = sorted(set(asked) - found), sorted(found - set(asked))
    if not missing and not extra:
        return None
    parts = [f"code for {', '.join(sorted(asked))} was asked for"]
    parts += [f"there is none for {', '.join(missing)}"] if missing else []
    parts += [f"there is some for {', '.join(extra)}, which was not asked for"] if extra else []
    return "; ".join(parts)


def joined(lines: Sequence[str]) -> str:
    """Return lines as one, the first of them if they are many."""
    shown = " | ".join(lines[:SHOWN])
    return f"{shown} | and {len(lines) - SHOWN} more" if len(lines) > SHOWN else shown


def shortened(argv: Sequence[str]) -> str:
    """Return a command line by the name of its program, cut to a table's width."""
    text = shlex.join([Path(argv[0]).name, *argv[1:]])
    return text if len(text) <= 80 else f"{text[:79]}…"
