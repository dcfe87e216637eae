"""What a failed step says: its log, the command that repeats it, and whether room or memory was the cause."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

from rocmbuild.errors import OutOfMemory, RocmBuildError, refusal
from rocmbuild.process import ProcessError

LEAST_ROOM = 1 << 16
"""Bytes; a disk with less is full."""

LINES = 25
"""Lines of a log that are shown."""

_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


def complete(error: RocmBuildError, log: Path, rerun: str) -> tuple[str, ...]:
    """Add the log, the command that repeats the step, and a full disk as the cause; return the last lines."""
    error.log, error.rerun = error.log or str(log), error.rerun or rerun
    tail = error.tail if isinstance(error, ProcessError) else _tail(Path(error.log))
    full = refusal(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    if full is not None and _disk_is_full(Path(error.log), tail, full.message):
        prefix = "" if full.message in error.message else f"{full.message}: "
        error.message, error.hint = f"{prefix}{error.message}", full.hint
    return tuple(tail)[-LINES:]


def lacks_memory(error: RocmBuildError) -> bool:
    """Return whether a step failed because a program was ended by SIGKILL, which is what the kernel does then."""
    return isinstance(error, OutOfMemory) or (isinstance(error, ProcessError) and error.returncode in _KILLED)


def out_of_memory(error: RocmBuildError) -> OutOfMemory:
    """Return the same error as one for lack of memory."""
    return OutOfMemory(error.message, where=error.where, hint=error.hint, log=error.log, rerun=error.rerun)


def _tail(log: Path) -> tuple[str, ...]:
    try:
        return tuple(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:])
    except OSError:
        return ()


def _disk_is_full(log: Path, tail: Iterable[str], words: str) -> bool:
    """Return whether the lack of room is the cause of a failure, whatever program complained, and of what."""
    place = next(path for path in log.absolute().parents if path.is_dir())
    return any(words in line for line in tail) or shutil.disk_usage(place).free < LEAST_ROOM
