"""Look at a stage tree before packages are made of it: rules with names, findings with files.

Everything is read, nothing is run. A recipe may waive a rule for some files with a reason; a waiver that
waives nothing is a finding itself, so that none outlives its cause. Files for the GPU are exempt from rules
about the host's ELF files.
"""

from __future__ import annotations

import mmap
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from rocmbuild.errors import PackageError, nearest
from rocmbuild.model.recipe import Waiver
from rocmbuild.model.target import Target
from rocmbuild.tools.elf import Elf, inspect, opened
from rocmbuild.tools.split import matcher

STAGE_RULES = {
    "elf-damaged": "an ELF file can be read",
    "elf-machine": "an ELF file is for the target's processor",
    "needed-closure": "each needed library is in the component, in those it declares, or in the distribution",
    "runpath": "a RUNPATH leads from $ORIGIN into the prefix, or to /usr/lib, and to each library needed",
    "soname-link": "a library is found under its SONAME",
    "text-relocation": "code needs no relocation",
    "executable-stack": "no file asks for an executable stack",
    "build-path-leak": "no file names a path of the machine that built it",
    "foreign-rocm": "no text file names another ROCm installation",
    "dangling-link": "a symbolic link has a target",
    "escaping-link": "a symbolic link leads to an installed place",
    "file-mode": "no file is setuid, setgid or writable for all",
}
"""Rules for stage trees: what each demands."""

INSTALLED_RULES = {
    "dpkg-verify": "files are as they were packaged",
    "undefined-symbols": "ldd -r resolves every library and symbol",
}
"""Rules for installed packages; verification applies them, and waivers for them."""

ERROR, WARNING = "error", "warning"

_DEVICE_SUFFIXES = (".hsaco", ".co", ".bc")
_DEBUG = (".debug", ".zdebug")
_TEXT_SAMPLE = 8192
_NEWLINE = b"\n"
_ROCM = re.compile(rb"/opt/rocm(-[0-9][0-9A-Za-z.~+-]*)?(?![0-9A-Za-z_-])")
_TOLD = re.compile(r"/(docs?|samples|examples)/|\.md$")
"""Text for people: what it names does not lead a program astray."""
_PATH_START = rb"(?:(?<![A-Za-z0-9_.}/@)>*~-])|(?<=-[ILB]))"  # not the tail of another path, ${ROOT}/src
_PATH_END = rb"(?![A-Za-z0-9_.-])"


@dataclass(frozen=True)
class Finding:
    """A rule that a file breaks; ``file`` is its path once installed, ``waived`` the reason of a waiver."""

    rule: str
    component: str
    file: str
    detail: str
    severity: str = ERROR
    waived: str | None = None

    @property
    def fails(self) -> bool:
        """Return whether the packages must not be trusted because of it."""
        return self.severity == ERROR and self.waived is None

    def __str__(self) -> str:
        return f"{self.component}: {self.file}: {self.detail} [{self.rule}]"


@dataclass(frozen=True)
class Stage:
    """A stage tree and what may be seen around it.

    ``dependencies`` are the stage trees of the declared components, ``root`` is the distribution's tree.
    ``private`` are paths of this machine, wrong in any file; ``sandbox`` are paths inside the sandbox, wrong
    in text, of no use in binaries, and right in debug information, where they are the same on every machine.
    A path that ends in ``/`` stands for what is below it.
    """

    component: str
    path: Path
    dependencies: tuple[Path, ...]
    root: Path
    prefix: str
    target: Target
    private: tuple[str, ...] = ()
    sandbox: tuple[str, ...] = ()

    def exists(self, location: str) -> bool:
        """Return whether an installed path will be there, as a file, a directory or a link."""
        relative = location.lstrip("/")
        return any(os.path.lexists(tree / relative) for tree in (self.path, *self.dependencies, self.root))

    def file(self, location: str) -> Path:
        return self.path / location.lstrip("/")

    @property
    def library_directories(self) -> tuple[str, ...]:
        """Return where the dynamic linker looks by itself."""
        triple = self.target.triple
        return (f"/usr/lib/{triple}", f"/lib/{triple}", "/usr/lib64", "/lib64", "/usr/lib", "/lib")


@dataclass
class _Report:
    stage: Stage
    findings: list[Finding] = field(default_factory=list)

    def add(self, rule: str, location: str, detail: str, severity: str = ERROR) -> None:
        self.findings.append(Finding(rule, self.stage.component, location, detail, severity))


