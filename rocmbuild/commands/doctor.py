"""``rocmbuild doctor``: what this machine lacks, with the commands that mend it; ``--fix`` installs packages.

What looks at builds is imported late: ``--host`` has to work on a machine where nothing of ours is installed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from rocmbuild.commands import host
from rocmbuild.commands.finding import Finding
from rocmbuild.errors import RocmBuildError, UsageError
from rocmbuild.process import ProcessError, Runner, network_environment
from rocmbuild.settings import Settings

_STYLES: Mapping[str, str] = {"ok": "green", "warning": "yellow", "missing": "bold red"}


def run(settings: Settings) -> int:
    """Examine the machine and print what is found; 1 if something is missing that builds, or the packages, need."""
    if settings.format not in ("table", "json"):
        raise UsageError(f"{settings.format!r} is neither table nor json", where="--format")
    if settings.host and settings.fix:
        raise UsageError("it installs what builds need, and mends nothing that --host looks at", where="--fix")
    findings = host.examine(host.Host()) if settings.host else asyncio.run(_examine_and_fix(settings))
    if settings.format == "json":
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    else:
        _print(findings)
    return 1 if any(finding.status == "missing" for finding in findings) else 0


async def _examine_and_fix(settings: Settings) -> list[Finding]:
    findings = await examine(settings)
    packages = missing_packages(findings)
    if not (settings.fix and packages):
        return findings
    await _install(packages, network_environment(settings.environ))
    return await examine(settings)


async def examine(settings: Settings) -> list[Finding]:
    """Return what every check found, in the order of the table."""
    from rocmbuild.commands import checks

    root = os.geteuid() == 0
    sandboxed = settings.environment == "sandbox"
    return [
        *checks.check_python_tools(),
        *checks.check_programs(root=root, sandboxed=sandboxed),
        *checks.check_subordinate_ids(root=root),
        *await checks.check_sandbox(Runner(), needed=sandboxed),
        await checks.check_emulation(Runner()),
        checks.check_keyring(),
        *await _archive(settings),
        *checks.check_disk({"workspace": settings.workspace, "cache": settings.cache}),
        checks.check_memory(settings.memory, settings.jobs),
        *checks.check_foreign_rocm(settings.environ, sandboxed=sandboxed),
    ]


async def _archive(settings: Settings) -> list[Finding]:
    """Find the Debian archive and try each distribution in it, unless builds are offline anyway."""
    from rocmbuild.commands import checks
    from rocmbuild.model.catalog import make_catalog
    from rocmbuild.model.target import load_distribution
    from rocmbuild.tools.apt import find_archive

    environment = network_environment(settings.environ)
    try:
        archive = await find_archive(
            Runner(), environment, mirror=settings.apt_mirror, allow_stale=settings.allow_stale_archive
        )
    except RocmBuildError as error:
        return [Finding("Debian archive", "missing", error.message, advice=error.hint or "")]
    if settings.offline:
        return [Finding("Debian archive", "ok", f"{archive.main} (not tried: --offline)")]
    paths = make_catalog().distributions().values()
    return await checks.check_suites(archive, [load_distribution(path) for path in paths])


def missing_packages(findings: Sequence[Finding]) -> list[str]:
    """Return the Debian packages that would mend findings."""
    return sorted({package for finding in findings for package in finding.packages})


def as_root(argv: Sequence[str], *, root: bool, ask: bool = True) -> list[str]:
    """Return the argv that runs as root; ``ask`` False makes sudo fail rather than ask for a password."""
    return [*_sudo(root, ask), *argv]


def _sudo(root: bool, ask: bool) -> tuple[str, ...]:
    if root:
        return ()
    return ("sudo",) if ask else ("sudo", "--non-interactive")


async def _install(packages: Sequence[str], environment: Mapping[str, str]) -> None:
    """Install packages, fetching apt's indices first if they do not know them; RocmBuildError if it fails."""
    if shutil.which("apt-get") is None:
        raise RocmBuildError(
            "apt-get is missing: this is not Debian", hint=f"install {' '.join(packages)} some other way"
        )
    root = os.geteuid() == 0
    runner = Runner(on_line=lambda text: print(text, file=sys.stderr, flush=True))
    apt_get = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]
    install = as_root([*apt_get, "install", "--yes", "--no-install-recommends", *packages], root=root, ask=False)
    try:
        if await runner.run(install, env=environment, check=False) == 0:
            return
        update = as_root([*apt_get, "update"], root=root, ask=False)
        await runner.run(update, env=environment, check=False)  # one source that fails may not matter
        await runner.run(install, env=environment)
    except ProcessError as error:
        by_hand = shlex.join(_apt_get_install(packages, root=root))
        raise RocmBuildError(
            "the missing packages could not be installed", hint=f"run it yourself: {by_hand}"
        ) from error


def _apt_get_install(packages: Sequence[str], *, root: bool) -> list[str]:
    return as_root(["apt-get", "install", *packages], root=root)


def _print(findings: Sequence[Finding]) -> None:
    """Print the table, and below it what can be copied into a shell: a table would break long commands."""
    if find_spec("rich"):
        _print_table(findings)
    else:  # on a machine that only uses the packages
        width = max(len(finding.subject) for finding in findings)
        print(*(f"{item.status:<7}  {item.subject:<{width}}  {item.detail}" for item in findings), sep="\n")
    lines = remedies(findings, root=os.geteuid() == 0)
    if lines:
        print("\nwhat mends it:", *(f"  {line}" for line in lines), sep="\n")


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    from rocmbuild.ui.console import make_console, show

    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        table.add_row(Text(finding.status, style=_STYLES[finding.status]), finding.subject, finding.detail)
    show(make_console(sys.stdout), table)


def remedies(findings: Sequence[Finding], *, root: bool) -> list[str]:
    """Return commands and advice, one per line; packages of all findings go into one command."""
    lines = []
    packages = missing_packages(findings)
    if packages:
        lines.append(f"{shlex.join(_apt_get_install(packages, root=root))}    (or: rocmbuild doctor --fix)")
    for finding in findings:
        if finding.command:
            lines.append(shlex.join(as_root(finding.command, root=root)))
        if finding.advice:
            lines.append(f"{finding.subject}: {finding.advice}")
    return list(dict.fromkeys(lines))
