"""Sizes and CMake values as YAML has them."""

from __future__ import annotations


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``512M`` or ``2G``; raises ValueError."""
    number, unit = text[:-1], text[-1:].upper()
    if not number.isdigit() or unit not in ("K", "M", "G", "T"):
        raise ValueError(f"{text!r} is not a size such as 512M or 2G")
    return int(number) << {"K": 10, "M": 20, "G": 30, "T": 40}[unit]


def cmake_value(value: str | int | bool) -> str:
    """Return a YAML value as CMake writes it: true is ``ON``."""
    return ("ON" if value else "OFF") if isinstance(value, bool) else str(value)
