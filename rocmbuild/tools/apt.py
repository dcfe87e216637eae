"""Debian's archive through the machine's own apt: its address, private directories, packages, pool files."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from rocmbuild.errors import FetchError, RootError, UsageError
from rocmbuild.model.target import Distribution, Suite
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.aptconf import configuration
from rocmbuild.tools.waiting import held
from rocmbuild.workspace import write_text

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LOCK = ".rocmbuild-lock"
"""Held by whoever downloads into a directory of packages."""

HELPER = "/usr/lib/apt/apt-helper"

_SUITE = re.compile(r"(sid|unstable|testing|stable|oldstable|[a-z]+)\Z")
_INSTALL = re.compile(r"^Inst (?P<name>[^ ]+) .*?\((?P<version>[^ ]+) .*\[(?P<arch>[^ ]+)\]\)")
_ORIGIN = "Debian"
_GONE = re.compile(r"(?<!\S)404(?!\S)")
_STALE = ("is expired", "is not valid yet", "Valid-Until")
_FAILED = re.compile(r"Failed to fetch (?P<url>\S+)\s+(?P<reason>.*)")
_MISMATCH = ("File has unexpected size", "Hash Sum mismatch")
"""What apt says of an index that is not the one its suite's signed Release file lists."""

OUT_OF_STEP = "the mirror is being updated, or is out of step: try again later, or use another one (--apt-mirror)"
"""What to do about such an index."""


@dataclass(frozen=True)
class Archive:
    """Where Debian packages come from: base addresses that end in ``/``, and whether old indices will do."""

    main: str
    security: str | None
    keyring: Path
    allow_stale: bool
    environment: Mapping[str, str]

    def base(self, kind: str) -> str | None:
        """Return the address of the ``main`` or the ``security`` archive; None if there is none."""
        return self.main if kind == "main" else self.security

    def source_lines(self, distribution: Distribution) -> list[str]:
        """Return the lines of a ``sources.list`` for ``distribution``."""
        return [
            f"deb [signed-by={self.keyring}] {base} {suite.name} {' '.join(suite.components)}"
            for suite in distribution.suites
            if (base := self.base(suite.archive)) is not None
        ]


def tailed(runner: Runner) -> Runner:
    """Return a runner with the same log, but with nothing of earlier programs in its tail."""
    return replace(runner, tail=deque(maxlen=runner.tail.maxlen))


async def with_usable_suites(
    distribution: Distribution, arch: str, attempt: Callable[[Distribution, Runner], Awaitable[object]], runner: Runner
) -> Distribution:
    """Do what fetches indices, without the suites that the mirror has out of step for ``arch``; return the rest.

    Mirrors copy architectures that few ask for now and then, so that an index of updates may be older than the signed
    file that lists it. The first suite is the distribution itself and never left out. Raises ProcessError.
    """
    while True:
        try:
            await attempt(distribution, tailed(runner))
            return distribution
        except ProcessError as error:
            lost = out_of_step(error.tail, distribution)
            if not lost or distribution.suites[0] in lost:
                raise
        if runner.on_line is not None:
            names = " and ".join(suite.name for suite in lost)
            runner.on_line(f"going on without {names}: this mirror has them out of step for {arch}")
        distribution = replace(distribution, suites=tuple(s for s in distribution.suites if s not in lost))


def out_of_step(lines: Sequence[str], distribution: Distribution) -> tuple[Suite, ...]:
    """Return the suites of which apt got another index than is signed for; none if it failed for another reason."""
    failures = [match for line in lines if (match := _FAILED.search(line))]
    if not all(any(words in failure["reason"] for words in _MISMATCH) for failure in failures):
        return ()
    urls = [failure["url"] for failure in failures]
    return tuple(suite for suite in distribution.suites if any(f"/dists/{suite.name}/" in url for url in urls))


