"""Where and with what components are built: one area of the workspace and one set of roots for each machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rocmbuild.errors import RootError
from rocmbuild.plan.fingerprint import digest
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.plan import Job, Plan
from rocmbuild.plan.selection import CCACHE, CROSS_ROOT, EMULATOR, ROOT, SYSROOT
from rocmbuild.run.stamps import Stamps
from rocmbuild.tools import cmake
from rocmbuild.tools.ccache import Ccache
from rocmbuild.tools.root import Root, RootSpec
from rocmbuild.workspace import Workspace


@dataclass
class Made:
    """The roots that components for one machine are built with, as far as they have been made.

    ``specs`` has one for each kind (see ``plan.selection``) and is empty when building on the host;
    ``python`` are packages of PyPI beside the build root.
    """

    specs: Mapping[str, RootSpec] = field(default_factory=dict)
    roots: dict[str, Root] = field(default_factory=dict)
    python: Path | None = None

    @property
    def root(self) -> Root | None:
        """Return what commands run over; None when building on the host."""
        return self.roots.get(ROOT) or self.roots.get(CROSS_ROOT)

    @property
    def sysroot(self) -> Root | None:
        """Return what is installed on the host machine; None in a native build."""
        return self.roots.get(SYSROOT)

    @property
    def installed(self) -> Root | None:
        """Return the root whose packages ours depend on."""
        return self.sysroot or self.root

    @property
    def missing(self) -> tuple[RootSpec, ...]:
        """Return the roots that have to be made."""
        return tuple(spec for kind, spec in self.specs.items() if kind not in self.roots)

    @property
    def shaping(self) -> dict[str, Root]:
        """Return the roots whose packages shape what is built: all but the one with ccache."""
        return {kind: root for kind, root in self.roots.items() if kind != CCACHE}

    @property
    def digest(self) -> str | None:
        """Return the digest of all package versions that count; None on the host, and until these roots are there."""
        if not self.specs or self.specs.keys() - self.roots.keys() - {CCACHE}:
            return None
        digests = {kind: root.digest for kind, root in self.shaping.items()}
        return digests[ROOT] if len(digests) == 1 else digest(digests)

    def emulator(self, program: str) -> Path:
        """Return QEMU's program; RootError if the emulators have not been made."""
        from rocmbuild.tools.emulation import find_emulator  # late: few builds are for another machine

        root = self.roots.get(EMULATOR)
        if root is None:
            raise RootError(f"there is no root with {program}")
        return find_emulator(root.path, program)


@dataclass(frozen=True)
class Area:
    """What belongs to one machine: directories of the workspace, stamps in them, roots."""

    workspace: Workspace
    stamps: Stamps
    made: Made


@dataclass(frozen=True)
class Site:
    """Where and with what components are built."""

    plan: Plan
    areas: Mapping[Machine, Area]
    tools: cmake.BuildTools
    jobserver: Path | None
    makeflags: str
    ccache: Ccache | None = None
    jobs: int = 1
    memory: int = 1 << 30
    """bytes that all build processes together may use"""

    @property
    def workspace(self) -> Workspace:
        """Return the area of the workspace that packages go to."""
        return self.areas[Machine.HOST].workspace

    @property
    def made(self) -> Made:
        """Return the roots of the host machine."""
        return self.areas[Machine.HOST].made

    def area(self, node: Node) -> Area:
        """Return the area of the machine that a component is built for."""
        return self.areas[node.machine]

    def stage(self, node: Node) -> Path:
        """Return the stage tree of a component."""
        return self.area(node).workspace.stage(node.component)

    def source(self, job: Job) -> Path:
        """Return the source tree of a component, or of the one whose output it takes over."""
        node = job.twin or job.node
        return self.area(node).workspace.source(node.component)

    def consumed(self, job: Job) -> dict[str, str | None]:
        """Return the outputs of a component's needs as they are now, by the names that keys have them under."""
        return {name: self._output(node) for name, node in job.consumed.items()}

    def _output(self, node: Node) -> str | None:
        needed = self.plan.at(node)
        if needed.provided is not None:
            return needed.key
        known = self.area(node).stamps.read(node.component)
        return None if known is None else known.output

    def is_cross(self, node: Node) -> bool:
        """Return whether a component is built for another machine than it is built on."""
        return self.plan.selection.is_cross(node.machine)
