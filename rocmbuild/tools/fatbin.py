"""Read HIP fat binaries: for which GPUs does a file hold device code?

Clang joins the code objects of a translation unit to a *bundle*, and the linker lays the bundles of all
units one after the other in the section ``.hip_fatbin``, aligned and padded with zeros.

Source of both formats: ``clang/lib/Driver/OffloadBundler.cpp`` of LLVM and its ClangOffloadBundler document.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from rocmbuild.errors import VerifyError

SECTION = ".hip_fatbin"
PLAIN = b"__CLANG_OFFLOAD_BUNDLE__"
COMPRESSED = b"CCOB"

_DEVICE = "-amdgcn-amd-amdhsa-"
_LARGEST = 1 << 32
"""Bytes one decompressed bundle may have; more is a damaged header."""


@dataclass(frozen=True)
class Entry:
    """One code object of a bundle; ``target`` as in ``hipv4-amdgcn-amd-amdhsa--gfx1030``, ``size`` in bytes."""

    target: str
    size: int
    sha256: str = field(default="", compare=False)

    @property
    def gpu(self) -> str | None:
        """Return the GPU target with its features, or None for the host's empty entry."""
        _, found, rest = self.target.partition(_DEVICE)
        return rest.partition("-")[2] if found else None  # not rsplit: a feature may end in a minus sign


@dataclass(frozen=True)
class Bundle:
    """The code objects of one translation unit; ``version`` is 0 for a plain bundle, else that of the compression."""

    offset: int
    version: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class _Header:
    """The header of a compressed bundle; sizes in bytes, ``total`` is None where the format has none."""

    version: int
    method: int
    length: int
    total: int | None
    size: int


def gpus(path: Path) -> frozenset[str]:
    """Return the GPU targets ``path`` holds device code for; VerifyError if it cannot be understood."""
    return frozenset(entry.gpu for bundle in bundles(path) for entry in bundle.entries if entry.gpu)


def device_code(path: Path) -> dict[str, str]:
    """Return a sha256 sum over all code that ``path`` holds for each GPU target; raises VerifyError."""
    sums: dict[str, str] = {}
    for entry in (entry for bundle in bundles(path) for entry in bundle.entries if entry.gpu):
        before = sums.get(str(entry.gpu), "")
        sums[str(entry.gpu)] = hashlib.sha256(f"{before}{entry.sha256}".encode()).hexdigest()
    return sums


def bundles(path: Path) -> tuple[Bundle, ...]:
    """Return the bundles of an ELF file, or of a file that is itself a bundle; VerifyError if it is neither."""
    try:
        return tuple(parse(_content(path)))
    except (OSError, ELFError, ValueError) as error:
        raise VerifyError(f"its device code cannot be read: {error}", where=str(path)) from error


def parse(data: bytes) -> Iterator[Bundle]:
    """Yield the bundles that lie in ``data`` one after the other; ValueError names the offset of what is wrong."""
    position = _skip_padding(data, 0)
    while position < len(data):
        if data.startswith(PLAIN, position):
            entries, end = _plain(data, position)
            yield Bundle(position, 0, entries)
        elif data.startswith(COMPRESSED, position):
            header = _header(data, position)
            content, end = _decompress(data, position, header)
            yield Bundle(position, header.version, _plain(content, 0)[0])
        else:
            raise ValueError(f"no bundle begins at offset {position}")
        position = _skip_padding(data, end)


def _content(path: Path) -> bytes:
    """Return the section with the device code; nothing if an ELF file has none."""
    with path.open("rb") as file:
        magic = file.read(len(PLAIN))
        file.seek(0)
        if magic.startswith((PLAIN, COMPRESSED)):
            return file.read()
        section = ELFFile(file).get_section_by_name(SECTION)
        return bytes(section.data()) if section is not None else b""


def _skip_padding(data: bytes, position: int) -> int:
    """Return the offset of the next byte that is not zero."""
    block = 4096
    zeros = bytes(block)
    while data[position : position + block] == zeros:
        position += block
    while position < len(data) and data[position] == 0:
        position += 1
    return position