@dataclass(frozen=True)
class Available:
    """A package that apt would install."""

    name: str
    version: str
    arch: str

    @property
    def file_name(self) -> str:
        """Return the name apt gives the downloaded file (a colon is written %3a)."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.arch}.deb"


async def find_archive(
    runner: Runner, environment: Mapping[str, str], *, mirror: str | None, allow_stale: bool, keyring: Path = KEYRING
) -> Archive:
    """Return the Debian archive this machine's apt is configured for, or ``mirror``; UsageError if none is."""
    if not keyring.is_file():
        raise UsageError(
            f"the keys of the Debian archive are missing ({keyring})",
            hint="apt-get install debian-archive-keyring, or: rocmbuild doctor --fix",
        )
    if mirror is not None:
        main: str | None = mirror.rstrip("/") + "/"
        security: str | None = None
    else:
        form = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
        argv = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
        output = await runner.capture(argv, env=environment)
        main, security = choose_addresses(output.decode())
    if main is None:
        raise UsageError(
            "this machine's apt knows no Debian archive",
            hint="name one with --apt-mirror URL (the directory that has dists/ and pool/)",
        )
    return Archive(main, security, keyring, allow_stale, environment)


def choose_addresses(targets: str) -> tuple[str | None, str | None]:
    """Pick the main and the security archive out of ``URI RELEASE COMPONENT ORIGIN`` lines of apt.

    Others have suites named ``stable`` or ``bookworm`` too; what they are is known once apt has their Release file.
    """
    main = security = None
    lines = [(*line.split(maxsplit=3), "", "", "", "")[:4] for line in targets.splitlines()]
    named = any(origin == _ORIGIN for *_, origin in lines)
    for uri, release, component, origin in lines:
        if component != "main" or (named and origin != _ORIGIN) or not (origin == _ORIGIN or _is_unknown(origin)):
            continue
        if release.endswith(("-security", "/updates")):
            security = security or uri
        elif _SUITE.match(release) and release != "nodistro":
            main = main or uri
    return main, security


def _is_unknown(origin: str) -> bool:
    return origin in ("", "$(ORIGIN)")  # apt leaves a word that it does not know as it is


@dataclass(frozen=True)
class Apt:
    """apt for one distribution and architecture, in directories of its own; nothing of the system is touched."""

    archive: Archive
    distribution: Distribution
    arch: str
    directory: Path
    """private state, below the cache"""
    archives: Path
    """downloaded packages, shared by all distributions"""

    async def update(self, runner: Runner) -> None:
        """Fetch the package indices; signatures are always checked, freshness unless stale ones are allowed.

        Updates that the mirror has out of step are left out, for all that follows; raises FetchError.
        """
        config = self._configure()

        async def attempt(distribution: Distribution, runner: Runner) -> None:
            self._write_sources(distribution)
            await self._apt(runner, config, "update", "--error-on=any")

        try:
            await with_usable_suites(self.distribution, self.arch, attempt, runner)
        except ProcessError as error:
            raise self._update_error(error) from error
        await self._require_architecture(config, runner)

    async def closure(self, packages: Sequence[str], runner: Runner) -> list[Available]:
        """Return ``packages`` and all they depend on, in the versions apt would install."""
        config = self._configure()
        try:
            output = await runner.capture(
                ["apt-get", "-c", str(config), "--simulate", "--yes", "install", *packages],
                env=self.archive.environment,
            )
        except ProcessError as error:
            missing = [line for line in error.tail if line.startswith("E:")]
            raise RootError(
                f"{self.distribution.name} cannot install the packages the recipes ask for: {' '.join(missing)}",
                log=error.log,
                hint="correct needs.system of the recipe that names it, or choose another --distribution",
            ) from error
        found = (_INSTALL.match(line) for line in output.decode().splitlines())
        return sorted(
            (Available(m["name"], m["version"], m["arch"]) for m in found if m), key=lambda item: (item.name, item.arch)
        )

    async def download(self, packages: Sequence[Available], runner: Runner) -> list[Path]:
        """Download packages in exact versions; return the files in the same order."""
        config = self._configure()
        names = [f"{item.name}:{item.arch}={item.version}" for item in packages if item.arch != "all"]
        names += [f"{item.name}={item.version}" for item in packages if item.arch == "all"]
        async with held(self.archives / LOCK, runner.on_line) as lock:
            locked = replace(runner, inherit=(*runner.inherit, lock))
            try:
                await self._apt(locked, config, "--yes", "--download-only", "install", *names)
            except ProcessError as error:
                raise FetchError(
                    "some packages could not be downloaded",
                    log=error.log,
                    hint="run the same command again; what has arrived is kept",
                ) from error
        return [self.archives / item.file_name for item in packages]

    async def _require_architecture(self, config: Path, runner: Runner) -> None:
        """Raise FetchError if the distribution is not made for the architecture: apt passes over that in silence."""
        argv = ["apt-get", "-c", str(config), "indextargets", "--format", "$(RELEASE)", "Created-By: Packages"]
        indices = (await runner.capture(argv, env=self.archive.environment)).decode().split()
        first = self.distribution.suites[0]
        if first.name not in indices:
            raise FetchError(
                f"{self.archive.base(first.archive)} has no packages of {self.distribution.name} for {self.arch}",
                hint="choose another --distribution; or a mirror that carries the architecture, with --apt-mirror URL",
            )

    async def _apt(self, runner: Runner, config: Path, *arguments: str) -> None:
        await runner.run(["apt-get", "-c", str(config), *arguments], env=self.archive.environment)

    def _configure(self) -> Path:
        """Write the private configuration; it is read after the machine's own, so proxies stay in force."""
        for name in ("state/lists/partial", "cache"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.archives / "partial").mkdir(parents=True, exist_ok=True)
        (self.directory / "status").touch()
        if not self._sources.exists():
            self._write_sources(self.distribution)
        config = self.directory / "apt.conf"
        text = configuration(
            self.directory,
            status=self.directory / "status",
            sources=self._sources,
            archives=self.archives,
            arch=self.arch,
            allow_stale=self.archive.allow_stale,
        )
        write_text(config, text)
        return config

    @property
    def _sources(self) -> Path:
        return self.directory / "sources.list"

    def _write_sources(self, distribution: Distribution) -> None:
        write_text(self._sources, "\n".join(self.archive.source_lines(distribution)) + "\n")

    def _update_error(self, error: ProcessError) -> FetchError:
        lines = [line for line in error.tail if line.startswith(("E:", "W:"))]
        if any(word in line for line in lines for word in _STALE):
            return FetchError(
                f"the package index of {self.distribution.name} is older than its own Valid-Until date",
                log=error.log,
                hint="use another mirror (--apt-mirror), or accept it with --allow-stale-archive; "
                "its signature is checked all the same",
            )
        check = "check the network and the addresses in the machine's apt configuration, or use --apt-mirror"
        return FetchError(
            f"the package index of {self.distribution.name} could not be fetched: {' '.join(lines)[:400]}",
            log=error.log,
            hint=OUT_OF_STEP if out_of_step(error.tail, self.distribution) else check,
        )


