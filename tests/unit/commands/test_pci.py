"""PCI devices out of a tree of files, and how AtomicOps fare on the way from a card to memory."""

from __future__ import annotations

import pytest

from rocmbuild.commands.pci import Port, atomics, devices, read_port

from .machine import (
    COMPLETER,
    COMPLETER_32,
    COMPLETER_64,
    DOWNSTREAM,
    ROOT_PORT,
    ROUTING,
    UPSTREAM,
    Machine,
    express,
)

CHAIN = ("0000:00:01.0", "0000:01:00.0", "0000:02:00.0", "0000:03:00.0")


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def through_switch(machine, *configs):
    """Return a card below the switch that many of AMD's cards have on them."""
    path = machine.device(*CHAIN)
    for port, config in zip(reversed(path.parents[:3]), configs, strict=True):
        (port / "config").write_bytes(config)
    (card,) = devices(machine.root)
    return card


def test_devices(machine):
    machine.device("0000:00:01.0", "0000:03:00.0")
    machine.device("0000:00:02.0", ids=(0x8086, 0x1533), kind=0x020000, driver=None)
    network, card = devices(machine.root)
    assert (card.address, card.vendor, card.device, card.kind) == ("0000:03:00.0", 0x1002, 0x73BF, 0x030000)
    assert card.driver == "amdgpu"
    assert [port.name for port in card.ports] == ["0000:00:01.0"]
    assert (network.vendor, network.driver, network.ports) == (0x8086, None, ())


def test_a_machine_without_pci_and_a_device_that_goes(machine):
    assert devices(machine.root) == []
    (machine.device("0000:00:02.0") / "vendor").unlink()
    assert devices(machine.root) == []


def test_what_a_port_says():
    assert read_port(express(ROOT_PORT, 0x1C0, control=0x80)) == Port(ROOT_PORT, 0x1C0, 0x80)


def test_the_first_version_of_the_capability_has_no_second_registers():
    assert read_port(express(ROOT_PORT, COMPLETER, control=0x80, version=1)) == Port(ROOT_PORT, 0, 0)


def test_conventional_pci():
    assert read_port(bytes(256)) is None


def test_capabilities_in_a_circle():
    config = bytearray(express(ROOT_PORT, COMPLETER))
    config[0x41] = 0x40
    assert read_port(bytes(config)) is None


@pytest.mark.parametrize("length", [0, 64])
def test_what_a_user_may_read_is_not_enough(length):
    with pytest.raises(EOFError):
        read_port(express(ROOT_PORT, COMPLETER)[:length])


def test_the_way_through_a_switch(machine):
    card = through_switch(
        machine, express(ROOT_PORT, COMPLETER), express(UPSTREAM, ROUTING), express(DOWNSTREAM, ROUTING)
    )
    route = atomics(card)
    assert (route.state, route.reason) == ("open", "root port 0000:00:01.0 completes AtomicOps of 32 and 64 bits")


@pytest.mark.parametrize(
    ("configs", "reason"),
    [
        ((0, ROUTING, ROUTING, 0), "0000:00:01.0 (the root port) does not complete AtomicOps of 32 and 64 bits"),
        ((COMPLETER_32, ROUTING, ROUTING, 0), "0000:00:01.0 (the root port) does not complete AtomicOps of 64 bits"),
        ((COMPLETER_64, ROUTING, ROUTING, 0), "0000:00:01.0 (the root port) does not complete AtomicOps of 32 bits"),
        ((COMPLETER, 0, ROUTING, 0), "0000:01:00.0 (a switch) does not route AtomicOps"),
        ((COMPLETER, ROUTING, COMPLETER, 0), "0000:02:00.0 (a switch) does not route AtomicOps"),
        ((COMPLETER, ROUTING, ROUTING, 0x80), "0000:01:00.0 (a switch) blocks AtomicOps"),
    ],
)
def test_what_stops_them(machine, configs, reason):
    root, upstream, downstream, control = configs
    card = through_switch(
        machine,
        express(ROOT_PORT, root),
        express(UPSTREAM, upstream, control=control),
        express(DOWNSTREAM, downstream),
    )
    assert (atomics(card).state, atomics(card).reason) == ("closed", reason)


def test_a_bridge_to_conventional_pci_stops_them(machine):
    card = through_switch(machine, express(ROOT_PORT, COMPLETER), bytes(256), express(DOWNSTREAM, ROUTING))
    assert atomics(card).reason == "0000:01:00.0 is not PCI Express"


def test_a_user_cannot_tell(machine):
    card = through_switch(
        machine, express(ROOT_PORT, COMPLETER)[:64], express(UPSTREAM, ROUTING), express(DOWNSTREAM, ROUTING)
    )
    assert atomics(card).state == "unknown"
    assert atomics(card).reason == "only root may read what port 0000:00:01.0 can do"


def test_no_port_above(machine):
    machine.device("0000:04:00.0")
    (card,) = devices(machine.root)
    assert atomics(card).state == "unknown"
    assert atomics(card).reason.startswith("there is no port above it")
