"""Small ELF files and LLVM bitcode for machines that no compiler here is for, written byte by byte."""

from __future__ import annotations

import struct

X86_64, RISCV, AARCH64, AMDGPU = 62, 243, 183, 224
LP64D = 5
"""ELF flags of RISC-V: compressed instructions, doubles in registers."""
ET_REL, ET_DYN = 1, 3
SG2042_ISA = "rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_zicsr2p0_zifencei2p0_zmmul1p0_zaamo1p0_zalrsc1p0_zca1p0_zcd1p0"
"""What GCC and clang write for -march=rv64gc."""

_EHDR, _PHDR, _SHDR = 64, 56, 64
_PT_LOAD, _PT_DYNAMIC = 1, 2
_SHT_STRTAB, _SHT_RISCV_ATTRIBUTES = 3, 0x70000003
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RUNPATH = 0, 1, 5, 10, 14, 29


def attributes(isa: str) -> bytes:
    """Return the content of ``.riscv.attributes``: Tag_File with a stack alignment and an instruction set."""
    tags = bytes([4, 16, 5]) + isa.encode() + b"\0"
    scope = b"\x01" + struct.pack("<I", len(tags) + 5) + tags
    vendor = b"riscv\0" + scope
    return b"A" + struct.pack("<I", len(vendor) + 4) + vendor


def elf(machine: int = RISCV, flags: int = LP64D, isa: str | None = None, *, code: bytes = b"") -> bytes:
    """Return an object file; ``code`` is somewhere in it."""
    return _assemble((ET_REL, machine, flags), isa, code=code)


def library(
    machine: int = RISCV,
    flags: int = LP64D,
    isa: str | None = None,
    *,
    soname: str | None = None,
    needed: tuple[str, ...] = (),
    runpath: str | None = None,
) -> bytes:
    """Return a shared library that has nothing but a dynamic section."""
    named = [(_DT_SONAME, soname), *((_DT_NEEDED, name) for name in needed), (_DT_RUNPATH, runpath)]
    strings, tags = b"\0", []
    for tag, text in named:
        if text is not None:
            tags.append((tag, len(strings)))
            strings += text.encode() + b"\0"
    start = _EHDR + 2 * _PHDR
    tags += [(_DT_STRTAB, start), (_DT_STRSZ, len(strings)), (_DT_NULL, 0)]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    return _assemble((ET_DYN, machine, flags), isa, strings=strings, dynamic=dynamic)


def _assemble(
    head: tuple[int, int, int], isa: str | None, *, code: bytes = b"", strings: bytes = b"", dynamic: bytes = b""
) -> bytes:
    kind, machine, flags = head
    tags = attributes(isa) if isa else b""
    segments = 2 if dynamic else 0
    start = _EHDR + segments * _PHDR
    dynamic_at = start + len(strings)
    attributes_at = dynamic_at + len(dynamic) + len(code)
    names = b"\0.riscv.attributes\0.shstrtab\0"
    names_at = attributes_at + len(tags)
    sections = [bytes(_SHDR)]
    if tags:
        sections.append(_section(1, _SHT_RISCV_ATTRIBUTES, attributes_at, len(tags)))
    sections.append(_section(19, _SHT_STRTAB, names_at, len(names)))
    end = names_at + len(names)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(ident, kind, machine, 1, 0, _EHDR if segments else 0, end, flags, _EHDR, _PHDR, segments, _SHDR),
        *(len(sections), len(sections) - 1),
    )
    load = struct.pack("<IIQQQQQQ", _PT_LOAD, 4, 0, 0, 0, end, end, 4096)
    table = struct.pack("<IIQQQQQQ", _PT_DYNAMIC, 4, *[dynamic_at] * 3, *[len(dynamic)] * 2, 8)
    return b"".join([header, (load + table) if segments else b"", strings, dynamic, code, tags, names, *sections])


def _section(name: int, kind: int, offset: int, size: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)


class _Bits:
    """A writer of little-endian bits."""

    def __init__(self) -> None:
        self.value = self.length = 0

    def fixed(self, width: int, value: int) -> None:
        self.value |= value << self.length
        self.length += width

    def variable(self, width: int, value: int) -> None:
        more = 1 << (width - 1)
        while value >= more:
            self.fixed(width, value & (more - 1) | more)
            value >>= width - 1
        self.fixed(width, value)

    def align(self) -> None:
        self.length = (self.length + 31) // 32 * 32

    def bytes(self) -> bytes:
        self.align()
        return self.value.to_bytes(self.length // 8, "little")


def bitcode(triple: str | None, *, wrapped: bool = False) -> bytes:
    """Return LLVM bitcode of an empty module: an identification, an abbreviation, a version, and the triple."""
    module = _Bits()
    module.fixed(3, 2)  # DEFINE_ABBREV: literal 7, fixed(3), array of char6
    module.variable(5, 4)
    module.fixed(1, 1)
    module.variable(8, 7)
    for encoding, width in ((1, 3), (3, None), (4, None)):
        module.fixed(1, 0)
        module.fixed(3, encoding)
        if width is not None:
            module.variable(5, width)
    for code, values in ((1, b"\x02"), *(((2, triple.encode()),) if triple else ())):
        module.fixed(3, 3)  # UNABBREV_RECORD
        module.variable(6, code)
        module.variable(6, len(values))
        for value in values:
            module.variable(6, value)
    module.fixed(3, 0)
    content = b"BC\xc0\xde" + _block(13, 5, bytes(4)) + _block(8, 3, module.bytes())
    return struct.pack("<5I", 0x0B17C0DE, 0, 20, len(content), 7) + content if wrapped else content


def _block(number: int, width: int, content: bytes) -> bytes:
    bits = _Bits()
    bits.fixed(2, 1)  # ENTER_SUBBLOCK
    bits.variable(8, number)
    bits.variable(4, width)
    return bits.bytes() + struct.pack("<I", len(content) // 4) + content


def archive(*members: tuple[str, bytes], magic: bytes = b"!<arch>\n") -> bytes:
    """Return an archive with short names; for those of other kinds, name and content are as in the file."""
    parts = [magic]
    for name, content in members:
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)