def _plain(data: bytes, start: int) -> tuple[tuple[Entry, ...], int]:
    """Return the entries of a plain bundle and the offset of its end."""
    if not data.startswith(PLAIN, start):
        raise ValueError("the compressed data is not a bundle")
    cursor = start + len(PLAIN)
    (count,) = _unpack("<Q", data, cursor)
    cursor += 8
    entries, end = [], 0
    for _ in range(count):
        offset, size, length = _unpack("<QQQ", data, cursor)
        cursor += 24 + length
        content = data[start + offset : start + offset + size]
        name = data[cursor - length : cursor].decode("ascii")
        entries.append(Entry(name, size, hashlib.sha256(content).hexdigest()))
        end = max(end, start + offset + size)
        if max(cursor, end) > len(data):
            raise ValueError(f"the bundle at offset {start} is cut off")
    return tuple(entries), max(end, cursor)


def _header(data: bytes, start: int) -> _Header:
    """Return the header of a compressed bundle: version 2 added the total size, version 3 made sizes 64 bits."""
    version, method = _unpack("<HH", data, start + 4)
    match version:
        case 1:
            (size,) = _unpack("<I", data, start + 8)
            return _Header(version, method, 20, None, size)
        case 2:
            total, size = _unpack("<II", data, start + 8)
            return _Header(version, method, 24, total, size)
        case 3:
            total, size = _unpack("<QQ", data, start + 8)
            return _Header(version, method, 32, total, size)
    raise ValueError(f"the compressed bundle at offset {start} has format version {version}; 1 to 3 are known")


def _decompress(data: bytes, start: int, header: _Header) -> tuple[bytes, int]:
    """Return what a compressed bundle holds and the offset of its end."""
    if header.size > _LARGEST:
        raise ValueError(f"the bundle at offset {start} claims {header.size} bytes")
    end = len(data) if header.total is None else start + header.total
    if end > len(data) or end < start + header.length:
        raise ValueError(f"the bundle at offset {start} is cut off")
    payload = data[start + header.length : end]
    match header.method:
        case 0:
            content, used = _inflate(payload, header.size)
        case 1:
            content, used = _unzstd(payload, header.size)
        case method:
            raise ValueError(f"the bundle at offset {start} has compression method {method}; zlib and zstd are known")
    if len(content) != header.size:
        raise ValueError(f"the bundle at offset {start} has {len(content)} bytes, its header says {header.size}")
    return content, end if header.total is not None else start + header.length + used


def _inflate(payload: bytes, size: int) -> tuple[bytes, int]:
    """Return the content of a zlib stream and how many bytes of ``payload`` it took."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(payload, size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return content, len(payload) - len(stream.unused_data)


def _unzstd(payload: bytes, size: int) -> tuple[bytes, int]:
    """Return the content of a zstd frame and how many bytes of ``payload`` it took.

    Python has no zstd before 3.14; libzstd itself is wherever dpkg is, because dpkg needs it.
    """
    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError as error:
        raise ValueError("it is compressed with zstd, and this machine has no libzstd.so.1") from error
    for name in ("ZSTD_findFrameCompressedSize", "ZSTD_decompress"):
        getattr(library, name).restype = ctypes.c_size_t
    used = library.ZSTD_findFrameCompressedSize(payload, ctypes.c_size_t(len(payload)))
    if library.ZSTD_isError(ctypes.c_size_t(used)):
        raise ValueError("its zstd frame is damaged")
    content = ctypes.create_string_buffer(max(size, 1))
    done = library.ZSTD_decompress(content, ctypes.c_size_t(size), payload, ctypes.c_size_t(used))
    if library.ZSTD_isError(ctypes.c_size_t(done)):
        raise ValueError("its zstd frame is damaged")
    return content.raw[:done], used


def _unpack(layout: str, data: bytes, offset: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, data, offset)
    except struct.error as error:
        raise ValueError(f"it ends in the middle of a header, at offset {len(data)}") from error