def check_stage(stage: Stage, waivers: Sequence[Waiver] = ()) -> list[Finding]:
    """Return what is wrong with a stage tree, waived findings included; slow, so call it in a thread."""
    report = _Report(stage)
    for location in _locations(stage.path):
        path = stage.file(location)
        if path.is_symlink():
            _check_link(report, location, os.readlink(path))
        elif path.is_file():
            _check_file(report, location, path)
    return apply_waivers(report.findings, waivers, stage.component, stage.prefix, STAGE_RULES)


def apply_waivers(
    findings: Sequence[Finding], waivers: Sequence[Waiver], component: str, prefix: str, rules: Mapping[str, str]
) -> list[Finding]:
    """Mark waived findings, and add one for each waiver of ``rules`` that waives none or names no rule at all."""
    result = list(findings)
    for waiver in waivers:
        if waiver.rule not in STAGE_RULES | INSTALLED_RULES:
            hint = nearest(waiver.rule, STAGE_RULES | INSTALLED_RULES)
            result.append(_about_waiver(waiver, component, f"no rule is named {waiver.rule} ({hint})"))
        elif waiver.rule in rules:
            for pattern in waiver.files:
                result = _waive(result, waiver, pattern, component, prefix)
    return result


def _waive(findings: list[Finding], waiver: Waiver, pattern: str, component: str, prefix: str) -> list[Finding]:
    matches = matcher(pattern, prefix)
    hits = [item for item in findings if item.rule == waiver.rule and matches(item.file.lstrip("/"))]
    if not hits:
        return [*findings, _about_waiver(waiver, component, f"nothing breaks {waiver.rule} at {pattern}: remove it")]
    return [replace(item, waived=waiver.why) if item in hits else item for item in findings]


def _about_waiver(waiver: Waiver, component: str, detail: str) -> Finding:
    return Finding("unused-waiver", component, ", ".join(waiver.files), detail)


def _locations(tree: Path) -> Iterator[str]:
    """Yield the paths of all files and links of a tree, sorted, as they will be once installed."""
    for directory, names, files in os.walk(tree):
        names.sort()
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]
        for name in sorted([*files, *links]):
            yield "/" + os.path.relpath(os.path.join(directory, name), tree)


def _check_link(report: _Report, location: str, target: str) -> None:
    stage = report.stage
    goal = posixpath.normpath(posixpath.join(posixpath.dirname(location), target))
    climbs = target.count("../") > location.count("/")
    if climbs or any(_inside(goal, place) for place in (*stage.private, *stage.sandbox)):
        report.add("escaping-link", location, f"links to {target}, which is no installed place")
    elif not stage.exists(goal):
        report.add("dangling-link", location, f"links to {target}, which nothing installs")


def _check_file(report: _Report, location: str, path: Path) -> None:
    mode = path.stat().st_mode
    if mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH):
        report.add("file-mode", location, f"has mode {stat.S_IMODE(mode):04o}")
    try:
        elf = inspect(path)
    except PackageError as error:
        report.add("elf-damaged", location, error.message)
        return
    if elf is not None and not elf.is_device and not location.endswith(_DEVICE_SUFFIXES):
        _check_elf(report, location, elf)
    _check_content(report, location, path, elf)


def _check_elf(report: _Report, location: str, elf: Elf) -> None:
    target = report.stage.target
    if elf.machine != target.elf_machine:
        report.add("elf-machine", location, f"is for {elf.machine}; {target.name} is {target.elf_machine}")
    elif elf.dynamic and target.elf_flags is not None and elf.flags != target.elf_flags:
        report.add("elf-machine", location, f"has ELF flags {elf.flags:#x}; {target.name} has {target.elf_flags:#x}")
    if elf.textrel:
        report.add("text-relocation", location, "its code is changed when it is loaded (DT_TEXTREL)")
    if elf.exec_stack:
        report.add("executable-stack", location, "asks for an executable stack (PT_GNU_STACK)")
    if elf.soname and not report.stage.exists(posixpath.join(posixpath.dirname(location), elf.soname)):
        report.add("soname-link", location, f"has the SONAME {elf.soname}, but nothing of that name lies beside it")
    directories = _run_path(report, location, elf)
    for name in elf.needed:
        _check_needed(report, location, name, directories)


