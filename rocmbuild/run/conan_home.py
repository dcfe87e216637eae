"""Conan calls one at a time over all runs, in a home that survives kills and damage."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rocmbuild.errors import StoreError
from rocmbuild.process import BASE_ENVIRONMENT, ProcessError, Runner, describe_exit
from rocmbuild.tools import conan
from rocmbuild.tools.waiting import held
from rocmbuild.workspace import read_json, read_stamp, remove_tree, write_stamp, write_text

_IDENTITY = "store.json"


class DamagedHome(StoreError):
    """Report that Conan's database was damaged; it has been set aside, and the home is empty now."""


def warn_on_stderr(text: str) -> None:
    """Print a warning where a terminal shows it and a pipe does not take it for output."""
    print(f"rocmbuild: warning: {text}", file=sys.stderr, flush=True)


def tell_on_stderr(text: str) -> None:
    """Print what is being waited for, beside the output."""
    print(f"rocmbuild: {text}", file=sys.stderr, flush=True)


def identity(directory: Path) -> str | None:
    """Return which store a directory has, None if it has none yet; another one takes its place if it was damaged."""
    try:
        return (read_stamp(directory / _IDENTITY) or {}).get("id")
    except OSError:  # who asks for what is in it is told
        return None


@dataclass
class ConanHome:
    """A directory with a home of Conan in it; ``environment`` leads to the network, ``warn`` is told what is lost."""

    directory: Path
    environment: Mapping[str, str] = field(default_factory=lambda: BASE_ENVIRONMENT)
    warn: Callable[[str], None] = warn_on_stderr
    program: Path | None = None
    tell: Callable[[str], None] | None = None
    """told that there is something to wait for"""

    @property
    def path(self) -> Path:
        return self.directory / "conan"

    @property
    def places(self) -> Path:
        """Return the directory that remembers where entries lie; nothing in it is true without the home."""
        return self.directory / "places"

    @property
    def drafts(self) -> Path:
        """Return the directory of trees that are about to become entries."""
        return self.directory / "new"

    @property
    def is_empty(self) -> bool:
        """Return whether there has never been an entry, without asking Conan."""
        return not conan.database(self.path).exists()

    @contextlib.asynccontextmanager
    async def session(self, runner: Runner, *, changes: str | None = None) -> AsyncIterator[Calls]:
        """Hold the home for some calls; ``changes`` names the entry that a killed call would leave half-made.

        What an earlier kill left is cleaned first. Programs inherit the lock: an orphan that still writes keeps it.
        """
        async with held(self.directory / "lock", self._wait) as lock:
            self._prepare()
            own = replace(runner, inherit=(*runner.inherit, lock), tail=deque(maxlen=40))
            calls = Calls(self, own, self.program or conan.find_conan())
            await self._clean(calls)
            if changes is not None:
                self.begin(changes)
            yield calls  # not in a try: what fails or is interrupted leaves the mark, and is cleaned next time
            if changes is not None:
                self.end()
            if conan.written(self.path) != self._known:
                write_stamp(self._sum, {"written": conan.written(self.path)})

    def _prepare(self) -> None:
        """Make the home, or see to it that what Conan has written there once is whole.

        A power failure or a full disk leaves empty files, and Conan neither synchronizes nor checks them.
        """
        conan.prepare_home(self.path)
        if identity(self.directory) is None:
            with contextlib.suppress(OSError):  # a full disk: who makes room on it need not be known
                write_stamp(self.directory / _IDENTITY, {"id": os.urandom(16).hex()})
        if conan.written(self.path) != self._known:
            conan.rewrite(self.path)
        if read_json(self.path / "remotes.json") is None:
            (self.path / "remotes.json").unlink()
            conan.prepare_home(self.path)
            self.warn(f"the servers of the store {self.directory} are forgotten: its remotes.json was damaged")

    @property
    def _sum(self) -> Path:
        return self.directory / "conan.json"

    @property
    def _known(self) -> str | None:
        return (read_stamp(self._sum) or {}).get("written")

    def _wait(self, _: str) -> None:
        if self.tell is not None:
            self.tell(f"waiting for another run that uses the store {self.directory}")

    def begin(self, name: str) -> None:
        """Note, while the home is held, which entry a killed call would leave half-made or half-removed."""
        write_text(self._mark, name)

    def end(self) -> None:
        """Note that nothing is half-made."""
        self._mark.unlink(missing_ok=True)

    @property
    def _mark(self) -> Path:
        return self.directory / "unfinished"

    async def _clean(self, calls: Calls) -> None:
        """Remove what a call that did not end may have left: its entry, half a directory, temporary files."""
        try:
            changed = self._mark.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        self.forget(changed)
        await calls.attempt(_removal(changed))
        await calls.tidy()
        self.end()

    def place_file(self, name: str) -> Path:
        """Return the file that remembers an entry by ``name/version``."""
        return self.places / f"{name.replace('/', '-')}.json"

    def remembered(self) -> list[dict[str, Any]]:
        """Return what is remembered of all entries."""
        found = (read_json(path) for path in self.places.glob("*.json"))
        return [data for data in found if isinstance(data, dict) and isinstance(data.get("path"), str)]

    def forget(self, name: str) -> None:
        """Forget where an entry lies, before it is touched."""
        self.place_file(name).unlink(missing_ok=True)

    def set_aside(self, reason: str) -> DamagedHome:
        """Rename the damaged home, so that the next call begins a new one; return the error that says so.

        One without packages, as a full disk leaves it, is not worth keeping.
        """
        number = 1
        while (aside := self.directory / f"conan.damaged-{number}").exists():
            number += 1
        (self.directory / _IDENTITY).unlink(missing_ok=True)  # what was noted as stored is offered again
        self.path.rename(aside)
        remove_tree(self.places)
        conan.prepare_home(self.path)
        for name in ("remotes.json", ".conan.db"):
            with contextlib.suppress(OSError):
                shutil.copy2(aside / name, self.path / name)
        if not any(conan.packages_below(aside)):
            remove_tree(aside)
            return DamagedHome(f"the database of the store is damaged ({reason})", hint="run the same command again")
        message = f"the database of the store is damaged ({reason}); it was set aside as {aside}"
        self.warn(f"{message}, and a new one was begun")
        return DamagedHome(message, hint="rocmbuild store gc removes it; what it held is built again, or pulled")


