"""Where things lie on disk, and how they get there whole: atomic writes, one run per workspace."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rocmbuild import procfs
from rocmbuild.errors import RocmBuildError, UsageError

FORMAT = 1
"""Format of the workspace's directories; raised when an older one cannot be continued."""

_TEMPORARY = re.compile(r"\.[^/]+\.[a-z0-9_]{8}(~[a-z0-9_]{8})?")
"""Names of directories that are to be renamed, and of those beside them."""

LEFTOVERS = 15.0
"""Seconds to wait for programs of a killed run to end: they have been told to."""


@dataclass(frozen=True)
class Cache:
    """Downloads, roots and proofs, shared by all workspaces of a user."""

    path: Path

    @property
    def git(self) -> Path:
        return self.path / "git"

    @property
    def downloads(self) -> Path:
        return self.path / "downloads"

    @property
    def apt(self) -> Path:
        return self.path / "apt"

    @property
    def ccache(self) -> Path:
        """Return the directory of compiled files, which ccache alone looks after."""
        return self.path / "ccache"

    @property
    def roots(self) -> Path:
        return self.path / "roots"

    @property
    def measured(self) -> Path:
        """Return the directory of what building components took."""
        return self.path / "measured"

    @property
    def proofs(self) -> Path:
        """Return the directory of verifications that were passed."""
        return self.path / "proofs"


@dataclass(frozen=True)
class Workspace:
    """The directory of one user's builds; ``area`` names branch, distribution and architecture in it."""

    path: Path
    branch: str
    area: str

    def source(self, component: str) -> Path:
        """Return the source tree a component is built from; edits depend on the area, so each has its own."""
        return self.path / "src" / self.branch / self.area / component

    def component(self, name: str) -> Path:
        """Return the directory that holds a component's build tree, stage tree and stamps."""
        return self.path / "build" / self.branch / self.area / name

    def build(self, name: str) -> Path:
        return self.component(name) / "build"

    def stage(self, name: str) -> Path:
        return self.component(name) / "stage"

    def prefix(self, name: str) -> Path:
        return self.component(name) / "prefix"

    def sysroot_prefix(self, name: str) -> Path:
        """Return the prefix as a cross build sees it below the sysroot."""
        return self.component(name) / "sysroot-prefix"

    def debs(self, name: str) -> Path:
        return self.component(name) / "debs"

    @property
    def toolchain(self) -> Path:
        """Return the directory of what makes compilers work for another machine."""
        return self.component(".toolchain")

    def stamp(self, name: str) -> Path:
        return self.component(name) / "stamp.json"

    def log(self, task: str, step: str) -> Path:
        """Return the log file of a step's last run."""
        return self.path / "logs" / self.branch / self.area / task / f"{step}.log"

    @property
    def out(self) -> Path:
        return self.path / "out" / self.branch / self.area


