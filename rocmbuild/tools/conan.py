"""Conan 2 as a program: its command lines, the JSON it prints, a home that is ours alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocmbuild.tools.cmake import installed_file
from rocmbuild.workspace import write_text

CREDENTIALS = ("CONAN_LOGIN_USERNAME", "CONAN_PASSWORD")
"""Variables (also with ``_REMOTE`` behind them) by which Conan logs in; only calls to a server get them."""

_SETTINGS = """# written by rocmbuild
core:non_interactive = True
core.gzip:compresslevel = 4
core.net.http:timeout = 60
core.download:retry = 3
core.upload:retry = 3
"""

_UNKNOWN = "Reference for this path not found in cache"
_DAMAGE = re.compile(r"file is not a database|database disk image is malformed|no such (?:table|column)")


@dataclass(frozen=True)
class Package:
    """The latest binary of a recipe: ``reference`` has all revisions, ``options`` the values it was made with."""

    name: str
    version: str
    reference: str
    options: Mapping[str, str]


def find_conan() -> Path:
    """Return the Conan that was installed with rocmbuild; RootError if it was not."""
    return installed_file("conan", "bin/conan")


def prepare_home(home: Path) -> None:
    """Make a home without remotes, whose profile says nothing, if there is none yet.

    ``.conanrc`` is there because Conan looks for one upwards of its directory, and prefers it to CONAN_HOME.
    """
    files = {
        home / "global.conf": _SETTINGS,
        home / "profiles" / "default": "",
        home / "remotes.json": '{"remotes": []}\n',
        home / ".conanrc": "conan_home=./\n",
    }
    for path, text in files.items():
        if not path.exists():
            write_text(path, text)
    temporary(home).mkdir(exist_ok=True)


_WRITTEN = (
    "version.txt", "settings.yml", "extensions/plugins/profile.py", "extensions/plugins/compatibility/compatibility.py",
)  # fmt: skip
"""What Conan writes into a new home, and again for another version; only then it looks whether it is there."""


def written(home: Path) -> str | None:
    """Return the sum of what Conan has written into a home, besides packages; None for a new one."""
    found = {name: (home / name).read_bytes() for name in _WRITTEN if (home / name).is_file()}
    return hashlib.sha256(repr(found).encode()).hexdigest() if found else None


def rewrite(home: Path) -> None:
    """Have the next call write all of that again."""
    for name in _WRITTEN:
        (home / name).unlink(missing_ok=True)


def temporary(home: Path) -> Path:
    """Return the directory for Conan's temporary files, some of which have names that others would share in /tmp."""
    return home / "tmp"


def database(home: Path) -> Path:
    """Return the file that is there as soon as the home has had a package."""
    return home / "p" / "cache.sqlite3"


def built_packages(home: Path) -> Iterator[Path]:
    """Return the directories of packages that were exported, finished or not; pulled ones lie elsewhere."""
    return (home / "p" / "b").glob("*/p")


def packages_below(home: Path) -> Iterator[Path]:
    """Return the directories of all packages, exported or pulled, whatever the database knows."""
    yield from built_packages(home)
    yield from (home / "p").glob("*/p")


def home_environment(home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a call."""
    return {**environment, "CONAN_HOME": str(home), "TMPDIR": str(temporary(home)), "PYTHONNOUSERSITE": "1"}


def credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the user by which Conan logs in."""
    return {key: value for key, value in environ.items() if key.startswith(CREDENTIALS)}


def list_packages(remote: str | None = None) -> list[str]:
    """Return the arguments that list the latest binary of every recipe."""
    return ["list", "*#latest:*#latest", "--format=json", *(("--remote", remote) if remote else ())]


def export_package(directory: Path, name: str, version: str) -> list[str]:
    """Return the arguments that keep what lies beside a conanfile; requirements must be there, their files need not."""
    named = ["--name", name, "--version", version]
    return ["export-pkg", str(directory), *named, "--no-remote", "--skip-binaries", "--format=json"]


def parse_packages(output: bytes) -> list[Package]:
    """Return the packages of a list; ValueError with Conan's words if it could not make one."""
    found: list[Package] = []
    for origin in _mapping(json.loads(output)).values():
        if "error" in _mapping(origin):
            raise ValueError(str(origin["error"]))
        for recipe, data in _mapping(origin).items():
            name, _, version = recipe.partition("/")
            for reference, info in _binaries(recipe, data):
                options = {key: str(value) for key, value in _mapping(_mapping(info).get("options")).items()}
                found.append(Package(name, version, reference, options))
    return found


def parse_recipes(output: bytes) -> list[str]:
    """Return the recipes of a list as ``name/version``."""
    return [recipe for origin in _mapping(json.loads(output)).values() for recipe in _mapping(origin)]


def parse_export(output: bytes) -> tuple[str, Path]:
    """Return the full reference of an exported package, and its directory."""
    node = json.loads(output)["graph"]["nodes"]["0"]
    return f"{node['ref']}:{node['package_id']}#{node['prev']}", Path(node["package_folder"])


def parse_restored(output: bytes) -> dict[str, str]:
    """Return the directories of the packages of a loaded archive, below the storage, by full reference."""
    return {
        reference: str(_mapping(revision).get("package_folder", ""))
        for origin in _mapping(json.loads(output)).values()
        for recipe, data in _mapping(origin).items()
        for reference, _, revision in _revisions(recipe, data)
    }


def package_list(references: Iterable[str]) -> str:
    """Return the JSON by which Conan is told several packages of its home."""
    recipes: dict[str, Any] = {}
    for reference in references:
        recipe, revision, package, package_revision = split_reference(reference)
        binary: dict[str, Any] = {"revisions": {package_revision: {}}}
        recipes[recipe] = {"revisions": {revision: {"packages": {package: binary}}}}
    return json.dumps({"Local Cache": recipes})


def split_reference(reference: str) -> tuple[str, str, str, str]:
    """Part ``name/version#revision:package#revision``; ValueError if it is not like that."""
    match = re.fullmatch(r"([^#:]+)#([^#:]+):([^#:]+)#([^#:]+)", reference)
    if match is None:
        raise ValueError(f"{reference!r} is not a full reference")
    return match[1], match[2], match[3], match[4]


def complaint(tail: Sequence[str]) -> str:
    """Return what Conan said last that is an error, in one line."""
    errors = [line.removeprefix("ERROR: ") for line in tail if line.startswith("ERROR: ")]
    said = [line for line in errors if not line.startswith("Traceback")] or [line for line in tail if line.strip()]
    return said[-1].strip() if said else "it said nothing"


def is_unknown(text: str) -> bool:
    """Return whether Conan says that no package it knows lies in a directory."""
    return _UNKNOWN in text


def is_damage(text: str) -> bool:
    """Return whether Conan complains of its database."""
    return _DAMAGE.search(text) is not None


def _binaries(recipe: str, data: Any) -> list[tuple[str, Any]]:
    return [(reference, info) for reference, info, _ in _revisions(recipe, data)]


def _revisions(recipe: str, data: Any) -> list[tuple[str, Any, Any]]:
    """Return reference, facts of the package and of its revision, for every package revision of a recipe."""
    return [
        (f"{recipe}#{revision}:{package}#{package_revision}", binary.get("info"), details)
        for revision, about in _mapping(_mapping(data).get("revisions")).items()
        for package, binary in _mapping(_mapping(about).get("packages")).items()
        for package_revision, details in _mapping(_mapping(binary).get("revisions")).items()
    ]


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping also where damaged files made Conan print something else."""
    return value if isinstance(value, dict) else {}
