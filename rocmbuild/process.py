"""The one place that starts programs: argv lists, a given environment, a session of their own.

A cancelled wait stops the program with all it started: SIGTERM first (so that Ninja gives its jobserver
tokens back), SIGKILL after a grace period.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import signal
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rocmbuild import procfs
from rocmbuild.errors import RocmBuildError

BASE_ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}
"""What every program gets unless its caller says otherwise; nothing is inherited."""

GRACE = 8.0
"""Seconds between SIGTERM and SIGKILL."""

LINGER = 5.0
"""Seconds that what a program left running may go on writing to its output."""

_POLL = 0.02

_RARELY = 0.25
"""Seconds between two looks where nobody waits for the answer: fifty a second for each program add up."""

_NETWORK = ("HOME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_SECRET = re.compile(r"//[^/@\s]+@")
"""User and password in an address, which must not get into a log."""

_NETWORK_PREFIXES = ("GIT_", "PIP_")


class ProcessError(RocmBuildError):
    """Report a program that could not be started or ended with a failure; ``tail`` are its last lines."""

    def __init__(self, argv: Sequence[str], returncode: int | None, tail: Sequence[str], log: Path | None) -> None:
        self.argv = tuple(argv)
        self.returncode = returncode
        self.tail = tuple(tail)
        super().__init__(
            f"{Path(argv[0]).name} {describe_exit(returncode)}: {shlex.join(argv)[:300]}",
            log=str(log) if log else None,
            hint="\n".join(self.tail[-5:]) or None,
        )


def describe_exit(returncode: int | None) -> str:
    """Say in words how a program ended; negative values are signals, None means it did not start."""
    if returncode is None:
        return "could not be started"
    if returncode < 0:
        names = {number.value: number.name for number in signal.Signals}  # real-time signals have none
        return f"was killed by {names.get(-returncode, f'signal {-returncode}')}"
    return f"exited with status {returncode}"


def network_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the user's environment that programs reaching the network need.

    Proxies, certificates, ssh agent, and HOME, where git keeps the user's ``insteadOf`` rules.
    """
    kept = {
        key: value
        for key, value in environ.items()
        if key in _NETWORK or key.startswith(_NETWORK_PREFIXES) or key.lower().endswith("_proxy")
    }
    return {**BASE_ENVIRONMENT, **kept}


@dataclass
class Runner:
    """Start programs, write what they print to ``log``, and hand each line to ``on_line``."""

    log: Path | None = None
    on_line: Callable[[str], None] | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    inherit: tuple[int, ...] = ()
    """descriptors of locks: a program that outlives a killed run keeps what it works in locked"""
    on_start: Callable[[int], None] | None = None
    """told the id of each program, which is that of its session and process group too"""
    on_end: Callable[[int], None] | None = None
    """told the same id when the program is gone and all it left in its group"""

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] = BASE_ENVIRONMENT,
        cwd: Path | None = None,
        check: bool = True,
        stdin: bytes | None = None,
        fds: Sequence[int] = (),
    ) -> int:
        """Run a program, both outputs going to the log; return its status or raise ProcessError."""
        status, _ = await self._execute(argv, env, cwd, stdin, fds, capture=False)
        if check and status != 0:
            raise ProcessError(argv, status, tuple(self.tail), self.log)
        return status

    async def capture(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] = BASE_ENVIRONMENT,
        cwd: Path | None = None,
        check: bool = True,
        stdin: bytes | None = None,
    ) -> bytes:
        """Run a program and return its standard output; only its standard error goes to the log."""
        status, output = await self._execute(argv, env, cwd, stdin, (), capture=True)
        if check and status != 0:
            raise ProcessError(argv, status, tuple(self.tail), self.log)
        return output

    async def _execute(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | None,
        stdin: bytes | None,
        fds: Sequence[int],
        *,
        capture: bool,
    ) -> tuple[int, bytes]:
        log = self._open_log(argv, env, cwd)
        try:
            try:
                process = await _started(
                    asyncio.create_subprocess_exec(
                        *argv,
                        cwd=cwd,
                        env=dict(env),
                        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
                        stdout=asyncio.subprocess.PIPE,
                        stderr=asyncio.subprocess.PIPE if capture else asyncio.subprocess.STDOUT,
                        start_new_session=True,
                        umask=0o022,
                        pass_fds=(*self.inherit, *fds),
                        limit=1 << 22,
                    )
                )
            except OSError as error:
                raise ProcessError(argv, None, [f"{error.filename or argv[0]}: {error.strerror}"], self.log) from error
            with self._announced(process.pid):
                output = await self._supervise(process, stdin, log, capture=capture)
            return process.returncode or 0, output
        finally:
            if log is not None:
                log.close()

    @contextlib.contextmanager
    def _announced(self, pid: int) -> Iterator[None]:
        if self.on_start is not None:
            self.on_start(pid)
        try:
            yield
        finally:
            if self.on_end is not None:
                self.on_end(pid)

    async def _supervise(
        self, process: asyncio.subprocess.Process, stdin: bytes | None, log: IO[bytes] | None, *, capture: bool
    ) -> bytes:
        assert process.stdout is not None
        try:
            lines = process.stderr if capture else process.stdout
            assert lines is not None
            reading = [self._follow(lines, log)]
            collected = bytearray()
            if capture:
                reading.append(_collect(process.stdout, collected))
            if stdin is not None:
                reading.append(_feed(process, stdin))
            await _all_read(process, asyncio.gather(*reading))
            await _ended(process)
            return bytes(collected)
        finally:
            await stop(process)

    async def _follow(self, stream: asyncio.StreamReader, log: IO[bytes] | None) -> None:
        while raw := await _read_line(stream):
            if log is not None:
                log.write(raw)
                log.flush()
            line = raw.decode("utf-8", "replace").rstrip()
            self.tail.append(line)
            if self.on_line is not None:
                self.on_line(line)

    def _open_log(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None) -> IO[bytes] | None:
        """Open the log for appending and note how to repeat the command by hand."""
        if self.log is None:
            return None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        log = self.log.open("ab")
        changed = ((key, value) for key, value in env.items() if BASE_ENVIRONMENT.get(key) != value)
        difference = [f"{key}={shlex.quote(_SECRET.sub('//***@', value))}" for key, value in changed]
        place = f"cd {shlex.quote(str(cwd))} && " if cwd else ""
        log.write(f"$ {place}{' '.join([*difference, shlex.join(argv)])}\n".encode("utf-8", "surrogateescape"))
        log.flush()
        return log


