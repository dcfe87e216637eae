"""LLVM bitcode: which machine it is for. Pure.

Source: "LLVM Bitcode File Format" in the documentation of LLVM.
"""

from __future__ import annotations

MAGIC, WRAPPED_MAGIC = b"BC\xc0\xde", b"\xde\xc0\x17\x0b"

_END_BLOCK, _ENTER_SUBBLOCK, _DEFINE_ABBREVIATION, _RECORD = 0, 1, 2, 3
_MODULE = 8
_TRIPLE = 2
_ENCODINGS_WITH_VALUE = (1, 2)  # fixed, VBR


class _Bits:
    """A reader of little-endian bits."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def ended(self) -> bool:
        return self._at >= 8 * len(self._data)

    def fixed(self, width: int) -> int:
        first, last = self._at // 8, (self._at + width + 7) // 8
        value = int.from_bytes(self._data[first:last], "little") >> (self._at % 8)
        self._at += width
        return value & ((1 << width) - 1)

    def variable(self, width: int) -> int:
        """Read a number in chunks whose highest bit says that more follow."""
        more, value, shift = 1 << (width - 1), 0, 0
        while not self.ended:
            chunk = self.fixed(width)
            value |= (chunk & (more - 1)) << shift
            shift += width - 1
            if not chunk & more:
                break
        return value

    def align(self) -> None:
        self._at = (self._at + 31) // 32 * 32

    def skip(self, words: int) -> None:
        self._at += 32 * words


def is_bitcode(start: bytes) -> bool:
    """Return whether a file that begins so is LLVM bitcode."""
    return start.startswith((MAGIC, WRAPPED_MAGIC))


def triple(data: bytes) -> str | None:
    """Return the target triple of a module; None if it has none, or where none is before the first function."""
    if data.startswith(WRAPPED_MAGIC):
        offset = int.from_bytes(data[8:12], "little")
        data = data[offset : offset + int.from_bytes(data[12:16], "little")]
    if not data.startswith(MAGIC):
        return None
    bits = _Bits(data[len(MAGIC) :])
    width = 2
    while not bits.ended:
        match bits.fixed(width):
            case code if code == _ENTER_SUBBLOCK:
                width = _enter(bits, width)
            case code if code == _DEFINE_ABBREVIATION:
                _skip_abbreviation(bits)
            case code if code == _RECORD:
                record, values = bits.variable(6), _values(bits)
                if record == _TRIPLE:
                    return bytes(value & 0xFF for value in values).decode("utf-8", "backslashreplace")
            case _:
                return None  # the module's end, or a record in a form of its own: a triple is never after it
    return None


def _enter(bits: _Bits, width: int) -> int:
    """Go into the module, or over any other block; return the width of what comes next."""
    block, inner = bits.variable(8), bits.variable(4)
    bits.align()
    words = bits.fixed(32)
    if block == _MODULE:
        return inner
    bits.skip(words)
    return width


def _values(bits: _Bits) -> list[int]:
    count = bits.variable(6)
    values: list[int] = []
    while len(values) < count and not bits.ended:
        values.append(bits.variable(6))
    return values


def _skip_abbreviation(bits: _Bits) -> None:
    count = bits.variable(5)
    while count > 0 and not bits.ended:
        count -= 1
        if bits.fixed(1):
            bits.variable(8)
        elif bits.fixed(3) in _ENCODINGS_WITH_VALUE:
            bits.variable(5)
