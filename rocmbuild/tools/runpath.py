"""Run paths (RPATH, RUNPATH) that do not name the prefix or the build machine."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rocmbuild.errors import PackageError
from rocmbuild.tools.elf import DEVICE_MACHINE, opened

_RUN_PATH_TAGS = frozenset({"DT_RPATH", "DT_RUNPATH"})
_STRING_TAGS = _RUN_PATH_TAGS | {"DT_NEEDED", "DT_SONAME", "DT_AUXILIARY", "DT_FILTER", "DT_AUDIT", "DT_DEPAUDIT"}
_ORIGIN = re.compile(r"\$(ORIGIN\b|\{ORIGIN\})")
_HINT = "set CMAKE_INSTALL_RPATH to $ORIGIN and directories relative to it in the recipe's cmake variables"


def relocate_tree(stage: Path, prefix: str) -> list[str]:
    """Relocate the run paths of every host ELF file of a stage tree; return the changed paths, relative to it."""
    changed = []
    for directory, names, files in os.walk(stage):
        names.sort()
        for name in sorted(files):
            path = Path(directory, name)
            location = "/" + path.relative_to(stage).as_posix()
            if not path.is_symlink() and relocate_runpath(path, location, prefix):
                changed.append(location[1:])
    return changed


def relocate_runpath(path: Path, location: str, prefix: str) -> bool:
    """Make run path entries inside ``prefix`` relative to ``$ORIGIN``; return whether the file changed.

    ``location`` is the absolute path of the file once installed. Entries that are empty, relative, or neither in the
    prefix nor below /usr/lib belong to the build machine, or to nothing, and are dropped, as is ``$ORIGIN/../..``
    where it leads out of the prefix. The file is replaced, never written to, as it may be hard-linked elsewhere.
    Raises PackageError if the new text does not fit into the place of the old one.
    """
    with opened(path) as elf:
        if elf is None or elf["e_machine"] == DEVICE_MACHINE:
            return False
        section = next(elf.iter_sections("SHT_DYNAMIC"), None)
        if section is None or section["sh_type"] == "SHT_NOBITS":
            return False
        patches = list(_run_path_patches(elf, section, location, prefix))
    if patches:
        _rewrite(path, patches)
    return bool(patches)


def _run_path_patches(elf: Any, section: Any, location: str, prefix: str) -> Iterator[tuple[int, bytes]]:
    """Give (offset in the file, new bytes) for the strings, then for the table of dynamic tags if one goes away."""
    strings = elf.get_section(section["sh_link"])
    removed = []
    for index, tag in enumerate(section.iter_tags()):
        if tag.entry.d_tag not in _RUN_PATH_TAGS:
            continue
        old = strings.get_string(tag.entry.d_val).encode()
        new = _relocated(old.decode(), posixpath.dirname(location), prefix).encode()
        if not new:
            removed.append(index)
        if new != old:
            if problem := _problem(elf, strings, int(tag.entry.d_val), old, new):
                message = f"its run path {old.decode()} cannot become {new.decode() or 'empty'}: {problem}"
                raise PackageError(message, where=location, hint=_HINT)
            yield strings["sh_offset"] + tag.entry.d_val, new.ljust(len(old), b"\0")
    if removed:
        size = section["sh_entsize"]
        data = section.data()
        entries = [data[at : at + size] for at in range(0, len(data), size)]
        kept = [entry for index, entry in enumerate(entries) if index not in removed]
        yield section["sh_offset"], b"".join(kept).ljust(len(data), b"\0")  # zeros are DT_NULL


def _relocated(text: str, directory: str, prefix: str) -> str:
    entries = (_relocated_entry(entry, directory, prefix) for entry in text.split(":"))
    return ":".join(dict.fromkeys(entry for entry in entries if entry))


def _relocated_entry(entry: str, directory: str, prefix: str) -> str | None:
    if origin := _ORIGIN.match(entry):
        path = posixpath.normpath(directory + entry[origin.end() :])
        return entry if not _inside(directory, prefix) or _inside(path, prefix) else None
    path = posixpath.normpath("/" + entry.lstrip("/")) if entry.startswith("/") else ""
    if _inside(path, prefix):
        relative = posixpath.relpath(path, directory)
        if not _inside(directory, prefix):
            return path
        return "$ORIGIN" if relative == "." else f"$ORIGIN/{relative}"
    return path if _inside(path, "/usr/lib") else None


def _inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _problem(elf: Any, strings: Any, start: int, old: bytes, new: bytes) -> str | None:
    """Say why a string cannot be overwritten: too short, or used as (a part of) another name."""
    if len(new) > len(old):
        return "there is no room for it"
    first = strings.data().rfind(b"\0", 0, start) + 1
    shared = [at for at in _string_offsets(elf) if first <= at < start + len(old) and at != start]
    return f"it shares its bytes with the name {strings.get_string(min(shared))}" if shared else None


def _string_offsets(elf: Any) -> Iterator[int]:
    """Give the offsets into .dynstr of everything that has a name there."""
    for section in elf.iter_sections("SHT_DYNAMIC"):
        yield from (tag.entry.d_val for tag in section.iter_tags() if tag.entry.d_tag in _STRING_TAGS)
    for section in elf.iter_sections("SHT_DYNSYM"):
        yield from (symbol["st_name"] for symbol in section.iter_symbols())
    for section in elf.iter_sections("SHT_GNU_verneed"):
        for need, versions in section.iter_versions():
            yield need["vn_file"]
            yield from (version["vna_name"] for version in versions)
    for section in elf.iter_sections("SHT_GNU_verdef"):
        for _, names in section.iter_versions():
            yield from (name["vda_name"] for name in names)


def _rewrite(path: Path, patches: list[tuple[int, bytes]]) -> None:
    """Put a changed copy in the place of a file, with its mode and times."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    copy = Path(name)
    try:
        shutil.copyfile(path, copy)
        with copy.open("r+b") as file:
            for offset, data in patches:
                file.seek(offset)
                file.write(data)
        shutil.copystat(path, copy)
        copy.replace(path)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
