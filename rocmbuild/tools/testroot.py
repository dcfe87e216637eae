"""Fresh roots of a distribution, fully configured, to install packages into and throw away.

A build root is only unpacked; here every package script runs. The base comes from mmdebstrap and is kept as
a tarball. Commands run in bubblewrap without a network, as root of the throw-away system: packages are
resolved and downloaded outside, by the machine's apt in private directories, and installed inside.
Everything inside a root of another architecture runs by emulation.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from rocmbuild.errors import RootError
from rocmbuild.model.target import Distribution
from rocmbuild.process import BASE_ENVIRONMENT, ProcessError, Runner
from rocmbuild.tools.apt import LOCK, OUT_OF_STEP, Archive, out_of_step, tailed, with_usable_suites
from rocmbuild.tools.aptconf import COMMON, PREFERENCES, configuration
from rocmbuild.tools.emulation import Emulation, as_root
from rocmbuild.tools.flush import flush
from rocmbuild.tools.waiting import held
from rocmbuild.workspace import remove_tree, write_text

FORMAT = 1
"""Raised whenever the same specification would give another base."""

ENVIRONMENT: Mapping[str, str] = {
    **BASE_ENVIRONMENT,
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "PYTHONDONTWRITEBYTECODE": "1",
}
"""What a command in a fresh root gets; nothing is inherited, and Python leaves nothing behind in the prefix."""

_ISOLATION = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--unshare-net")
_UNNEEDED = ("man", "doc", "locale")
"""What the base goes without, below /usr/share; packages installed later are whole, so that ``dpkg -V`` is content."""
_ALONE = 'Debug::NoLocking "true";\n'
"""The apt inside has its root to itself; other runs may download into the directory of packages it reads."""
_DPKG = "force-unsafe-io"
"""Option of dpkg: a root that is thrown away need not survive a power failure."""


@dataclass(frozen=True)
class BaseSpec:
    """What a fresh root begins with: a distribution's essential packages, apt, and ``packages``.

    ``emulation`` runs it if this machine cannot; by which emulator makes no difference to what is in it.
    """

    archive: Archive
    distribution: Distribution
    arch: str
    packages: tuple[str, ...] = ()
    emulation: Emulation | None = None

    @property
    def key(self) -> str:
        """Return the name of the base, which changes with anything that goes into it but versions."""
        lines = self.archive.source_lines(self.distribution)
        data = [FORMAT, lines, self.arch, sorted(set(self.packages))]
        digest = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]
        return f"{self.distribution.name}-{self.arch}-fresh-{digest}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Return what the emulator needs in the environment, if there is one."""
        return self.emulation.environment if self.emulation else {}

    def emulated(self, argv: Sequence[str]) -> list[str]:
        """Return an argv that runs ``argv`` as root, where programs of the architecture can be run."""
        return self.emulation.wrap(argv) if self.emulation else as_root(argv)

    async def require(self, runner: Runner) -> None:
        """Raise RootError if this machine does not allow the emulation."""
        if self.emulation:
            await self.emulation.require(runner)


async def make_base(spec: BaseSpec, directory: Path, runner: Runner) -> Path:
    """Return the tarball of ``spec`` in ``directory``, making it if there is none; RootError if that fails."""
    tarball = directory / f"{spec.key}.tar"
    async with held(directory / f".{spec.key}.lock", runner.on_line) as lock:
        runner = replace(runner, inherit=(*runner.inherit, lock))
        if tarball.is_file():
            return tarball
        await spec.require(tailed(runner))
        unfinished = directory / f".{spec.key}.unfinished"
        try:
            await _make(spec, unfinished, runner)
            await flush(unfinished)
            unfinished.rename(tarball)
        except ProcessError as error:
            raise RootError(
                f"no fresh root of {spec.distribution.name} for {spec.arch} could be made: {reasons(error)}",
                log=error.log,
                hint=_base_hint(error, spec),
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)
    return tarball


async def _make(spec: BaseSpec, tarball: Path, runner: Runner) -> None:
    proxies = await _proxies(runner)

    async def attempt(distribution: Distribution, runner: Runner) -> None:
        argv = _mmdebstrap(replace(spec, distribution=distribution), tarball, proxies)
        await runner.run(argv, env={**spec.archive.environment, **spec.environment})

    await with_usable_suites(spec.distribution, spec.arch, attempt, runner)


