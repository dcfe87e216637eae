"""Versions as strings, compared by their numbers; conditions such as ``>=5.6,<6``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CLAUSE = re.compile(r"(>=|<=|==|<|>)\s*([0-9][0-9A-Za-z.]*)\Z")


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numeric fields of a version: ``6.4.3-5`` is (6, 4, 3)."""
    match = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(int(field) for field in match.group().split(".")) if match else ()


def compare(left: str, right: str) -> int:
    """Return -1, 0 or 1; missing fields count as zero, so 6 equals 6.0."""
    a, b = numbers(left), numbers(right)
    width = max(len(a), len(b))
    a, b = a + (0,) * (width - len(a)), b + (0,) * (width - len(b))
    return (a > b) - (a < b)


def compact(version: str) -> str:
    """Return the form AMD appends to package versions: 5.6.1 is ``50601``.

    Source: the versions of AMD's own packages, for example hsa-rocr 1.9.0.50601.
    """
    major, minor, patch = (*numbers(version), 0, 0)[:3]
    return f"{major}{minor:02d}{patch:02d}"


@dataclass(frozen=True)
class VersionRange:
    """A conjunction of comparisons, written ``>=17`` or ``>=5.6,<6``."""

    clauses: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> VersionRange:
        """Parse a range; raises ValueError with the offending clause."""
        clauses = []
        for part in text.split(","):
            match = _CLAUSE.match(part.strip())
            if match is None:
                raise ValueError(f"{part.strip()!r} is not a comparison such as '>=17'")
            clauses.append((match.group(1), match.group(2)))
        return cls(tuple(clauses))

    def __contains__(self, version: str) -> bool:
        return all(_holds(compare(version, bound), operator) for operator, bound in self.clauses)


def _holds(order: int, operator: str) -> bool:
    return {">=": order >= 0, "<=": order <= 0, "==": order == 0, "<": order < 0, ">": order > 0}[operator]
