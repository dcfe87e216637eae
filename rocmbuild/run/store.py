"""The store of binaries: stage trees and packages by what they were made from, kept by Conan."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rocmbuild.errors import RocmBuildError, StoreError
from rocmbuild.process import Runner
from rocmbuild.run.conan_home import Calls, ConanHome, DamagedHome
from rocmbuild.run.entry import DEBS, STAGE, Entry, clean_version, describe, fault_of, fill, to_entry
from rocmbuild.tools import conan
from rocmbuild.tools.clone import clone_tree, tree_signature
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import new_directory, read_json, remove_tree, tree_digest, write_json

__all__ = ["Entry", "Store", "Unreadable"]

_GONE = re.compile(r"folder does not exist for the reference|No entry for package|not found")
"""What Conan says of a package that it does not have, or not any more."""


class Unreadable(StoreError):
    """Report an entry of which nobody can tell now whether it is whole."""


@dataclass
class Store(ConanHome):
    """Keep entries below a directory that several runs share; every entry is verified when it is read."""

    _whole: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    """Signatures of the trees that were verified, by reference."""

    async def entries(self, runner: Runner) -> dict[tuple[str, str], Entry]:
        """Return all entries by component and key; none, with a warning, if the store cannot be read.

        For those that go on without it; who is asked what is in it uses ``contents``.
        """
        try:
            return await self.contents(runner)
        except DamagedHome:
            return {}
        except StoreError as error:
            self.warn(error.message)
            return {}

    async def contents(self, runner: Runner) -> dict[tuple[str, str], Entry]:
        """Return all entries by component and key; StoreError if the store cannot be read."""
        if self.is_empty:
            return {}
        try:
            async with self.session(runner) as calls:
                return _entries(await calls.packages())
        except DamagedHome:
            raise
        except (StoreError, OSError) as error:
            log = error.log if isinstance(error, StoreError) else None
            raise StoreError(f"the store {self.directory} cannot be read: {error}", log=log) from error

    async def check(self, entry: Entry, runner: Runner) -> Path | None:
        """Return the directory of an entry if it is whole; else drop it with a warning and return None.

        What cannot be read now is not dropped.
        """
        try:
            return await self.examine(entry, runner)
        except Unreadable as error:
            self.warn(error.message)
            return None

    async def examine(self, entry: Entry, runner: Runner) -> Path | None:
        """Return the directory of an entry if it is whole; else drop it with a warning and return None.

        Raises Unreadable if that cannot be told now.
        """
        try:
            place = await self.place_of(entry, runner)
            fault = "its files are gone" if place is None else await in_thread(fault_of, place, entry)
        except (StoreError, OSError) as error:
            raise Unreadable(f"the store's entry of {entry} cannot be read: {error}") from error
        if fault is not None or place is None:
            await self.drop(entry, str(fault), runner)
            return None
        self._whole[entry.reference] = await in_thread(tree_signature, place)
        with contextlib.suppress(OSError):
            os.utime(self.place_file(entry.name))  # its last use
        return place

    async def restore(self, entry: Entry, stage: Path, debs: Path | None, runner: Runner) -> None:
        """Bring a stage tree back, and the packages if the entry has some; what is there is replaced.

        Raises StoreError, after dropping the entry, if it is not or no longer whole.
        """
        place = await self.place_of(entry, runner)
        wanted = {STAGE: stage, **({DEBS: debs} if debs is not None and entry.debs is not None else {})}
        try:
            if place is None:
                raise StoreError("its files are gone")
            await self._confirm(place, entry)
            for name, target in wanted.items():
                with new_directory(target) as temporary:
                    await in_thread(clone_tree, place / name, temporary, links=True)
                    await self._confirm(place, entry)
        except (StoreError, FileNotFoundError) as error:
            await self.drop(entry, str(error), runner)
            hint = "run the same command again: it is built then"
            raise StoreError(f"the store's entry of {entry} is damaged: {error}", hint=hint) from error

    async def put(
        self,
        *,
        component: str,
        version: str,
        key: str,
        stage: Path,
        debs: Path | None,
        output: str,
        packages: str | None,
        requires: Sequence[Entry],
        runner: Runner,
    ) -> Entry:
        """Keep a copy of a stage tree and its packages; what is there already is not made again.

        Requirements that are no longer there are left out. Raises StoreError if Conan fails, the tree is not what
        ``output`` says, or the disk is full.
        """
        try:
            digest = await in_thread(tree_digest, debs, ignore=frozenset()) if debs is not None else None
            entry = Entry(component, clean_version(version), key, "", output, packages if debs else None, digest)
            there = self.known(f"{component}/{entry.version}+{key}")
            if there is not None and there.serves(entry) and await self.check(there, runner) is not None:
                return there
            with self.draft() as draft:
                await in_thread(fill, draft, entry, stage, debs, links=False)
                return await self._export(draft, entry, [need.name for need in requires], runner)
        except OSError as error:
            raise StoreError(f"{error.filename or self.directory}: {error.strerror}") from error

    async def adopt(self, entry: Entry, place: Path, runner: Runner) -> Entry:
        """Keep an entry out of a directory that nobody else uses, with what it requires of what is here.

        Raises StoreError if it is not whole.
        """
        with self.draft() as draft:
            fault = await in_thread(fault_of, place, entry)
            if fault is not None:
                raise StoreError(fault)
            debs = place / DEBS if entry.debs is not None else None
            await in_thread(fill, draft, entry, place / STAGE, debs, links=True)
            return await self._export(draft, entry, entry.requires, runner)

    async def drop(self, entry: Entry, fault: str, runner: Runner) -> None:
        """Remove an entry that is not what it says, with a warning."""
        self.warn(f"the store's entry of {entry} is dropped: {fault}")
        self._whole.pop(entry.reference, None)
        with contextlib.suppress(StoreError, OSError):
            await self.remove(entry, runner)

    async def remove(self, entry: Entry, runner: Runner, place: Path | None = None) -> None:
        """Remove an entry, which lies where it is remembered or at ``place``; StoreError if Conan cannot.

        Its files go first: on a full disk nothing can be written before, not even what Conan writes to remove them.
        What is killed in between is an entry without files, and dropped when it is read.
        """
        async with self.session(runner) as calls:
            remembered = self._remembered(entry.name)
            self.forget(entry.name)
            await in_thread(self._empty, remembered[1] if remembered is not None else place)
            with contextlib.suppress(OSError):
                self.begin(entry.name)
            await calls.remove(entry.name)
            self.end()

    def _empty(self, place: Path | None) -> None:
        """Remove the files of an entry, if that is one; Conan tries again, and says why it cannot."""
        if place is None or not place.resolve().is_relative_to(self.path.resolve()):
            return
        for name in (STAGE, DEBS):
            with contextlib.suppress(RocmBuildError, OSError):
                remove_tree(place / name)

    def known(self, name: str) -> Entry | None:
        """Return the entry that was kept or checked under ``name/version``, without asking Conan."""
        place = self._remembered(name)
        return place[0] if place is not None else None

    def all_known(self) -> list[Entry]:
        """Return all entries that were kept or checked, without asking Conan."""
        told = map(self._told, self.remembered())
        return [place[0] for place in told if place is not None]

    def remember(self, entry: Entry, place: Path) -> None:
        """Note where an entry lies; the last thing that is done to a new one."""
        write_json(
            self.place_file(entry.name), {"entry": asdict(entry), "path": os.path.relpath(place, self.directory)}
        )

    def _remembered(self, name: str) -> tuple[Entry, Path] | None:
        return self._told(read_json(self.place_file(name)))

    def _told(self, data: Any) -> tuple[Entry, Path] | None:
        try:
            facts = {**data["entry"], "requires": tuple(data["entry"]["requires"])}
            return Entry(**facts), self.directory / str(data["path"])
        except (TypeError, KeyError):
            return None

    async def place_of(self, entry: Entry, runner: Runner) -> Path | None:
        """Return the directory of an entry, None if it is gone; Conan is asked only if it is not remembered.

        Raises StoreError if Conan cannot say where it is.
        """
        remembered = self._remembered(entry.name)
        if remembered is not None and remembered[0].reference == entry.reference and remembered[1].is_dir():
            return remembered[1]
        try:
            async with self.session(runner) as calls:
                place = Path((await calls(["cache", "path", entry.reference])).decode().strip())
        except StoreError as error:
            if isinstance(error, DamagedHome) or not _GONE.search(error.message):
                raise
            return None
        with contextlib.suppress(OSError):
            self.remember(entry, place)
        return place

    async def _confirm(self, place: Path, entry: Entry) -> None:
        """Raise StoreError unless a tree is as it was when it was verified, or is verified now."""
        if self._whole.get(entry.reference) == await in_thread(tree_signature, place):
            return
        fault = await in_thread(fault_of, place, entry)
        if fault is not None:
            raise StoreError(fault)
        self._whole[entry.reference] = await in_thread(tree_signature, place)

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield a new directory beside the entries; those of killed runs are removed: their lock is free."""
        self.drafts.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as mine:
            with _locked(self.drafts):  # nobody takes a draft that is not yet locked for a dead one
                _sweep(self.drafts)
                draft = Path(tempfile.mkdtemp(dir=self.drafts))
                mine.enter_context(_locked(draft))
            mine.callback(remove_tree, draft)
            yield draft

    def sweep(self) -> None:
        """Remove what killed runs left of trees that were to become entries."""
        if self.drafts.is_dir():
            with _locked(self.drafts):
                _sweep(self.drafts)

    async def _export(self, draft: Path, entry: Entry, requires: Sequence[str], runner: Runner) -> Entry:
        name = f"{entry.component}/{entry.version}+{entry.key}"
        await replace(runner).run(["sync", "--file-system", str(draft)])  # before anything says that it is there
        async with self.session(runner, changes=name) as calls:
            there = self._remembered(name)
            if there is not None and there[0].serves(entry) and there[1].is_dir():  # another run was faster
                return there[0]
            if there is not None:
                self.forget(name)
                await calls.remove(name)
            needed = tuple(need for need in requires if self.place_file(need).exists())
            kept, place = await _exported(calls, draft, replace(entry, requires=needed))
            self.remember(kept, place)
        return kept


async def _exported(calls: Calls, draft: Path, entry: Entry) -> tuple[Entry, Path]:
    """Export a draft; again without requirements if one of them lacks something itself."""
    try:
        describe(draft, entry)
        exported = await calls(conan.export_package(draft, entry.component, f"{entry.version}+{entry.key}"))
    except StoreError as error:
        if not entry.requires or "not resolved" not in error.message:
            raise
        return await _exported(calls, draft, replace(entry, requires=()))
    reference, place = conan.parse_export(exported)
    return replace(entry, reference=reference), place


def _sweep(drafts: Path) -> None:
    """Remove the drafts of runs that were killed."""
    for draft in drafts.iterdir():
        with contextlib.suppress(BlockingIOError, NotADirectoryError), _locked(draft, fcntl.LOCK_NB):
            remove_tree(draft)


@contextlib.contextmanager
def _locked(directory: Path, how: int = 0) -> Iterator[None]:
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(lock)


def _entries(packages: Sequence[conan.Package]) -> dict[tuple[str, str], Entry]:
    found = (to_entry(package) for package in packages)
    return {(entry.component, entry.key): entry for entry in found if entry is not None}
