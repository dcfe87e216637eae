"""Names of RISC-V instruction sets: what is in them, and what one has beyond another. Pure.

Source: "ISA Extension Naming Conventions" in the RISC-V unprivileged specification, and the chapters of the
extensions for what each implies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

_HEAD = re.compile(r"rv(32|64)(?=[ieg])")
_LETTER = re.compile(r"([a-y])(?:\d+(?:p\d+)?)?")
_WORD = re.compile(r"([szx][a-z0-9]*?[a-z])(?:\d+(?:p\d+)?)?")
"""A name of several letters does not end in a digit: the number after it is its version."""

_IMPLIED = {
    "g": "i m a f d zicsr zifencei",
    "m": "zmmul",
    "a": "zaamo zalrsc",
    "f": "zicsr",
    "d": "f",
    "q": "d",
    "c": "zca",
    "b": "zba zbb zbs",
    "v": "zve64d zvl128b",
    "zabha": "zaamo",
    "zacas": "zaamo",
    "zcb": "zca",
    "zcd": "zca d",
    "zcf": "zca f",
    "zfa": "f",
    "zfh": "zfhmin",
    "zfhmin": "f",
    "zicntr": "zicsr",
    "zihpm": "zicsr",
    "zk": "zkn zkr zkt",
    "zkn": "zbkb zbkc zbkx zkne zknd zknh",
    "zks": "zbkb zbkc zbkx zksed zksh",
    "zve32f": "zve32x f",
    "zve32x": "zvl32b zicsr",
    "zve64d": "zve64f d",
    "zve64f": "zve64x zve32f",
    "zve64x": "zve32x zvl64b",
    "zvfh": "zvfhmin zfhmin",
    "zvfhmin": "zve32f",
    **{f"zvl{2 * bits}b": f"zvl{bits}b" for bits in (1 << power for power in range(5, 16))},
}
"""What an extension has in it; compilers name these parts too, newer ones more of them."""

_TOGETHER = (
    ("c d", "zcd"),
    ("zaamo zalrsc", "a"),
    ("zba zbb zbs", "b"),
    ("zkn zkr zkt", "zk"),
)
"""What extensions are when they come together."""


@dataclass(frozen=True)
class Isa:
    """An instruction set: the width of its registers in bits, and its extensions with all that is in them."""

    bits: int
    extensions: frozenset[str]


@cache
def parse_isa(text: str) -> Isa:
    """Read a name such as ``rv64gc_zba`` or ``rv64i2p1_m2p0``; versions are left out. Raises ValueError."""
    head = _HEAD.match(text.lower())
    if head is None:
        raise ValueError(f"{text!r} names no RISC-V instruction set")
    bits = int(head[1])
    return Isa(bits, _closure(bits, _names(text, text.lower()[head.end() :])))


def beyond(isa: Isa, allowed: Isa) -> tuple[str, ...]:
    """Return the extensions that ``allowed`` lacks, sorted, without those that only come with others of them."""
    if isa.bits != allowed.bits:
        return (f"rv{isa.bits}",)
    extra = isa.extensions - allowed.extensions
    parts = {part for name in extra for part in _closure(isa.bits, [name]) if part != name}
    return tuple(sorted(extra - parts))


def _names(text: str, rest: str) -> Iterator[str]:
    """Yield the extensions of a name; those of one letter need no underscore between them."""
    for word in rest.split("_"):
        part = word
        while part:
            found = _WORD.fullmatch(part) if part[0] in "szx" else _LETTER.match(part)
            if found is None:
                raise ValueError(f"{text!r} names no RISC-V instruction set: {part!r} is no extension")
            yield found[1]
            part = part[found.end() :]


def _closure(bits: int, names: Iterable[str]) -> frozenset[str]:
    """Return extensions with everything that is in them."""
    todo, found = set(names), set[str]()
    while todo:
        found |= todo
        todo = {part for name in todo for part in _IMPLIED.get(name, "").split()}
        todo |= {whole for parts, whole in _combined(bits) if found >= parts}
        todo -= found
    return frozenset(found - {"g"})  # an abbreviation


@cache
def _combined(bits: int) -> tuple[tuple[frozenset[str], str], ...]:
    compressed_floats = ("c f", "zcf") if bits == 32 else ("zcd", "c")
    return tuple((frozenset(parts.split()), whole) for parts, whole in (*_TOGETHER, compressed_floats))