def _run_path(report: _Report, location: str, elf: Elf) -> list[str]:
    """Return the directories of a file's RUNPATH, and report those it must not name."""
    stage, origin, directories = report.stage, posixpath.dirname(location), []
    for entry in (*elf.rpath, *elf.runpath):
        expanded = re.sub(r"\$(ORIGIN\b|\{ORIGIN\})", origin, entry)
        directory = posixpath.normpath(expanded)
        directories.append(directory)
        if expanded == entry and not _inside(directory, "/usr/lib"):
            report.add("runpath", location, f"RUNPATH entry {entry or '(empty)'} does not begin with $ORIGIN")
        elif expanded != entry and not (_inside(directory, stage.prefix) or _inside(directory, "/usr/lib")):
            report.add("runpath", location, f"RUNPATH entry {entry} leads to {directory}, outside of {stage.prefix}")
    return directories


def _check_needed(report: _Report, location: str, name: str, directories: Sequence[str]) -> None:
    stage = report.stage
    if any(stage.exists(posixpath.join(place, name)) for place in (*directories, *stage.library_directories)):
        return
    place = _find_library(stage, name)
    if place is None:
        report.add("needed-closure", location, f"needs {name}, which no declared component and no package has")
    else:
        shown = ":".join(directories) or "no directory"
        report.add("runpath", location, f"needs {name}, which lies in {place}; its RUNPATH leads to {shown}")


def _find_library(stage: Stage, name: str) -> str | None:
    """Return the directory of the prefix that has a library, searching the stage trees."""
    for tree in (stage.path, *stage.dependencies):
        for path in sorted((tree / stage.prefix.lstrip("/")).rglob(name)):
            return "/" + path.parent.relative_to(tree).as_posix()
    return None


def _check_content(report: _Report, location: str, path: Path, elf: Elf | None) -> None:
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        text = b"\0" not in data[:_TEXT_SAMPLE]
        _check_paths(report, location, data, _debug_sections(path) if elf is not None else _nowhere, text=text)
        if text:
            _check_foreign(report, location, data)


def _check_paths(
    report: _Report, location: str, data: mmap.mmap, ignored: Callable[[int], bool], *, text: bool
) -> None:
    def where(offset: int) -> str:
        return f"in line {data[:offset].count(_NEWLINE) + 1}" if text else f"at offset {offset}"

    for place in report.stage.private:
        if (offset := _first(data, place, _nowhere)) is not None:
            report.add("build-path-leak", location, f"names {place}, a path of this machine, {where(offset)}")
    for place in report.stage.sandbox:
        if (offset := _first(data, place, ignored)) is not None:
            detail = f"names {place}, which exists only while building, {where(offset)}"
            report.add("build-path-leak", location, detail, ERROR if text else WARNING)


def _nowhere(_offset: int) -> bool:
    return False


def _first(data: mmap.mmap, place: str, ignored: Callable[[int], bool]) -> int | None:
    """Return the first offset where ``place`` stands as a path; plain searches go first, as they are fast."""
    needle = place.encode()
    whole = re.compile(_PATH_START + re.escape(needle) + (b"" if place.endswith("/") else _PATH_END))
    offset = data.find(needle)
    while offset >= 0 and (not whole.match(data, offset) or ignored(offset)):
        offset = data.find(needle, offset + 1)
    return offset if offset >= 0 else None


def _debug_sections(path: Path) -> Callable[[int], bool]:
    """Return a test whether an offset of an ELF file lies in its debug information; it reads them when first asked."""

    @cache
    def ranges() -> list[range]:
        with opened(path) as elf:
            sections = [] if elf is None else [s for s in elf.iter_sections() if s.name.startswith(_DEBUG)]
            return [range(s["sh_offset"], s["sh_offset"] + s["sh_size"]) for s in sections]

    return lambda offset: any(offset in area for area in ranges())


def _check_foreign(report: _Report, location: str, data: mmap.mmap) -> None:
    prefix = report.stage.prefix.encode()
    for found in sorted({match.group() for match in _ROCM.finditer(data)} - {prefix}):
        own = found == b"/opt/rocm"  # the alternative that may lead to ours: scripts have it as a default
        only_told = _TOLD.search(location) is not None
        text = f"names {found.decode()}; this installation is {report.stage.prefix}"
        report.add("foreign-rocm", location, text, WARNING if own or only_told else ERROR)


def _inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
