"""What a build step can see: a bubblewrap command line over a root, or plain paths on the host.

In the sandbox every component finds its own source, build and stage tree and the prefix at the same
places on every machine, so that no path of the user reaches an artifact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rocmbuild.plan.values import SYSROOT

SOURCE = "/src"
BUILD = "/build"
STAGE = "/stage"

TOOLS = "/usr/lib/rocmbuild"
JOBSERVER = "/run/jobserver"
CCACHE = "/run/ccache"

_ISOLATION = tuple(f"--unshare-{kind}" for kind in ("user", "pid", "ipc", "uts", "cgroup-try", "net"))


@dataclass(frozen=True)
class Mounts:
    """The directories of one component; ``sources`` are the read-only source trees of others, by name.

    ``tools`` are directories and files of build tools (CMake, Ninja), by name; ``jobserver`` is a fifo,
    ``ccache`` the directory of compiled files that all builds of a user share.
    In a cross build ``sysroot`` is what is installed on the host machine, ``sysroot_prefix`` the prefix in it, and
    ``native`` are directories below the sysroot with programs of the build machine in their place.
    """

    component: str
    source: Path
    build: Path
    stage: Path
    prefix: Path
    final_prefix: str
    sources: Mapping[str, Path] = field(default_factory=dict)
    tools: Mapping[str, Path] = field(default_factory=dict)
    jobserver: Path | None = None
    ccache: Path | None = None
    writable_source: bool = False
    sysroot: Path | None = None
    sysroot_prefix: Path | None = None
    native: Mapping[str, Path] = field(default_factory=dict)


class Environment(Protocol):
    """Where commands of a component run."""

    @property
    def name(self) -> str:
        """Return ``sandbox`` or ``host``."""
        ...

    def wrap(self, argv: Sequence[str], env: Mapping[str, str], *, cwd: str) -> list[str]:
        """Return the argv that runs ``argv`` with exactly ``env`` in directory ``cwd``."""
        ...

    def path(self, kind: str, name: str = "") -> str:
        """Return where the command sees ``source``, ``build``, ``stage``, ``prefix``, ``tool``, ``jobserver`` …"""
        ...


@dataclass(frozen=True)
class Sandbox:
    """bubblewrap over a read-only root: no network, no home, nothing but what is mounted."""

    root: Path
    mounts: Mounts
    interactive: bool = False
    """keep the terminal's session, for a shell with job control"""
    name: str = "sandbox"
    bubblewrap: str = "bwrap"

    def path(self, kind: str, name: str = "") -> str:
        match kind:
            case "source":
                return f"{SOURCE}/{name or self.mounts.component}"
            case "tool":
                return f"{TOOLS}/{name}"
            case "prefix":
                return self.mounts.final_prefix
        return {"build": BUILD, "stage": STAGE, "jobserver": JOBSERVER, "ccache": CCACHE}[kind]

    def wrap(self, argv: Sequence[str], env: Mapping[str, str], *, cwd: str) -> list[str]:
        mounts = self.mounts
        final = Path(mounts.final_prefix)
        command = [self.bubblewrap, *_ISOLATION, "--die-with-parent", *(() if self.interactive else ("--new-session",))]
        command += ["--uid", "1000", "--gid", "1000", "--hostname", "rocmbuild", "--clearenv"]
        command += ["--ro-bind", str(self.root), "/", "--proc", "/proc", "--dev", "/dev"]
        emptied = ("/run", "/home", SOURCE, TOOLS, str(final.parent))
        for place in ("/tmp", *emptied):
            command += ["--tmpfs", place]
        command += self._sysroot(final)
        for name, path in sorted(mounts.tools.items()):
            command += ["--ro-bind", str(path), self.path("tool", name)]
        own = "--bind" if mounts.writable_source else "--ro-bind"
        command += [own, str(mounts.source), self.path("source")]
        for name, path in sorted(mounts.sources.items()):
            command += ["--ro-bind", str(path), self.path("source", name)]
        command += ["--ro-bind", str(mounts.prefix), str(final), "--symlink", final.name, str(final.parent / "rocm")]
        command += ["--bind", str(mounts.build), BUILD, "--bind", str(mounts.stage), STAGE]
        if mounts.jobserver is not None:
            command += ["--bind", str(mounts.jobserver), JOBSERVER]
        if mounts.ccache is not None:
            command += ["--bind", str(mounts.ccache), CCACHE]
        for place in emptied:
            command += ["--remount-ro", place]
        for key, value in env.items():
            command += ["--setenv", key, value]
        return [*command, "--chdir", cwd, "--", *argv]

    def _sysroot(self, final: Path) -> Iterator[str]:
        """Yield the options that mount the host machine's files of a cross build."""
        mounts = self.mounts
        if mounts.sysroot is None or mounts.sysroot_prefix is None:
            return
        inside = f"{SYSROOT}{final.parent}"
        yield from ("--ro-bind", str(mounts.sysroot), SYSROOT, "--tmpfs", inside)
        yield from ("--ro-bind", str(mounts.sysroot_prefix), f"{SYSROOT}{final}")
        yield from ("--symlink", final.name, f"{inside}/rocm")
        for place, path in sorted(mounts.native.items()):
            yield from ("--ro-bind", str(path), f"{SYSROOT}{place}")
        yield from ("--remount-ro", inside)


@dataclass(frozen=True)
class Host:
    """No sandbox: the commands run on this machine, with its compilers; only the environment is computed.

    The prefix is the merged tree of the dependencies where it lies, so what is built is not relocated.
    """

    mounts: Mounts
    name: str = "host"

    def path(self, kind: str, name: str = "") -> str:
        mounts = self.mounts
        match kind:
            case "source":
                return str(mounts.sources[name] if name and name != mounts.component else mounts.source)
            case "tool":
                return str(mounts.tools[name])
            case "jobserver":
                return str(mounts.jobserver)
            case "ccache":
                return str(mounts.ccache)
        return str({"build": mounts.build, "stage": mounts.stage, "prefix": mounts.prefix}[kind])

    def relocated(self, text: str) -> str:
        """Let paths below the final prefix lead to the merged tree, as far as they exist there."""
        inside = re.compile(re.escape(self.mounts.final_prefix) + r"/([^\s;:,\"']+)")

        def place(match: re.Match[str]) -> str:
            path = self.mounts.prefix / match[1]
            return str(path) if path.exists() else match[0]

        return inside.sub(place, text)

    def wrap(self, argv: Sequence[str], env: Mapping[str, str], *, cwd: str) -> list[str]:
        assignments = [f"{key}={value}" for key, value in env.items()]
        # bubblewrap dies with us; here Ninja has to be told, or it would go on in a tree that the next run works in
        mortal = ["setpriv", "--pdeathsig", "TERM"]
        return [*mortal, "env", "--ignore-environment", f"--chdir={cwd}", *assignments, *argv]
