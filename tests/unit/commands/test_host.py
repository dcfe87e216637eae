"""The doctor on the machine with the card: a board that has all, and boards that lack something."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import rocmbuild
from rocmbuild.arguments import parse
from rocmbuild.commands import doctor, host
from rocmbuild.commands.cards import FIRMWARE
from rocmbuild.errors import UsageError
from rocmbuild.settings import load_settings
from rocmbuild.ui.summary import ComponentRow, Summary, where_lines

from .machine import TRIXIE, Machine

ROOT = Path(rocmbuild.__file__).parent.parent
GROUPS = "root:x:0:\nvideo:x:44:bob\nrender:x:105:bob\nann:x:1000:\n"


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def board(machine):
    """A Pioneer with a card, on a kernel that has everything."""
    machine.sg2042()
    machine.kernel("7.2.12+deb14-riscv64")
    machine.card()
    machine.kfd(90006)
    machine.node("kfd", 0o666)
    machine.node("dri/renderD128", 0o666)
    machine.write("sys/class/drm/renderD128/device/vendor", "0x1002\n")
    machine.write("etc/group", GROUPS)
    (machine.root / "opt/rocm-6.4.3").mkdir(parents=True)
    (machine.root / "opt/rocm").symlink_to("rocm-6.4.3")
    return machine


def by_subject(findings):
    return {finding.subject: finding for finding in findings}


def test_a_board_that_has_all(board):
    findings = host.examine(board.in_groups(44, 105))
    assert [(finding.subject, finding.status) for finding in findings if finding.status != "ok"] == []
    found = by_subject(findings)
    assert found["processor"].detail == "Milk-V Pioneer, riscv64, rv64imafdc_zicntr_zicsr_zifencei_zihpm_zfh"
    assert found["memory"].detail == "125.0 GiB"
    assert found["kernel"].detail == "7.2.12+deb14-riscv64, configured as in /proc/config.gz"
    assert found["CONFIG_DRM_AMDGPU"].detail == "m: the driver of AMD's cards"
    assert found["KFD 0000:03:00.0"].detail == "computes with it as gfx906"
    assert found["/dev/kfd"].detail == "ann may read and write it"
    assert found["groups"].detail == "ann is in video and render"
    assert found["ROCm"].detail == "/opt/rocm-6.4.3; /opt/rocm leads to rocm-6.4.3"
    assert "vectors" not in found


def test_a_board_that_has_nothing(machine):
    findings = by_subject(host.examine(machine.host))
    assert {name: finding.status for name, finding in findings.items()} == {
        "processor": "warning",
        "memory": "warning",
        "kernel": "warning",
        "card": "missing",
        "/dev/kfd": "missing",
        "groups": "warning",
        "ROCm": "warning",
    }
    assert findings["groups"].detail == "there is no group render, to which udev gives the device files"


def test_debian_13s_own_kernel_is_too_old_for_the_board(board):
    board.kernel("6.12.107+deb13-riscv64", TRIXIE)
    (board.root / "dev/kfd").unlink()
    for link in (board.root / "sys/bus/pci/devices").iterdir():
        link.unlink()
    found = by_subject(host.check_kernel(board.host))
    assert found["kernel"].status == "ok"
    hsa, pcie = found["CONFIG_HSA_AMD"], found["CONFIG_PCIE_SG2042_HOST"]
    assert (hsa.status, hsa.advice) == ("missing", "CONFIG_HSA_AMD takes Linux 6.16 or later")
    assert (pcie.status, pcie.advice) == ("missing", "CONFIG_PCIE_SG2042_HOST takes Linux 6.18 or later")
    assert found["CONFIG_DRM_AMD_DC_FP"].status == "ok"


def test_drivers_from_elsewhere_count(board):
    board.kernel("6.6.20-sophgo", "CONFIG_DRM_AMDGPU=m\n")
    found = by_subject(host.check_kernel(board.host))
    assert found["CONFIG_HSA_AMD"].status == "ok"
    assert found["CONFIG_PCIE_SG2042_HOST"].detail == "not set, but something else does it: PCIe of the SG2042"


def test_displays_on_an_old_kernel(machine):
    machine.kernel("6.6.1", "CONFIG_DRM_AMDGPU=y\n")
    displays = by_subject(host.check_kernel(machine.host))["CONFIG_DRM_AMD_DC_FP"]
    assert (displays.status, displays.advice) == ("warning", "CONFIG_DRM_AMD_DC_FP takes Linux 6.10 or later")
    machine.kernel("7.2.1", "CONFIG_DRM_AMDGPU=y\n")
    displays = by_subject(host.check_kernel(machine.host))["CONFIG_DRM_AMD_DC_FP"]
    assert (displays.status, displays.advice) == ("warning", "")


def test_a_new_kernel_without_the_option(machine):
    machine.kernel("7.2.12", "CONFIG_DRM_AMDGPU=m\n# CONFIG_HSA_AMD is not set\n")
    option = by_subject(host.check_kernel(machine.host))["CONFIG_HSA_AMD"]
    assert (option.status, option.advice) == ("missing", "use a kernel that was configured with it")


def test_the_board_alone_is_asked_for_its_pcie_driver(tmp_path):
    machine = Machine(tmp_path, "x86_64")
    machine.kernel("6.1.0", "CONFIG_DRM_AMDGPU=m\n")
    found = by_subject(host.check_kernel(machine.host))
    assert "CONFIG_PCIE_SG2042_HOST" not in found
    assert found["CONFIG_HSA_AMD"].advice == "use a kernel that was configured with it"


@pytest.mark.parametrize("place", ["proc/config.gz", "boot/config-6.18.1", "lib/modules/6.18.1/config"])
def test_where_the_configuration_is(machine, place):
    machine.kernel("6.18.1", place=place)
    kernel, *options = host.check_kernel(machine.host)
    assert kernel.detail == f"6.18.1, configured as in /{place}"
    assert {option.status for option in options} == {"ok"}


def test_a_configuration_of_another_kernel_does_not_count(machine):
    machine.kernel("6.12.1", place="boot/config-6.18.1")
    (kernel,) = host.check_kernel(machine.host)
    assert kernel.status == "warning"
    assert kernel.advice == "CONFIG_HSA_AMD takes Linux 6.16 or later"


def test_a_broken_configuration_is_as_good_as_none(machine):
    machine.kernel("6.18.1", None)
    machine.write("proc/config.gz", "not gzip")
    assert host.check_kernel(machine.host)[0].status == "warning"


@pytest.mark.parametrize(
    ("isa", "lacking"), [("rv64imac", "f, d"), ("rv64gc", ""), ("rv64imafd_zca", "c"), ("rv64imafdcv_zicsr", "")]
)
def test_the_baseline_of_the_packages(machine, isa, lacking):
    machine.sg2042(isa=isa, marchid="0x8000000000000001")
    (processor,) = host.check_processor(machine.host)
    assert processor.status == ("missing" if lacking else "ok")
    assert processor.detail.endswith(f"the packages need rv64gc, here is no {lacking}" if lacking else isa)


def test_another_architecture_has_no_letters(tmp_path):
    machine = Machine(tmp_path, "x86_64")
    machine.write("proc/cpuinfo", "processor : 0\nmodel name : AMD EPYC 7B13\n")
    (processor,) = host.check_processor(machine.host)
    assert (processor.status, processor.detail) == ("ok", "AMD EPYC 7B13, x86_64")


def test_vectors_of_the_draft_are_told_from_those_of_the_standard(machine):
    machine.sg2042(isa="rv64imafdcv_zicsr")
    _, vectors = host.check_processor(machine.host)
    assert vectors.status == "warning"
    assert "the draft 0.7.1: what was compiled for rv64gcv fails here" in vectors.detail
    machine.sg2042(isa="rv64imafdc_zicsr_xtheadvector")
    _, vectors = host.check_processor(machine.host)
    assert (vectors.status, vectors.detail.split(",")[0]) == ("ok", "xtheadvector")


@pytest.mark.parametrize(
    ("told", "status"),
    [("Mitigation: xtheadvector disabled", "ok"), ("Vulnerable", "warning"), ("Not affected", None)],
)
def test_ghostwrite(machine, told, status):
    machine.sg2042()
    machine.write("sys/devices/system/cpu/vulnerabilities/ghostwrite", f"{told}\n")
    found = by_subject(host.check_processor(machine.host))
    if status is None:
        assert "GhostWrite" not in found
    else:
        assert (found["GhostWrite"].status, found["GhostWrite"].detail) == (status, told)
        assert bool(found["GhostWrite"].advice) == (status == "warning")


def test_little_memory(machine):
    machine.write("proc/meminfo", "MemTotal:        1048576 kB\n")
    finding = host.check_memory(machine.host)
    assert (finding.status, finding.advice) == ("warning", "add swap")
    assert finding.detail.startswith("1.0 GiB; ")


def test_device_files_that_others_may_open(board):
    board.node("kfd", 0o660)
    kfd, render = host.check_devices(board.host)
    assert (kfd.subject, kfd.status, kfd.detail) == ("/dev/kfd", "missing", "ann may not read and write it")
    assert "group render" in kfd.advice
    assert render.status == "ok"


def test_render_nodes_of_other_cards_are_not_looked_at(board):
    board.write("sys/class/drm/renderD128/device/vendor", "0x1a03\n")
    _, render = host.check_devices(board.host)
    assert (render.subject, render.status) == ("/dev/dri/renderD*", "missing")


def test_groups(board):
    (finding,) = host.check_groups(board.host)
    assert (finding.status, finding.detail) == ("warning", "ann is not in video, render")
    assert finding.command == ("usermod", "--append", "--groups", "video,render", "ann")
    (finding,) = host.check_groups(board.in_groups(105))
    assert (finding.status, finding.detail) == ("ok", "ann is in render")
    (finding,) = host.check_groups(replace(board.host, uid=0))
    assert finding.detail == "root needs none"


def test_groups_that_take_another_login(board):
    (finding,) = host.check_groups(replace(board.host, user="bob"))
    assert (finding.status, finding.command) == ("warning", ())
    assert finding.detail == "bob is in video, render from the next login on"


def test_rocm_that_is_not_installed(machine):
    (machine.root / "opt").mkdir()
    (machine.root / "opt/rocm-notes.txt").touch()
    finding = host.check_rocm(machine.root)
    assert (finding.status, finding.detail) == ("warning", "not installed")
    assert "the summary of their build has the commands" in finding.advice


def test_this_machine_is_looked_at_by_default():
    own = host.Host()
    assert (own.root, own.machine, own.uid) == (Path("/"), os.uname().machine, os.getuid())
    assert own.release == os.uname().release
    assert own.user


def call(tmp_path, *words, bare=False):
    """Run the doctor; ``bare`` without anything that was installed beside Python."""
    argv = [sys.executable, *(["-S"] if bare else []), "-m", "rocmbuild", "doctor", "--host", *words]
    env = {"HOME": str(tmp_path), "PATH": "/nothing", "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_it_works_with_nothing_but_python(tmp_path):
    (tmp_path / "rocmbuild.yaml").write_text("jobs: 3\n")
    without = subprocess.run([sys.executable, "-S", "-c", "import yaml"], capture_output=True, check=False)
    assert without.returncode == 1  # else this would prove nothing
    bare, full = call(tmp_path, bare=True), call(tmp_path)
    assert bare.stderr == ""
    assert bare.returncode in (0, 1)
    assert bare.stdout.split() == full.stdout.split()
    assert json.loads(call(tmp_path, "--format", "json", bare=True).stdout)[0]["subject"] == "processor"


def test_it_looks_at_this_machine_only(tmp_path):
    findings = json.loads(call(tmp_path, "--format", "json").stdout)
    subjects = {item["subject"] for item in findings}
    assert {"processor", "memory", "kernel", "groups", "ROCm"} <= subjects
    assert not subjects & {"git", "cmake and ninja", "Debian archive", "user namespaces"}
    assert not list(tmp_path.iterdir())


def test_nothing_is_fixed(tmp_path):
    settings = load_settings(parse(["doctor", "--host", "--fix"]), {}, tmp_path)
    with pytest.raises(UsageError) as caught:
        doctor.run(settings)
    assert str(caught.value) == "--fix: it installs what builds need, and mends nothing that --host looks at"


@pytest.mark.parametrize(("missing", "status"), [(False, 0), (True, 1)])
def test_the_exit_status(board, monkeypatch, capsys, missing, status):
    if missing:
        board.node("kfd", 0o600)
    monkeypatch.setattr(host, "Host", lambda: board.host)
    settings = load_settings(parse(["doctor", "--host"]), {}, board.root)
    assert doctor.run(settings) == status
    text = capsys.readouterr().out
    assert "usermod --append --groups video,render ann" in text
    assert text.splitlines()[0].split()[:2] == ["ok", "processor"]


PAGE = (ROOT / "docs/sg2042.md").read_text(encoding="utf-8")


def test_the_page_for_the_board_installs_as_the_summary_says():
    row = ComponentRow("rocr", "build", packages=1, size=1)
    lines = where_lines(Summary((row,), 1.0, out=Path("/srv/rocm")))
    commands = [text.strip() for text in ("".join(part for part, _ in item) for item in lines) if "sudo" in text]
    assert len(commands) == 4
    assert "\n".join(commands) in PAGE


def test_commands_of_the_page_are_understood():
    lines = re.findall(r"^(?:sudo |\.venv/bin/|python3 -m )*rocmbuild (.*)$", PAGE, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        assert parse(line.split()).given or line == "doctor"


def test_the_page_names_the_options_and_versions_that_are_looked_for():
    rows = dict(re.findall(r"^\| [^|]* \| `CONFIG_(\w+)` \| (\d+\.\d+) or later", PAGE, re.MULTILINE))
    expected = {option.name: option.since["riscv64"] for option in host.KERNEL_OPTIONS if "riscv64" in option.since}
    assert rows == {name: f"{major}.{minor}" for name, (major, minor) in expected.items()}


def test_the_page_names_the_firmware_that_is_looked_for():
    rows = re.findall(r"^\| gfx(\d+)(\d)x .* firmware is (\d+) or later", PAGE, re.MULTILINE)
    assert {(int(major), int(minor)): int(firmware) for major, minor, firmware in rows} == FIRMWARE
