"""Count tokens: real Ninjas with real compilers on rocmbuild's jobserver.

- cap: several Ninjas at once, under jobservers of several sizes. The most compilers at one instant has to be the size,
  and the mean says how much of it was used.
- withhold: two Ninjas run when tokens are withheld, as they are when memory gets scarce: each goes on with the one
  compiler that its own token stands for. Given back, they have to be as many as before.
- kill: one of two Ninjas is killed with SIGKILL. Its tokens are lost, since a fifo does not know who took them, and
  have to be there again when nobody computes any more. Its compilers are counted too: without a sandbox, as here,
  they end by themselves; in one they end with the first process of their namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import Report, program, say
from watching import (
    INTERVAL,
    BenchmarkError,
    Process,
    Sampler,
    adopting,
    below,
    compilers,
    is_same,
    processes,
    read_process,
)

from rocmbuild.process import BASE_ENVIRONMENT, ProcessError, Runner
from rocmbuild.run.resources import Jobserver
from rocmbuild.tools.cmake import find_build_tools

SOURCE = """#include <functional>
#include <map>
#include <string>
std::map<std::string, std::function<int(int)>> table{number}(const std::string& text) {{
    std::map<std::string, std::function<int(int)>> found;
    for (char letter : text) found[std::string(1, letter)] = [letter](int more) {{ return letter + more; }};
    return found;
}}
"""
"""What takes a compiler about half a second."""

ENOUGH = 14
"""Files of each of two projects that last while tokens are withheld and given back."""

RULES = """rule cxx
  command = {compiler} -O1 -c $in -o $out
  description = $out
