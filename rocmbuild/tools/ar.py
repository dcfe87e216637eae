"""Archives of object files (``.a``): their members, where each lies. Pure.

Source: ar(5) of FreeBSD for the common format and BSD's names, the documentation of GNU binutils for thin archives,
``/SYM64/`` from the archives themselves. python-debian reads packages, whose members have short names only.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

from rocmbuild.errors import PackageError

MAGIC, THIN_MAGIC = b"!<arch>\n", b"!<thin>\n"

Bytes = bytes | mmap.mmap

_HEADER = 60
_END = b"`\n"
_NAMES = b"//"
_TABLES = (b"/", b"/SYM64/", _NAMES)
"""Members that speak of the others: symbols, with offsets of 32 or 64 bits, and long names."""


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name, where its content begins and how long it is, both in bytes."""

    name: str
    start: int
    size: int


@dataclass(frozen=True)
class Archive:
    """The members of an archive; those of a thin one lie beside it, under paths relative to its directory."""

    thin: bool
    members: tuple[Member, ...]


def read_archive(data: Bytes, where: str) -> Archive | None:
    """Read the headers of an archive, None if it is none; raises PackageError for a damaged one.

    ``where`` is the file, for messages. The contents of members are not looked at.
    """
    magic = data[: len(MAGIC)]
    if magic not in (MAGIC, THIN_MAGIC):
        return None
    thin, names, members, offset = magic == THIN_MAGIC, b"", [], len(MAGIC)
    while offset < len(data):
        field, size = _header(data, offset, where)
        start, stored = offset + _HEADER, not thin or field in _TABLES
        if stored and start + size > len(data):
            raise _damaged(f"the member at offset {offset} is cut off", where)
        if field == _NAMES:
            names = data[start : start + size]
        elif field not in _TABLES:
            members.append(_member(data, field, names, Member("", start, size), where))
        offset = start + (size + size % 2 if stored else 0)
    return Archive(thin, tuple(members))


def _header(data: Bytes, offset: int, where: str) -> tuple[bytes, int]:
    """Return the name field and the size of the member whose header is at ``offset``."""
    header = data[offset : offset + _HEADER]
    size = header[48:58].strip()
    if len(header) < _HEADER or header[58:] != _END or not size.isdigit():
        raise _damaged(f"at offset {offset} there is no header of a member", where)
    return header[:16].rstrip(b" "), int(size)


def _member(data: Bytes, field: bytes, names: bytes, whole: Member, where: str) -> Member:
    """Return a member with its name, which is in its header, in the table of names, or before its content (BSD)."""
    if field.startswith(b"#1/") and field[3:].isdigit() and int(field[3:]) <= whole.size:
        length = int(field[3:])
        name = data[whole.start : whole.start + length].rstrip(b"\0")
        return Member(_text(name), whole.start + length, whole.size - length)
    if not field.startswith(b"/"):
        return Member(_text(field.removesuffix(b"/")), whole.start, whole.size)
    place = field[1:].partition(b":")[0]  # after the colon: where in an archive within a thin one
    if not place.isdigit() or int(place) >= len(names):
        raise _damaged(f"the name of the member at offset {whole.start - _HEADER} is missing", where)
    name = names[int(place) :].partition(b"\n")[0].removesuffix(b"/")
    return Member(_text(name), whole.start, whole.size)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _damaged(what: str, where: str) -> PackageError:
    return PackageError(
        f"this file begins like an archive but cannot be read: {what}",
        where=where,
        hint="build it again; if it is meant to be so, discard it in the recipe",
    )
