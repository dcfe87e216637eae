"""What jobs share: CPU tokens (a GNU make jobserver that Ninja joins), memory, downloads."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

DOWNLOADS = 4
"""Sources fetched at once; they wait for the network, not for a CPU."""


@dataclass
class Jobserver:
    """A fifo with one byte per CPU; every program that computes holds one token.

    A component's own step takes one token from here before it starts and gives it back at its end; that is the
    slot that Ninja counts as its own. For more compilers Ninja takes tokens out of the fifo itself, so the sum
    over all components never exceeds ``size``.

    While somebody narrows it, tokens that are free are withheld: who has one goes on, and nobody gets another one.
    """

    path: Path
    size: int
    _descriptor: int = field(default=-1, init=False)
    _waiting: list[tuple[float, int, asyncio.Future[None]]] = field(default_factory=list, init=False)
    _count: Iterator[int] = field(default_factory=itertools.count, init=False)
    _held: int = field(default=0, init=False)
    _withheld: int = field(default=0, init=False)
    _narrowing: set[int] = field(default_factory=set, init=False)

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

    def narrow(self, who: object) -> None:
        """Withhold what is free, now and later, until ``who`` widens it again."""
        self._narrowing.add(id(who))
        self._serve()

    def widen(self, who: object) -> None:
        """Give back what is withheld for ``who``, and for nobody else."""
        self._narrowing.discard(id(who))
        if not self._narrowing and self._withheld:
            os.write(self._descriptor, b"+" * self._withheld)
            self._withheld = 0
            self._serve()

    @property
    def _closed(self) -> bool:
        return bool(self._narrowing) and self._held > 0  # if nobody works, somebody has to begin

    async def _acquire(self, priority: float) -> None:
        if not self._waiting and not self._closed and self._take():
            self._serve()
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (-priority, next(self._count), future))
        self._serve()
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
        """Give tokens that are free to those who wait, or withhold them; called when the fifo is readable."""
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        while self._waiting and not self._closed and self._take():
            _, _, future = heapq.heappop(self._waiting)
            if future.done():
                self._release()
            else:
                future.set_result(None)
        if self._closed:
            self._withhold()
        loop = asyncio.get_running_loop()
        if self._waiting or self._closed:
            loop.add_reader(self._descriptor, self._serve)
        else:
            loop.remove_reader(self._descriptor)

    def _withhold(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while taken := os.read(self._descriptor, 64):
                self._withheld += len(taken)

    def _release(self) -> None:
        self._held -= 1
        os.write(self._descriptor, b"+")
        if self._held == 0:
            self._refill()

    def _refill(self) -> None:
        """Put back what is withheld and what a killed Ninja took with it; nobody holds a token when this runs."""
        self._withhold()
        self._withheld = 0
        os.write(self._descriptor, b"+" * self.size)


@dataclass
class Memory:
    """A budget in bytes; a job reserves its peak before it starts. One that exceeds the budget runs alone.

    Nobody overtakes a job with a higher priority, not even with what would fit beside it: a large job would wait for
    ever.
    """

    budget: int
    _used: int = field(default=0, init=False)
    _waiting: list[tuple[float, int, int, asyncio.Future[None]]] = field(default_factory=list, init=False)
    _count: Iterator[int] = field(default_factory=itertools.count, init=False)

    @contextlib.asynccontextmanager
    async def reserve(self, size: int, priority: float = 0.0) -> AsyncIterator[None]:
        """Hold ``size`` bytes of the budget, waiting until they are free."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._count), size, future))
        self._admit()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._free(size)
            self._admit()
            raise
        try:
            yield
        finally:
            self._free(size)

    def _free(self, size: int) -> None:
        self._used -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            _, _, size, future = self._waiting[0]
            if not future.done():
                if self._used and self._used + size > self.budget:
                    return
                self._used += size
                future.set_result(None)
            heapq.heappop(self._waiting)


@dataclass
class Resources:
    """All that is shared by the tasks of one run."""

    jobserver: Jobserver
    memory: Memory
    downloads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(DOWNLOADS))
    locks: tuple[int, ...] = ()
    """descriptors that programs inherit: what outlives us keeps what it works in locked"""

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold all memory and one token, and let nobody have a further one: a Ninja runs one compiler at a time."""
        claim = object()
        async with self.memory.reserve(self.memory.budget, inf), self.jobserver.token(inf):
            self.jobserver.narrow(claim)
            try:
                yield
            finally:
                self.jobserver.widen(claim)
