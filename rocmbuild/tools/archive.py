"""Unpack source archives and Debian packages; nothing in them can reach out of the target directory."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from rocmbuild.errors import FetchError
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import new_directory

_Parts = tuple[str, ...]

MAX_BYTES = 16 << 30
"""What an archive may unpack to; the largest source of ROCm (LLVM) has about 2 GiB."""

MAX_MEMBERS = 2_000_000

_DECODERS: Mapping[str, tuple[str, ...]] = {
    ".deb": ("dpkg-deb", "--fsys-tarfile"),
    ".zst": ("zstd", "--decompress", "--stdout"),
}
"""Programs that turn what tarfile cannot read into a plain tar stream, by suffix."""

_BROKEN = (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error)


async def unpack(archive: Path, target: Path, runner: Runner) -> None:
    """Unpack a tarball or a Debian package's files to the new directory ``target``; times are kept.

    A tarball's only top directory is left out; a package's files keep their paths (``usr/...``).
    FetchError names the archive and the member that is damaged or reaches out of ``target``.
    """
    decoder = _DECODERS.get(archive.suffix)
    content: bytes | None = None
    if decoder is not None:
        try:
            content = await runner.capture([*decoder, str(archive)])
        except ProcessError as error:
            raise _damaged(archive, error.tail[-1] if error.tail else error.message) from error
    await in_thread(_unpack, archive, content, target)


def _unpack(archive: Path, content: bytes | None, target: Path) -> None:
    stream: IO[bytes] = io.BytesIO(content) if content is not None else archive.open("rb")
    with stream, new_directory(target) as place:
        try:
            with tarfile.open(fileobj=stream, mode="r:*") as tar:
                members = list(_checked(tar, archive))
                tar.extractall(place, members=members, filter="data")
        except OSError as error:
            if error.errno is None:  # bz2 and gzip report damage so
                raise _damaged(archive, str(error)) from error
            raise FetchError(f"{archive} cannot be unpacked to {target}: {error.strerror}") from error
        except _BROKEN as error:
            raise _damaged(archive, str(error)) from error
        if archive.suffix != ".deb":
            _strip(place)


def _checked(tar: tarfile.TarFile, archive: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the members once all of them are known to be harmless.

    tarfile's own data filter follows links of the archive when it decides; here no member may lie
    below a link at all, and a link climbs only at its beginning, so names alone decide.
    """
    members = [member for member in tar if _parts(member.name)]  # not "./" itself
    links = {_parts(member.name) for member in members if member.issym()}
    seen: set[_Parts] = set()
    if len(members) > MAX_MEMBERS or sum(member.size for member in members) > MAX_BYTES:
        raise _hostile(archive, None, "unpacks to more than a source tree can have")
    for member in members:
        parts = _parts(member.name)
        if fault := _fault(member, parts, links, seen):
            raise _hostile(archive, member.name, fault)
        seen.add(parts)
    yield from members


def _fault(member: tarfile.TarInfo, parts: _Parts, links: set[_Parts], seen: set[_Parts]) -> str | None:
    """Return in words what is wrong with a member, or None."""
    linked = _parts(member.linkname)
    faults = (
        (member.name.startswith("/"), "has an absolute name"),
        (".." in parts, "has a name that leads out of the archive"),
        ("\0" in member.name + member.linkname, "has a name with a zero byte in it"),
        (any(parts[:length] in links for length in range(1, len(parts))), "lies below a link"),
        (parts in seen and (not member.isdir() or parts in links), "is there twice"),
        (
            member.issym() and not _stays_inside(parts, member.linkname),
            f"is a link that leads out of the archive, to {member.linkname}",
        ),
        (
            member.islnk() and (linked not in seen or linked in links),
            f"is a hard link to {member.linkname}, which is no file in the archive before it",
        ),
        (
            not (member.isfile() or member.isdir() or member.issym() or member.islnk()),
            "is a device or a pipe",
        ),
    )
    return next((text for wrong, text in faults if wrong), None)


def _stays_inside(parts: _Parts, link: str) -> bool:
    """Tell whether a symbolic link's target lies in the archive; ``..`` may stand at its beginning only."""
    steps = [step for step in link.split("/") if step not in ("", ".")]
    climbs = next((index for index, step in enumerate(steps) if step != ".."), len(steps))
    return not link.startswith("/") and ".." not in steps[climbs:] and climbs < len(parts)


def _parts(name: str) -> _Parts:
    return PurePosixPath(name.lstrip("/")).parts


def _strip(directory: Path) -> None:
    """Replace a directory's content by that of the only directory in it, if there is but one."""
    entries = list(directory.iterdir())
    if len(entries) != 1 or entries[0].is_symlink() or not entries[0].is_dir():
        return
    top = entries[0].rename(directory / ".rocmbuild-top")  # a name that none of its entries has
    for entry in list(top.iterdir()):
        entry.rename(directory / entry.name)
    top.rmdir()


def _damaged(archive: Path, why: str) -> FetchError:
    return FetchError(f"{archive} cannot be unpacked: {why}", hint="remove it, so that it is downloaded again")


def _hostile(archive: Path, member: str | None, fault: str) -> FetchError:
    name = f"{archive}: {member}" if member else str(archive)
    return FetchError(f"{name} {fault}; nothing was unpacked", hint="do not use this file: take another source")
