"""Debian packages out of stage trees: the same bytes on every machine, at any time, under any umask."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from debian.deb822 import Deb822

from rocmbuild.errors import PackageError
from rocmbuild.process import BASE_ENVIRONMENT, Runner
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import remove_tree

LEVEL = 3
"""Level of zstd. Measured on 190 MiB: 1.7 s, against 285 s of xz."""

_RELATIONS = ("Pre-Depends", "Depends", "Recommends", "Suggests", "Conflicts", "Breaks", "Replaces", "Provides")
_IDENTITY = ("Package", "Source", "Version", "Architecture", "Maintainer", "Installed-Size")
_FIELDS = (*_IDENTITY, *_RELATIONS, "Section", "Priority", "Homepage", "Description")


@dataclass(frozen=True)
class Deb:
    """What a package is made of.

    ``control`` are its fields (Installed-Size is computed), ``files`` paths of files and links relative to ``stage``,
    ``extra`` further files by their path, ``scripts`` maintainer scripts by kind; ``epoch`` is the time of every file.
    ``libraries`` are those of ``files`` that are not executable though they have the mode of it.
    """

    control: Mapping[str, str]
    stage: Path
    files: Sequence[str]
    extra: Mapping[str, bytes]
    scripts: Mapping[str, str]
    epoch: int
    libraries: Collection[str] = ()

    @property
    def filename(self) -> str:
        """Return ``<name>_<version>_<architecture>.deb``; the epoch of a version is no part of it."""
        version = self.control["Version"].partition(":")[2] or self.control["Version"]
        return f"{self.control['Package']}_{version}_{self.control['Architecture']}.deb"


async def build_deb(deb: Deb, out: Path, runner: Runner, *, level: int = LEVEL) -> tuple[Path, int]:
    """Write a package into the directory ``out``; return its path and its installed size in KiB.

    Raises PackageError for what cannot be packaged (devices, sockets, two files of one name).
    """
    with _scratch(out) as scratch:
        size = await in_thread(assemble, deb, scratch / "tree")
        made, path = scratch / deb.filename, out / deb.filename
        # the bytes of zstd differ between one thread and several, so their number is fixed
        environment = {**BASE_ENVIRONMENT, "SOURCE_DATE_EPOCH": str(deb.epoch), "DPKG_DEB_THREADS_MAX": "1"}
        compression = ("-Zzstd", f"-z{level}", "--uniform-compression")
        argv = ("dpkg-deb", "--root-owner-group", *compression, "--build", str(scratch / "tree"), str(made))
        await runner.run(argv, env=environment)
        made.chmod(0o644)
        made.replace(path)
    return path, size


def assemble(deb: Deb, tree: Path) -> int:
    """Lay a package out in the new directory ``tree``, its control files below DEBIAN; return its size in KiB."""
    tree.mkdir()
    for name in deb.files:
        _copy(deb.stage / name, tree / name, executable=name not in deb.libraries)
    for name, data in deb.extra.items():
        _write(tree / name, data)
    size, sums = _measure(tree)
    conffiles = [name for name in sums if name.startswith("etc/")]
    _write(tree / "DEBIAN/control", _control({**deb.control, "Installed-Size": str(size)}).encode())
    _write(tree / "DEBIAN/md5sums", "".join(f"{sums[n]}  {n}\n" for n in sums if n not in conffiles).encode())
    if conffiles:
        _write(tree / "DEBIAN/conffiles", "".join(f"/{name}\n" for name in conffiles).encode())
    for kind, text in deb.scripts.items():
        _write(tree / "DEBIAN" / kind, text.encode(), executable=True)
    _settle(tree, deb.epoch)
    return size


def compress(data: bytes) -> bytes:
    """Return gzip data without a time or a name in it."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(data)
    return buffer.getvalue()


def _control(fields: Mapping[str, str]) -> str:
    unknown = fields.keys() - set(_FIELDS)
    if unknown:
        raise ValueError(f"no control fields of a binary package: {sorted(unknown)}")
    paragraph = Deb822()
    for name in _FIELDS:
        if fields.get(name):
            paragraph[name] = fields[name]
    return str(paragraph.dump())


def _copy(source: Path, target: Path, *, executable: bool) -> None:
    mode = source.lstat().st_mode
    target.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISREG(mode):
        shutil.copyfile(source, target)
        target.chmod(0o755 if executable and mode & stat.S_IXUSR else 0o644)
    else:
        raise PackageError(
            f"it is neither a file nor a link ({stat.filemode(mode)})",
            where=str(source),
            hint="discard it in the recipe",
        )


def _write(target: Path, data: bytes, *, executable: bool = False) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        name = target.name
        raise PackageError(
            f"the stage tree has a file that packaging writes: {name}",
            where=str(target),
            hint="discard it in the recipe",
        )
    target.write_bytes(data)
    target.chmod(0o755 if executable else 0o644)


def _measure(tree: Path) -> tuple[int, dict[str, str]]:
    """Return the installed size in KiB, counted as dpkg-gencontrol does, and the MD5 sum of each file."""
    size, sums = 0, {}
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            with path.open("rb") as file:
                sums[path.relative_to(tree).as_posix()] = hashlib.file_digest(file, _md5).hexdigest()
            size += -(-status.st_size // 1024)
        else:
            size += 1
    return size, sums


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


def _settle(tree: Path, epoch: int) -> None:
    """Give everything the same time, and directories the same mode; children first, as they touch their parents."""
    for directory, names, files in os.walk(tree, topdown=False):
        for name in (*names, *files):
            path = Path(directory, name)
            if not path.is_symlink() and path.is_dir():
                path.chmod(0o755)
            os.utime(path, (epoch, epoch), follow_symlinks=False)
    tree.chmod(0o755)
    os.utime(tree, (epoch, epoch))


@contextlib.contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=out, prefix=".deb."))
    try:
        yield path
    finally:
        remove_tree(path)
