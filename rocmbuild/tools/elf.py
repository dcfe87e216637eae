"""ELF files: what they are, what they need and what they export."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from elftools.common.exceptions import ELFError

from rocmbuild.errors import PackageError

MAGIC = b"\x7fELF"
DEVICE_MACHINE = "EM_AMDGPU"

_TEXTREL, _BIND_NOW, _BIND_NOW_1 = 4, 8, 1  # DF_TEXTREL, DF_BIND_NOW, DF_1_NOW
_COPY_RELOCATION = {"EM_X86_64": 5, "EM_RISCV": 4, "EM_AARCH64": 1024, "EM_PPC64": 19}
"""Number of R_<machine>_COPY. Source: the psABI of each."""

_RISCV_ATTRIBUTES = 0x70000003
"""The number of SHT_RISCV_ATTRIBUTES. Source: the RISC-V psABI."""

_BROKEN = (ELFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error)
"""What the parser raises, besides its own error, for headers that point nowhere."""


@dataclass(frozen=True)
class Identity:
    """What an ELF file is for.

    ``isa`` is the RISC-V instruction set that it says it may use (Tag_RISCV_arch), None if it says nothing.
    """

    machine: str
    bits: int
    flags: int
    type: str
    isa: str | None

    @property
    def is_device(self) -> bool:
        """Return whether it is code for a GPU."""
        return self.machine == DEVICE_MACHINE


@dataclass(frozen=True)
class Elf(Identity):
    """The headers of an ELF file; ``rpath`` and ``runpath`` are lists of directories, ``build_id`` is hexadecimal."""

    soname: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    interpreter: str | None
    build_id: str | None
    dynamic: bool
    textrel: bool
    exec_stack: bool
    relro: bool
    bind_now: bool
    has_debug: bool


@dataclass(frozen=True)
class Symbols:
    """Dynamic symbols as ``name@VERSION``, or ``name@Base`` when unversioned."""

    imported: frozenset[str]
    exported: frozenset[str]


def inspect(path: Path) -> Elf | None:
    """Read the headers of a file, None if it is not ELF; raises PackageError for a damaged one."""
    with opened(path) as elf:
        return _describe(elf) if elf is not None else None


def identify(file: BinaryIO, where: str) -> Identity:
    """Read what an ELF file or a member of an archive is for; raises PackageError if damaged. ``where`` names it."""
    with _reading(where):
        elf = _parsed(file)
        return Identity(str(elf["e_machine"]), elf.elfclass, elf["e_flags"], str(elf["e_type"]), _isa(elf))


def symbols(path: Path) -> Symbols:
    """Read the dynamic symbols of a file; slow for large libraries.

    A symbol that the linker copies into a program (R_*_COPY) counts as imported, as ``dpkg-shlibdeps`` does.
    """
    with opened(path) as elf:
        return _symbols(elf) if elf is not None else Symbols(frozenset(), frozenset())


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Give the parsed headers of a regular file, or None if it is not ELF; raises PackageError for a damaged one."""
    if not path.is_file():
        yield None
        return
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            yield None
            return
        with _reading(str(path)):
            yield _parsed(file)


def _parsed(file: BinaryIO) -> Any:
    from elftools.elf.elffile import ELFFile  # late: what has nothing to do does not wait for the tables of DWARF

    return ELFFile(file)


