"""Source trees out of git: refs resolved, commits fetched from the first server that has them, trees exported."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from rocmbuild.errors import FetchError, UsageError, nearest
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.gitcache import DamagedCache, Repository, fresh, git
from rocmbuild.tools.gitremote import (
    Answer,
    Refusal,
    candidates,
    classify,
    failed,
    git_environment,
    join_url,
    parse_refs,
    transport,
)
from rocmbuild.tools.waiting import in_thread

T = TypeVar("T")

ATTEMPTS = 4
"""How often a request is made before a server counts as down."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class _Wanted:
    """A commit, the addresses that may have it, and the branch or tag it was found by (may be empty)."""

    urls: Sequence[str]
    commit: str
    ref: str

    def __str__(self) -> str:
        return f"commit {self.commit}" + (f" of {self.ref}" if self.ref not in ("", self.commit) else "")


@dataclass(frozen=True)
class Git:
    """Fetch from git servers into ``cache``; ``mirrors`` are pairs of URL prefix and its replacement.

    ``environment`` is that of ``process.network_environment``. ``pause`` are the seconds before a
    second attempt, doubled for each more; ``patience`` are the seconds without a byte that are
    waited for a server.
    """

    cache: Path
    environment: Mapping[str, str]
    mirrors: tuple[tuple[str, str], ...] = ()
    offline: bool = False
    pause: float = 1.0
    patience: float = 300.0

    def rewrite(self, url: str) -> str:
        """Return the address with its longest mirrored prefix replaced."""
        fitting = [pair for pair in self.mirrors if url.startswith(pair[0])]
        if not fitting:
            return url
        prefix, mirror = max(fitting, key=lambda pair: len(pair[0]))
        return mirror + url.removeprefix(prefix)

    def repository(self, url: str) -> Repository:
        """Return a repository's cache; its place depends on the original address, not on mirrors."""
        plain = url.rstrip("/").removesuffix(".git")
        name = re.sub(r"[^A-Za-z0-9._-]", "_", re.split(r"[/:]", plain)[-1])
        path = self.cache / f"{name}-{hashlib.sha256(plain.encode()).hexdigest()[:12]}.git"
        return Repository(path, git_environment(self.environment), self.patience)

    async def resolve(self, urls: Sequence[str], ref: str, runner: Runner) -> tuple[str, str]:
        """Return the first address that has a branch or tag, and the commit that it names now.

        A full commit is returned as it is. UsageError names the refs that look like a wrong one,
        FetchError says which server did not answer and why.
        """
        if _COMMIT.fullmatch(ref):
            return urls[0], ref
        if self.offline:
            return await self._remembered(urls, ref, runner)
        refusals: list[Refusal] = []
        for url in urls:
            try:
                refs = await self._list(url, candidates(ref), runner)
            except Refusal as refusal:
                refusals.append(refusal)
                continue
            for name in candidates(ref):
                if name in refs:
                    return url, refs[name]
            refusals.append(Refusal(url, Answer.ABSENT))
        raise await self._unresolved(ref, refusals, runner)

    async def fetch(
        self, urls: Sequence[str], commit: str, ref: str, runner: Runner, *, submodules: bool = False
    ) -> Repository:
        """Return the cached repository that has a commit, after fetching what is missing of it.

        Fetches the commit alone; a server that refuses that is asked for ``ref``, then for all
        branches and tags. Remembers which commit ``ref`` was. Raises FetchError.
        """
        repository = await self._cached(_Wanted(urls, commit, ref), runner)
        if submodules:
            for _, own, pin in await self._submodules(repository, urls, commit, ".", runner):
                await self.fetch(own, pin, "", runner, submodules=True)
        return repository

    async def export(
        self,
        urls: Sequence[str],
        commit: str,
        ref: str,
        target: Path,
        runner: Runner,
        *,
        submodules: bool = False,
        subdir: str = ".",
    ) -> int:
        """Write the tree of a commit, or a directory of it, into the empty directory ``target``.

        Returns when the commit was made, in seconds since the epoch. A damaged cache is thrown
        away and fetched again, unless offline.
        """
        wanted = _Wanted(urls, commit, ref)
        repository = await self._cached(wanted, runner)
        try:
            await repository.checkout(commit, target, runner, subdir=subdir)
        except DamagedCache:
            if self.offline:
                raise
            await repository.discard(runner)
            await in_thread(_empty, target)
            repository = await self._cached(wanted, runner)
            await repository.checkout(commit, target, runner, subdir=subdir)
        if submodules:
            for path, own, pin in await self._submodules(repository, urls, commit, subdir, runner):
                (target / path).mkdir(parents=True, exist_ok=True)
                await self.export(own, pin, "", target / path, runner, submodules=True)
        return await repository.committed(commit, runner)

    # ---- asking servers

    async def _list(self, url: str, patterns: Sequence[str], runner: Runner) -> dict[str, str]:
        address = self.rewrite(url)
        transport(address)
        argv = [*git(), "ls-remote", "--", address, *patterns, *(f"{name}^{{}}" for name in patterns)]

        async def attempt(alone: Runner) -> bytes:
            async with asyncio.timeout(self.patience):
                return await alone.capture(argv, env=git_environment(self.environment))

        return parse_refs(await self._insist(address, attempt, runner))

    async def _insist(self, address: str, attempt: Callable[[Runner], Awaitable[T]], runner: Runner) -> T:
        """Repeat a request while its failure may pass, waiting longer each time; raises Refusal."""
        for number in range(ATTEMPTS):
            alone = fresh(runner)
            try:
                return await attempt(alone)
            except TimeoutError:
                refusal = Refusal(address, Answer.SILENT)
            except ProcessError as error:
                if error.returncode is None:
                    raise
                refusal = Refusal(address, classify(error.tail), error.tail)
            runner.tail.extend(alone.tail)
            if not refusal.passing:
                break
            if number < ATTEMPTS - 1:
                await asyncio.sleep(self.pause * 2**number)
        raise refusal

    async def _unresolved(self, ref: str, refusals: Sequence[Refusal], runner: Runner) -> FetchError | UsageError:
        """Return the error for a ref that no repository has, with the refs that look like it."""
        answered = [refusal.url for refusal in refusals if refusal.answer is Answer.ABSENT]
        if not answered:
            return failed(ref, refusals)
        if re.fullmatch("[0-9a-f]{7,39}", ref):
            hint = "a commit needs all of its 40 digits"
        else:
            refs = await self._list(answered[0], ("refs/heads/*", "refs/tags/*"), runner)
            hint = nearest(ref, [re.sub("^refs/(heads|tags)/", "", name) for name in refs])
        return UsageError(f"{' and '.join(answered)}: no branch or tag {ref!r}", hint=hint)

    # ---- the cache

    async def _remembered(self, urls: Sequence[str], ref: str, runner: Runner) -> tuple[str, str]:
        """Return what a ref was when it was last fetched."""
        known: set[str] = set()
        for url in urls:
            refs = await self.repository(url).refs(runner)
            if ref in refs:
                return url, refs[ref]
            known |= refs.keys()
        hint = "run once without --offline" + (f"; the cache has {', '.join(sorted(known))}" if known else "")
        raise FetchError(f"the cache has no {ref} of {urls[0]}, and this run is offline", hint=hint)

    async def _cached(self, wanted: _Wanted, runner: Runner) -> Repository:
        repositories = [self.repository(url) for url in wanted.urls]
        holder = await _holder(repositories, wanted.commit, runner)
        if self.offline:
            return holder or await _offline(repositories, wanted, runner)
        repository = holder or repositories[0]
        async with repository.writing(runner) as lock:
            if not await repository.holds(wanted.commit, runner):
                await repository.ready(runner)
                await self._obtain(repository, wanted, runner, lock)
            if wanted.ref and not _COMMIT.fullmatch(wanted.ref):
                await repository.remember(wanted.ref, wanted.commit, runner)
        return repository

    async def _obtain(self, repository: Repository, wanted: _Wanted, runner: Runner, lock: int) -> None:
        refusals = []
        for url in wanted.urls:
            address = self.rewrite(url)
            transport(address)
            try:
                return await self._download(repository, address, wanted, runner, lock)
            except Refusal as refusal:
                refusals.append(refusal)
        raise failed(str(wanted), refusals)

    async def _download(self, repository: Repository, address: str, wanted: _Wanted, runner: Runner, lock: int) -> None:
        """Fetch and pin a commit by the cheapest way that the server allows; raises Refusal."""
        commit, ref = wanted.commit, wanted.ref

        async def refused(attempt: Callable[[Runner], Awaitable[None]]) -> Refusal | None:
            try:
                await self._insist(address, attempt, runner)
            except Refusal as refusal:
                if refusal.answer not in (Answer.ABSENT, Answer.UNADVERTISED):
                    raise
                return refusal
            return None

        first = await refused(lambda alone: repository.fetch_commit(address, commit, alone, lock))
        if first is None:
            return
        if ref:
            await refused(lambda alone: repository.fetch_ref(address, ref, alone, lock))
            if await repository.pin(commit, runner):
                return
        if first.answer is not Answer.UNADVERTISED:
            raise first
        await refused(lambda alone: repository.fetch_all(address, alone, lock))
        if not await repository.pin(commit, runner):
            raise Refusal(address, Answer.ABSENT)

    # ---- submodules

    async def _submodules(
        self, repository: Repository, urls: Sequence[str], commit: str, subdir: str, runner: Runner
    ) -> list[tuple[str, tuple[str, ...], str]]:
        """Return path, addresses and commit of each submodule."""
        found = []
        for path, (pin, address) in (await repository.submodules(commit, subdir, runner)).items():
            if address is None:
                raise FetchError(f"{urls[0]}: .gitmodules of commit {commit} has no url for the submodule {path}")
            own = dict.fromkeys(self._submodule_url(url, address) for url in urls)
            found.append((path, tuple(own), pin))
        return found

    def _submodule_url(self, parent: str, url: str) -> str:
        """Resolve a submodule's address; a remote repository must not name a path of this machine."""
        address = join_url(parent, url)
        if transport(address) == "file" and transport(parent) != "file" and self.rewrite(address) == address:
            raise FetchError(f"{parent} has a submodule at {url}, a path of this machine", hint="use --mirror for it")
        return address


async def _holder(repositories: Sequence[Repository], commit: str, runner: Runner) -> Repository | None:
    for repository in repositories:
        if await repository.holds(commit, runner):
            return repository
    return None


async def _offline(repositories: Sequence[Repository], wanted: _Wanted, runner: Runner) -> NoReturn:
    """Raise the error for a commit that is not in the cache, or not whole."""
    for repository in repositories:
        if await repository.lost(wanted.commit, runner):
            raise repository.damaged(wanted.commit)
    raise FetchError(
        f"the cache has no {wanted} of {wanted.urls[0]}, and this run is offline", hint="run once without --offline"
    )


def _empty(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()
