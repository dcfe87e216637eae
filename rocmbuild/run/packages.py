"""The packages that a component was made into, as they are noted beside their debs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rocmbuild.errors import PackageError
from rocmbuild.workspace import read_stamp, sha256_file, write_stamp

FORMAT = 1
"""Format of packages.json."""

_NOTES, _KEY = "packages.json", "key.json"


@dataclass(frozen=True)
class BuiltPackage:
    """A package that was made; ``installed_size`` is in KiB, ``files`` are relative to the root."""

    name: str
    version: str
    arch: str
    path: Path
    component: str
    sonames: tuple[str, ...]
    files: tuple[str, ...]
    installed_size: int
    sha256: str

    def record(self) -> dict[str, Any]:
        """Return it as plain data; the deb by its name only, so that its directory can move."""
        return {**asdict(self), "path": self.path.name}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], directory: Path) -> BuiltPackage:
        """Return the package that ``record`` describes, with its deb in ``directory``."""
        lists = {key: tuple(record[key]) for key in ("sonames", "files")}
        return cls(**{**record, **lists, "path": directory / record["path"]})


def write_packages(out: Path, packages: Iterable[BuiltPackage]) -> None:
    """Note the packages whose debs lie in a directory."""
    write_stamp(out / _NOTES, {"format": FORMAT, "packages": [package.record() for package in packages]})


def read_packages(out: Path) -> list[BuiltPackage] | None:
    """Return the packages of an earlier run, None if there are none or their debs are gone."""
    record = read_stamp(out / _NOTES)
    if record is None or record.get("format") != FORMAT:
        return None
    packages = [BuiltPackage.from_record(entry, out) for entry in record["packages"]]
    return packages if all(package.path.is_file() for package in packages) else None


def write_key(out: Path, key: str) -> None:
    """Note the key under which the packages were made, and the sums of all files that belong to them."""
    files = (out / _NOTES, *sorted(out.glob("*.deb")))
    write_stamp(out / _KEY, {"key": key, "files": {path.name: sha256_file(path) for path in files}})


def read_key(out: Path) -> str | None:
    """Return the key of packages that are there; what is in their debs is only looked at by ``are_sound``."""
    record = read_stamp(out / _KEY) or {}
    files = record.get("files", {})
    if not all((out / name).is_file() for name in files):
        return None
    return record.get("key") if _NOTES not in files or sha256_file(out / _NOTES) == files[_NOTES] else None


def are_sound(out: Path) -> bool:
    """Return whether packages are byte by byte what was made."""
    files = (read_stamp(out / _KEY) or {}).get("files", {})
    return all((out / name).is_file() and sha256_file(out / name) == total for name, total in files.items())


def forget_packages(out: Path) -> None:
    """Let packages be made again."""
    (out / _KEY).unlink(missing_ok=True)


def check_conflicts(packages: Iterable[BuiltPackage]) -> None:
    """Raise PackageError if two packages have one name or own one file."""
    names: dict[str, BuiltPackage] = {}
    owners: dict[str, BuiltPackage] = {}
    for package in packages:
        other = names.setdefault(package.name, package)
        if other is not package:
            raise PackageError(
                f"package {package.name} is made by {other.component} and by {package.component}",
                hint="rename it in one of the two recipes",
            )
        for name in package.files:
            owner = owners.setdefault(name, package)
            if owner is not package:
                raise PackageError(
                    f"/{name} is in {owner.name} (of {owner.component}) and in {package.name} (of {package.component})",
                    hint="discard it in the recipe of the component that should not own it",
                )
