"""Programs of another architecture, run by QEMU's user-mode emulation in a user namespace that alone knows of it.

Nothing is registered with the machine's own kernel settings, and nothing is left behind: see ``binfmt``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.errors import RootError
from rocmbuild.model.version import compare
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools import binfmt
from rocmbuild.tools.elf import inspect

LINUX = "6.7"
"""The first Linux whose binfmt_misc belongs to a user namespace."""

_SELF_CONTAINED = "{}-static"
"""Name of an emulator that needs no libraries, in releases where it is not the only one."""


@dataclass(frozen=True)
class Emulation:
    """How programs of a Debian architecture are run: QEMU's program for it, and the processor it is to be.

    ``elf_machine`` is what their ELF headers say, as in ``EM_RISCV``; they are 64-bit and little-endian.
    """

    interpreter: Path
    arch: str
    elf_machine: str
    cpu: str | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """Return what the emulator has to find in the environment of the programs it runs."""
        return {"QEMU_CPU": self.cpu} if self.cpu else {}

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """Return an argv that runs ``argv`` as root (see ``as_root``) where programs of the architecture can be run."""
        from elftools.elf.enums import ENUM_E_MACHINE  # late, as in elf.py

        machine = str(ENUM_E_MACHINE[self.elf_machine])
        # by its path, in isolated mode without site-packages: it starts in 25 ms, wherever it is started
        launcher = [sys.executable, "-I", "-S", binfmt.__file__]
        return as_root([*launcher, machine, str(self.interpreter.absolute()), *argv])

    async def require(self, runner: Runner) -> None:
        """Raise RootError if this machine does not allow it, and say what to do."""
        try:
            await runner.run(self.wrap(["true"]))
        except ProcessError as error:
            said = error.tail[-1] if error.tail else str(error)
            raise RootError(
                f"programs of {self.arch} cannot be emulated here: {said.removeprefix(binfmt.PREFIX)}",
                log=error.log,
                hint=advice(said, os.uname().release),
            ) from error


def as_root(argv: Sequence[str]) -> list[str]:
    """Return an argv that runs as root of this machine, or of a user namespace with the user's own sub-ids.

    A root's files have several owners; without root rights that takes ranges in /etc/subuid and /etc/subgid.
    """
    return list(argv) if os.geteuid() == 0 else ["unshare", "--map-root-user", "--map-auto", "--", *argv]


def find_emulator(root: Path, program: str) -> Path:
    """Return an emulator, such as ``qemu-riscv64``, that lies in an unpacked root; RootError if there is none.

    It must not need libraries: the root that it is to run programs in has none for it.
    """
    paths = [root / "usr/bin" / name for name in (_SELF_CONTAINED.format(program), program)]
    found = [(path, elf) for path in paths if path.is_file() and (elf := inspect(path)) is not None]
    for path, elf in found:
        if elf.interpreter is None:
            return path
    what = "no statically linked" if found else "no"
    raise RootError(
        f"there is {what} {program} in {root}",
        hint="cross.emulators of the distribution must name the package that has it",
    )


def advice(said: str, release: str) -> str:
    """Return what to do about what the launcher, or ``unshare`` before it, printed on a kernel of ``release``."""
    if "newuidmap" in said or "subuid" in said:
        return "without root rights this takes uidmap, and a range for you in /etc/subuid and /etc/subgid"
    if compare(release, LINUX) < 0:
        return f"this takes Linux {LINUX} or newer, and this is {release}; --no-verify goes without"
    if said.startswith(f"{binfmt.PREFIX}{binfmt.REGISTER}"):
        return "the emulator must be a program that this machine can run"
    if said.startswith(f"{binfmt.PREFIX}{binfmt.MOUNT_POINT}"):
        return "as root: modprobe binfmt_misc; or a container forbids it; --no-verify goes without"
    return "rocmbuild doctor looks for what forbids user namespaces; --no-verify goes without"
