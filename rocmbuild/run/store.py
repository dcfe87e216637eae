"""The store of binaries: stage trees and packages by what they were made from, kept by Conan."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rocmbuild.errors import StoreError
from rocmbuild.model.catalog import shipped
from rocmbuild.process import Runner
from rocmbuild.run.conan_home import Calls, ConanHome, DamagedHome
from rocmbuild.tools import conan
from rocmbuild.tools.clone import clone_tree, tree_signature
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import new_directory, read_json, remove_tree, tree_digest, write_json, write_text

STAGE, DEBS = "stage", "debs"
"""The directories of an entry."""

_DIGEST = r"[0-9a-f]{64}"
_VERSION = re.compile(rf"(?P<version>[^+]+)\+(?P<key>{_DIGEST})")
_MANY = 40
"""Characters of a version that Conan leaves beside a key."""


@dataclass(frozen=True)
class Entry:
    """One stage tree and what is known of it.

    ``reference`` names it for Conan, with revisions; ``output`` is the digest of the tree, ``packages`` the key its
    packages were made under and ``debs`` their digest, None if there are none.
    """

    component: str
    version: str
    key: str
    reference: str
    output: str
    packages: str | None
    debs: str | None

    @property
    def name(self) -> str:
        """Return the reference without revisions."""
        return self.reference.partition("#")[0]

    def __str__(self) -> str:
        return f"{self.component} {self.version}"


@dataclass
class Store(ConanHome):
    """Keep entries below a directory that several runs share; every entry is verified when it is read."""

    _whole: dict[str, Any] = field(default_factory=dict, repr=False)
    """Signatures of the trees that were verified, by reference."""

    async def entries(self, runner: Runner) -> dict[tuple[str, str], Entry]:
        """Return all entries by component and key; none, with a warning, if the store cannot be read."""
        if self.is_empty:
            return {}
        try:
            async with self.session(runner) as calls:
                return _entries(await calls.packages())
        except DamagedHome:
            return {}
        except (StoreError, OSError) as error:
            self.warn(f"the store {self.directory} cannot be read: {error}")
            return {}

    async def check(self, entry: Entry, runner: Runner) -> Path | None:
        """Return the directory of an entry if it is whole; else drop it with a warning and return None."""
        place = await self._place(entry, runner)
        fault = "its files are gone" if place is None else await in_thread(_fault, place, entry)
        if fault is not None or place is None:
            await self.drop(entry, str(fault), runner)
            return None
        self._whole[entry.reference] = await in_thread(tree_signature, place)
        with contextlib.suppress(OSError):
            os.utime(self.place(entry.name))  # its last use
        return place

    async def restore(self, entry: Entry, stage: Path, debs: Path | None, runner: Runner) -> None:
        """Bring a stage tree back, and the packages if the entry has some; what is there is replaced.

        Raises StoreError, after dropping the entry, if it is not or no longer whole.
        """
        place = await self._place(entry, runner)
        wanted = {STAGE: stage, **({DEBS: debs} if debs is not None and entry.debs is not None else {})}
        try:
            if place is None:
                raise StoreError("its files are gone")
            for name, target in wanted.items():
                with new_directory(target) as temporary:
                    await in_thread(clone_tree, place / name, temporary, links=True)
                    await self._confirm(place, entry)
        except (StoreError, FileNotFoundError) as error:
            await self.drop(entry, str(error), runner)
            raise StoreError(f"the store's entry of {entry} is damaged: {error}") from error

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
        digest = await in_thread(tree_digest, debs, ignore=frozenset()) if debs is not None else None
        entry = Entry(component, clean_version(version), key, "", output, packages if debs else None, digest)
        there = self.known(f"{component}/{entry.version}+{key}")
        if there is not None and _same(there, entry) and await self.check(there, runner) is not None:
            return there
        try:
            with self._draft() as draft:
                await in_thread(_fill, draft, entry, stage, debs)
                return await self._export(draft, entry, requires, runner)
        except OSError as error:
            raise StoreError(f"{error.filename or self.directory}: {error.strerror}") from error

    async def drop(self, entry: Entry, fault: str, runner: Runner) -> None:
        """Remove an entry that is not what it says, with a warning."""
        self.warn(f"the store's entry of {entry} is dropped: {fault}")
        self._whole.pop(entry.reference, None)
        with contextlib.suppress(DamagedHome):
            await self.remove(entry, runner)

    async def remove(self, entry: Entry, runner: Runner) -> None:
        """Remove an entry."""
        async with self.session(runner, changes=entry.name) as calls:
            self.forget(entry.name)
            await calls.remove(entry.name)

    def known(self, name: str) -> Entry | None:
        """Return the entry that was kept or checked under ``name/version``, without asking Conan."""
        data = read_json(self.place(name))
        try:
            return Entry(**data["entry"])
        except (TypeError, KeyError):
            return None

    def requirements(self, name: str) -> tuple[str, ...]:
        """Return the entries that an entry requires, as ``name/version``."""
        data = read_json(self.place(name))
        return tuple(data.get("requires", ())) if isinstance(data, dict) else ()

    def remember(self, entry: Entry, place: Path, requires: Sequence[str] = ()) -> None:
        """Note where an entry lies; the last thing that is done to a new one."""
        path = os.path.relpath(place, self.directory)
        write_json(self.place(entry.name), {"entry": asdict(entry), "path": path, "requires": list(requires)})

    async def _place(self, entry: Entry, runner: Runner) -> Path | None:
        """Return the directory of an entry; Conan is asked only if it is not remembered."""
        data = read_json(self.place(entry.name))
        if isinstance(data, dict) and data.get("entry") == asdict(entry) and (self.directory / data["path"]).is_dir():
            return self.directory / str(data["path"])
        try:
            async with self.session(runner) as calls:
                place = Path((await calls(["cache", "path", entry.reference])).decode().strip())
        except StoreError:
            return None
        self.remember(entry, place)
        return place

    async def _confirm(self, place: Path, entry: Entry) -> None:
        """Raise StoreError unless a tree is as it was when it was verified, or is verified now."""
        if self._whole.get(entry.reference) == await in_thread(tree_signature, place):
            return
        fault = await in_thread(_fault, place, entry)
        if fault is not None:
            raise StoreError(fault)
        self._whole[entry.reference] = await in_thread(tree_signature, place)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Path]:
        """Yield a new directory beside the entries; those of killed runs are removed: their lock is free."""
        self.drafts.mkdir(parents=True, exist_ok=True)
        sweep(self.drafts)
        draft = Path(tempfile.mkdtemp(dir=self.drafts))
        lock = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield draft
        finally:
            remove_tree(draft)
            os.close(lock)

    async def _export(self, draft: Path, entry: Entry, requires: Sequence[Entry], runner: Runner) -> Entry:
        name = f"{entry.component}/{entry.version}+{entry.key}"
        async with self.session(runner, changes=name) as calls:
            there = self.known(name)
            if there is not None and _same(there, entry):  # another run was faster
                return there
            if there is not None:
                self.forget(name)
                await calls.remove(name)
            needed = [need.name for need in requires if self.place(need.name).exists()]
            reference, place, needed = await _exported(calls, draft, entry, needed)
            await calls.runner.run(["sync", "--file-system", str(place)])  # before anything says that it is there
            kept = Entry(**{**asdict(entry), "reference": reference})
            self.remember(kept, place, needed)
        return kept


async def _exported(calls: Calls, draft: Path, entry: Entry, requires: list[str]) -> tuple[str, Path, list[str]]:
    """Export a draft; again without requirements if one of them lacks something itself."""
    try:
        _describe(draft, entry, requires)
        exported = await calls(conan.export_package(draft, entry.component, f"{entry.version}+{entry.key}"))
    except StoreError as error:
        if not requires or "not resolved" not in error.message:
            raise
        return await _exported(calls, draft, entry, [])
    return *conan.parse_export(exported), requires


def clean_version(version: str) -> str:
    """Return a version in the letters that Conan allows."""
    return re.sub(r"[^a-z0-9_.-]", "_", version.lower())[:_MANY].lstrip(".-") or "0"


def to_entry(package: conan.Package) -> Entry | None:
    """Return a package as an entry, None if it is not of ours or was never finished."""
    match = _VERSION.fullmatch(package.version)
    facts = package.options
    if match is None or any(not re.fullmatch(_DIGEST, facts.get(name, "")) for name in ("output",)):
        return None
    if any(not re.fullmatch(f"({_DIGEST})?", facts.get(name, "-")) for name in ("packages", "debs")):
        return None
    known = (facts["output"], facts["packages"] or None, facts["debs"] or None)
    return Entry(package.name, match["version"], match["key"], package.reference, *known)


def sweep(drafts: Path) -> None:
    """Remove the drafts of runs that were killed."""
    for draft in drafts.iterdir():
        with contextlib.suppress(OSError), _try_lock(draft):
            remove_tree(draft)


@contextlib.contextmanager
def _try_lock(directory: Path) -> Iterator[None]:
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _entries(packages: Sequence[conan.Package]) -> dict[tuple[str, str], Entry]:
    found = (to_entry(package) for package in packages)
    return {(entry.component, entry.key): entry for entry in found if entry is not None}


def _same(one: Entry, other: Entry) -> bool:
    return (one.output, one.packages, one.debs) == (other.output, other.packages, other.debs)


def _fault(place: Path, entry: Entry) -> str | None:
    """Say what is wrong with the files of an entry, None if nothing is."""
    for name, expected in ((STAGE, entry.output), (DEBS, entry.debs)):
        if expected is None:
            continue
        tree = place / name
        if tree.is_symlink() or not tree.is_dir():
            return f"it has no directory {name}"
        try:
            if tree_digest(tree, ignore=frozenset()) != expected:
                return f"its directory {name} is not what was stored"
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
    return None


def _fill(draft: Path, entry: Entry, stage: Path, debs: Path | None) -> None:
    """Copy what an entry is made of into a draft; copies, for whoever writes into a workspace must not reach others."""
    for name, source, expected in ((STAGE, stage, entry.output), (DEBS, debs, entry.debs)):
        if source is None:
            continue
        clone_tree(source, draft / name, links=False)
        if tree_digest(draft / name, ignore=frozenset()) != expected:
            raise StoreError(f"{source} changed while it was stored", hint="run the same command again")
    (draft / "conanfile.py").write_bytes((shipped("recipes") / "conan" / "conanfile.py").read_bytes())


def _describe(draft: Path, entry: Entry, requires: Sequence[str]) -> None:
    """Write what the conanfile is to say of an entry; JSON is YAML too."""
    facts = {"output": entry.output, "packages": entry.packages or "", "debs": entry.debs or ""}
    trees = [STAGE, *((DEBS,) if entry.debs is not None else ())]
    data = {"facts": facts, "requires": list(requires), "trees": trees, "prefixes": prefixes(draft / STAGE)}
    write_text(draft / "conandata.yml", json.dumps(data, indent=1))


def prefixes(stage: Path) -> list[str]:
    """Return the directories of a stage tree that have headers, libraries or programs, the prefix of ROCm first."""
    candidates = [*sorted(stage.glob("opt/*")), stage / "usr/local", stage / "usr"]
    return [
        path.relative_to(stage).as_posix()
        for path in candidates
        if any((path / name).is_dir() for name in ("include", "lib", "bin"))
    ]