"""


def options(parser: argparse.ArgumentParser) -> None:
    cpus = len(os.sched_getaffinity(0))
    parser.add_argument("--sizes", type=_numbers, default=[1, cpus, cpus + 1], metavar="N,N,...", help="tokens")
    parser.add_argument("--ninjas", type=int, default=3, help="Ninjas at once")
    parser.add_argument("--files", type=int, default=10, help="files that each of them compiles")
    parser.add_argument("--kills", type=int, default=5, help="Ninjas to kill")
    parser.add_argument("--seed", type=int, default=1, help="of the moments when they are killed")
    parser.add_argument("--compiler", default="g++", help="a C++ compiler")


def measure(options: argparse.Namespace, report: Report) -> None:
    """Run the projects under jobservers."""
    if shutil.which(options.compiler) is None:
        raise BenchmarkError(f"there is no {options.compiler}; --compiler names another one")
    bench = Bench(options.compiler, options.files, options.ninjas)
    for size in options.sizes:
        say(f"{options.ninjas} Ninjas, {size} tokens")
        cap(bench, size, report)
    say("tokens withheld")
    withhold(bench, report)
    if options.kills:
        kill(bench, options.kills, random.Random(options.seed), report)


@dataclass(frozen=True)
class Bench:
    """Projects to build: ``ninjas`` of them with ``files`` files each."""

    compiler: str
    files: int
    ninjas: int

    @contextlib.contextmanager
    def projects(self) -> Iterator[list[Path]]:
        """Write the projects; they are removed at the end."""
        with tempfile.TemporaryDirectory(prefix="tokens-") as directory:
            yield [self._project(Path(directory, f"project{number}")) for number in range(self.ninjas)]

    def _project(self, directory: Path) -> Path:
        directory.mkdir()
        lines = [RULES.format(compiler=self.compiler)]
        for number in range(self.files):
            (directory / f"{number}.cpp").write_text(SOURCE.format(number=number))
            lines.append(f"build {number}.o: cxx {number}.cpp\n")
        (directory / "build.ninja").write_text("".join(lines))
        return directory


def cap(bench: Bench, size: int, report: Report) -> None:
    """Build all projects at once with ``size`` tokens and say how many compilers there were."""
    begun = time.monotonic()
    with bench.projects() as projects:
        sampler = Sampler(os.getpid(), INTERVAL / 4)
        with sampler.sampling():
            left = asyncio.run(_build_all(size, projects))
    name = f"{size} tokens, {bench.ninjas} Ninjas"
    report.add(f"{name}: time", time.monotonic() - begun, "s")
    report.add(f"{name}: most compilers at once", sampler.compilers, "")
    report.add(f"{name}: compilers on average", statistics.fmean(sampler.counts or [0]), "")
    report.add(f"{name}: tokens afterwards", left, "")


async def _build_all(size: int, projects: Sequence[Path]) -> int:
    with jobserver(size) as server:
        await asyncio.gather(*(ninja(server, project) for project in projects))
        return free(server)


def withhold(bench: Bench, report: Report) -> None:
    """Withhold tokens while two Ninjas run, and give them back."""
    size = 4
    with replace(bench, files=max(bench.files, ENOUGH)).projects() as projects:
        before, meanwhile, after, left = asyncio.run(_withhold(size, projects[:2]))
    name = f"{size} tokens, 2 Ninjas"
    report.add(f"{name}: compilers before some are withheld", before, "")
    report.add(f"{name}: compilers while they are withheld", meanwhile, "")
    report.add(f"{name}: compilers after they were given back", after, "")
    report.add(f"{name}: tokens afterwards", left, "")


async def _withhold(size: int, projects: Sequence[Path]) -> tuple[int, int, int, int]:
    with jobserver(size) as server:
        building = asyncio.gather(*(ninja(server, project) for project in projects))
        before = await _most(1.0)
        server.narrow(projects)
        await _ended(compilers(below(os.getpid(), processes())))  # nobody takes a token from those that run
        meanwhile = await _most(0.5)
        server.widen(projects)
        after = await _most(1.0)
        await building
        return before, meanwhile, after, free(server)


async def _ended(running: Sequence[Process], patience: float = 30.0) -> None:
    """Wait until some processes have ended."""
    until = time.monotonic() + patience
    while time.monotonic() < until and any(  # noqa: ASYNC110 - there is no event for it
        is_same(read_process(process.pid), process) for process in running
    ):
        await asyncio.sleep(INTERVAL / 4)


async def _most(seconds: float) -> int:
    """Return the most compilers at one instant within some seconds from now."""
    sampler = Sampler(os.getpid(), INTERVAL / 4)
    with sampler.sampling():
        await asyncio.sleep(seconds)
    return sampler.compilers


def kill(bench: Bench, kills: int, moments: random.Random, report: Report) -> None:
    """Kill one of two Ninjas again and again, and count tokens and what lives on."""
    size = 4
    found = []
    for number in range(kills):
        say(f"killing Ninja {number + 1} of {kills}")
        with bench.projects() as projects, adopting():
            found.append(asyncio.run(_kill_one(size, projects[:2], moments.uniform(0.4, 1.2))))
    report.add(f"Ninja killed, {size} tokens: lost while others compute", [it.lost for it in found], "")
    report.add(f"Ninja killed, {size} tokens: there afterwards", [it.afterwards for it in found], "")
    report.add("Ninja killed: its compilers still there a moment later", [it.orphans for it in found], "")


@dataclass(frozen=True)
class Killed:
    """Tokens lost and found again after a Ninja was killed, and its compilers that lived on."""

    lost: int
    afterwards: int
    orphans: int


async def _kill_one(size: int, projects: Sequence[Path], after: float) -> Killed:
    with jobserver(size) as server:
        async with server.token(0):  # as long as this is held nothing is put back
            building = [asyncio.ensure_future(ninja(server, project)) for project in projects]
            await asyncio.sleep(after)
            victim = ninja_in(projects[0])
            if victim is not None:
                os.kill(victim, signal.SIGKILL)
            with contextlib.suppress(ProcessError):
                await building[0]
            orphans = sum(1 for process in compilers(below(os.getpid(), processes())) if _in(process.pid, projects[0]))
            await building[1]
            lost = size - 1 - free(server)
        return Killed(lost, free(server), orphans)


async def ninja(server: Jobserver, project: Path) -> None:
    """Build a project as a step of rocmbuild does: a token of its own first, then Ninja as a client."""
    environment = {**BASE_ENVIRONMENT, "MAKEFLAGS": f"{server.makeflags}{server.path}"}
    async with server.token(0):
        await Runner().run([str(find_build_tools().ninja), "-C", str(project)], env=environment, cwd=project)


@contextlib.contextmanager
def jobserver(size: int) -> Iterator[Jobserver]:
    """Open a jobserver in a directory that is removed at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="tokens-") as directory,
        Jobserver(Path(directory, "fifo"), size).open() as it,
    ):
        yield it


def free(server: Jobserver) -> int:
    """Return the tokens in the fifo, without taking any."""
    descriptor = os.open(server.path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        waiting = fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0")
    finally:
        os.close(descriptor)
    return int.from_bytes(waiting, sys.byteorder)


def ninja_in(project: Path) -> int | None:
    """Return the pid of the Ninja that works in a project, None if it has ended."""
    ours = (process for process in below(os.getpid(), processes()) if process.name == "ninja")
    return next((process.pid for process in ours if _in(process.pid, project)), None)


def _in(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory and read_process(pid) is not None
    except OSError:
        return False


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    sys.exit(program("tokens", __doc__, measure, options))