async def _started(starting: Coroutine[Any, Any, asyncio.subprocess.Process]) -> asyncio.subprocess.Process:
    """Wait for a program's start; cancelled, end the program that is on its way, with all it has started."""
    start = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(start)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await stop(await start)
        raise


async def stop(process: asyncio.subprocess.Process) -> None:
    """End a process and all it started: SIGTERM, a grace period, SIGKILL; also what it left behind in its session."""
    sessions = {process.pid}
    if process.returncode is None:
        sessions |= _ask(process.pid)
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(_ended(process), GRACE)
    for _ in range(50):  # a killed process is gone only after its last system call
        if not _kill(process, sessions):
            break
        await asyncio.sleep(_POLL)
    await _ended(process)
    process._transport.close()  # type: ignore[attr-defined]  # our ends of the pipes, whoever holds the others
    await asyncio.sleep(0)


def _ask(pid: int) -> set[int]:
    """Send SIGTERM to a program and to the sessions below it, and let go on what is stopped; return the sessions.

    Not to bubblewrap itself: it would end at once, and the kernel with it all that is in its process namespace,
    before a Ninja there could give its tokens back.
    """
    family = procfs.family(pid)
    sessions = {one.session for one in family} - {pid}
    sandbox = any(one.pid == pid and one.name == "bwrap" for one in family)
    for group in sessions if sandbox and sessions else {pid, *sessions}:
        procfs.send_group(group, signal.SIGTERM)
    procfs.send((one.pid for one in family), signal.SIGCONT)
    return sessions


def _kill(process: asyncio.subprocess.Process, sessions: set[int]) -> bool:
    """Kill what is left of a program; return whether there was anything.

    One that ended well left at most something in its group. Ninja gives each job a group of its own, in its session.
    """
    found = procfs.send_group(process.pid, signal.SIGKILL)
    if not found and process.returncode == 0 and len(sessions) == 1:
        return False
    # one that has ended is in its group until its parent asks for it: in a container that may take a while
    ours = (one for one in procfs.processes() if one.session in sessions or one.group == process.pid)
    left = [one.pid for one in ours if one.state != "Z"]
    procfs.send(left, signal.SIGKILL)
    return bool(left)


async def _ended(process: asyncio.subprocess.Process, poll: float = _POLL) -> None:
    """Wait for the program itself; its ``wait`` also waits until nobody holds its output open (before Python 3.13)."""
    while process.returncode is None:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(poll)


async def _all_read(process: asyncio.subprocess.Process, reading: asyncio.Future[list[None]]) -> None:
    """Wait for the end of the output, but not for what a program that has ended left running."""
    leftovers = asyncio.ensure_future(_end_leftovers(process))
    both: set[asyncio.Future[Any]] = {reading, leftovers}
    reading.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # cancelled, nobody asks for it
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            await reading
    finally:
        reading.cancel()
        leftovers.cancel()


async def _end_leftovers(process: asyncio.subprocess.Process) -> None:
    await _ended(process, _RARELY)
    await asyncio.sleep(LINGER)
    procfs.send_group(process.pid, signal.SIGKILL)
    await asyncio.sleep(2 * _POLL)  # for the end of the output to arrive


async def _read_line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.read(error.consumed)


async def _collect(stream: asyncio.StreamReader, into: bytearray) -> None:
    while chunk := await stream.read(1 << 16):
        into += chunk


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return  # the program ended without reading all of it; its status says the rest
    finally:
        process.stdin.close()
