"""Disks of one's own for a user's directory, in a mount namespace: one that is small, one that loses its power."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.faults.ground import MORTAL
from tests.faults.watching import loops

ROOM = "1g"
"""The size of a disk that is large enough."""

_OTHER_BOOT = """find "$2" -path "*/build/*" -name boot -exec sh -c 'echo another > "$1"' sh {} ";"
"""
"""Lets marks of this start of the machine be of an earlier one: it cannot be started again for a test."""

_AS_ROOT_OF_ITS_OWN = ("unshare", "--user", "--map-root-user", "--mount")
_AS_ROOT = ("unshare", "--mount", "--propagation", "private")


@cache
def unavailable(what: str) -> str | None:
    """Return why disks cannot be made here: ``user`` ones need user namespaces, ``loop`` ones root and loop devices."""
    if what == "user":
        probe = subprocess.run([*_AS_ROOT_OF_ITS_OWN, "true"], check=False, capture_output=True)
        return None if probe.returncode == 0 else "this machine forbids user namespaces"
    if os.geteuid() != 0:
        return "mounting a disk's image takes root"
    probe = subprocess.run(["losetup", "--find"], check=False, capture_output=True)
    return None if probe.returncode == 0 else "this machine has no loop devices"


@dataclass
class Disk:
    """A file system at ``directory`` that only programs behind the words ``before`` see.

    The namespace lives as long as the process ``holder`` does; others find its files below ``seen``.
    """

    directory: Path
    holder: subprocess.Popen[bytes]
    enter: tuple[str, ...]
    image: Path | None = None
    options: str = ""

    @property
    def before(self) -> tuple[str, ...]:
        return ("nsenter", *self.enter, f"--target={self.holder.pid}", "--")

    @property
    def seen(self) -> Path:
        return Path(f"/proc/{self.holder.pid}/root{self.directory}")

    def do(self, *argv: str) -> None:
        """Run a program where the disk is."""
        subprocess.run([*self.before, *argv], check=True, capture_output=True)

    def grow(self) -> None:
        """Make room."""
        self.do("mount", "-o", f"remount,size={ROOM},nr_inodes=0", str(self.directory))

    def lose_power(self, process: subprocess.Popen[bytes]) -> None:
        """Take what has got to the disk until now, end all that runs, and go on with what was taken."""
        if self.image is None:
            raise ValueError("this disk has no power to lose")
        taken = self.image.with_suffix(".taken")
        _snapshot(self.image, taken)
        process.kill()
        process.wait()
        self.stop()
        taken.replace(self.image)
        self.holder = _mounted(self.directory, self.image, self.options, _OTHER_BOOT)

    def stop(self) -> None:
        """End the namespace with all that runs in it, and wait until the disk is free."""
        _end_all_in(self.holder.pid)
        self.holder.kill()
        self.holder.wait()
        _wait_for_free(self.image)


@contextmanager
def small(directory: Path, content: Path, size: int) -> Iterator[Disk]:
    """Put a copy of ``content`` on a disk of some bytes."""
    script = 'mount -t tmpfs -o "size=$1" tmpfs "$2"; cp --archive "$3/." "$2"'
    holder = _holder(_AS_ROOT_OF_ITS_OWN, script, str(size), str(directory), str(content))
    disk = Disk(directory, holder, ("--user", "--mount", "--preserve-credentials"))
    try:
        yield disk
    finally:
        disk.stop()


@contextmanager
def image(directory: Path, content: Path, commit: int) -> Iterator[Disk]:
    """Put a copy of ``content`` on a disk of its own, whose journal is written every ``commit`` seconds."""
    path = directory.with_name("disk.img")
    with path.open("wb") as file:
        file.truncate(192 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard", str(path)], check=True)
    options = f"loop,commit={commit}"
    holder = _mounted(directory, path, options, f'cp --archive "{content}/." "$2"; sync -f "$2"')
    disk = Disk(directory, holder, ("--mount",), path, options)
    try:
        yield disk
    finally:
        disk.stop()
        path.unlink()


def _mounted(directory: Path, path: Path, options: str, then: str) -> subprocess.Popen[bytes]:
    script = f'mount -o "$3" "$1" "$2"; {then}'
    return _holder(_AS_ROOT, script, str(path), str(directory), options)


def _holder(unshare: tuple[str, ...], script: str, *words: str) -> subprocess.Popen[bytes]:
    """Start the process that keeps a namespace, and wait until ``script`` has run in it."""
    argv = [*MORTAL, *unshare, "sh", "-ec", f"{script}\necho ready\nexec sleep 1000", "sh", *words]
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, cwd="/")
    assert holder.stdout is not None
    assert holder.stderr is not None
    if holder.stdout.readline() != b"ready\n":
        holder.kill()
        raise RuntimeError(f"cannot make a disk: {holder.stderr.read().decode()}")
    return holder


def _end_all_in(pid: int) -> None:
    """Kill the processes of a mount namespace: a machine without power runs nothing."""
    wanted = os.readlink(f"/proc/{pid}/ns/mnt")
    for _ in range(100):
        found = [other for other in _processes() if other != pid and _namespace(other) == wanted]
        if not found:
            return
        for other in found:
            try:
                os.kill(other, 9)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def _snapshot(image: Path, target: Path) -> None:
    """Copy a disk's image as it is at one moment: until two copies are the same."""
    other = target.with_suffix(".other")
    for _ in range(20):
        for copy in (target, other):
            subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
        if subprocess.run(["cmp", "--silent", str(target), str(other)], check=False).returncode == 0:
            break
    other.unlink()


def _wait_for_free(image: Path | None) -> None:
    for _ in range(200):
        if image is None or not loops(image):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{image} is still in use")
