"""What several tests share: a small release, and a real build root of a few packages."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rocmbuild.model.catalog import make_catalog
from rocmbuild.model.target import Distribution
from rocmbuild.process import Runner, network_environment
from rocmbuild.tools.apt import Apt, find_archive
from rocmbuild.tools.root import Root, RootSpec, make_root
from tests.locking import waiting_lock
from tests.releases import Release

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell that runs the tests in its background arranged that; the programs under test are to be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell runs, faults and losses of the fault campaign, whatever worker made it."""
    from tests.faults.campaign import Result, table

    reports = [report for some in terminalreporter.stats.values() for report in some]
    told = [value for report in reports if getattr(report, "when", None) == "call" for _, value in _faults(report)]
    if told:
        terminalreporter.section("fault campaign")
        for line in table([Result(**value) for value in told]):
            terminalreporter.line(line)


def _faults(report: pytest.TestReport) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in report.user_properties if name == "fault"]


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path)


@pytest.fixture(scope="session")
def test_cache() -> Path:
    """Downloads that outlive a test run, so that the archive is asked for each package once."""
    place = os.environ.get("ROCMBUILD_TEST_CACHE") or str(Path("~/.cache/rocmbuild/tests").expanduser())
    path = Path(place)
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def machine_distribution() -> Distribution:
    """The distribution that this machine runs."""
    if shutil.which("apt-get") is None:
        pytest.skip("this machine has no apt")
    machine = platform.freedesktop_os_release()
    for name in make_catalog().distributions():
        distribution = make_catalog().distribution(name)
        if distribution.release_id == (machine["ID"], machine.get("VERSION_ID")):
            return distribution
    pytest.skip(f"no distribution describes this machine, {machine['PRETTY_NAME']}")


@pytest.fixture(scope="session")
def machine_apt(test_cache: Path, machine_distribution: Distribution) -> Apt:
    """apt for this machine's own distribution and architecture."""
    archive = asyncio.run(find_archive(Runner(), network_environment(os.environ), mirror=None, allow_stale=True))
    arch = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    return Apt(archive, machine_distribution, arch, test_cache / "apt", test_cache / "debs")


TINY = ("coreutils", "dash", "libc-bin", "libstdc++6", "perl-base")
"""Enough to run a script and CMake in a sandbox, and to try the network."""


@dataclass(frozen=True)
class TinyRoot:
    """A build root of a few packages, what it was made from, and the log of its making."""

    root: Root
    spec: RootSpec
    directory: Path
    log: Path


@pytest.fixture(scope="session")
def tiny_root(machine_apt: Apt, test_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyRoot]:
    """A root made in this test run, by one worker for all."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    spec = RootSpec(machine_apt.distribution, machine_apt.arch, TINY)
    log = shared / "root.log"
    with waiting_lock(test_cache / "lock"):
        root = asyncio.run(make_root(shared / "roots", spec, machine_apt, Runner(log=log)))
    return TinyRoot(root, spec, shared / "roots", log)


@pytest.fixture
def processes() -> Callable[[str], list[int]]:
    """Return a function that finds the living processes with a word in their command line."""

    def find(word: str) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                state = (path.parent / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if word.encode() in path.read_bytes() and state != "Z":
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    return find
