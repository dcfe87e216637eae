"""The quick start: a ROCm core from the Debian archive, packaged, installed into a fresh root and tried there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import BRANCH, Command, jobs

pytestmark = pytest.mark.e2e

BOARD = ("--target", "sg2042")
PACKAGES = {
    "comgr", "hip-dev", "hip-runtime-amd", "hipcc", "hipify-clang", "hsa-rocr", "hsa-rocr-dev", "rocm-core",
    "rocm-device-libs", "rocm-hip-runtime", "rocm-hip-runtime-dev", "rocm-llvm", "rocm-smi-lib",
}  # fmt: skip
PROOFS = {
    "install", "dpkg-verify", "undefined-symbols", "purge", "rocr/hsa", "clr-hip/hipconfig", "clr-hip/vector-add",
    "clr-hip/hiprtc", "clr-hip/find-package",
}  # fmt: skip


@pytest.fixture(scope="module")
def built(rocmbuild: Command) -> subprocess.CompletedProcess[str]:
    done = rocmbuild("build", "--branch", BRANCH)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    return done


@pytest.fixture(scope="module")
def out(e2e_cache: Path) -> Path:
    return e2e_cache / "workspace" / "out" / BRANCH / f"{BRANCH}-amd64"


def test_every_package_is_in_the_repository(built: subprocess.CompletedProcess[str], out: Path) -> None:
    names = {path.name.split("_")[0] for path in out.glob("*.deb")}
    indexed = {
        line.split(": ")[1] for line in (out / "Packages").read_text().splitlines() if line.startswith("Package")
    }
    assert names == indexed == PACKAGES
    assert str(out) in built.stdout


def test_everything_is_proved(built: subprocess.CompletedProcess[str], out: Path) -> None:
    record = json.loads((out / "verify.json").read_text())
    rows = [(row["check"], row["status"]) for row in record["rows"]]
    assert record["status"] == "pass"
    assert {check for check, status in rows if status == "pass"} >= PROOFS
    assert not [row for row in rows if row[1] == "fail"]


def test_nothing_is_left_to_do(built: subprocess.CompletedProcess[str], rocmbuild: Command, tmp_path: Path) -> None:
    plan = jobs(rocmbuild("plan", "--branch", BRANCH, "--format", "json"))
    assert {job["action"] for job in plan.values()} == {"KEEP", "PROVIDED"}
    events = tmp_path / "events"
    again = rocmbuild("build", "--branch", BRANCH, "--events", str(events))
    assert again.returncode == 0, again.stderr
    assert "StepStarted" not in events.read_text()


def test_another_gpu_is_verified_but_not_built(built: subprocess.CompletedProcess[str], rocmbuild: Command) -> None:
    plan = jobs(rocmbuild("plan", "--branch", BRANCH, "--format", "json", "--gpu", "gfx1101"))
    assert {job["action"] for job in plan.values()} == {"KEEP", "PROVIDED"}


def test_ninja_has_nothing_to_do_in_a_build_tree(built: subprocess.CompletedProcess[str], rocmbuild: Command) -> None:
    # Ninja may run CMake again, whose modules are as old as this environment; comgr and clr relink by upstream's rules
    for name in ("device-libs", "rocr", "hipify"):
        ninja = rocmbuild("shell", name, "--branch", BRANCH, "--", "ninja")
        assert "no work to do" in ninja.stdout, (name, ninja.stdout[-2000:], ninja.stderr)


@pytest.fixture(scope="module")
def crossed(built: subprocess.CompletedProcess[str], rocmbuild: Command) -> subprocess.CompletedProcess[str]:
    done = rocmbuild("build", "--branch", BRANCH, *BOARD, "rocr", "rocm-core")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    return done


def test_a_board_gets_packages_that_work(crossed: subprocess.CompletedProcess[str], out: Path) -> None:
    board = out.parent / f"{BRANCH}-riscv64"
    names = {path.name.split("_")[0] for path in board.glob("*_riscv64.deb")}
    assert names == {"hsa-rocr", "hsa-rocr-dev", "rocm-core"}
    record = json.loads((board / "verify.json").read_text())
    proved = {row["check"] for row in record["rows"] if row["status"] == "pass"}
    assert proved >= {"install", "dpkg-verify", "undefined-symbols", "purge", "rocr/hsa", "rocr/cross-compiled"}


def test_a_cross_build_takes_the_tools_of_the_native_one(
    crossed: subprocess.CompletedProcess[str], rocmbuild: Command, tmp_path: Path
) -> None:
    rows = json.loads(rocmbuild("plan", "--branch", BRANCH, *BOARD, "--format", "json", "rocr").stdout)["jobs"]
    machines = {(row["component"], row["machine"]): row["action"] for row in rows}
    assert machines == {("llvm", "build"): "PROVIDED", ("device-libs", "build"): "KEEP", ("rocr", "host"): "KEEP"}
    native = jobs(rocmbuild("plan", "--branch", BRANCH, "--format", "json"))
    assert {job["action"] for job in native.values()} == {"KEEP", "PROVIDED"}
    events = tmp_path / "events"
    again = rocmbuild("build", "--branch", BRANCH, *BOARD, "--events", str(events), "rocr", "rocm-core")
    assert again.returncode == 0, again.stderr
    assert "StepStarted" not in events.read_text()


def test_ninja_has_nothing_to_do_in_a_cross_build_tree(
    crossed: subprocess.CompletedProcess[str], rocmbuild: Command
) -> None:
    # by way of the merged /lib every header would look changed
    ninja = rocmbuild("shell", "rocr", "--branch", BRANCH, *BOARD, "--", "ninja")
    assert "no work to do" in ninja.stdout, (ninja.stdout[-2000:], ninja.stderr)
