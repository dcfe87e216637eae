"""From a source of the manifest to the tree a component is built from: fetched, arranged, edited, private."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rocmbuild.errors import RocmBuildError, UsageError
from rocmbuild.model.manifest import Source
from rocmbuild.model.recipe import Resolved
from rocmbuild.plan.fingerprint import changes_identity, digest, source_identity
from rocmbuild.process import Runner
from rocmbuild.tools.archive import unpack
from rocmbuild.tools.download import Downloads
from rocmbuild.tools.edits import Outcome, apply_changes
from rocmbuild.tools.flush import flush
from rocmbuild.tools.git import Git
from rocmbuild.tools.layout import apply_layout
from rocmbuild.tools.sourcetree import bring_to_present, copy_tree, newest, settle, subdirectory
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import new_directory, read_stamp, remove_tree, tree_digest, write_stamp

FORMAT = 1
"""Raised when trees prepared by an older rocmbuild are not good any more."""

BUNDLED_TIME = 1704067200
"""Modification time of files that come with a recipe: theirs is that of the installation (2024-01-01)."""


@dataclass(frozen=True)
class PreparedSource:
    """A source tree ready to build: its content's digest, and what became of each edit and patch."""

    path: Path
    tree_digest: str
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Sourcing:
    """Fetch and prepare sources of every kind."""

    git: Git
    downloads: Downloads

    async def identify(self, source: Source, runner: Runner) -> Source:
        """Return the source pinned, fetching no content: a git source gets its commit, a local one its digest."""
        with _located(source):
            if source.kind == "git" and source.commit is None:
                _, commit = await self.git.resolve(source.urls, source.ref, runner)
                return replace(source, commit=commit)
            if source.kind == "local":
                return replace(source, sha256=await in_thread(tree_digest, _directory(source)))
        return source

    async def fetch(self, source: Source, runner: Runner) -> None:
        """Bring a source's content into the cache; raises FetchError, UsageError."""
        with _located(source):
            if source.kind == "git":
                pinned = await self.identify(source, runner)
                commit = pinned.commit or pinned.ref
                await self.git.fetch(pinned.urls, commit, pinned.ref, runner, submodules=pinned.submodules)
            elif source.kind in ("debian", "url"):
                await self.downloads.fetch(source, runner)
            elif source.kind == "local":
                _directory(source)

    async def prepare(
        self, source: Source, subdir: str, recipe: Resolved, target: Path, runner: Runner
    ) -> PreparedSource:
        """Make the directory ``subdir`` of a source, edited by a recipe, the tree ``target``; all of it or nothing.

        The recipe's placeholders are filled in already. Does nothing if the tree was prepared from
        the same things before. A re-made tree keeps the times of files that did not change; see
        ``sourcetree.settle``. Raises FetchError, EditError, UsageError.
        """
        with _located(source):
            pinned = await self.identify(source, runner)
            if source.kind == "local" and source.sha256 and source.sha256 != pinned.sha256:
                raise UsageError(
                    f"{source.path} has changed since this run was planned", hint="run the same command again"
                )
            key = await in_thread(input_key, pinned, subdir, recipe)
            record = target.with_name(f"{target.name}.json")
            known = read_stamp(record)
            if known is None or known["key"] != key or not await _is_whole(target, known, recipe):
                record.unlink(missing_ok=True)
                await in_thread(_sweep, target)
                known = {"key": key, **await self._prepare(pinned, subdir, recipe, target, runner)}
                await flush(target)
                write_stamp(record, known)
            else:
                await in_thread(bring_to_present, target)
        return PreparedSource(target, known["digest"], tuple(Outcome(**outcome) for outcome in known["outcomes"]))

    async def _prepare(
        self, source: Source, subdir: str, recipe: Resolved, target: Path, runner: Runner
    ) -> dict[str, Any]:
        outcomes: tuple[Outcome, ...] = ()
        made: int | None
        with new_directory(target) as tree:
            if source.kind == "git" and not source.layout and not source.edits:
                made = await self._export(source, subdir, tree, runner)
            else:
                made, outcomes = await self._arrange(source, subdir, recipe.directory, tree, runner)
            outcomes += await apply_changes(tree, recipe.edits, recipe.patches, runner)
            await in_thread(settle, tree, target, made)
            content = await in_thread(tree_digest, tree)
        return {"digest": content, "outcomes": [asdict(outcome) for outcome in outcomes]}

    async def _arrange(
        self, source: Source, subdir: str, recipe: Path, tree: Path, runner: Runner
    ) -> tuple[int | None, tuple[Outcome, ...]]:
        """Fill ``tree`` with what an arranged source has below ``subdir``; return its time and what was edited."""
        with _scratch(tree) as scratch:
            whole = scratch / "whole"
            made = await self._whole(source, recipe, whole, runner)
            if source.layout:
                whole = scratch / "arranged"
                await in_thread(apply_layout, scratch / "whole", source.layout, whole)
            outcomes = await apply_changes(whole, source.edits, (), runner)
            subdirectory(whole, subdir).rename(tree)
        return made, outcomes

    async def _whole(self, source: Source, recipe: Path, target: Path, runner: Runner) -> int | None:
        """Fill ``target`` with a source and return its time; None for a checkout, whose build tree may be older.

        Its files may have older times than what an earlier state of them was compiled to.
        """
        if source.kind == "git":
            target.mkdir()
            return await self._export(source, ".", target, runner)
        if source.kind == "bundled":
            await in_thread(copy_tree, recipe / source.path, target)
            return BUNDLED_TIME
        if source.kind == "local":
            await in_thread(copy_tree, _outside(_directory(source), target), target)
            return None
        await unpack(await self.downloads.fetch(source, runner), target, runner)
        return await in_thread(newest, target)

    async def _export(self, source: Source, subdir: str, target: Path, runner: Runner) -> int:
        commit = source.commit or source.ref
        return await self.git.export(
            source.urls, commit, source.ref, target, runner, submodules=source.submodules, subdir=subdir
        )


