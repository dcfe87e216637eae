"""One bare repository of the git cache: filled by commit, checked for damage, written out as plain files."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import quote, unquote

from rocmbuild.errors import FetchError, UsageError, nearest
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.waiting import held, in_thread

T = TypeVar("T")

_PINS = "refs/rocmbuild/commits/"
_REFS = "refs/rocmbuild/refs/"
_TIP = "refs/rocmbuild/tip"
_EVERYTHING = ("+refs/heads/*:refs/rocmbuild/heads/*", "+refs/tags/*:refs/rocmbuild/tags/*")

_OPTIONS = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.symlinks": "true",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",  # nothing goes on behind our back
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",  # a server that hangs ends the request
    "maintenance.auto": "false",
    "pack.threads": "1",  # fetching holds no CPU token
}

_EXACT = "* -text -ident -filter !working-tree-encoding\n"
"""Attributes that win over those in the tree: files come out as they were committed, byte by byte."""

_DAMAGE = re.compile(
    r"unable to read|corrupt|inflate|packfile|bad object|invalid object|loose object|missing|not a tree|not a valid"
)


class DamagedCache(FetchError):
    """Report a cached repository that lacks objects it should have."""


def git(repository: Path | None = None) -> list[str]:
    """Return the start of a git command line, with options that keep the user's settings out of our way."""
    options = [word for name, value in _OPTIONS.items() for word in ("-c", f"{name}={value}")]
    return ["git", *options, *([f"--git-dir={repository}"] if repository else [])]


def fresh(runner: Runner) -> Runner:
    """Return a runner with the same log whose last lines are those of one program alone."""
    return replace(runner, tail=deque(maxlen=runner.tail.maxlen))


@dataclass(frozen=True)
class Repository:
    """A bare repository in the cache; ``patience`` are the seconds without a byte that are waited for a server.

    Each commit that came in whole has a ref named after it (its pin); what a branch or tag was
    when it was last fetched is kept as another ref.
    """

    path: Path
    environment: Mapping[str, str]
    patience: float

    @contextlib.asynccontextmanager
    async def writing(self, runner: Runner) -> AsyncIterator[int]:
        """Hold the repository for changes and tidy up after a killed git; yield the lock's descriptor."""
        async with held(self.path.with_suffix(".lock"), runner.on_line) as lock:
            await in_thread(_sweep, self.path)
            yield lock

    async def holds(self, commit: str, runner: Runner) -> bool:
        """Tell whether a commit is pinned and all trees and files of it are there."""
        return self.path.is_dir() and await self._succeeds(runner, *_WALK, _PINS + commit)

    async def lost(self, commit: str, runner: Runner) -> bool:
        """Tell whether a commit was here once and is not whole any more."""
        pinned = ("rev-parse", "--quiet", "--verify", _PINS + commit)
        return self.path.is_dir() and await self._succeeds(runner, *pinned) and not await self.holds(commit, runner)

    async def refs(self, runner: Runner) -> dict[str, str]:
        """Return which commit each branch and tag was when it was last fetched."""
        if not self.path.is_dir():
            return {}
        lines = (await self._ask(runner, "for-each-ref", "--format=%(objectname) %(refname)", _REFS)).decode()
        return {unquote(name.removeprefix(_REFS)): commit for commit, name in map(str.split, lines.splitlines())}

    async def remember(self, ref: str, commit: str, runner: Runner) -> None:
        """Keep in mind which commit a branch or tag is."""
        await self._ask(runner, "update-ref", _REFS + quote(ref, safe=""), commit)

    async def ready(self, runner: Runner) -> None:
        """Make the repository fit to be fetched into; one that lost objects is started anew."""
        if self.path.exists() and not await self._succeeds(runner, *_WALK, f"--glob={_PINS}*"):
            await in_thread(shutil.rmtree, self.path)
        await runner.capture([*git(), "init", "--quiet", "--bare", "--template=", str(self.path)], env=self.environment)
        (self.path / "info").mkdir(exist_ok=True)
        (self.path / "info" / "attributes").write_text(_EXACT)

    async def discard(self, runner: Runner) -> None:
        """Throw the repository away."""
        async with self.writing(runner):
            await in_thread(shutil.rmtree, self.path, ignore_errors=True)

    async def fetch_commit(self, address: str, commit: str, runner: Runner, lock: int) -> None:
        """Fetch a commit without its history, and pin it; raises ProcessError or TimeoutError."""
        await self._fetch(("--depth=1", "--", address, f"+{commit}:{_PINS}{commit}"), runner, lock)

    async def fetch_ref(self, address: str, ref: str, runner: Runner, lock: int) -> None:
        """Fetch the newest commit of a branch or tag without its history."""
        await self._fetch(("--depth=1", "--", address, f"+{ref}:{_TIP}"), runner, lock)

    async def fetch_all(self, address: str, runner: Runner, lock: int) -> None:
        """Fetch all branches and tags with their history."""
        deepen = ("--unshallow",) if (self.path / "shallow").exists() else ()
        await self._fetch((*deepen, "--prune", "--", address, *_EVERYTHING), runner, lock)

    async def pin(self, commit: str, runner: Runner) -> bool:
        """Pin a commit that came in with others; tell whether it is there."""
        there = await self._succeeds(runner, "cat-file", "-e", f"{commit}^{{commit}}")
        return there and await self._succeeds(runner, "update-ref", _PINS + commit, commit)

    async def checkout(self, commit: str, target: Path, runner: Runner, *, subdir: str = ".") -> None:
        """Write a commit's files as committed into ``target``: no line ending, filter or export rule applies.

        Raises UsageError if the commit has no directory ``subdir``, DamagedCache if objects are lost.
        """
        tree = await self._tree(commit, subdir, runner)
        # beside the tree: who makes that again removes what a killed run left of it
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}~") as scratch:
            env = {**self.environment, "GIT_INDEX_FILE": f"{scratch}/index", "GIT_WORK_TREE": str(target)}
            alone = fresh(runner)
            try:
                await alone.run([*git(self.path), "read-tree", tree], env=env, cwd=target)
                await alone.run([*git(self.path), "checkout-index", "--all", "--force"], env=env, cwd=target)
            except ProcessError as error:
                if not any(_DAMAGE.search(line) for line in error.tail):
                    raise
                raise self.damaged(commit) from error

    async def committed(self, commit: str, runner: Runner) -> int:
        """Return when a commit was made, in seconds since the epoch."""
        return int(await self._ask(runner, "show", "--no-patch", "--format=%ct", commit))

    async def submodules(self, commit: str, subdir: str, runner: Runner) -> dict[str, tuple[str, str | None]]:
        """Return commit and address (None if .gitmodules has none) of each submodule below ``subdir``, by path."""
        inside = () if subdir == "." else ("--", subdir)
        links = _gitlinks(await self._ask(runner, "ls-tree", "-r", "-z", "--full-tree", commit, *inside))
        if not links:
            return {}
        try:
            config = await self._ask(runner, "config", "-z", "--blob", f"{commit}:.gitmodules", "--list")
        except ProcessError:
            config = b""
        addresses = _submodule_urls(config)
        return {
            str(PurePosixPath(path).relative_to(subdir)): (pin, addresses.get(path))
            for path, pin in sorted(links.items())
        }

    def damaged(self, commit: str) -> DamagedCache:
        """Return the error for a commit that is not whole."""
        return DamagedCache(
            f"the cached repository {self.path} is damaged: it lacks parts of commit {commit}",
            hint=f"run once without --offline, or remove {self.path}",
        )

    async def _tree(self, commit: str, subdir: str, runner: Runner) -> str:
        path = PurePosixPath(subdir).as_posix()
        listing = await self._ask(
            runner, "ls-tree", "-z", "--full-tree", commit, *(() if path == "." else ("--", path))
        )
        if path == ".":
            return f"{commit}^{{tree}}"
        entry = re.match(rb"040000 tree ([0-9a-f]+)\t", listing)
        if entry:
            return entry.group(1).decode()
        known = await self._ask(runner, "ls-tree", "-d", "-r", "-z", "--name-only", "--full-tree", commit)
        names = [name for name in known.decode("utf-8", "replace").split("\0") if name]
        raise UsageError(f"commit {commit} has no directory {subdir}", hint=nearest(subdir, names))

    async def _fetch(self, args: Sequence[str], runner: Runner, lock: int) -> None:
        options = ("--no-tags", "--no-write-fetch-head", "--update-shallow")
        running = runner.run([*git(self.path), "fetch", *options, *args], env=self.environment, fds=(lock,))
        await _watched(running, self.path, self.patience)

    async def _ask(self, runner: Runner, *args: str) -> bytes:
        return await runner.capture([*git(self.path), *args], env=self.environment)

    async def _succeeds(self, runner: Runner, *args: str) -> bool:
        return await fresh(runner).run([*git(self.path), *args], env=self.environment, check=False) == 0


