"""Real ROCm source from the Debian archive, built through the command line as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BRANCH = "debian-forky"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def e2e_cache() -> Path:
    """Downloads, roots and workspaces that outlive a run; with none of them everything is made anew."""
    place = os.environ.get("ROCMBUILD_TEST_CACHE")
    path = (Path(place) if place else Path("~/.cache/rocmbuild/tests").expanduser()) / "e2e"
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def rocmbuild(e2e_cache: Path) -> Command:
    """Return a function that runs rocmbuild with the cache of the tests."""

    def run(verb: str, *arguments: str, workspace: str = "workspace") -> subprocess.CompletedProcess[str]:
        places = ["--cache", str(e2e_cache / "cache"), "--workspace", str(e2e_cache / workspace)]
        argv = [sys.executable, "-m", "rocmbuild", verb, "--allow-stale-archive", *places, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    return run


def jobs(plan: subprocess.CompletedProcess[str]) -> dict[str, dict]:
    """Return the jobs of a plan in JSON by component."""
    assert plan.returncode == 0, plan.stderr
    return {job["component"]: job for job in json.loads(plan.stdout)["jobs"]}
