"""What is said of cards: driver, KFD, and whether the lack of AtomicOps matters to this one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rocmbuild
from rocmbuild.commands.cards import RULE, check_cards, kfd_names, least_firmware
from rocmbuild.model.document import load

from .machine import COMPLETER, ROOT_PORT, Machine, express

DATA = Path(rocmbuild.__file__).parent / "data"


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def found(machine):
    return {finding.subject.split()[0]: finding for finding in check_cards(machine.root)}


def test_a_card_that_works(machine):
    card = machine.card()
    machine.kfd(100300)
    machine.write(f"{card.relative_to(machine.root)}/current_link_speed", "16.0 GT/s PCIe\n")
    machine.write(f"{card.relative_to(machine.root)}/current_link_width", "16\n")
    machine.write(f"{card.relative_to(machine.root)}/iommu_group/type", "identity\n")
    findings = check_cards(machine.root)
    assert [finding.status for finding in findings] == ["ok"] * 3
    assert [finding.subject for finding in findings] == [
        "card 0000:03:00.0",
        "KFD 0000:03:00.0",
        "AtomicOps 0000:03:00.0",
    ]
    assert findings[0].detail == "1002:73bf, 16.0 GT/s x16, driver amdgpu, IOMMU identity"
    assert findings[1].detail == "computes with it as gfx1030"
    assert findings[2].detail.startswith("root port 0000:00:01.0 completes")


def test_no_pci_at_all(machine):
    (finding,) = check_cards(machine.root)
    assert (finding.status, finding.detail) == ("missing", "no PCI device at all: HIP finds no device")


@pytest.mark.parametrize(("ids", "kind"), [((0x10DE, 0x2204), 0x030000), ((0x1002, 0xAB28), 0x040300)])
def test_cards_of_others_and_the_sound_of_ours_do_not_count(machine, ids, kind):
    machine.device("0000:03:00.1", ids=ids, kind=kind)
    (finding,) = check_cards(machine.root)
    assert (finding.status, finding.detail) == (
        "missing",
        "no display device of AMD among 1 PCI devices: HIP finds no device",
    )


@pytest.mark.parametrize("kind", [0x030000, 0x038000, 0x120000])
def test_cards_without_a_display_count(machine, kind):
    machine.card(kind=kind)
    assert found(machine)["card"].status == "ok"


def test_a_card_without_a_driver(machine):
    machine.card(driver=None)
    card = found(machine)["card"]
    assert (card.status, card.detail) == ("missing", "1002:73bf, driver none")
    assert "sudo modprobe amdgpu" in card.advice
    assert "firmware-amd-graphics" in card.advice
    assert "KFD" not in found(machine)


def test_a_card_that_a_virtual_machine_has(machine):
    machine.card(driver="vfio-pci")
    card = found(machine)["card"]
    assert (card.status, card.detail) == ("missing", "1002:73bf, driver vfio-pci")


def test_a_card_that_kfd_has_not_taken(machine):
    machine.card()
    machine.kfd(100300, address=0x400)
    kfd = found(machine)["KFD"]
    assert (kfd.status, kfd.detail) == ("missing", "has not taken it: HIP does not see it")
    assert "dmesg | grep -i kfd" in kfd.advice


@pytest.mark.parametrize(
    ("version", "name"),
    [
        (80003, "gfx803"),
        (90006, "gfx906"),
        (90010, "gfx90a"),
        (90402, "gfx942"),
        (100300, "gfx1030"),
        (110001, "gfx1101"),
    ],
)
def test_names_of_kfd(machine, version, name):
    machine.kfd(version, address=0xC1 << 8 | 1 << 3 | 2, domain=3)
    assert kfd_names(machine.root) == {"0003:c1:01.2": name}


def test_a_topology_that_is_not_told(machine):
    machine.write("sys/class/kfd/kfd/topology/nodes/0/properties", "garbage\nlocation_id x\n")
    assert kfd_names(machine.root) == {}


@pytest.mark.parametrize(
    ("generation", "firmware", "status", "says"),
    [
        ((8, 0), None, "missing", "gfx8.0 needs them"),
        ((9, 4), None, "warning", "gfx9.4 computes without"),
        ((10, 1), 144, "missing", "gfx10.1 needs them"),
        ((10, 1), 145, "warning", "gfx10.1 computes without"),
        ((10, 3), 91, "missing", "gfx10.3 needs them"),
        ((10, 3), 92, "warning", "gfx10.3 computes without"),
        ((11, 5), 508, "missing", "gfx11.5 needs them"),
        ((11, 0), 509, "warning", "gfx11.0 computes without"),
        ((12, 0), 2089, "missing", "gfx12.0 needs them"),
        ((12, 0), 2090, "warning", "gfx12.0 computes without"),
        ((10, 3), None, "warning", RULE),
    ],
)
def test_a_port_without_atomics(machine, generation, firmware, status, says):
    machine.core(machine.card(capabilities=0), generation, firmware)
    finding = found(machine)["AtomicOps"]
    assert finding.status == status
    assert finding.detail.startswith("0000:00:01.0 (the root port) does not complete AtomicOps")
    assert says in finding.detail


def test_what_helps_a_card_that_needs_atomics(machine):
    card = machine.card(capabilities=0)
    machine.core(card, (10, 3), 90)
    assert "it is 90, 92 and later do without" in found(machine)["AtomicOps"].advice
    machine.core(card, (8, 0))
    assert found(machine)["AtomicOps"].advice.startswith("try another slot")


def test_kfd_knows_best_whether_a_card_computes(machine):
    machine.core(machine.card(capabilities=0), (10, 3), 1)
    machine.kfd(100300)
    finding = found(machine)["AtomicOps"]
    assert finding.status == "warning"
    assert "gfx1030 computes without, but kernels cannot use atomics on the host's memory" in finding.detail


def test_a_card_of_unknown_generation(machine):
    machine.card(capabilities=0, driver=None)
    finding = found(machine)["AtomicOps"]
    assert finding.status == "warning"
    assert finding.detail.endswith(RULE)


def test_a_user_may_not_read_the_port(machine):
    card = machine.card()
    (card.parent / "config").write_bytes(express(ROOT_PORT, COMPLETER)[:64])
    finding = found(machine)["AtomicOps"]
    assert (finding.status, finding.advice) == ("warning", "run rocmbuild doctor --host as root")
    assert finding.detail.startswith("only root may read what port 0000:00:01.0 can do")
    machine.kfd(90010)
    finding = found(machine)["AtomicOps"]
    assert (finding.status, finding.advice) == ("ok", "")
    assert finding.detail.endswith("gfx90a computes also without them")


def test_an_integrated_gpu_has_no_port(machine):
    machine.device("0000:04:00.0")
    finding = found(machine)["AtomicOps"]
    assert (finding.status, finding.advice) == ("warning", "")


def test_the_firmware_is_that_of_the_list_of_gpus():
    said = {}
    for name, gpu in load(DATA / "gpus.yaml", "gpus").data["gpus"].items():
        match = re.search(r"needs PCIe atomics unless its (?:\w+ )?firmware is (\d+)", gpu.get("note", ""))
        if match:
            said[name] = int(match[1])
    assert {"gfx1010", "gfx1030", "gfx1100", "gfx1201"} <= set(said)
    for name, firmware in said.items():
        assert least_firmware((int(name[3:-2]), int(name[-2], 16))) == firmware