@dataclass(frozen=True)
class Calls:
    """The calls of somebody who holds the home."""

    home: ConanHome
    runner: Runner
    program: Path

    async def __call__(self, arguments: Sequence[str], *, secrets: Mapping[str, str] | None = None) -> bytes:
        """Run Conan and return what it prints; StoreError has its complaint, ``secrets`` stay out of logs."""
        home, runner = self.home, self.runner if not secrets else replace(self.runner, log=None)
        environment = conan.home_environment(home.path, {**home.environment, **(secrets or {})})
        try:
            return await runner.capture([str(self.program), *arguments], env=environment, cwd=home.path)
        except ProcessError as error:
            said = conan.complaint(error.tail)
            if any(conan.is_damage(line) for line in error.tail):
                raise home.set_aside(said) from error
            how = describe_exit(error.returncode) if error.returncode != 1 else "failed"
            raise StoreError(f"conan {arguments[0]} {how}: {said}", log=error.log) from error

    async def attempt(self, arguments: Sequence[str]) -> bool:
        """Run Conan where a failure does not matter; return whether there was none."""
        try:
            await self(arguments)
        except DamagedHome:
            raise
        except StoreError:
            return False
        return True

    async def remove(self, name: str) -> None:
        """Remove an entry, ``name/version``, with all its revisions; it need not be there.

        Raises StoreError if it still is.
        """
        await self(_removal(name))

    async def packages(
        self, remote: str | None = None, *, secrets: Mapping[str, str] | None = None
    ) -> list[conan.Package]:
        """Return the packages of the home, or of a remote."""
        output = await self(conan.list_packages(remote), secrets=secrets)
        try:
            return conan.parse_packages(output)
        except ValueError as error:
            if remote is None and conan.is_damage(str(error)):
                raise self.home.set_aside(str(error)) from error
            raise StoreError(f"conan list: {error}") from error

    async def tidy(self) -> None:
        """Remove temporary files, and directories of packages that never got into the database."""
        home = self.home.path
        await self.attempt(["cache", "clean", "*", "--temp"])
        known = {(self.home.directory / str(data["path"])) for data in self.home.remembered()}
        for place in sorted(conan.built_packages(home)):
            if place not in known and await self._is_unknown(place):
                remove_tree(place.parent)
        remove_tree(conan.temporary(home))
        conan.prepare_home(home)

    async def _is_unknown(self, place: Path) -> bool:
        try:
            await self(["cache", "ref", str(place)])
        except DamagedHome:
            raise
        except StoreError as error:  # any other failure says nothing of it
            return conan.is_unknown(error.message)
        return False

    async def recipes(self) -> list[str]:
        """Return all that is in the home as ``name/version``, also what was never finished."""
        return conan.parse_recipes(await self(["list", "*", "--format=json"]))


def _removal(name: str) -> list[str]:
    return ["remove", name, "--confirm"]
