"""Run programs and watch them through /proc: wall and CPU seconds, compilers and memory at one instant."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

INTERVAL = 0.2
"""Seconds between two looks at /proc; one look costs some milliseconds of a CPU."""

COMPILER = re.compile(
    r"(?:x86_64-linux-gn|aarch64-linux-g|riscv64-linux-g)|"
    r"(?:cc1|cc1plus|lto1|as|collect2|cc|c\+\+|gcc|g\+\+|clang|clang\+\+|ld|lld|ld\.\w+|gold|opt|llc|llvm-link)(?:-\d+)?$"
)
"""Names (the kernel's, 15 characters) of programs that compile, assemble or link."""

_PR_SET_CHILD_SUBREAPER = 36
_PAGE = os.sysconf("SC_PAGE_SIZE")


class BenchmarkError(Exception):
    """Report what keeps a benchmark from being measured; printed without a traceback, exit code 1."""


@dataclass(frozen=True)
class Process:
    """One line of /proc/PID/stat; ``memory`` is resident bytes, ``started`` tells one user of a pid from the next."""

    pid: int
    parent: int
    name: str
    state: str
    started: int
    memory: int


def read_process(pid: int) -> Process | None:
    """Return a process, None if it has gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - hundreds a second
            text = file.read()
    except OSError:
        return None
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    return Process(pid, int(fields[1]), name, fields[0], int(fields[19]), int(fields[21]) * _PAGE)


def processes() -> list[Process]:
    """Return all processes that live, zombies left out."""
    names = os.listdir("/proc")  # noqa: PTH208 - five times as fast as pathlib
    found = (read_process(int(name)) for name in names if name.isdecimal())
    return [process for process in found if process is not None and process.state not in "ZX"]


def below(pid: int, everything: Iterable[Process]) -> list[Process]:
    """Return the descendants of ``pid``, in pid namespaces too; orphans count where they were adopted."""
    children: dict[int, list[Process]] = {}
    for process in everything:
        children.setdefault(process.parent, []).append(process)
    found, left = [], [pid]
    while left:
        for child in children.get(left.pop(), ()):
            found.append(child)
            left.append(child.pid)
    return found


def compilers(tree: Iterable[Process]) -> list[Process]:
    """Return the processes that compile: a driver that waits for the compiler it has started is not one."""
    found = [process for process in tree if COMPILER.match(process.name)]
    waiting = {process.parent for process in found}
    return [process for process in found if process.pid not in waiting]


@dataclass
class Sampler:
    """Look at the descendants of ``pid`` until told to stop; what counts is the most at one instant."""

    pid: int
    interval: float = INTERVAL
    compilers: int = 0
    memory: int = 0
    processes: int = 0
    counts: list[int] = field(default_factory=list)
    """compilers in each sample"""

    def look(self) -> None:
        """Take one sample.

        A compiler that ended while /proc was read does not count: those counted were all alive at one instant.
        """
        tree = below(self.pid, processes())
        seen = compilers(tree)
        count = len(seen)
        if count > self.compilers:
            count = sum(1 for process in seen if is_same(read_process(process.pid), process))
        self.counts.append(count)
        self.compilers = max(self.compilers, count)
        self.memory = max(self.memory, sum(process.memory for process in tree))
        self.processes = max(self.processes, len(tree))

    @contextlib.contextmanager
    def sampling(self) -> Iterator[Sampler]:
        """Sample in a thread of its own."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(self.interval):
                self.look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()


def is_same(now: Process | None, then: Process) -> bool:
    """Tell whether a process that was seen before still lives; another one may have got its pid."""
    return now is not None and now.state not in "ZX" and now.started == then.started


@dataclass(frozen=True)
class Usage:
    """What a program took: wall and CPU seconds of it and all its descendants, and the most at one instant.

    ``memory`` is the sum of resident sizes in bytes, so pages that processes share count for each of them.
    """

    seconds: float
    cpu: float
    compilers: int = 0
    memory: int = 0
    processes: int = 0


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    interval: float | None = INTERVAL,
) -> Usage:
    """Run a program to its end and return what it took; ``interval`` None: do not look at /proc.

    Raises BenchmarkError with the end of its output if it fails.
    """
    place = log or Path(os.devnull)
    with adopting(), place.open("wb") as output:
        before, begun = _children_cpu(), time.monotonic()
        program = subprocess.Popen(
            argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        sampler = Sampler(os.getpid(), interval or INTERVAL)
        try:
            with sampler.sampling() if interval else contextlib.nullcontext():
                status = program.wait()
        except BaseException:
            _stop(program)
            raise
        seconds = time.monotonic() - begun
        _reap()
        cpu = _children_cpu() - before
    if status != 0:
        raise BenchmarkError(f"{' '.join(argv[:4])} … exited with status {status}{_end_of(log)}")
    return Usage(seconds, cpu, sampler.compilers, sampler.memory, sampler.processes)


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Become the parent of descendants whose parent ends before them.

    bubblewrap does not wait for the first process of its pid namespace. The CPU time of all that ran there counts for
    who does, and that is this process then.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _reap(patience: float = 20.0) -> None:
    """Wait for those that were adopted; they end with what started them, or a moment later."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(0.01)


def _stop(program: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(15)
            return


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _end_of(log: Path | None) -> str:
    if log is None:
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
    return "\n".join([f"; the end of {log}:", *lines])
