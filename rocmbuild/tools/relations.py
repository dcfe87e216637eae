"""Relations between packages, as control files write them: ``libc6 (>= 2.38), foo | bar``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from debian.debian_support import Version

from rocmbuild.errors import PackageError, nearest

_ALTERNATIVE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]+)(?P<qualifier>:[a-z0-9-]+)?"
    r"(?:\s*\(\s*(?P<operator><<|<=|=|>=|>>)\s*(?P<version>[0-9A-Za-z.+~:-]+)\s*\))?"
)
_PLACEHOLDER = re.compile(r"\{package(?P<optional>\?)?:(?P<name>[a-z0-9][a-z0-9+.-]*)\}")


@dataclass(frozen=True)
class Relation:
    """One package a relation names; ``operator`` and ``version`` are empty when any version will do."""

    name: str
    operator: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


def parse(text: str, where: str | None = None) -> tuple[Relation, ...]:
    """Return the alternatives of one relation (without commas); PackageError if it is not one."""
    matches = [_ALTERNATIVE.fullmatch(part.strip()) for part in text.split("|")]
    if not all(matches):
        raise PackageError(
            f"{text.strip()!r} is not a relation", where=where, hint="write it like: name (>= 1.0), or a | b"
        )
    return tuple(
        Relation(match["name"] + (match["qualifier"] or ""), match["operator"] or "", match["version"] or "")
        for match in matches
        if match
    )


def fill(text: str, versions: Mapping[str, str], where: str) -> str | None:
    """Replace ``{package:NAME}`` by ``NAME (= version)``, where ``versions`` are those of the release.

    ``{package?:NAME}`` is left out if there is no such package, and so is a relation that has nothing else: None.
    Raises PackageError for one that is not optional.
    """

    def relation(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in versions:
            raise PackageError(
                f"it is related to {name}, but this release has no package of that name",
                where=where,
                hint=f"{nearest(name, versions)}; or write {{package?:{name}}} if it may be missing",
            )
        return f"{name} (= {versions[name]})"

    parts = []
    for part in text.split("|"):
        match = _PLACEHOLDER.search(part)
        if match is None or not match["optional"] or match["name"] in versions:
            parts.append(_PLACEHOLDER.sub(relation, part).strip())
    return " | ".join(parts) or None


def simplify(texts: Iterable[str], where: str | None = None) -> tuple[str, ...]:
    """Return the relations sorted, without those that others imply (``libc6`` by ``libc6 (>= 2.38)``)."""
    relations = {parse(text, where) for text in texts}
    single = [relation[0] for relation in relations if len(relation) == 1]
    kept = {
        relation
        for relation in relations
        if len(relation) > 1 or not any(_implies(other, relation[0]) for other in single)
    }
    return tuple(sorted(" | ".join(str(part) for part in relation) for relation in kept))


def _implies(strong: Relation, weak: Relation) -> bool:
    """Return whether every version that ``strong`` admits is one that ``weak`` admits, and they differ."""
    if strong.name != weak.name or strong == weak:
        return False
    if not weak.operator:
        return True
    if weak.operator != ">=" or strong.operator not in (">=", "=", ">>"):
        return False
    if strong.operator == ">=" and Version(strong.version) == Version(weak.version):
        return strong.version < weak.version  # two ways to write one version (1.0, 1.00): one of them stays
    return Version(strong.version) >= Version(weak.version)
