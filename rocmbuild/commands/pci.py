"""PCI devices as sysfs shows them, and whether AtomicOps get from a device to the memory of the machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z")

_READABLE_BY_ALL = 64
"""Bytes of the configuration space that sysfs gives to users; capabilities come after them."""

_EXPRESS = 0x10
_ROOT_PORT, _UPSTREAM, _DOWNSTREAM = 4, 5, 6
_ROUTING = 1 << 6
_COMPLETER_32 = 1 << 7
_COMPLETER_64 = 1 << 8
_EGRESS_BLOCKED = 1 << 7


@dataclass(frozen=True)
class Device:
    """A device: its directory in sysfs, vendor and device id, and class (24 bits)."""

    path: Path
    vendor: int
    device: int
    kind: int

    @property
    def address(self) -> str:
        """Return the address, such as ``0000:03:00.0``."""
        return self.path.name

    @property
    def driver(self) -> str | None:
        """Return the name of the driver that has it."""
        link = self.path / "driver"
        return link.readlink().name if link.is_symlink() else None

    @property
    def ports(self) -> tuple[Path, ...]:
        """Return the directories of the ports above it, the root port last."""
        found = []
        for parent in self.path.parents:
            if not _ADDRESS.match(parent.name):
                break
            found.append(parent)
        return tuple(found)


@dataclass(frozen=True)
class Port:
    """What the PCI Express capability of a port says: its type, Device Capabilities 2, Device Control 2."""

    kind: int
    capabilities: int
    control: int


@dataclass(frozen=True)
class Route:
    """Whether AtomicOps get from a device to memory, and by what or why not."""

    state: Literal["open", "closed", "unknown"]
    reason: str


def devices(root: Path = Path("/")) -> list[Device]:
    """Return the PCI devices of the machine whose file system is below ``root``, by address."""
    found = (_device(path.resolve()) for path in sorted((root / "sys/bus/pci/devices").glob("*")))
    return [device for device in found if device is not None]


def _device(path: Path) -> Device | None:
    try:
        vendor, device, kind = (int((path / name).read_text(), 16) for name in ("vendor", "device", "class"))
    except (OSError, ValueError):
        return None  # it was unplugged while we looked
    return Device(path, vendor, device, kind)


def atomics(device: Device) -> Route:
    """Judge the way from a device to memory as Linux does before it lets a card use AtomicOps.

    Every port of a switch has to route them, no upstream port may block them, and the root port has to complete those
    of 32 and of 64 bits (``pci_enable_atomic_ops_to_root`` in Linux, PCI Express 4.0 section 6.15).
    """
    if not device.ports:
        return Route("unknown", "there is no port above it (an integrated GPU, or a virtual machine)")
    for path in device.ports:
        try:
            port = read_port((path / "config").read_bytes())
        except (OSError, EOFError):
            return Route("unknown", f"only root may read what port {path.name} can do")
        obstacle = _obstacle(port)
        if obstacle:
            return Route("closed", f"{path.name} {obstacle}")
    return Route("open", f"root port {device.ports[-1].name} completes AtomicOps of 32 and 64 bits")


def read_port(config: bytes) -> Port | None:
    """Return what a configuration space says of PCI Express, None if it is conventional PCI.

    Raises EOFError if only the part that every user may read is there, or less.
    """
    if len(config) <= _READABLE_BY_ALL:
        raise EOFError
    offset = _capability(config, _EXPRESS)
    if offset is None:
        return None
    flags = _word(config, offset + 2, 2)
    second = flags & 0xF >= 2  # version 1 of the capability ends before the registers with a 2
    return Port(
        kind=flags >> 4 & 0xF,
        capabilities=_word(config, offset + 0x24, 4) if second else 0,
        control=_word(config, offset + 0x28, 2) if second else 0,
    )


def _capability(config: bytes, wanted: int) -> int | None:
    """Follow the list of capabilities; broken ones may lead in a circle."""
    offset = config[0x34] & ~3 if _word(config, 6, 2) & 0x10 else 0
    seen = set()
    while _READABLE_BY_ALL <= offset < len(config) - 1 and offset not in seen:
        if config[offset] == wanted:
            return offset
        seen.add(offset)
        offset = config[offset + 1] & ~3
    return None


def _word(config: bytes, offset: int, length: int) -> int:
    return int.from_bytes(config[offset : offset + length], "little")


def _obstacle(port: Port | None) -> str:
    if port is None:
        return "is not PCI Express"
    if port.kind in (_UPSTREAM, _DOWNSTREAM) and not port.capabilities & _ROUTING:
        return "(a switch) does not route AtomicOps"
    if port.kind == _UPSTREAM and port.control & _EGRESS_BLOCKED:
        return "(a switch) blocks AtomicOps"
    if port.kind != _ROOT_PORT:
        return ""
    lacking = [bits for bits, flag in (("32", _COMPLETER_32), ("64", _COMPLETER_64)) if not port.capabilities & flag]
    return f"(the root port) does not complete AtomicOps of {' and '.join(lacking)} bits" if lacking else ""
