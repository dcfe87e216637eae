"""Waiting without holding up the event loop: lock files, and work that runs in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_POLL = 0.1
"""Seconds between two looks at a lock that another run holds."""


@contextlib.asynccontextmanager
async def held(path: Path, notify: Callable[[str], None] | None = None) -> AsyncIterator[int]:
    """Hold a lock file against other tasks and other runs; yield its descriptor.

    A program that inherits the descriptor keeps the lock until it ends, also if this process is
    killed: nobody tidies up a directory that an orphan still writes to. ``notify`` is told once,
    in words, that there is something to wait for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        if not _lock(lock):
            if notify is not None:
                notify(f"waiting for another run that uses {path.with_suffix('')}")
            while not _lock(lock):  # noqa: ASYNC110 - a lock file has no event to wait for
                await asyncio.sleep(_POLL)
        yield lock.fileno()


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a thread; a cancelled wait ends only with it, so that it never writes behind our back."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
