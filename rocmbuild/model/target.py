"""Targets (what the packages run on) and distributions (what they install into), as data files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocmbuild.model.document import load


@dataclass(frozen=True)
class Emulator:
    """A user-mode emulator of QEMU: the name of its program, and the processor it is to be."""

    program: str
    cpu: str | None


@dataclass(frozen=True)
class Target:
    """A machine to build for: GNU triple, Debian architecture, compiler flags, ELF identity, emulator.

    ``variant`` tells it from other targets of the same architecture. ``machines`` are the names ``uname -m`` gives it,
    the first of them the one CMake uses. ``distribution`` is what it runs if a release is made for that. ``gcc_flags``
    are flags that only GCC knows, ``assembler`` what an assembler has to be told besides the triple. ``isa`` is the
    RISC-V instruction set that its programs may ask for.
    """

    name: str
    summary: str
    triple: str
    arch: str
    variant: str | None
    machines: tuple[str, ...]
    distribution: str | None
    elf_machine: str
    elf_flags: int | None
    isa: str | None
    flags: tuple[str, ...]
    gcc_flags: tuple[str, ...]
    assembler: tuple[str, ...]
    emulator: Emulator | None

    @property
    def area(self) -> str:
        """Return the part of a workspace's directories that tells builds for the target from others."""
        return f"{self.arch}-{self.variant}" if self.variant else self.arch

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
class CrossTools:
    """What a distribution cross-compiles with: clang, its linker and the directory of its other tools.

    ``gcc`` is the major version of the GCC whose libraries are used, ``packages`` bring the tools, ``emulators`` is the
    package of QEMU's statically linked user-mode emulators.
    """

    cc: str
    cxx: str
    linker: str
    binutils: str
    gcc: str
    packages: tuple[str, ...]
    emulators: str


@dataclass(frozen=True)
class Distribution:
    """A Debian release: its suites, its tag in package versions, its C and C++ compiler, its base packages."""

    name: str
    summary: str
    tag: str
    release_id: tuple[str, str] | None
    architectures: tuple[str, ...]
    suites: tuple[Suite, ...]
    cc: str
    cxx: str
    system: tuple[str, ...]
    cross: CrossTools | None


def load_target(path: Path) -> Target:
    """Read a target file; raises DocumentError."""
    data = load(path, "target").data
    elf, emulator = data["elf"], data.get("emulator")
    return Target(
        name=data["target"],
        summary=data.get("summary", ""),
        triple=data["triple"],
        arch=data["arch"],
        variant=data.get("variant"),
        machines=tuple(data["machines"]),
        distribution=data.get("distribution"),
        elf_machine=elf["machine"],
        elf_flags=elf.get("flags"),
        isa=elf.get("isa"),
        flags=tuple(data.get("flags", ())),
        gcc_flags=tuple(data.get("gcc_flags", ())),
        assembler=tuple(data.get("assembler", ())),
        emulator=Emulator(emulator["program"], emulator.get("cpu")) if emulator else None,
    )


def load_distribution(path: Path) -> Distribution:
    """Read a distribution file; raises DocumentError."""
    data = load(path, "distribution").data
    release, cross = data.get("os_release"), data.get("cross")
    return Distribution(
        name=data["distribution"],
        summary=data.get("summary", ""),
        tag=data["tag"],
        release_id=(release["id"], release["version"]) if release else None,
        architectures=tuple(data["architectures"]),
        suites=tuple(
            Suite(raw["suite"], raw.get("archive", "main"), tuple(raw.get("components", ("main",))))
            for raw in data["suites"]
        ),
        cc=data["compiler"]["c"],
        cxx=data["compiler"]["cxx"],
        system=tuple(data["system"]),
        cross=_cross_tools(cross) if cross else None,
    )


def _cross_tools(raw: Mapping[str, Any]) -> CrossTools:
    return CrossTools(
        cc=raw["c"],
        cxx=raw["cxx"],
        linker=raw["linker"],
        binutils=raw["binutils"],
        gcc=raw["gcc"],
        packages=tuple(raw["system"]),
        emulators=raw["emulators"],
    )
