"""How emulation is arranged; tests/integration/test_emulation.py does it with QEMU."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rocmbuild.errors import RootError
from rocmbuild.process import Runner
from rocmbuild.tools import binfmt
from rocmbuild.tools.emulation import Emulation, advice, as_root, find_emulator

RISCV = Emulation(Path("/q/qemu-riscv64"), "riscv64", "EM_RISCV", "thead-c906")
LAUNCHER = [sys.executable, "-I", "-S", binfmt.__file__]


def test_the_machine_is_that_of_elf(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert RISCV.wrap(["uname", "-m"]) == [*LAUNCHER, "243", "/q/qemu-riscv64", "uname", "-m"]
    arm = Emulation(Path("/q/qemu-aarch64"), "arm64", "EM_AARCH64")
    assert arm.wrap([])[4:] == ["183", "/q/qemu-aarch64"]


def test_an_emulator_is_named_by_its_whole_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "qemu") in Emulation(Path("qemu"), "riscv64", "EM_RISCV").wrap([])


def test_without_root_rights_the_users_own_ids_are_used(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert as_root(["tar"]) == ["unshare", "--map-root-user", "--map-auto", "--", "tar"]
    assert RISCV.wrap(["true"])[:5] == ["unshare", "--map-root-user", "--map-auto", "--", sys.executable]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert as_root(["tar"]) == ["tar"]


def test_the_processor_is_told_in_the_environment():
    assert RISCV.environment == {"QEMU_CPU": "thead-c906"}
    assert Emulation(Path("/q"), "arm64", "EM_AARCH64").environment == {}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "usr/bin").mkdir(parents=True)
    return tmp_path


def program(path, *options):
    code = "int main(void) { return 0; }"
    subprocess.run(["gcc", *options, "-x", "c", "-", "-o", str(path)], input=code, text=True, check=True)


@pytest.mark.parametrize("options", [("-static",), ("-static-pie",)])
@pytest.mark.parametrize("name", ["qemu-riscv64", "qemu-riscv64-static"])
def test_the_emulator_of_a_root(root, name, options):
    program(root / "usr/bin" / name, *options)
    assert find_emulator(root, "qemu-riscv64") == root / "usr/bin" / name


def test_the_one_without_libraries_is_taken(root):
    program(root / "usr/bin/qemu-riscv64")
    program(root / "usr/bin/qemu-riscv64-static", "-static")
    assert find_emulator(root, "qemu-riscv64").name == "qemu-riscv64-static"


def test_one_that_needs_libraries_is_refused(root):
    program(root / "usr/bin/qemu-riscv64")
    with pytest.raises(RootError) as caught:
        find_emulator(root, "qemu-riscv64")
    assert caught.value.message == f"there is no statically linked qemu-riscv64 in {root}"


def test_a_root_without_one(root):
    shutil.copy("/bin/true", root / "usr/bin/qemu-aarch64")
    with pytest.raises(RootError) as caught:
        find_emulator(root, "qemu-riscv64")
    assert caught.value.message == f"there is no qemu-riscv64 in {root}"
    assert "cross.emulators" in caught.value.hint


def test_what_cannot_be_done_is_told_before_it_is_begun(tmp_path):
    missing = Emulation(tmp_path / "none", "riscv64", "EM_RISCV")
    with pytest.raises(RootError) as caught:
        asyncio.run(missing.require(Runner(tmp_path / "log")))
    assert caught.value.message.startswith("programs of riscv64 cannot be emulated here: ")
    assert "binfmt: " not in caught.value.message
    assert caught.value.log == str(tmp_path / "log")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("said", "release", "expected"),
    [
        (
            "binfmt: /proc/sys/fs/binfmt_misc: Operation not permitted",
            "6.1.0-38-amd64",
            "this takes Linux 6.7 or newer",
        ),
        ("binfmt: /proc/sys/fs/binfmt_misc: No such device", "6.12.48", "modprobe binfmt_misc"),
        ("binfmt: /proc/sys/fs/binfmt_misc/register: No such file", "6.12.48", "the emulator must be a program"),
        ("binfmt: a user namespace: Operation not permitted", "6.12.48", "rocmbuild doctor"),
        ("unshare: failed to execute newuidmap: No such file or directory", "6.12.48", "uidmap"),
    ],
)
def test_what_to_do(said, release, expected):
    assert expected in advice(said, release)
