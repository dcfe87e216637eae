"""What a build needs of the machine, one function per need; each answers with findings and what mends them."""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.commands.finding import Finding, Status
from rocmbuild.errors import RocmBuildError, RootError, UsageError
from rocmbuild.model.target import Distribution
from rocmbuild.model.version import compare
from rocmbuild.process import BASE_ENVIRONMENT, ProcessError, Runner
from rocmbuild.tools.apt import HELPER, KEYRING, Archive
from rocmbuild.tools.cmake import find_build_tools
from rocmbuild.tools.emulation import Emulation
from rocmbuild.ui.format import size

DISK = 15 << 30
"""Bytes that a release with its own LLVM takes, build trees and roots together."""

DISK_LEAST = 3 << 30
"""Bytes that the smallest stack takes: one build root, one root to verify in, the packages."""

MEMORY_PER_JOB = 3 << 29
"""Bytes; most C++ files of ROCm stay below 1.5 GiB, device code of a math library does not."""

NINJA = "1.13"
"""The first Ninja that takes part in a jobserver."""

_ROCM_VARIABLES = ("ROCM_PATH", "ROCM_HOME", "HIP_PATH", "HIP_PLATFORM", "HSA_PATH", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Program:
    """A program of the system, the Debian package that has it, and what it is for."""

    name: str
    package: str
    purpose: str


_PROGRAMS = (
    Program("git", "git", "fetches sources"),
    Program("apt-get", "apt", "finds and fetches Debian packages"),
    Program("dpkg-deb", "dpkg", "packs and unpacks them"),
    Program("apt-ftparchive", "apt-utils", "makes the index of built packages"),
    Program("mmdebstrap", "mmdebstrap", "makes the root to verify packages in"),
    Program("bwrap", "bubblewrap", "shows a build only what it declared"),
)


def check_programs(
    *, root: bool, sandboxed: bool, path: str = BASE_ENVIRONMENT["PATH"], programs: Sequence[Program] = _PROGRAMS
) -> list[Finding]:
    """Look for the programs on ``path``; without root rights the helpers for user namespaces too."""
    helpers = () if root else (Program("newuidmap", "uidmap", "lets you make roots without being root"),)
    return [_program(program, path, sandboxed) for program in (*programs, *helpers)]


def _program(program: Program, path: str, sandboxed: bool) -> Finding:
    found = shutil.which(program.name, path=path)
    if found is not None:
        return Finding(program.name, "ok", found)
    status: Status = "warning" if program.name == "bwrap" and not sandboxed else "missing"
    return Finding(program.name, status, f"not found; it {program.purpose}", packages=(program.package,))


def check_subordinate_ids(*, root: bool, etc: Path = Path("/etc"), user: str | None = None) -> list[Finding]:
    """Look for the user's range in /etc/subuid and /etc/subgid; root needs none."""
    if root:
        return []
    name = user or getpass.getuser()
    ids = (name, str(os.getuid()))
    lacking = [file for file in ("subuid", "subgid") if not _has_range(etc / file, ids)]
    if not lacking:
        return [Finding("subordinate ids", "ok", f"{name} has a range of user and group ids")]
    options = [f"--add-{file}s=100000-165535" for file in lacking]
    text = f"{name} has no range in {' and '.join(str(etc / file) for file in lacking)}"
    return [Finding("subordinate ids", "missing", text, command=("usermod", *options, name))]


def _has_range(file: Path, names: Sequence[str]) -> bool:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return False
    return any(line.split(":")[0] in names for line in lines)


async def check_sandbox(runner: Runner, *, needed: bool, machine: Path = Path("/")) -> list[Finding]:
    """Try the kind of sandbox that builds run in; if it fails, say what forbids it."""
    if not needed:
        return [Finding("user namespaces", "ok", "not used with --environment host")]
    argv = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    argv += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--", "/bin/true"]
    try:
        await runner.run(argv)
    except ProcessError as error:
        if error.returncode is None:
            return [Finding("user namespaces", "warning", "not tried: bwrap is missing")]
        return [explain_namespaces(machine, " ".join(error.tail[-2:]))]
    return [Finding("user namespaces", "ok", "a sandbox could be made")]


async def require_sandbox() -> None:
    """Raise UsageError if there can be no sandbox here, and say what forbids it."""
    (found,) = await check_sandbox(Runner(), needed=True)
    if found.status == "ok":
        return
    command = f"run as root: {shlex.join(found.command)}; " if found.command else ""
    raise UsageError(
        f"no sandbox can be made, for it takes {found.subject}: {found.detail}",
        hint=f"{command}{found.advice or 'rocmbuild doctor --fix'}",
    )


async def check_emulation(runner: Runner, interpreter: Path = Path("/bin/true")) -> Finding:
    """Register something as an emulator, as the verification of a cross build does; nothing else needs one."""
    probe = Emulation(interpreter, "other architectures", "EM_NONE")
    try:
        await probe.require(runner)
    except RootError as error:
        return Finding("emulation", "warning", error.message, advice=error.hint or "")
    return Finding("emulation", "ok", "programs of other architectures can be emulated")


def explain_namespaces(machine: Path, said: str) -> Finding:
    """Return why this machine forbids user namespaces; ``said`` is what bubblewrap printed."""
    subject = "user namespaces"
    for name, bad, good in (
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "15000"),
    ):
        if _sysctl(machine, name) == bad:
            command = ("sysctl", "-w", f"{name}={good}")
            advice = f"a file in /etc/sysctl.d with {name}={good} keeps it; or use --environment host"
            return Finding(subject, "missing", f"forbidden by {name}={bad}", command=command, advice=advice)
    if _in_container(machine):
        detail = f"forbidden by the container ({said})"
        advice = "allow them when starting it (docker run --privileged), or use --environment host"
        return Finding(subject, "missing", detail, advice=advice)
    if _in_chroot(machine):
        detail = "forbidden in a chroot, by every kernel"
        return Finding(subject, "missing", detail, advice="leave the chroot, or use --environment host")
    return Finding(subject, "missing", f"bubblewrap failed: {said}", advice="use --environment host")


