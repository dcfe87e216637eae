"""What jobs share: CPU tokens (a GNU make jobserver that Ninja joins), memory, downloads."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

DOWNLOADS = 4
"""Sources fetched at once; they wait for the network, not for a CPU."""


@dataclass
class Jobserver:
    """A fifo with one byte per CPU; every program that computes holds one token.

    A component's own step takes one token from here before it starts and gives it back at its end; that is the
    slot that Ninja counts as its own. For more compilers Ninja takes tokens out of the fifo itself, so the sum
    over all components never exceeds ``size``.
    """

    path: Path
    size: int
    _descriptor: int = field(default=-1, init=False)
    _waiting: list[tuple[float, int, asyncio.Future[None]]] = field(default_factory=list, init=False)
    _count: Iterator[int] = field(default_factory=itertools.count, init=False)
    _held: int = field(default=0, init=False)

    @contextlib.contextmanager
    def open(self) -> Iterator[Jobserver]:
        """Make the fifo and fill it; remove it at the end."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        os.mkfifo(self.path, 0o600)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        try:
            os.write(self._descriptor, b"+" * self.size)
            yield self
        finally:
            os.close(self._descriptor)
            self.path.unlink(missing_ok=True)

    @property
    def makeflags(self) -> str:
        """Return the flags, but for the fifo's path, that make Ninja a client."""
        return f" -j{self.size} --jobserver-auth=fifo:"

    @contextlib.asynccontextmanager
    async def token(self, priority: float) -> AsyncIterator[None]:
        """Hold one token; those with the highest ``priority`` are served first."""
        await self._acquire(priority)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, priority: float) -> None:
        if not self._waiting and self._take():
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (-priority, next(self._count), future))
        loop.add_reader(self._descriptor, self._serve)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._release()
            self._serve()  # nobody may be left to wait for
            raise

    def _take(self) -> bool:
        try:
            taken = bool(os.read(self._descriptor, 1))
        except BlockingIOError:
            return False
        self._held += taken
        return taken

    def _serve(self) -> None:
        """Give tokens that are free to those who wait; called when the fifo is readable."""
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        while self._waiting and self._take():
            _, _, future = heapq.heappop(self._waiting)
            if future.done():
                self._release()
            else:
                future.set_result(None)
        if not self._waiting:
            asyncio.get_running_loop().remove_reader(self._descriptor)

    def _release(self) -> None:
        self._held -= 1
        os.write(self._descriptor, b"+")
        if self._held == 0:
            self._refill()

    def _refill(self) -> None:
        """Put back what a killed Ninja took with it; nobody holds a token when this runs."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._descriptor, 64):
                continue
        os.write(self._descriptor, b"+" * self.size)


@dataclass
class Memory:
    """A budget in bytes; a job reserves its peak before it starts. One that exceeds the budget runs alone."""

    budget: int
    _used: int = field(default=0, init=False)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition, init=False)

    @contextlib.asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Hold ``size`` bytes of the budget, waiting until they are free."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._used == 0 or self._used + size <= self.budget)
            self._used += size
        try:
            yield
        finally:
            self._used -= size
            async with self._changed:
                self._changed.notify_all()


@dataclass
class Resources:
    """All that is shared by the tasks of one run."""

    jobserver: Jobserver
    memory: Memory
    downloads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(DOWNLOADS))
