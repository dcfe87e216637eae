"""Paths that must not be in installed files: of the machine and the sandbox that built them, of another ROCm."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from rocmbuild.run.breach import ERROR, WARNING, Breach
from rocmbuild.tools.elf import opened

_DEBUG = (".debug", ".zdebug")
_TEXT_SAMPLE = 8192
_NEWLINE = b"\n"
_ROCM = re.compile(rb"/opt/rocm(-[0-9][0-9A-Za-z.~+-]*)?(?![0-9A-Za-z_-])")
_TOLD = re.compile(r"/(docs?|samples|examples)/|\.md$")
"""Text for people: what it names does not lead a program astray."""
_OPTIONS = b"|".join(rb"(?<=-%s)" % name for name in (b"[ILB]", b"isystem", b"idirafter", b"iquote", b"isysroot"))
_PATH_START = rb"(?:(?<![A-Za-z0-9_.}/@)>*~-])|" + _OPTIONS + rb")"  # not the tail of another path, ${ROOT}/src
_PATH_END = rb"(?![A-Za-z0-9_.-])"


def check_paths(
    path: Path, location: str, prefix: str, private: Sequence[str], sandbox: Sequence[str]
) -> Iterator[Breach]:
    """Yield the paths that a file must not name; see ``Stage`` for ``private`` and ``sandbox``."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        text = b"\0" not in data[:_TEXT_SAMPLE]
        for place in private:
            if (offset := _first(data, place, _nowhere)) is not None:
                where = _where(data, offset, text=text)
                yield Breach("build-path-leak", f"names {place}, a path of this machine, {where}")
        debug = _debug_sections(path)
        for place in sandbox:
            if (offset := _first(data, place, debug)) is not None:
                detail = f"names {place}, which exists only while building, {_where(data, offset, text=text)}"
                yield Breach("build-path-leak", detail, ERROR if text else WARNING)
        if text:
            yield from _check_foreign(data, location, prefix)


def _where(data: mmap.mmap, offset: int, *, text: bool) -> str:
    return f"in line {data[:offset].count(_NEWLINE) + 1}" if text else f"at offset {offset}"


def _nowhere(_offset: int) -> bool:
    return False


def _first(data: mmap.mmap, place: str, ignored: Callable[[int], bool]) -> int | None:
    """Return the first offset where ``place`` stands as a path; plain searches go first, as they are fast."""
    needle = place.encode()
    whole = re.compile(_PATH_START + re.escape(needle) + (b"" if place.endswith("/") else _PATH_END))
    offset = data.find(needle)
    while offset >= 0 and (not whole.match(data, offset) or ignored(offset)):
        offset = data.find(needle, offset + 1)
    return offset if offset >= 0 else None


def _debug_sections(path: Path) -> Callable[[int], bool]:
    """Return a test whether an offset of an ELF file lies in its debug information; it reads them when first asked."""

    @cache
    def ranges() -> list[range]:
        with opened(path) as elf:
            sections = [] if elf is None else [s for s in elf.iter_sections() if s.name.startswith(_DEBUG)]
            return [range(s["sh_offset"], s["sh_offset"] + s["sh_size"]) for s in sections]

    return lambda offset: any(offset in area for area in ranges())


def _check_foreign(data: mmap.mmap, location: str, prefix: str) -> Iterator[Breach]:
    for found in sorted({match.group() for match in _ROCM.finditer(data)} - {prefix.encode()}):
        own = found == b"/opt/rocm"  # the alternative that may lead to ours: scripts have it as a default
        told = _TOLD.search(location) is not None
        text = f"names {found.decode()}; this installation is {prefix}"
        yield Breach("foreign-rocm", text, WARNING if own or told else ERROR)
