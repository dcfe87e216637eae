"""Build roots and sysroots: Debian packages unpacked side by side, without root rights, running nothing of theirs.

The tree is not configured: no maintainer script has run. That is enough to compile in, works for any
architecture, and two machines with the same package versions make the same tree. Beside the files it keeps
dpkg's data (status, file lists, symbols, shlibs), from which dependencies of our own packages are computed.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rocmbuild.errors import RootError
from rocmbuild.model.target import Distribution
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.apt import Apt, Available
from rocmbuild.tools.flush import flush
from rocmbuild.tools.waiting import held
from rocmbuild.workspace import new_directory, read_json, write_json

FORMAT = 2
"""Raised whenever the same packages would give another tree."""

MOUNT_POINTS = ("proc", "dev", "tmp", "src", "build", "stage", "opt", "run", "sysroot", "home", "usr/lib/rocmbuild")
"""Directories the sandbox mounts on; a read-only root must have them beforehand."""

_MERGED = ("bin", "sbin", "lib", "lib64")
_KEPT_CONTROL = ("symbols", "shlibs")
_PASSWD = "root:x:0:0:root:/:/bin/sh\nbuilder:x:1000:1000:builder:/build:/bin/sh\n"
_GROUP = "root:x:0:\nbuilder:x:1000:\n"


@dataclass(frozen=True)
class RootSpec:
    """What a root is made of: a distribution, an architecture, and package names to install."""

    distribution: Distribution
    arch: str
    packages: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return the name of the root, which changes with anything that goes into it but versions."""
        suites = [[suite.name, suite.archive, list(suite.components)] for suite in self.distribution.suites]
        data = [FORMAT, self.distribution.name, suites, self.arch, sorted(set(self.packages))]
        digest = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]
        return f"{self.distribution.name}-{self.arch}-{digest}"


@dataclass(frozen=True)
class Root:
    """A root on disk; ``versions`` maps each package to its version, ``digest`` sums them up."""

    path: Path
    versions: dict[str, str]
    digest: str


def find_root(directory: Path, spec: RootSpec) -> Root | None:
    """Return the root made for ``spec`` earlier, or None."""
    data = read_json(directory / f"{spec.key}.json")
    path = directory / spec.key
    if data is None or not path.is_dir():
        return None
    return Root(path, data["versions"], data["digest"])


async def make_root(directory: Path, spec: RootSpec, apt: Apt, runner: Runner) -> Root:
    """Return the root for ``spec``, making it if there is none; RootError or FetchError if that fails."""
    # apt's state is shared by all roots of a distribution; whatever a killed run leaves running keeps the locks
    async with (
        held(directory / f".{spec.key}.lock", runner.on_line) as own,
        held(apt.directory / ".lock", runner.on_line) as shared,
    ):
        runner = replace(runner, inherit=(*runner.inherit, own, shared))
        found = find_root(directory, spec)
        if found is not None:
            return found
        await apt.update(runner)
        closure = await apt.closure(spec.packages, runner)
        debs = await apt.download(closure, runner)
        with new_directory(directory / spec.key) as tree:
            await _populate(tree, list(zip(closure, debs, strict=True)), runner)
        versions = {f"{item.name}:{item.arch}": item.version for item in closure}
        digest = hashlib.sha256(json.dumps([FORMAT, versions], sort_keys=True).encode()).hexdigest()
        await flush(directory)
        write_json(directory / f"{spec.key}.json", {"versions": versions, "digest": digest})
        return Root(directory / spec.key, versions, digest)


async def _populate(tree: Path, packages: Sequence[tuple[Available, Path]], runner: Runner) -> None:
    for name in _MERGED:
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")
    info = tree / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    tasks = asyncio.Semaphore(2)

    async def one(package: Available, deb: Path) -> str:
        async with tasks:
            return await _unpack(tree, info, package, deb, runner)

    try:
        async with asyncio.TaskGroup() as group:
            stanzas = [group.create_task(one(package, deb)) for package, deb in packages]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    (info.parent / "status").write_text("\n".join(stanza.result() for stanza in stanzas))
    _finish(tree)


async def _unpack(tree: Path, info: Path, package: Available, deb: Path, runner: Runner) -> str:
    """Unpack one package into the tree; return its paragraph for dpkg's status file."""
    try:
        data = await runner.capture(["dpkg-deb", "--fsys-tarfile", str(deb)])
        control = await runner.capture(["dpkg-deb", "--ctrl-tarfile", str(deb)])
        argv = ["tar", "--extract", "--file=-", f"--directory={tree}", "--keep-directory-symlink"]
        await runner.run([*argv, "--no-same-owner", "--delay-directory-restore"], stdin=data)
    except ProcessError as error:
        raise RootError(
            f"{deb.name} could not be unpacked",
            log=error.log,
            hint=f"if the disk is not full, remove {deb} and run the same command again",
        ) from error
    return await asyncio.to_thread(_register, info, package, data, control)


def _register(info: Path, package: Available, data: bytes, control: bytes) -> str:
    files = _members(control)
    fields = files["control"].decode()
    stem = f"{package.name}:{package.arch}" if "\nMulti-Arch: same" in fields else package.name
    for kind in _KEPT_CONTROL:
        if kind in files:
            (info / f"{stem}.{kind}").write_bytes(files[kind])
    with tarfile.open(fileobj=io.BytesIO(data)) as members:
        names = [f"/{name}" for member in members if (name := member.name.removeprefix("./").rstrip("/")) != "."]
    (info / f"{stem}.list").write_text("\n".join(["/.", *names]) + "\n")
    first, _, rest = fields.rstrip("\n").partition("\n")
    return f"{first}\nStatus: install ok installed\n{rest}\n"


def _members(control: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(control)) as archive:
        opened = ((member.name.removeprefix("./"), archive.extractfile(member)) for member in archive)
        return {name: file.read() for name, file in opened if file is not None}


def _finish(tree: Path) -> None:
    """Add what maintainer scripts would have made and a compiler's work needs."""
    for name in MOUNT_POINTS:
        (tree / name).mkdir(parents=True, exist_ok=True)
    _make_links_relative(tree)
    (tree / "etc").mkdir(exist_ok=True)
    (tree / "etc/passwd").write_text(_PASSWD)
    (tree / "etc/group").write_text(_GROUP)
    for link, target in (("sh", "dash"), ("awk", "gawk")):
        path = tree / "usr/bin" / link
        if not path.exists() and (tree / "usr/bin" / target).exists():
            path.symlink_to(target)


def _make_links_relative(tree: Path) -> None:
    """Let absolute links lead to the tree wherever it is mounted."""
    for directory, names, files in os.walk(tree):
        for path in (Path(directory, name) for name in (*names, *files)):
            if path.is_symlink() and (target := os.readlink(path)).startswith("/"):
                path.unlink()
                path.symlink_to(os.path.relpath(target, f"/{os.path.relpath(directory, tree)}"))