def input_key(source: Source, subdir: str, recipe: Resolved) -> str:
    """Return the key of all that determines a prepared tree; ``source`` is pinned."""
    inputs = {"source": source_identity(source, recipe), "subdir": subdir, "changes": changes_identity(recipe)}
    return digest({"format": FORMAT, **inputs})


@contextlib.contextmanager
def _located(source: Source) -> Iterator[None]:
    """Let errors point at the source in the manifest, unless they know better."""
    try:
        yield
    except RocmBuildError as error:
        error.where = error.where or source.where or None
        raise


async def _is_whole(target: Path, known: dict[str, Any], recipe: Resolved) -> bool:
    """Return whether a tree is still what was prepared: neither a disk nor a hand may change what keys speak of.

    One that its build writes to is not looked at.
    """
    if not target.is_dir():
        return False
    return recipe.writable_source or await in_thread(tree_digest, target) == known["digest"]


def _directory(source: Source) -> Path:
    path = Path(source.path)
    if not path.is_dir():
        raise UsageError(f"there is no directory {path}", hint=f"name one with --source {source.name}=DIRECTORY")
    return path


def _outside(directory: Path, target: Path) -> Path:
    """Return the directory; UsageError if ``target`` is in it, for a copy would have no end."""
    if target.resolve().is_relative_to(directory.resolve()):
        hint = "choose a workspace elsewhere, with --workspace"
        raise UsageError(f"the workspace lies in {directory}, which is to be copied to it", hint=hint)
    return directory


@contextlib.contextmanager
def _scratch(tree: Path) -> Iterator[Path]:
    """Make a temporary directory beside ``tree``, on the same file system, so that trees can be moved."""
    path = Path(tempfile.mkdtemp(dir=tree.parent, prefix=f"{tree.name}~"))
    try:
        yield path
    finally:
        remove_tree(path)


def _sweep(target: Path) -> None:
    """Remove what a killed run left of this tree; the workspace is held by this run alone."""
    leftover = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}(~[a-z0-9_]{{8}})?")
    for path in target.parent.glob(f".{target.name}.*"):
        if leftover.fullmatch(path.name):
            remove_tree(path)
