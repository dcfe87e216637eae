"""An entry of the store: its facts, how Conan is told them, whether its files are what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from rocmbuild.errors import StoreError
from rocmbuild.model.catalog import shipped
from rocmbuild.tools import conan
from rocmbuild.tools.clone import clone_tree
from rocmbuild.workspace import tree_digest, write_text

STAGE, DEBS = "stage", "debs"
"""The directories of an entry."""

_DIGEST = r"[0-9a-f]{64}"
_VERSION = re.compile(rf"(?P<version>[^+]+)\+(?P<key>{_DIGEST})")
_FACTS = {
    "output": re.compile(_DIGEST),
    "packages": re.compile(f"({_DIGEST})?"),
    "debs": re.compile(f"({_DIGEST})?"),
}
_MANY = 36
"""Characters of a version that Conan has room for beside a key."""


@dataclass(frozen=True)
class Entry:
    """One stage tree and what is known of it.

    ``reference`` names it for Conan, with revisions; ``output`` is the digest of the tree, ``packages`` the key its
    packages were made under and ``debs`` their digest, None if there are none; ``requires`` are names of entries.
    """

    component: str
    version: str
    key: str
    reference: str
    output: str
    packages: str | None
    debs: str | None
    requires: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the reference without revisions."""
        return self.reference.partition("#")[0]

    def serves(self, other: Entry) -> bool:
        """Return whether it has all that another one of the same name is to have."""
        same = (self.packages, self.debs) == (other.packages, other.debs)
        return self.output == other.output and (same or other.packages is None)

    def __str__(self) -> str:
        return f"{self.component} {self.version}"


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries with requirements before what requires them."""
    by_name = {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}
    graph = {name: [need for need in entry.requires if need in by_name] for name, entry in by_name.items()}
    return [by_name[name] for name in TopologicalSorter(graph).static_order()]


def clean_version(version: str) -> str:
    """Return a version in the letters that Conan allows."""
    return re.sub(r"[^a-z0-9_.-]", "_", version.lower())[:_MANY].lstrip(".-") or "0"


def to_entry(package: conan.Package) -> Entry | None:
    """Return a package as an entry, None if it is not of ours or was never finished."""
    match = _VERSION.fullmatch(package.version)
    facts = package.options
    if match is None or any(not form.fullmatch(facts.get(name, "-")) for name, form in _FACTS.items()):
        return None
    known = (facts["output"], facts["packages"] or None, facts["debs"] or None)
    requires = tuple(facts.get("requires", "").split())
    return Entry(package.name, match["version"], match["key"], package.reference, *known, requires)


def fault_of(place: Path, entry: Entry) -> str | None:
    """Say what is wrong with the files of an entry, None if nothing is; OSError if they cannot be read."""
    for name, expected in ((STAGE, entry.output), (DEBS, entry.debs)):
        if expected is None:
            continue
        tree = place / name
        if tree.is_symlink() or not tree.is_dir():
            return f"it has no directory {name}"
        try:
            if tree_digest(tree, ignore=frozenset()) != expected:
                return f"its directory {name} is not what was stored"
        except (FileNotFoundError, NotADirectoryError) as error:
            return f"{error.filename}: {error.strerror}"
    return None


def fill(draft: Path, entry: Entry, stage: Path, debs: Path | None, *, links: bool) -> None:
    """Clone what an entry is made of into a draft; not by links if somebody may write to the files."""
    for name, source, expected in ((STAGE, stage, entry.output), (DEBS, debs, entry.debs)):
        if source is None:
            continue
        clone_tree(source, draft / name, links=links)
        if tree_digest(draft / name, ignore=frozenset()) != expected:
            raise StoreError(f"{source} changed while it was stored", hint="run the same command again")
    (draft / "conanfile.py").write_bytes((shipped("recipes") / "conan" / "conanfile.py").read_bytes())


def describe(draft: Path, entry: Entry) -> None:
    """Write what the conanfile is to say of an entry; JSON is YAML too."""
    facts = {"output": entry.output, "packages": entry.packages or "", "debs": entry.debs or ""}
    trees = [STAGE, *((DEBS,) if entry.debs is not None else ())]
    facts["requires"] = " ".join(entry.requires)
    data = {"facts": facts, "trees": trees, "prefixes": prefixes(draft / STAGE)}
    write_text(draft / "conandata.yml", json.dumps(data, indent=1))


def prefixes(stage: Path) -> list[str]:
    """Return the directories of a stage tree that have headers, libraries or programs, the prefix of ROCm first."""
    candidates = [*sorted(stage.glob("opt/*")), stage / "usr/local", stage / "usr"]
    return [
        path.relative_to(stage).as_posix()
        for path in candidates
        if any((path / name).is_dir() for name in ("include", "lib", "bin"))
    ]
