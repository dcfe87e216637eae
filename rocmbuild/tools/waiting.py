"""Waiting without holding up the event loop: lock files, and work that runs in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_POLL = 0.1
"""Seconds between two looks at a lock that another run holds."""

_SPEND: ContextVar[Callable[[float], None] | None] = ContextVar("spend", default=None)
"""What is told the CPU seconds of a thread's work; asyncio hands it on to all that a task starts."""


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


@contextlib.contextmanager
def spending(spend: Callable[[float], None]) -> Iterator[None]:
    """Have ``spend`` told the CPU seconds of all that runs in threads for what is done within."""
    token = _SPEND.set(spend)
    try:
        yield
    finally:
        _SPEND.reset(token)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a thread; a cancelled wait ends only with it, so that it never writes behind our back."""
    spent = 0.0

    def timed() -> T:
        nonlocal spent
        begun = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent = time.thread_time() - begun

    work = asyncio.ensure_future(asyncio.to_thread(timed))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise
    finally:
        spend = _SPEND.get()
        if spend is not None:
            spend(spent)


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