@dataclass(frozen=True)
class FreshRoot:
    """A configured root to install into: ``path`` is its tree, beside it lie apt's index and configuration.

    ``archives`` keeps downloaded packages, ``repository`` is a directory of packages of our own; it is seen
    inside at the same path.
    """

    spec: BaseSpec
    directory: Path
    archives: Path
    repository: Path

    @property
    def path(self) -> Path:
        return self.directory / "root"

    async def open(self, tarball: Path, runner: Runner) -> None:
        """Unpack a base, in place of what was there, and fetch the package indices; raises RootError."""
        await self.spec.require(tailed(runner))
        await self.remove(runner)
        for path in (self.path, self._lists / "partial", self.directory / "cache", self.archives / "partial"):
            path.mkdir(parents=True, exist_ok=True)
        try:
            argv = ["tar", "--extract", "--same-permissions", "--numeric-owner", "--exclude=./dev/*"]
            await runner.run(as_root([*argv, f"--file={tarball}", f"--directory={self.path}"]))
        except ProcessError as error:
            raise RootError(f"{tarball} could not be unpacked: {reasons(error)}", log=error.log) from error
        _configure(self)
        await self.update(runner)

    def enter(self, argv: Sequence[str], env: Mapping[str, str] = ENVIRONMENT, cwd: str = "/") -> list[str]:
        """Return the argv that runs ``argv`` inside with exactly ``env``: as root, without a network, without a GPU."""
        command = ["bwrap", *_ISOLATION, "--die-with-parent", "--new-session", "--hostname", "fresh", "--clearenv"]
        command += ["--bind", str(self.path), "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
        command += ["--bind", str(self.archives), "/var/cache/apt/archives"]
        command += ["--bind", str(self._lists), "/var/lib/apt/lists"]
        command += ["--ro-bind", str(self.repository), str(self.repository)]
        for key, value in {**self.spec.environment, **env}.items():
            command += ["--setenv", key, value]
        return self.spec.emulated([*command, "--chdir", cwd, "--", *argv])

    async def update(self, runner: Runner) -> None:
        """Fetch the package indices of the archive and of the repository; RootError if that fails.

        Updates that the mirror has out of step are left out, for both apts.
        """

        async def attempt(distribution: Distribution, runner: Runner) -> None:
            self._write_sources(distribution)
            await self._outside(runner, "update", "--error-on=any")

        try:
            await with_usable_suites(self.spec.distribution, self.spec.arch, attempt, runner)
        except ProcessError as error:
            check = "check the network; an index past its date is accepted with --allow-stale-archive"
            raise RootError(
                f"the package indices for {self.spec.distribution.name} could not be fetched: {reasons(error)}",
                log=error.log,
                hint=OUT_OF_STEP if out_of_step(error.tail, self.spec.distribution) else check,
            ) from error

    async def install(self, names: Sequence[str], runner: Runner) -> None:
        """Install packages with all they depend on; RootError says which cannot be resolved, fetched or configured."""
        argv = ["--yes", "install", *names]
        phase = "resolved and downloaded"
        try:
            async with held(self.archives / LOCK, runner.on_line) as lock:
                locked = replace(runner, inherit=(*runner.inherit, lock))
                await self._outside(locked, "--download-only", *argv)
            phase = "installed"
            await tailed(runner).run(self.enter(["apt-get", *argv]))
        except ProcessError as error:
            listed = ", ".join(names) if len(names) <= 5 else f"{len(names)} packages"
            raise RootError(f"{listed} cannot be {phase}: {reasons(error)}", log=error.log) from error

    async def purge(self, names: Sequence[str], runner: Runner) -> None:
        """Remove packages with their configuration; RootError if a package script fails."""
        try:
            await tailed(runner).run(self.enter(["apt-get", "--yes", "purge", *names]))
        except ProcessError as error:
            raise RootError(f"the packages cannot be purged: {reasons(error)}", log=error.log) from error

    async def remove(self, runner: Runner) -> None:
        """Remove the root from the disk."""
        if os.geteuid() != 0 and self.path.exists():
            await runner.run(as_root(["rm", "-rf", str(self.path)]))  # files of other users of the root
        remove_tree(self.directory)

    @property
    def _lists(self) -> Path:
        return self.directory / "state/lists"

    async def _outside(self, runner: Runner, *arguments: str) -> None:
        """Run the machine's apt, which has the network, on the state of the root."""
        config = str(self.directory / "apt.conf")
        await tailed(runner).run(["apt-get", "-c", config, *arguments], env=self.spec.archive.environment)

    def _write_sources(self, distribution: Distribution) -> None:
        """Tell both apts, the one outside and the one inside, where packages come from."""
        ours = f"deb [trusted=yes] file:{quote(str(self.repository))} ./"
        lines = [*self.spec.archive.source_lines(distribution), ours]
        (self.path / "etc/apt/sources.list").write_text("\n".join(lines) + "\n")


def reasons(error: ProcessError) -> str:
    """Return the reasons that apt or dpkg gave, on one line."""
    lines = list(error.tail)
    unmet = next((index for index, line in enumerate(lines) if line.lower().endswith("dependencies:")), len(lines))
    found = [line.strip() for line in lines[unmet + 1 :] if line.startswith(" ")]
    found += [line for line in lines if line.startswith(("E:", "dpkg: error"))]
    return " ".join(found or lines[-3:])[:600] or str(error)


def _configure(root: FreshRoot) -> None:
    """Tell both apts, the one outside and the one inside, how to go about it."""
    etc = root.path / "etc"
    for unwanted in ((etc / "apt/sources.list.d").glob("*"), etc.glob("*/*.d/99mmdebstrap")):
        for path in unwanted:
            path.unlink()
    (etc / "apt/apt.conf.d/rocmbuild").write_text(f"{COMMON}{_ALONE}")
    (etc / "apt/preferences").write_text(PREFERENCES)
    (etc / "dpkg/dpkg.cfg.d/rocmbuild").write_text(f"{_DPKG}\n")
    text = configuration(
        root.directory,
        status=root.path / "var/lib/dpkg/status",
        sources=etc / "apt/sources.list",
        archives=root.archives,
        arch=root.spec.arch,
        allow_stale=root.spec.archive.allow_stale,
        preferences=etc / "apt/preferences",
    )
    write_text(root.directory / "apt.conf", text)


def _mmdebstrap(spec: BaseSpec, output: Path, proxies: Sequence[str]) -> list[str]:
    options = [f"--aptopt={line}" for line in proxies]
    if spec.archive.allow_stale:
        options.append('--aptopt=Acquire::Check-Valid-Until "false"')
    options += [f"--dpkgopt={_DPKG}", *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNNEEDED)]
    if spec.packages:
        options.append(f"--include={','.join(sorted(set(spec.packages)))}")
    lines = spec.archive.source_lines(spec.distribution)
    if spec.emulation:
        options.append("--skip=check/qemu")  # it would look for an emulator that the whole machine knows
    argv = ["mmdebstrap", "--mode=auto", "--variant=apt", "--format=tar", f"--architectures={spec.arch}"]
    argv += [*options, spec.distribution.suites[0].name, str(output), *lines]
    return spec.emulation.wrap(argv) if spec.emulation else argv


async def _proxies(runner: Runner) -> list[str]:
    """Return the proxies of the machine's apt configuration; mmdebstrap looks at nothing of it."""
    output = await runner.capture(["apt-config", "dump", "Acquire"])
    return [line for line in output.decode().splitlines() if "::proxy" in line.partition(" ")[0].lower()]


def _base_hint(error: ProcessError, spec: BaseSpec) -> str:
    text = "\n".join(error.tail)
    if error.returncode is None or "mmdebstrap: No such file" in text:
        return "apt-get install mmdebstrap, or: rocmbuild doctor --fix"
    if out_of_step(error.tail, spec.distribution):
        return OUT_OF_STEP
    if "expired" in text or "Valid-Until" in text:
        return "use another mirror (--apt-mirror), or accept the old index with --allow-stale-archive"
    if "Exec format error" in text or "binfmt" in text:
        return f"this machine cannot run programs of {spec.arch}, and was given no emulator for them"
    if "newuidmap" in text or "subuid" in text:
        return "without root rights this takes uidmap, and a range for you in /etc/subuid and /etc/subgid"
    return "check the network and the log; rocmbuild doctor looks at what verification needs"
