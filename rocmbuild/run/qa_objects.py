"""Whether ELF files, LLVM bitcode and the members of archives are for the target's processor.

Code for a GPU may lie anywhere. What says nothing about its instruction set is taken at its word: assemblers need not
write one, and data has none. A file in an archive that is neither ELF nor bitcode is not looked at.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from pathlib import Path

from rocmbuild.errors import PackageError
from rocmbuild.model.target import Target
from rocmbuild.run.breach import Breach
from rocmbuild.tools import ar, bitcode, elf
from rocmbuild.tools.riscv import beyond, parse_isa

_GPUS = ("amdgcn", "amdgpu", "r600", "spirv32", "spirv64")
"""Architectures in triples of device code; SPIR-V is made for AMD's GPUs too."""

_SAMPLE = 4096


def check_identity(identity: elf.Identity, target: Target) -> Iterator[Breach]:
    """Yield what makes a file of no use on the target: machine, ELF flags, instruction set."""
    if identity.machine != target.elf_machine:
        yield Breach("elf-machine", f"is for {identity.machine}; {target.name} is {target.elf_machine}")
        return
    if target.elf_flags is not None and identity.flags != target.elf_flags:
        yield Breach("elf-machine", f"has ELF flags {identity.flags:#x}; {target.name} has {target.elf_flags:#x}")
    if target.isa is not None and identity.isa is not None:
        yield from _check_isa(identity.isa, target.name, target.isa)


def _check_isa(named: str, name: str, allowed: str) -> Iterator[Breach]:
    try:
        isa = parse_isa(named)
    except ValueError as error:
        yield Breach("isa", f"{error} (Tag_RISCV_arch)")
        return
    if extra := beyond(isa, parse_isa(allowed)):
        yield Breach("isa", f"may use {', '.join(extra)}, which {name} does not have (Tag_RISCV_arch)")


def check_objects(path: Path, target: Target) -> Iterator[Breach]:
    """Yield what is wrong with bitcode or the members of an archive; other files, ELF too, are not looked at.

    Members are mapped and read one by one, so that large archives cost no memory.
    """
    if path.stat().st_size == 0:
        if path.suffix == ".a":
            yield Breach("archive-damaged", "is empty")
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data[:4]
        if bitcode.is_bitcode(start):
            yield from _check_bitcode(data[:], target)
        elif start != elf.MAGIC:
            yield from _check_archive(path, data, target)


def _check_archive(path: Path, data: mmap.mmap, target: Target) -> Iterator[Breach]:
    try:
        archive = ar.read_archive(data, str(path))
    except PackageError as error:
        yield Breach("archive-damaged", error.message)
        return
    if archive is None:
        if path.suffix == ".a" and _is_binary(data):
            yield Breach("archive-damaged", "begins like no archive")
    elif archive.thin:
        yield Breach("archive-damaged", _thin(archive))
    else:
        yield from _check_members(data, archive, target)


def _is_binary(data: mmap.mmap) -> bool:
    """Return whether it is no linker script, which may take the place of an archive."""
    return b"\0" in data[:_SAMPLE] or data[:2] == ar.MAGIC[:2]


def _thin(archive: ar.Archive) -> str:
    first = f", the first {archive.members[0].name}" if archive.members else ""
    return f"is a thin archive: it only names its {len(archive.members)} members{first}"


def _check_members(data: mmap.mmap, archive: ar.Archive, target: Target) -> Iterator[Breach]:
    """Yield each kind of mistake once, with the first member that has it and how many more do."""
    found: dict[Breach, list[str]] = {}
    for member in archive.members:
        for breach in _check_member(data, member, target):
            found.setdefault(breach, []).append(member.name)
    for breach, (first, *more) in found.items():
        others = f" (and {len(more)} more)" if more else ""
        yield breach._replace(detail=f"its member {first}{others} {breach.detail}")


def _check_member(data: mmap.mmap, member: ar.Member, target: Target) -> Iterator[Breach]:
    start = data[member.start : member.start + min(member.size, 4)]
    if start == elf.MAGIC:
        try:
            identity = elf.identify(io.BytesIO(_content(data, member)), member.name)
        except PackageError:
            yield Breach("elf-damaged", "begins like ELF but cannot be read")
            return
        if not identity.is_device:
            yield from check_identity(identity, target)
    elif bitcode.is_bitcode(start):
        yield from _check_bitcode(_content(data, member), target)


def _content(data: mmap.mmap, member: ar.Member) -> bytes:
    return data[member.start : member.start + member.size]


def _check_bitcode(content: bytes, target: Target) -> Iterator[Breach]:
    triple = bitcode.triple(content)
    arch = (triple or "").partition("-")[0]
    if arch and arch not in (*_GPUS, target.triple.partition("-")[0]):
        yield Breach("elf-machine", f"is LLVM bitcode for {triple}; {target.name} is {target.triple}")