def _sysctl(machine: Path, name: str) -> str:
    try:
        return (machine / "proc/sys" / name.replace(".", "/")).read_text().strip()
    except OSError:
        return ""


def _in_container(machine: Path) -> bool:
    marks = (".dockerenv", "run/.containerenv", "run/systemd/container")
    return any((machine / mark).exists() for mark in marks)


def _in_chroot(machine: Path) -> bool:
    try:
        return not (machine / "proc/1/root").samefile(machine)
    except OSError:
        return False


def check_python_tools() -> list[Finding]:
    """Look at this Python and at the CMake and Ninja installed with rocmbuild."""
    python = Finding("python", "ok", f"{sys.version.split()[0]} ({sys.executable})")
    advice = f"{sys.executable} -m pip install --upgrade cmake 'ninja>={NINJA}'"
    try:
        tools = find_build_tools()
    except RocmBuildError as error:
        return [python, Finding("cmake and ninja", "missing", error.message, advice=advice)]
    shown = ", ".join(f"{name} {version}" for name, version in tools.versions.items())
    if compare(tools.versions["ninja"], NINJA) < 0:
        detail = f"{shown}: Ninja before {NINJA} ignores the job limit of the whole build"
        return [python, Finding("cmake and ninja", "missing", detail, advice=advice)]
    return [python, Finding("cmake and ninja", "ok", shown)]


def check_keyring(keyring: Path = KEYRING) -> Finding:
    """Look for the keys that the Debian archive is signed with."""
    if keyring.is_file():
        return Finding("archive keys", "ok", str(keyring))
    return Finding("archive keys", "missing", f"no {keyring}", packages=("debian-archive-keyring",))


async def check_suite(archive: Archive, distribution: Distribution) -> Finding:
    """Fetch the release file of a distribution from the archive, through apt's own proxies and transports."""
    subject = distribution.name
    url = f"{archive.main}dists/{distribution.suites[0].name}/InRelease"
    options = ["Acquire::Retries=0", "Acquire::http::Timeout=15", "Acquire::https::Timeout=15"]
    options += ["APT::Sandbox::User=root"]
    with tempfile.TemporaryDirectory(prefix="rocmbuild-") as directory:
        argv = [HELPER, *(word for option in options for word in ("-o", option)), "download-file", url]
        try:
            await Runner().run([*argv, f"{directory}/InRelease"], env=archive.environment)
        except ProcessError as error:
            reasons = [line.removeprefix("E: ") for line in error.tail if line.startswith("E: ")]
            detail = f"not reached: {reasons[0] if reasons else error.message}"
            advice = "check the network and apt's configuration, or name an archive with --apt-mirror URL"
            return Finding(subject, "warning", detail, advice=advice)
    return Finding(subject, "ok", f"in {archive.main}")


def check_disk(places: Mapping[str, Path]) -> list[Finding]:
    """Look at the free space where each of ``places`` is, or will be."""
    return [judge_disk(f"disk: {name}", path, _free(path)) for name, path in places.items()]


def _free(path: Path) -> int:
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def judge_disk(subject: str, path: Path, free: int) -> Finding:
    """Compare the free bytes at ``path`` with what a release takes."""
    text = f"{size(free)} free in {path}"
    if free >= DISK:
        return Finding(subject, "ok", text)
    status: Status = "warning" if free >= DISK_LEAST else "missing"
    option = "--cache DIR" if subject.endswith("cache") else "--workspace DIR"
    return Finding(subject, status, f"{text}; a release takes up to {size(DISK)}", advice=f"use another disk: {option}")


def check_memory(memory: int, jobs: int) -> Finding:
    """Compare the memory of a build with what its jobs take at once."""
    text = f"{size(memory)} for {jobs} jobs"
    if memory >= jobs * MEMORY_PER_JOB:
        return Finding("memory", "ok", text)
    fitting = max(1, memory // MEMORY_PER_JOB)
    advice = f"-j {fitting} avoids waiting for memory" if fitting < jobs else "add memory or swap"
    return Finding("memory", "warning", f"{text}; a C++ compiler takes up to {size(MEMORY_PER_JOB)}", advice=advice)


def check_foreign_rocm(environ: Mapping[str, str], *, sandboxed: bool, opt: Path = Path("/opt")) -> list[Finding]:
    """Say which other ROCm there is; a sandbox does not see it, a build on the host may."""
    found = sorted(str(path) for path in opt.glob("rocm*"))
    findings = []
    if not found:
        findings.append(Finding("other ROCm", "ok", "none"))
    elif sandboxed:
        findings.append(Finding("other ROCm", "ok", f"{', '.join(found)}: builds do not see it"))
    else:
        detail = f"{', '.join(found)}: a build on the host may pick it up"
        findings.append(Finding("other ROCm", "warning", detail, advice="use --environment sandbox"))
    ignored = [name for name in _ROCM_VARIABLES if name in environ]
    if ignored:
        findings.append(Finding("environment", "ok", f"{', '.join(ignored)}: set, and ignored"))
    return findings


async def check_suites(archive: Archive, distributions: Sequence[Distribution]) -> list[Finding]:
    """Fetch the release files of all distributions at once."""
    return list(await asyncio.gather(*(check_suite(archive, distribution) for distribution in distributions)))
