"""The AMD cards of a machine: who drives them, whether the kernel computes with them, and PCIe AtomicOps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rocmbuild.commands.finding import Finding
from rocmbuild.commands.pci import Device, Route, atomics, devices

AMD = 0x1002

_CLASSES = (0x03, 0x12)
"""Display controllers, and processing accelerators: MI300 and later have no display at all."""

FIRMWARE = {(10, 1): 145, (10, 3): 92, (11, 0): 509, (12, 0): 2090}
"""From which firmware of the command processor on a generation computes without PCIe AtomicOps.

A generation is that of the graphics core, and holds until the next. Those before gfx9 always need AtomicOps, gfx9
never does. Source: ``kfd_device_info_init`` in Linux's drivers/gpu/drm/amd/amdkfd/kfd_device.c; for gfx11 it holds of
firmware that runs on an RS64 processor, which these cards have.
"""

RULE = "gfx8 always needs them, gfx9 never does, later cards do unless their firmware is new enough"


@dataclass(frozen=True)
class Core:
    """The graphics core of a card as its driver tells it: generation, firmware version, name if KFD computes with it.

    ``generation`` and ``firmware`` are None if the driver does not tell them.
    """

    generation: tuple[int, int] | None
    firmware: int | None
    name: str | None

    @property
    def shown(self) -> str:
        """Return what to call it: the name, or the generation."""
        if self.name or not self.generation:
            return self.name or "this card"
        return "gfx" + ".".join(map(str, self.generation))

    def needs_atomics(self) -> bool | None:
        """Return whether it computes only with PCIe AtomicOps, None if that cannot be told."""
        if self.name:
            return False  # KFD has taken it, as things are
        if self.generation is None:
            return None
        if self.generation < (10, 0):
            return self.generation < (9, 0)
        return None if self.firmware is None else self.firmware < least_firmware(self.generation)


def least_firmware(generation: tuple[int, int]) -> int:
    """Return from which firmware on a core of gfx10 or later computes without PCIe AtomicOps."""
    return FIRMWARE[max((known for known in FIRMWARE if known <= generation), default=min(FIRMWARE))]


def find_cards(root: Path) -> list[Device]:
    """Return AMD's cards in the machine whose file system is below ``root``."""
    return [device for device in devices(root) if device.vendor == AMD and device.kind >> 16 in _CLASSES]


def check_cards(root: Path) -> list[Finding]:
    """Look at each card; without any there is nothing to compute with."""
    cards = find_cards(root)
    if not cards:
        seen = len(devices(root))
        detail = f"no display device of AMD among {seen} PCI devices" if seen else "no PCI device at all"
        advice = "is one seated, and powered? sudo dmesg | grep -i pci says what was found"
        return [Finding("card", "missing", f"{detail}: HIP finds no device", advice=advice)]
    names = kfd_names(root)
    return [finding for card in cards for finding in _check_card(card, names.get(card.address))]


def _check_card(card: Device, name: str | None) -> list[Finding]:
    core = Core(_generation(card, name), _firmware(card), name)
    return [_driver(card), *_kfd(card, core), _atomics(card, core, atomics(card))]


def _driver(card: Device) -> Finding:
    subject = f"card {card.address}"
    parts = [f"{card.vendor:04x}:{card.device:04x}", *_link(card), f"driver {card.driver or 'none'}"]
    detail = ", ".join([*parts, *_iommu(card)])
    if card.driver == "amdgpu":
        return Finding(subject, "ok", detail)
    if card.driver is None:
        firmware = "it needs firmware files (Debian: firmware-amd-graphics, of non-free-firmware)"
        advice = f"sudo modprobe amdgpu, then sudo dmesg | grep amdgpu; {firmware}"
        return Finding(subject, "missing", detail, advice=advice)
    return Finding(subject, "missing", detail, advice="ROCm works through amdgpu: take it from the driver that has it")


def _link(card: Device) -> list[str]:
    speed, width = (_text(card.path / f"current_link_{name}") for name in ("speed", "width"))
    return [f"{speed.removesuffix(' PCIe')} x{width}"] if speed and width else []


def _iommu(card: Device) -> list[str]:
    group = _text(card.path / "iommu_group/type")
    return [f"IOMMU {group}"] if group else []


def _kfd(card: Device, core: Core) -> list[Finding]:
    """Say whether KFD, the part of amdgpu that computes, has taken the card; without amdgpu that is no question."""
    if card.driver != "amdgpu":
        return []
    subject = f"KFD {card.address}"
    if core.name:
        return [Finding(subject, "ok", f"computes with it as {core.name}")]
    advice = "sudo dmesg | grep -i kfd says why; 'PCI rejects atomics' is about AtomicOps"
    return [Finding(subject, "missing", "has not taken it: HIP does not see it", advice=advice)]


def _atomics(card: Device, core: Core, route: Route) -> Finding:
    subject = f"AtomicOps {card.address}"
    if route.state == "open":
        return Finding(subject, "ok", route.reason)
    needed = core.needs_atomics()
    if route.state == "unknown":
        return _atomics_unknown(subject, core, route, needed)
    if needed is False:
        detail = f"{route.reason}; {core.shown} computes without, but kernels cannot use atomics on the host's memory"
        return Finding(subject, "warning", detail)
    if needed is None:
        advice = "its driver tells more once it has taken the card"
        return Finding(subject, "warning", f"{route.reason}; {RULE}", advice=advice)
    return Finding(subject, "missing", f"{route.reason}; {core.shown} needs them", advice=_remedy(core))


def _atomics_unknown(subject: str, core: Core, route: Route, needed: bool | None) -> Finding:
    if needed is False:
        return Finding(subject, "ok", f"{route.reason}; {core.shown} computes also without them")
    advice = "run rocmbuild doctor --host as root" if "only root" in route.reason else ""
    return Finding(subject, "warning", f"{route.reason}; {RULE}", advice=advice)


def _remedy(core: Core) -> str:
    if core.generation is None or core.generation < (10, 0):
        return "try another slot, one that is wired to the processor directly; or use a card of gfx9"
    least = least_firmware(core.generation)
    return f"newer firmware: it is {core.firmware}, {least} and later do without; or another slot, or a card of gfx9"


def kfd_names(root: Path) -> dict[str, str]:
    """Return the names of the cards that KFD computes with (``gfx90a``), by their PCI addresses."""
    names = {}
    for node in sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("*")):
        values = dict(line.split(maxsplit=1) for line in _text(node / "properties").splitlines() if " " in line)
        version, place, domain = (
            _number(values.get(key, "0")) for key in ("gfx_target_version", "location_id", "domain")
        )
        if version:  # processors are nodes too, of version 0
            address = f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"
            names[address] = f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
    return names


def _generation(card: Device, name: str | None) -> tuple[int, int] | None:
    """Return major and minor version of the graphics core: from the table in a newer card, or from KFD's name."""
    if name:
        return int(name[3:-2]), int(name[-2], 16)
    table = card.path / "ip_discovery/die/0/GC/0"
    major, minor = _text(table / "major"), _text(table / "minor")
    return (_number(major), _number(minor)) if major and minor else None


def _firmware(card: Device) -> int | None:
    text = _text(card.path / "fw_version/mec_fw_version")
    return _number(text) if text else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int:
    """Read a number as the kernel writes it, decimal or ``0x``; 0 if it is none."""
    try:
        return int(text, 0)
    except ValueError:
        return 0
