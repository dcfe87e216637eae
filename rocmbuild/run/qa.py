"""Look at a stage tree before packages are made of it: rules with names, findings with files.

Everything is read, nothing is run. A recipe may waive a rule for some files with a reason; a waiver that
waives nothing is a finding itself, so that none outlives its cause. Files for the GPU are exempt from rules
about the host's ELF files.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from rocmbuild.errors import PackageError, nearest
from rocmbuild.model.recipe import Waiver
from rocmbuild.model.target import Target
from rocmbuild.run.breach import ERROR, Breach
from rocmbuild.run.qa_objects import check_identity, check_objects
from rocmbuild.run.qa_paths import check_paths
from rocmbuild.run.trees import Trees
from rocmbuild.tools.elf import Elf, Identity, identify, inspect
from rocmbuild.tools.split import matcher

STAGE_RULES = {
    "elf-damaged": "an ELF file, or one in an archive, can be read",
    "elf-machine": "an ELF file, or a file in an archive, is for the target's processor",
    "isa": "an ELF file, or a file in an archive, asks for no more than the target's instruction set",
    "archive-damaged": "an archive can be read, and has its members in it",
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
"""Rules for stage trees: what each demands. Who changes one raises ``QA_FORMAT`` of ``plan.inputs``."""

INSTALLED_RULES = {
    "dpkg-verify": "files are as they were packaged",
    "undefined-symbols": "ldd -r resolves every library and symbol",
}
"""Rules for installed packages; verification applies them, and waivers for them."""

_DEVICE_SUFFIXES = (".hsaco", ".co", ".bc")


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

    @cached_property
    def trees(self) -> Trees:
        """Return where an installed file may come from, the stage tree itself first."""
        return Trees((self.path, *self.dependencies, self.root))

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
    libraries: dict[str, Identity | None] = field(default_factory=dict)

    def add(self, rule: str, location: str, detail: str) -> None:
        self.findings.append(Finding(rule, self.stage.component, location, detail))

    def take(self, location: str, breaches: Iterable[Breach]) -> None:
        """Add what a file does against rules."""
        self.findings += [
            Finding(breach.rule, self.stage.component, location, breach.detail, breach.severity) for breach in breaches
        ]

    def library(self, location: str) -> Identity | None:
        """Return what a library is for; None if the dynamic linker could not read it."""
        if location not in self.libraries:
            self.libraries[location] = _identity(self.stage.trees.resolve(location))
        return self.libraries[location]


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
    elif not stage.trees.exists(goal):
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
    elif elf is None:
        report.take(location, check_objects(path, report.stage.target))
    report.take(location, check_paths(path, location, report.stage.prefix, report.stage.private, report.stage.sandbox))


def _check_elf(report: _Report, location: str, elf: Elf) -> None:
    report.take(location, check_identity(elf, report.stage.target))
    if elf.textrel:
        report.add("text-relocation", location, "its code is changed when it is loaded (DT_TEXTREL)")
    if elf.exec_stack:
        report.add("executable-stack", location, "asks for an executable stack (PT_GNU_STACK)")
    if elf.soname and not report.stage.trees.exists(posixpath.join(posixpath.dirname(location), elf.soname)):
        report.add("soname-link", location, f"has the SONAME {elf.soname}, but nothing of that name lies beside it")
    directories = _run_path(report, location, elf)
    if elf.machine == report.stage.target.elf_machine:
        for name in elf.needed:
            _check_needed(report, location, elf, name, directories)


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


def _check_needed(report: _Report, location: str, elf: Elf, name: str, directories: Sequence[str]) -> None:
    """Look for a library as the dynamic linker does, which passes over those for other machines."""
    stage = report.stage
    searched = [posixpath.join(place, name) for place in (*directories, *stage.library_directories)]
    named = [place for place in searched if stage.trees.exists(place)]
    if any(_fits(report, place, elf) for place in named):
        return
    elsewhere = list(_find_libraries(stage, name))
    place = next((place for place in elsewhere if _fits(report, place, elf)), None)
    if place is not None:
        shown = ":".join(directories) or "no directory"
        where = posixpath.dirname(place)
        report.add("runpath", location, f"needs {name}, which lies in {where}; its RUNPATH leads to {shown}")
    elif named or elsewhere:
        wrong = (named or elsewhere)[0]
        report.add("needed-closure", location, f"needs {name}, but {wrong} {_misfit(report, wrong)}")
    else:
        report.add("needed-closure", location, f"needs {name}, which no declared component and no package has")


def _fits(report: _Report, location: str, elf: Elf) -> bool:
    library = report.library(location)
    return library is not None and (library.machine, library.bits) == (elf.machine, elf.bits)


def _misfit(report: _Report, location: str) -> str:
    library = report.library(location)
    return "is no library" if library is None else f"is for {library.machine} ({library.bits} bits)"


def _identity(path: Path | None) -> Identity | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return identify(file, str(path))
    except PackageError:
        return None


def _find_libraries(stage: Stage, name: str) -> Iterator[str]:
    """Yield the places of the prefix that have a library, searching the stage trees."""
    for tree in (stage.path, *stage.dependencies):
        for path in sorted((tree / stage.prefix.lstrip("/")).rglob(name)):
            yield "/" + path.relative_to(tree).as_posix()


def _inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