@dataclass
class ArchiveFinder:
    """Find the archive when it is first needed: a run with nothing to download does not ask apt."""

    environment: Mapping[str, str]
    mirror: str | None = None
    allow_stale: bool = False
    _found: Archive | None = field(default=None, init=False)

    async def find(self, runner: Runner) -> Archive:
        """Return the archive; UsageError if this machine knows none."""
        if self._found is None:
            self._found = await find_archive(runner, self.environment, mirror=self.mirror, allow_stale=self.allow_stale)
        return self._found

    async def download(self, path: str, sha256: str, target: Path, runner: Runner) -> None:
        """Download ``pool/main/<path>`` to ``target`` and check its sum; FetchError explains a vanished file."""
        archive = await self.find(runner)
        url = f"{archive.main}pool/main/{quote(path, safe='/+~:')}"
        options = ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]
        try:
            await runner.run(
                [HELPER, *options, "download-file", url, str(target), f"SHA256:{sha256}"], env=archive.environment
            )
        except ProcessError as error:
            raise _pool_error(path, error) from error


def _pool_error(path: str, error: ProcessError) -> FetchError:
    text = " ".join(error.tail)
    if _GONE.search(text):
        return FetchError(
            f"pool/main/{path} is not in the archive (any more): a newer version has taken its place, "
            "or this mirror does not carry it",
            log=error.log,
            hint="take a newer manifest; or a mirror that keeps old files, with --apt-mirror URL; "
            "or a source tree of your own, with --source COMPONENT=PATH",
        )
    if "Hash Sum mismatch" in text:
        return FetchError(
            f"pool/main/{path} has not the sha256 sum that the manifest pins",
            log=error.log,
            hint="try another mirror with --apt-mirror URL; if that has the same file, the manifest is wrong",
        )
    return FetchError(
        f"pool/main/{path} could not be downloaded: {text[-300:]}",
        log=error.log,
        hint="check the network; run the same command again to go on",
    )
