"""How a component is built, packaged and checked: ``recipes/<component>/recipe.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rocmbuild.model.condition import Facts, holds
from rocmbuild.model.document import Document
from rocmbuild.model.scalars import parse_size


@dataclass(frozen=True)
class Needs:
    """What a component needs: ``tools`` run on the build machine, ``libs`` are linked on the host machine.

    ``sources`` are components whose source tree is read, ``run`` are needed only once installed,
    ``system`` are distribution packages; those that end in ``:native`` only have programs that run while building.
    ``python`` are PyPI requirements of the build root.
    """

    tools: tuple[str, ...] = ()
    libs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    python: tuple[str, ...] = ()

    def __add__(self, other: Needs) -> Needs:
        names = self.__dataclass_fields__
        return Needs(**{name: _union(getattr(self, name), getattr(other, name)) for name in names})


@dataclass(frozen=True)
class Edit:
    """A declarative change to one file: find and replace ``count`` times (``any``: at least once), or ``write`` it.

    ``find`` and ``present`` are regular expressions in multi-line mode. An ``optional`` edit mends what a build can
    do without: where it does not fit it is left out, and that is said.
    """

    file: str
    why: str
    find: str = ""
    replace: str = ""
    count: int | Literal["any"] = 1
    present: str | None = None
    write: str | None = None
    optional: bool = False
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Patch:
    """A unified diff (``-p1``) under the recipe's directory."""

    path: Path
    why: str
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Addition:
    """A file with ``text`` or a symbolic ``link`` that is put into the stage tree."""

    path: str
    why: str
    text: str | None = None
    link: str | None = None


@dataclass(frozen=True)
class Discard:
    """Files of the stage tree that belong to no package, and why."""

    files: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class PackageRule:
    """A Debian package: which files of the stage tree it owns and its relations.

    ``files`` are patterns relative to the prefix, absolute ones to the root; ``**`` crosses directories.
    """

    name: str
    summary: str
    description: str = ""
    section: str = "devel"
    architecture: str = "any"
    files: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    recommends: tuple[str, ...] = ()
    suggests: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    scripts: tuple[tuple[str, Path], ...] = ()
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class CheckStep:
    """A command of a check: its argv, the exit status and the output (a regular expression) it must have.

    It runs among the installed packages, or ``on`` the build machine, with them as its prefix and in its sysroot.
    """

    run: tuple[str, ...]
    on: str = "host"
    exit: int = 0
    expect: str | None = None
    each_gpu: bool = False
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Check:
    """A proof that installed packages work: files to copy, commands to run, a fat binary to inspect.

    ``device_code`` are files that the commands make for GPUs: they must be the same on every machine.
    """

    name: str
    summary: str
    packages: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    steps: tuple[CheckStep, ...] = ()
    fatbin: str | None = None
    device_code: tuple[str, ...] = ()


@dataclass(frozen=True)
class Waiver:
    """A QA rule that does not apply to some files, and why."""

    rule: str
    files: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class ComponentChecks:
    """What a component's recipe wants proved once its packages are installed; no condition is left in it."""

    component: str
    checks: tuple[Check, ...] = ()
    waivers: tuple[Waiver, ...] = ()


@dataclass(frozen=True)
class Provided:
    """How a distribution provides the component: version, home, build packages, run-time packages, adapter links."""

    version: str
    home: str
    system: tuple[str, ...]
    runtime: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Part:
    """The conditional part of a recipe."""

    needs: Needs = Needs()
    subdir: str | None = None
    targets: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    edits: tuple[tuple[Mapping[str, Any] | None, Edit], ...] = ()
    patches: tuple[tuple[Mapping[str, Any] | None, Patch], ...] = ()
    additions: tuple[Addition, ...] = ()
    discards: tuple[Discard, ...] = ()
    packages: tuple[PackageRule, ...] = ()
    checks: tuple[Check, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolved:
    """A recipe for one set of facts: no condition is left in it."""

    name: str
    summary: str
    description: str
    homepage: str
    spdx: str
    license_files: tuple[str, ...]
    builds: bool
    machine_independent: bool
    """whether its output is the same for every machine"""
    build_programs: str | None
    """directory below its home whose programs the build machine runs, though the libraries are for another"""
    writable_source: bool
    memory: int
    memory_per_link: int
    cost: float
    home: str
    needs: Needs
    subdir: str
    targets: tuple[str, ...]
    variables: Mapping[str, str]
    environment: Mapping[str, str]
    edits: tuple[Edit, ...]
    patches: tuple[Patch, ...]
    additions: tuple[Addition, ...]
    discards: tuple[Discard, ...]
    packages: tuple[PackageRule, ...]
    checks: tuple[Check, ...]
    waivers: tuple[Waiver, ...]
    notes: tuple[str, ...]
    """what a user of the packages should know, for their changelog"""
    where: str
    directory: Path


@dataclass(frozen=True)
class Recipe:
    """A recipe as written: the part that always holds and the variants with their conditions.

    ``memory`` is the peak of one build in bytes, ``memory_per_link`` that of one linker, ``cost`` its CPU seconds.
    """

    name: str
    document: Document
    directory: Path
    base: Part
    variants: tuple[tuple[Mapping[str, Any], Part], ...]
    provided: Mapping[str, Provided]
    cmake_packages: tuple[str, ...]

    def resolve(self, facts: Facts) -> Resolved:
        """Return the recipe with every condition decided."""
        part = self.base
        for when, variant in self.variants:
            if holds(when, facts):
                part = _merge(part, variant)
        data = self.document.data
        license_ = data.get("license", {})
        return Resolved(
            name=self.name,
            summary=data["summary"],
            description=data.get("description", ""),
            homepage=data.get("homepage", ""),
            spdx=license_.get("spdx", ""),
            license_files=tuple(license_.get("files", ())),
            builds=data.get("build", "cmake") == "cmake" and not facts.system,
            machine_independent=data.get("machine_independent", False),
            build_programs=data.get("build_programs"),
            writable_source=data.get("writable_source", False),
            memory=parse_size(data.get("memory", "1G")),
            memory_per_link=parse_size(data.get("memory_per_link", "1G")),
            cost=float(data.get("cost", 60)),
            home=data.get("home", "{prefix}"),
            needs=part.needs,
            subdir=part.subdir or ".",
            targets=part.targets,
            variables=dict(part.variables),
            environment=dict(part.environment),
            edits=tuple(edit for when, edit in part.edits if holds(when, facts)),
            patches=tuple(patch for when, patch in part.patches if holds(when, facts)),
            additions=part.additions,
            discards=part.discards,
            packages=part.packages,
            checks=part.checks,
            waivers=part.waivers,
            notes=part.notes,
            where=self.document.where(),
            directory=self.directory,
        )


def _merge(base: Part, extra: Part) -> Part:
    return replace(
        base,
        needs=base.needs + extra.needs,
        subdir=extra.subdir or base.subdir,
        targets=base.targets + extra.targets,
        variables=tuple({**dict(base.variables), **dict(extra.variables)}.items()),
        environment=tuple({**dict(base.environment), **dict(extra.environment)}.items()),
        edits=base.edits + extra.edits,
        patches=base.patches + extra.patches,
        additions=base.additions + extra.additions,
        discards=base.discards + extra.discards,
        packages=base.packages + extra.packages,
        checks=base.checks + extra.checks,
        waivers=base.waivers + extra.waivers,
        notes=base.notes + extra.notes,
    )


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