@contextlib.contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn what the parser raises into a PackageError."""
    try:
        yield
    except _BROKEN as error:
        raise PackageError(
            f"this file begins like ELF but cannot be read: {error or type(error).__name__}",
            where=where,
            hint="build it again; if it is meant to be so, discard it in the recipe",
        ) from error


def _describe(elf: Any) -> Elf:
    tags = _dynamic_tags(elf)
    flags = _number(tags, "DT_FLAGS")
    stack = next(elf.iter_segments("PT_GNU_STACK"), None)
    interpreter = next(elf.iter_segments("PT_INTERP"), None)
    return Elf(
        machine=str(elf["e_machine"]),
        bits=elf.elfclass,
        flags=elf["e_flags"],
        type=str(elf["e_type"]),
        isa=_isa(elf),
        soname=tags["DT_SONAME"][0].soname if "DT_SONAME" in tags else None,
        needed=tuple(tag.needed for tag in tags.get("DT_NEEDED", ())),
        rpath=tuple(entry for tag in tags.get("DT_RPATH", ()) for entry in tag.rpath.split(":")),
        runpath=tuple(entry for tag in tags.get("DT_RUNPATH", ()) for entry in tag.runpath.split(":")),
        interpreter=interpreter.get_interp_name() if interpreter is not None else None,
        build_id=_build_id(elf),
        dynamic=bool(tags),
        textrel="DT_TEXTREL" in tags or bool(flags & _TEXTREL),
        exec_stack=stack is not None and bool(stack["p_flags"] & 1),
        relro=next(elf.iter_segments("PT_GNU_RELRO"), None) is not None,
        bind_now="DT_BIND_NOW" in tags or bool(flags & _BIND_NOW) or bool(_number(tags, "DT_FLAGS_1") & _BIND_NOW_1),
        has_debug=any(section.name in (".debug_info", ".zdebug_info") for section in elf.iter_sections()),
    )


def _isa(elf: Any) -> str | None:
    """Return the first Tag_RISCV_arch of the first attributes, which are those of the whole file."""
    if elf["e_machine"] != "EM_RISCV" or (index := _section_of_type(elf, _RISCV_ATTRIBUTES)) is None:
        return None
    for subsection in islice(elf.get_section(index).iter_subsections(), 1):
        for scope in islice(subsection.iter_subsubsections(), 1):
            for attribute in scope.iter_attributes("TAG_ARCH"):
                return str(attribute.value)
    return None


def _section_of_type(elf: Any, wanted: int) -> int | None:
    """Return the index of the first section of a type; the parser would be slow for objects with a thousand."""
    count, size = elf.num_sections(), elf["e_shentsize"]
    elf.stream.seek(elf["e_shoff"])
    headers, number = elf.stream.read(count * size), struct.Struct("<4xI" if elf.little_endian else ">4xI")
    return next((index for index in range(count) if number.unpack_from(headers, index * size)[0] == wanted), None)


def _dynamic_tags(elf: Any) -> dict[str, list[Any]]:
    tags: dict[str, list[Any]] = {}
    for segment in elf.iter_segments("PT_DYNAMIC"):
        if segment["p_filesz"] == 0 or segment["p_offset"] + segment["p_filesz"] > elf.stream_len:
            continue  # a separate debug file keeps the header, not the data
        for tag in segment.iter_tags():
            tags.setdefault(str(tag.entry.d_tag), []).append(tag)
    return tags


def _number(tags: dict[str, list[Any]], name: str) -> int:
    return int(tags[name][0].entry.d_val) if name in tags else 0


def _build_id(elf: Any) -> str | None:
    for segment in elf.iter_segments("PT_NOTE"):
        for note in segment.iter_notes():
            if note["n_type"] == "NT_GNU_BUILD_ID":
                return str(note["n_desc"])
    return None


def _symbols(elf: Any) -> Symbols:
    table = next(elf.iter_sections("SHT_DYNSYM"), None)
    if table is None:
        return Symbols(frozenset(), frozenset())
    names, numbers = _version_names(elf), _version_numbers(elf, table.num_symbols())
    copied = _copied(elf)
    imported, exported = set(), set()
    for index, symbol in enumerate(table.iter_symbols()):
        if not symbol.name or symbol["st_info"]["bind"] == "STB_LOCAL":
            continue
        full = f"{symbol.name}@{names.get(numbers[index] & 0x7FFF, 'Base')}"
        if symbol["st_shndx"] == "SHN_UNDEF" or index in copied:
            imported.add(full)
        else:
            exported.add(full)
    return Symbols(frozenset(imported), frozenset(exported))


def _version_names(elf: Any) -> dict[int, str]:
    """Return the names of symbol versions by their index; 0 and 1 have none."""
    names: dict[int, str] = {}
    for section in elf.iter_sections("SHT_GNU_verneed"):
        for _, needed in section.iter_versions():
            names.update({int(version["vna_other"]) & 0x7FFF: version.name for version in needed})
    for section in elf.iter_sections("SHT_GNU_verdef"):
        for definition, versions in section.iter_versions():
            names[int(definition["vd_ndx"])] = next(versions).name
    return {index: name for index, name in names.items() if index > 1}


def _version_numbers(elf: Any, count: int) -> tuple[int, ...]:
    section = next(elf.iter_sections("SHT_GNU_versym"), None)
    if section is None:
        return (1,) * count
    return struct.unpack(f"{'<' if elf.little_endian else '>'}{count}H", section.data()[: 2 * count])


def _copied(elf: Any) -> frozenset[int]:
    """Return the indices of symbols that a program has copies of; libraries have none."""
    copy = _COPY_RELOCATION.get(str(elf["e_machine"]))
    if copy is None or next(elf.iter_segments("PT_INTERP"), None) is None:
        return frozenset()
    return frozenset(
        relocation["r_info_sym"]
        for section in elf.iter_sections("SHT_RELA")
        for relocation in section.iter_relocations()
        if relocation["r_info_type"] == copy
    )
