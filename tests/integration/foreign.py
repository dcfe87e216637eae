"""Unpacked roots of the coming Debian release, of any architecture, for tests that take real packages of it.

Roots and downloads are kept from one run of the tests to the next.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from rocmbuild.errors import RocmBuildError
from rocmbuild.model.catalog import make_catalog
from rocmbuild.process import Runner, network_environment
from rocmbuild.tools.apt import Apt, Archive, find_archive
from rocmbuild.tools.root import RootSpec, make_root

DISTRIBUTION = make_catalog().distribution("debian-forky")
MACHINE = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


def reached_archive(log: Path) -> Archive:
    """Return the Debian archive; skip the test if this machine reaches none."""
    try:
        found = asyncio.run(find_archive(Runner(log), network_environment(os.environ), mirror=None, allow_stale=True))
        urllib.request.urlopen(f"{found.main}dists/{DISTRIBUTION.suites[0].name}/InRelease", timeout=20).close()
    except (RocmBuildError, urllib.error.URLError) as error:
        pytest.skip(f"this machine reaches no Debian archive: {error}")
    return found


def unpacker(archive: Archive, cache: Path, log: Path) -> Callable[..., Path]:
    """Return a function that makes a root of packages, as sysroots are: nothing in it has been run."""

    def make(arch: str, *packages: str) -> Path:
        apt = Apt(archive, DISTRIBUTION, arch, cache / "emulation" / f"apt-{arch}", cache / "debs")
        spec = RootSpec(DISTRIBUTION, arch, packages)
        return asyncio.run(make_root(cache / "emulation/roots", spec, apt, Runner(log))).path

    return make