def open_workspace(path: Path) -> Path:
    """Create the workspace if it is new; UsageError if it cannot be used, and why."""
    marker = path / "workspace.json"
    try:
        path.mkdir(parents=True, exist_ok=True)
        if marker.exists():
            data = json.loads(marker.read_text(encoding="utf-8"))
            found = data.get("format") if isinstance(data, dict) else None
            if found != FORMAT:
                raise UsageError(
                    f"the workspace {path} has format {found}, this rocmbuild writes format {FORMAT}",
                    hint="use another one with --workspace, or remove it",
                )
        else:
            write_json(marker, {"format": FORMAT})
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the workspace {path} cannot be used: {error}", hint="name a writable directory with --workspace"
        ) from error
    return path


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold the workspace for one run; UsageError names the process that has it already.

    The lock file says whose it is until that run comes to its end; what one that was killed has left is removed first.
    Yields the descriptor of the lock, for the programs of the run: those that outlive a run that was killed hold the
    workspace until they end, and nobody works in a tree that they still write to.
    """
    with (path / "lock").open("a+") as lock:
        _acquire(lock, path)
        lock.seek(0)
        killed = bool(lock.read())
        lock.truncate(0)
        lock.write(f"rocmbuild, process {os.getpid()}\n")
        lock.flush()
        try:
            if killed:
                _sweep_all(path)
            yield lock.fileno()
        finally:
            lock.truncate(0)
            fcntl.flock(lock, fcntl.LOCK_UN)  # also for programs that have the descriptor and go on: daemons


def _acquire(lock: IO[str], path: Path) -> None:
    until = time.monotonic() + LEFTOVERS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
        else:
            return
        killed = not Path(f"/proc/{owner.rpartition(' ')[2] or 'self'}").exists()
        if not killed or time.monotonic() > until:
            raise UsageError(
                f"the workspace {path} is in use by {_left(path) if killed else owner or 'another process'}",
                hint="wait for it to end, or use another workspace with --workspace",
            ) from None
        time.sleep(0.1)


def _sweep_all(path: Path) -> None:
    """Remove all temporary directories of a workspace: who made them may have no further use for their places."""
    for place in ("src/*/*", "build/*/*/*", "out/*", "verify"):
        for left in path.glob(f"{place}/.*"):
            if _TEMPORARY.fullmatch(left.name):
                remove_tree(left)


def _left(path: Path) -> str:
    """Return what is left of a run that was killed."""
    left = ", ".join(f"{one.name} (process {one.pid})" for one in procfs.having_open(path / "lock"))
    return f"what a killed run left behind: {left}"


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step, so that a reader sees the old or the new one, never a part.

    The unfinished file has always the same name: what a killed run left of it, the next write takes up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    with _locked(unfinished) as file:
        try:
            file.truncate(0)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(unfinished, 0o644)
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
            raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    """Open a file for one run alone; one that had to wait may find that the file has got its final name meanwhile."""
    while True:
        with path.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                own = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                own = False
            if own:
                yield file
                return


def write_json(path: Path, data: Any) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Return the data of a JSON file, or None if there is none or it is not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None


_SUM = '{\n "sum": "'


def write_stamp(path: Path, data: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step, with the sum of what follows in it: whoever relies on it wants to know."""
    text = json.dumps(data, indent=1, sort_keys=True)[1:] + "\n"
    write_text(path, f'{_SUM}{hashlib.sha256(text.encode()).hexdigest()}",{text}')


def read_stamp(path: Path) -> dict[str, Any] | None:
    """Return the data of a stamp, or None if there is none or it is not what was written.

    One without a sum is of an older rocmbuild, and is believed.
    """
    data = read_json(path)
    if not isinstance(data, dict):
        return None
    total = data.pop("sum", None)
    text = path.read_text(encoding="utf-8") if total is not None else ""
    body = text[len(_SUM) + 64 + len('",') :]
    return data if total in (None, hashlib.sha256(body.encode()).hexdigest()) else None


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Fill a temporary directory that takes the place of ``path`` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    temporary.chmod(0o755)
    try:
        yield temporary
        remove_tree(path)
        temporary.rename(path)
    except BaseException:
        remove_tree(temporary)
        raise


def sweep(path: Path) -> None:
    """Remove what killed runs left of temporary directories for ``path``; the caller holds the lock of its place."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        remove_tree(left)


def remove_tree(path: Path) -> None:
    """Remove a tree, also one with read-only directories in it; do nothing if there is none."""
    if not path.is_symlink() and not path.exists():
        return
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    if os.geteuid() != 0:
        os.chmod(path, stat.S_IRWXU)
        for directory, names, _ in os.walk(path):
            for inner in (os.path.join(directory, name) for name in names):
                if not os.path.islink(inner):
                    os.chmod(inner, stat.S_IRWXU)
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise RocmBuildError(f"cannot remove {path}: {error}") from error


def sha256_file(path: Path) -> str:
    """Return the sha256 sum of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(root: Path, *, ignore: frozenset[str] = frozenset({".git"})) -> str:
    """Return the sha256 sum over names, modes (executable or not), links and contents below ``root``.

    Times and owners do not count; ``ignore`` are names left out wherever they appear.
    """
    digest = hashlib.sha256()

    def refuse(error: OSError) -> None:
        raise error  # what cannot be read must not look like what is not there

    for directory, names, files in os.walk(root, onerror=refuse):
        names[:] = sorted(name for name in names if name not in ignore)
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]
        for name in sorted([*(file for file in files if file not in ignore), *links]):
            path = os.path.join(directory, name)
            digest.update(_entry(path, os.path.relpath(path, root)))
        names[:] = [name for name in names if name not in links]
    return digest.hexdigest()


def _entry(path: str, name: str) -> bytes:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return f"link {name}\0{os.readlink(path)}\0".encode("utf-8", "surrogateescape")
    kind = "exec" if status.st_mode & stat.S_IXUSR else "file"
    if not stat.S_ISREG(status.st_mode):
        return f"other {name}\0".encode("utf-8", "surrogateescape")
    return f"{kind} {name}\0{sha256_file(Path(path))}\0".encode("utf-8", "surrogateescape")
