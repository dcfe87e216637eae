"""Targets (what the packages run on) and distributions (what they install into), as data files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rocmbuild.model.document import load


@dataclass(frozen=True)
class Target:
    """A machine to build for: GNU triple, Debian architecture, compiler flags, ELF identity, emulator argv."""

    name: str
    summary: str
    triple: str
    arch: str
    machines: tuple[str, ...]
    elf_machine: str
    elf_flags: int | None
    flags: tuple[str, ...]
    emulator: tuple[str, ...]

    def runs_on(self, machine: str) -> bool:
        """Return whether ``machine`` (as ``uname -m`` says it) runs this target's programs itself."""
        return machine in self.machines


@dataclass(frozen=True)
class Suite:
    """A suite of an archive; ``archive`` is ``main`` or ``security``."""

    name: str
    archive: str
    components: tuple[str, ...]


@dataclass(frozen=True)
class Distribution:
    """A Debian release: its suites, its tag in package versions, its C and C++ compiler, its base packages."""

    name: str
    summary: str
    tag: str
    release_id: tuple[str, str] | None
    suites: tuple[Suite, ...]
    cc: str
    cxx: str
    system: tuple[str, ...]


def load_target(path: Path) -> Target:
    """Read a target file; raises DocumentError."""
    data = load(path, "target").data
    elf = data["elf"]
    return Target(
        name=data["target"],
        summary=data.get("summary", ""),
        triple=data["triple"],
        arch=data["arch"],
        machines=tuple(data["machines"]),
        elf_machine=elf["machine"],
        elf_flags=elf.get("flags"),
        flags=tuple(data.get("flags", ())),
        emulator=tuple(data.get("emulator", ())),
    )


def load_distribution(path: Path) -> Distribution:
    """Read a distribution file; raises DocumentError."""
    data = load(path, "distribution").data
    release = data.get("os_release")
    return Distribution(
        name=data["distribution"],
        summary=data.get("summary", ""),
        tag=data["tag"],
        release_id=(release["id"], release["version"]) if release else None,
        suites=tuple(
            Suite(raw["suite"], raw.get("archive", "main"), tuple(raw.get("components", ("main",))))
            for raw in data["suites"]
        ),
        cc=data["compiler"]["c"],
        cxx=data["compiler"]["cxx"],
        system=tuple(data["system"]),
    )
