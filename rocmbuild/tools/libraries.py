"""The shared libraries of an unpacked Debian root, and the packages that own them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from debian.deb822 import Deb822

from rocmbuild.tools.elf import Elf, inspect

_DIRECTORIES = ("/lib", "/usr/lib")
_LAST_DIRECTORIES = ("/lib32", "/usr/lib32", "/lib64", "/usr/lib64")
_MAX_LINKS = 40


@dataclass(frozen=True)
class Library:
    """A library of a root: its path there, and its package as dpkg names it (``libc6:amd64``)."""

    path: str
    package: str


class LibraryRoot:
    """Answer questions about the libraries of a root, reading its package database once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = str(path).rstrip("/")
        self._admin = path / "var/lib/dpkg"
        self._directory_names: dict[str, str] = {}
        self._found: dict[tuple[str, str, int, tuple[str, ...]], Library | None] = {}

    def find(self, soname: str, elf: Elf, location: str) -> Library | None:
        """Return the packaged library that ``elf``, installed at ``location``, gets for ``soname``; None if none."""
        origin = posixpath.dirname(location)
        run_path = tuple(
            posixpath.normpath(entry.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))
            for entry in (elf.runpath or elf.rpath)
            if entry.startswith(("/", "$"))
        )
        key = (soname, elf.machine, elf.bits, run_path)
        if key not in self._found:
            self._found[key] = next(self._candidates(*key), None)
        return self._found[key]

    def info(self, package: str, kind: str) -> Path | None:
        """Return a package's ``symbols`` or ``shlibs`` file, None if it has none."""
        path = self._admin / "info" / f"{package}.{kind}"
        return path if path.is_file() else None

    def version(self, package: str) -> str | None:
        """Return the version of an installed package."""
        return self._versions.get(package.partition(":")[0])

    def _candidates(self, soname: str, machine: str, bits: int, run_path: tuple[str, ...]) -> Iterator[Library]:
        for directory in (*run_path, *self._search_path):
            path = f"{directory}/{soname}"
            real = self._resolve(path)
            elf = inspect(Path(self._root + real))
            package = self._owner(path) or self._owner(real)
            if package and elf is not None and (elf.machine, elf.bits) == (machine, bits):
                yield Library(path, package)

    def _owner(self, path: str) -> str | None:
        directory, name = posixpath.split(path)
        return self._owners.get((self._real_directory(directory), name))

    @cached_property
    def _owners(self) -> dict[tuple[str, str], str]:
        """Packages by (real directory, name) of each file that looks like a library.

        Directories are compared by where they really are: packages name /lib and /usr/lib alike.
        """
        owners: dict[tuple[str, str], str] = {}
        for listing in sorted((self._admin / "info").glob("*.list")):
            package = listing.name.removesuffix(".list")
            for line in listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
                directory, _, name = line.rpartition("/")
                if ".so" in name:
                    owners.setdefault((self._real_directory(directory), name), package)
        return owners

    @cached_property
    def _versions(self) -> dict[str, str]:
        with (self._admin / "status").open(encoding="utf-8") as file:
            return {
                paragraph["Package"]: paragraph["Version"]
                for paragraph in Deb822.iter_paragraphs(file, fields=["Package", "Version"], use_apt_pkg=False)
                if "Version" in paragraph
            }

    @cached_property
    def _search_path(self) -> tuple[str, ...]:
        """Directories in the order of the dynamic linker; those of ld.so.conf name the multiarch ones."""
        multiarch = [f"/usr/lib/{path.name}" for path in sorted((self._path / "usr/lib").glob("*-linux-gnu*"))]
        configured = self._configured(self._path / "etc/ld.so.conf", frozenset())
        return tuple(dict.fromkeys((*_DIRECTORIES, *configured, *multiarch, *_LAST_DIRECTORIES)))

    def _configured(self, path: Path, seen: frozenset[Path]) -> Iterator[str]:
        if path in seen or not path.is_file():
            return
        for raw in path.read_text(encoding="utf-8").splitlines():
            line = raw.partition("#")[0].strip()
            if line.startswith("include "):
                pattern = line.removeprefix("include ").strip().lstrip("/")
                for included in sorted(self._path.glob(pattern)):
                    yield from self._configured(included, seen | {path})
            elif line.startswith("/"):
                yield line.rstrip("/")

    def _real_directory(self, directory: str) -> str:
        if directory not in self._directory_names:
            self._directory_names[directory] = self._resolve(directory)
        return self._directory_names[directory]

    def _resolve(self, path: str) -> str:
        """Return where a path of the root really is; absolute links lead to the root, not out of it."""
        done, todo, links = "", path.split("/")[::-1], 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = posixpath.dirname(done)
            elif part not in ("", "."):
                done = posixpath.join(done, part) if done else f"/{part}"
                target = _link(self._root + done)
                if target is not None and links < _MAX_LINKS:
                    links += 1
                    done = "" if target.startswith("/") else posixpath.dirname(done).rstrip("/")
                    todo += target.split("/")[::-1]
        return done or "/"


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
