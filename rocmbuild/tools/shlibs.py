"""Dependencies of binaries on packages, from the symbols and shlibs files of an unpacked root.

Formats: deb-symbols(5) and deb-shlibs(5). The result is that of ``dpkg-shlibdeps``, which the tests hold it to, but
needs no programs of the target's architecture and no configured root. Patterns in symbols files do not count: they
are written out before a file gets into a package.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from debian.debian_support import Version

from rocmbuild.errors import PackageError
from rocmbuild.tools.elf import Elf, inspect, opened, symbols
from rocmbuild.tools.libraries import Library, LibraryRoot
from rocmbuild.tools.relations import simplify

_VERSIONED = (re.compile(r"(?P<name>.+)\.so\.(?P<version>.+)"), re.compile(r"(?P<name>.+)-(?P<version>\d.*)\.so"))
_SHLIBS_LINE = re.compile(r"\s*(?:(?P<kind>\w+):\s+)?(?P<name>\S+)\s+(?P<version>\S+)(?P<relations>\s.*)?")
_PATTERN_TAGS = frozenset({"c++", "symver", "regex"})


@dataclass(frozen=True)
class Binary:
    """An ELF file on disk and the absolute path it will be installed as."""

    path: Path
    location: str


@dataclass
class Promise:
    """What a symbols file says about one soname.

    ``templates`` are dependencies with ``#MINVER#`` in them, ``symbols`` has (minimal version, number of the
    template) for each symbol that is still there, ``versions`` the minimal versions of the first template.
    """

    templates: list[str]
    symbols: dict[str, tuple[str, int]] = field(default_factory=dict)
    versions: set[str] = field(default_factory=set)


class Resolver:
    """Compute the dependencies of binaries.

    ``in_house`` gives the relation for each library that is no part of the root, by its soname.
    """

    def __init__(self, root: LibraryRoot, in_house: Mapping[str, str]) -> None:
        self._root = root
        self._in_house = in_house
        self._promises: dict[tuple[str, str], Promise | None] = {}

    def relations(self, binaries: Iterable[Binary], own: Collection[str] = ()) -> tuple[str, ...]:
        """Return the relations of some files together, sorted; slow, as it reads all their symbols.

        ``own`` are sonames of the same package. Raises PackageError for a library found nowhere.
        """
        minimum: dict[str, str] = {}
        for binary in binaries:
            elf = inspect(binary.path)
            if elf is not None and elf.needed and not elf.is_device:
                self._scan(binary, elf, own, minimum)
        return simplify(_expand(template, version) for template, version in minimum.items())

    def _scan(self, binary: Binary, elf: Elf, own: Collection[str], minimum: dict[str, str]) -> None:
        """Note in ``minimum`` the templates that one file needs, and the minimal version of each."""
        promises = []
        for soname in elf.needed:
            if soname in own:
                continue
            if soname in self._in_house:
                _raise(minimum, self._in_house[soname])
                continue
            library = self._library(binary, elf, soname)
            promise = self._promise(library.package, soname)
            if promise is None:
                _raise(minimum, self._shlibs(library.package, soname))
            else:
                promises.append(promise)
                _raise(minimum, promise.templates[0], min(promise.versions, key=Version, default=""))
        for symbol in symbols(binary.path).imported | _versions(binary.path):
            promise = next((promise for promise in promises if symbol in promise.symbols), None)
            if promise is not None:
                version, number = promise.symbols[symbol]
                _raise(minimum, promise.templates[number], version)

    def _library(self, binary: Binary, elf: Elf, soname: str) -> Library:
        library = self._root.find(soname, elf, binary.location)
        if library is None:
            raise PackageError(
                f"it needs {soname}, which is neither in the root nor in a package of this release",
                where=binary.location,
                hint="add the distribution's package that has it to needs.system of the recipe, or the component that"
                " builds it to needs.libs",
            )
        return library

    def _promise(self, package: str, soname: str) -> Promise | None:
        key = (package, soname)
        if key not in self._promises:
            path = self._root.info(package, "symbols")
            self._promises[key] = parse_symbols(path.read_text(encoding="utf-8"), soname) if path else None
        return self._promises[key]

    def _shlibs(self, package: str, soname: str) -> str:
        """Return what the shlibs file says; a package without one vouches for its own version and newer ones.

        There ``dpkg-shlibdeps`` fails, or leaves the package out if the soname has no version.
        """
        path = self._root.info(package, "shlibs")
        found = parse_shlibs(path.read_text(encoding="utf-8"), soname) if path else None
        if found is not None:
            return found
        name, version = package.partition(":")[0], self._root.version(package)
        return f"{name} (>= {version})" if version else name


def _versions(path: Path) -> frozenset[str]:
    """Return the versions of symbols that a file asks its libraries for, named as the symbols that stand for them.

    For some there is no other symbol: the version GLIBC_ABI_DT_RELR says that the loader must know a kind of
    relocations. Source: ``dpkg-shlibdeps``, which counts them since dpkg 1.23.
    """
    with opened(path) as elf:
        sections = elf.iter_sections("SHT_GNU_verneed") if elf is not None else ()
        libraries = (versions for section in sections for _, versions in section.iter_versions())
        return frozenset(f"{version.name}@{version.name}" for versions in libraries for version in versions)


def parse_symbols(text: str, soname: str) -> Promise | None:
    """Return what a symbols file says about ``soname``, None if nothing."""
    found = current = None
    for line in text.splitlines():
        if line.startswith((" ", "\t", "#MISSING", "#DEPRECATED")):
            if current is not None:
                _add_symbol(current, line)
        elif line.startswith("|"):
            if current is not None:
                current.templates.append(line[1:].strip())
        elif line and not line.startswith(("#", "*")):
            name, _, template = line.partition(" ")
            current = Promise([template.strip()]) if name == soname else None
            found = current or found
    return found


def _add_symbol(promise: Promise, line: str) -> None:
    removed = line.startswith("#")
    tags, spec = _tags(line.split("#", 2)[2].strip() if removed else line.strip())
    fields = spec.split()
    if len(fields) < 2 or tags & _PATTERN_TAGS or spec.startswith("*@"):
        return
    version, number = fields[1], int(fields[2]) if len(fields) > 2 else 0
    if number == 0:
        promise.versions.add(version)
    if not removed and number < len(promise.templates):
        promise.symbols[fields[0]] = (version, number)


def _tags(spec: str) -> tuple[frozenset[str], str]:
    """Split ``(optional|arch=amd64)name@VERSION 1.0`` into the names of its tags and the rest."""
    if not spec.startswith("("):
        return frozenset(), spec
    tags, _, rest = spec[1:].partition(")")
    return frozenset(tag.partition("=")[0] for tag in tags.split("|")), rest


def parse_shlibs(text: str, soname: str) -> str | None:
    """Return the dependencies that a shlibs file gives for ``soname``, None if it has no line for it.

    A line for debs goes before one for any kind of package.
    """
    wanted = next((match for pattern in _VERSIONED if (match := pattern.fullmatch(soname))), None)
    if wanted is None:
        return None
    found: dict[str | None, str] = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else _SHLIBS_LINE.fullmatch(line)
        if match and (match["name"], match["version"]) == (wanted["name"], wanted["version"]):
            found.setdefault(match["kind"], (match["relations"] or "").strip())
    return found.get("deb", found.get(None))


def _raise(minimum: dict[str, str], template: str, version: str = "") -> None:
    """Note that a template, of one or more relations, is needed in at least ``version``."""
    for part in (part.strip() for part in template.split(",") if part.strip()):
        known = minimum.get(part, "")
        minimum[part] = version if not known or (version and Version(version) > Version(known)) else known


def _expand(template: str, version: str) -> str:
    """Write a template out; the minimal version 0 means any, as ``dpkg-shlibdeps`` has it."""
    version = "" if version == "0" else version
    return " ".join(template.replace("#MINVER#", f"(>= {version})" if version else "").split())