_REF = re.compile(rb"(?:[0-9a-f]{40}|[0-9a-f]{64}|ref: .+)\n?")
"""What a file of a ref has in it."""

_WALK = ("rev-list", "--objects", "--no-walk", "--quiet")
"""Looks at every tree of a commit and that each file exists; does not read the files."""


async def _watched(work: Coroutine[None, None, T], directory: Path, patience: float) -> T:
    """Wait for a download while its directory grows; TimeoutError if it does not for ``patience`` seconds."""
    task = asyncio.ensure_future(work)
    try:
        size = _bytes(directory)
        while not (await asyncio.wait({task}, timeout=patience))[0]:
            size, before = _bytes(directory), size
            if size == before:
                raise TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


def _bytes(directory: Path) -> int:
    total = 0
    for path in directory.glob("objects/**/*"):
        with contextlib.suppress(FileNotFoundError):  # renamed in between
            total += path.stat().st_size
    return total


def _sweep(repository: Path) -> None:
    """Remove what a killed git left behind; the cache's lock is ours, so nobody else is writing."""
    for pattern in ("*.lock", "refs/**/*.lock", "objects/**/*.lock", "objects/**/tmp_*", "objects/incoming-*"):
        for path in list(repository.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in repository.glob("refs/**/*"):
        if path.is_file() and not _is_ref(path):  # git refuses to write a ref that it cannot read
            path.unlink()


def _is_ref(path: Path) -> bool:
    content = path.read_bytes()
    pin = path.name.encode() if path.parent.name == PurePosixPath(_PINS).name else None
    return _REF.fullmatch(content) is not None and (pin is None or content.strip() == pin)


def _gitlinks(listing: bytes) -> dict[str, str]:
    """Return path and commit of each submodule in the output of ``git ls-tree -z``."""
    entries = [entry.partition("\t") for entry in listing.decode("utf-8", "surrogateescape").split("\0")]
    return {path: head.split()[2] for head, _, path in entries if head.startswith("160000 ")}


def _submodule_urls(config: bytes) -> dict[str, str]:
    """Return the address of each submodule by its path, out of ``git config -z --list``."""
    values = {
        key: value for key, _, value in (e.partition("\n") for e in config.decode("utf-8", "replace").split("\0"))
    }
    names = [key.removesuffix(".path") for key in values if key.startswith("submodule.") and key.endswith(".path")]
    return {values[f"{name}.path"]: values[f"{name}.url"] for name in names if f"{name}.url" in values}
