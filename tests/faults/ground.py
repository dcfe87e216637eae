"""What a campaign stands on: repositories, and users in several states of a build, each prepared once."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rocmbuild.workspace import remove_tree
from tests.faults.watching import names_below
from tests.integration.conftest import REF, REPOSITORIES, TOY, Toy
from tests.integration.forge import Forge

RELEASE = Path(__file__).parent / "release"
BRANCH = "faults"
ARCHIVE = "Toys/toywide-1.0.tar"

MORTAL = ("setpriv", "--pdeathsig", "KILL", "--", "env", "--default-signal=HUP,INT")
"""Words before a program that is not to outlive the campaign, and heeds signals that nohup or a shell's & ignores."""

LIMIT = 300.0
"""Seconds after which a run counts as hanging."""

BEFORE = {
    "toybase": {"src/count.c": "int count(void)\n{\n    return 41;\n}\n"},
    "toydevice": {"parts/other/README": "Another time.\n"},
}
"""What some files were before: for one component another library, for one the same."""


@dataclass
class Faulted(Toy):
    """A user who builds the release of a campaign; it does not matter where the program's output goes."""

    said: Path = Path("said")
    """a file for what the program prints: a pipe would be held open by what a killed one leaves running"""

    @property
    def events(self) -> Path:
        """Return a file beside the user's directory: it can be read while that is on a disk of its own."""
        return self.directory.with_name("events.jsonl")

    def launch(self, *before: str, argv: list[str] | None = None) -> subprocess.Popen[bytes]:
        """Start a build, after the words ``before``; what it prints goes to a file."""
        self.events.unlink(missing_ok=True)
        with self.said.open("wb") as said:
            return subprocess.Popen(
                [*MORTAL, *before, *(argv or self.command())],
                cwd=self.directory,
                env=self.env(),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def command(self) -> list[str]:
        """Return the command line of every run: it is never changed."""
        return self.argv("build", "--no-verify", "--events", str(self.events))

    def finish(self, *before: str) -> int:
        """Run a build to its end; -1000 if it does not come."""
        return ended(self.launch(*before))

    def told(self) -> int:
        """Return how many events the run has told."""
        try:
            return self.events.read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0


def ended(process: subprocess.Popen[bytes], seconds: float = LIMIT) -> int:
    """Wait for the end of a program and return its exit code; -1000 if it had to be killed."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return -1000


@dataclass(frozen=True)
class State:
    """A user's directory as it is before a run, and what an undisturbed run makes of it.

    ``told`` are its events, ``planning`` the seconds to the first of them, ``names`` the files there are after it,
    ``used`` and ``peak`` bytes before and after.
    """

    name: str
    place: Path
    told: int
    planning: float
    names: frozenset[str]
    used: int
    peak: int
    debs: Mapping[str, str]


@dataclass
class Ground:
    """The base directory of a campaign; all runs take place in one directory of it, so that paths are the same."""

    base: Path
    cache: Path
    """downloads and roots that outlive the campaign"""
    _states: dict[str, State] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        return self.base / "user"

    @property
    def scratch(self) -> Path:
        """Return the directory for temporary files of the program under test, which has to be empty after it."""
        return self.base / "tmp"

    @cached_property
    def forges(self) -> tuple[Path, Path]:
        """The repositories as they were and as they are."""
        old, new = self.base / "forge-before", self.base / "forge"
        forge = Forge(new)
        made = {name: forge.create(f"Toys/{place}", TOY / "sources" / name, branch=REF) for name, place in _WHERE}
        (new / ARCHIVE).write_bytes(_archive(RELEASE / "source"))
        now = {name: {file: (made[name].work / file).read_bytes() for file in files} for name, files in BEFORE.items()}
        for name, files in BEFORE.items():
            made[name].commit(files, "Before")
        shutil.copytree(new, old, symlinks=True)
        for name, files in now.items():
            made[name].commit(files, "Now")
        return old, new

    def user(self, forge: Path | None = None) -> Faulted:
        """Return the user whose directory is there now."""
        own = self.base / "manifests"
        if not own.is_dir():
            own.mkdir()
            total = hashlib.sha256((self.forges[1] / ARCHIVE).read_bytes()).hexdigest()
            (own / f"{BRANCH}.yaml").write_text((RELEASE / "manifest.yaml").read_text().replace("SUM", total))
        self.scratch.mkdir(exist_ok=True)
        return Faulted(
            self.directory,
            forge or self.forges[1],
            BRANCH,
            environ={"TMPDIR": str(self.scratch), "no_proxy": "127.0.0.1"},
            options=["--manifests", str(own), "--recipes", str(RELEASE / "recipes")],
            said=self.base / "said",
        )

    def state(self, name: str) -> State:
        """Return a state, prepared when it is first asked for."""
        if name not in self._states:
            self._states[name] = self._prepared(name)
        return self._states[name]

    def lay(self, state: State) -> Faulted:
        """Put the user's directory into a state."""
        for path in (self.directory, self.scratch):
            remove_tree(path)
        copy(state.place, self.directory)
        return self.user()

    def _prepared(self, name: str) -> State:
        getattr(self, f"_make_{name}")()
        user = self.user()
        place = self.base / "states" / name
        place.parent.mkdir(exist_ok=True)
        copy(self.directory, place)
        used = room(self.directory)
        begun = time.monotonic()
        process = user.launch()
        while not user.told() and process.poll() is None:
            time.sleep(0.005)
        planning = time.monotonic() - begun
        code = ended(process)
        if code != 0:
            raise RuntimeError(f"an undisturbed run from {name} ended with {code}:\n{user.said.read_text()}")
        if name == "empty":
            copy(self.directory, self.base / "states" / "finished")
        if name != "empty" and user.debs() != self.state("empty").debs:
            raise RuntimeError(f"an undisturbed run from {name} makes other packages than one from nothing")
        names = names_below(self.directory)
        return State(name, place, user.told(), planning, names, used, room(self.directory), user.debs())

    def _make_empty(self) -> None:
        remove_tree(self.directory)
        user = self.user()
        user.home.mkdir(parents=True)
        (user.cache / "downloads").mkdir(parents=True)
        shared = self.cache / "program"
        for name in ("apt", "roots", "downloads/debs"):
            (shared / name).mkdir(parents=True, exist_ok=True)
            (user.cache / name).symlink_to(shared / name)

    def _make_fetched(self) -> None:
        self.lay(self.state("empty"))
        self._call(self.user(), "fetch")

    def _make_built(self) -> None:
        self.state("empty")
        remove_tree(self.directory)
        copy(self.base / "states" / "finished", self.directory)

    def _make_changed(self) -> None:
        """Everything is built from the repositories as they were."""
        self.lay(self.state("empty"))
        self._call(self.user(self.forges[0]), "build", "--no-verify")

    def _make_packaged(self) -> None:
        """Everything is built, and packaged in another way."""
        self._make_built()
        user = self.user()
        user.recipe("toybase", ("section: libs\n", "section: games\n"))
        user.recipe("toydevice", ("section: libs\n", "section: games\n"))
        self._call(user, "build", "--no-verify")
        remove_tree(user.directory / "recipes")

    def _make_stored(self) -> None:
        """Everything is in the store, and the workspace is new."""
        self._make_built()
        remove_tree(self.user().workspace)

    def _call(self, user: Faulted, verb: str, *words: str) -> None:
        done = user.run(verb, *words)
        if done.returncode != 0:
            raise RuntimeError(f"{verb} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


_WHERE = tuple(REPOSITORIES.items())


def copy(source: Path, target: Path) -> None:
    """Copy a directory with times, modes and hard links."""
    subprocess.run(["cp", "--archive", str(source), str(target)], check=True)


def room(directory: Path) -> int:
    """Return the bytes that files below a directory take in pages; hard links count once."""
    seen = {}
    for place, _, files in os.walk(directory):
        for name in files:
            status = os.lstat(os.path.join(place, name))
            if stat.S_ISREG(status.st_mode):
                seen[status.st_ino] = -(-status.st_size // 4096) * 4096
    return sum(seen.values())


def _archive(source: Path) -> bytes:
    """Return a tar archive of a directory: the same bytes each time."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path in sorted(source.iterdir()):
            member = tarfile.TarInfo(f"toywide-1.0/{path.name}")
            content = path.read_bytes()
            member.size, member.mtime = len(content), 1690000000
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()
