"""A machine as files: what the kernel of a board or a PC shows of itself, below a directory of the test."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

from rocmbuild.commands.host import Host

ROOT_PORT, UPSTREAM, DOWNSTREAM = 4, 5, 6
ROUTING, COMPLETER_32, COMPLETER_64 = 0x40, 0x80, 0x100
COMPLETER = COMPLETER_32 | COMPLETER_64

FORKY = (
    "CONFIG_DRM_AMDGPU=m\nCONFIG_HSA_AMD=y\nCONFIG_DRM_AMD_DC=y\nCONFIG_DRM_AMD_DC_FP=y\nCONFIG_PCIE_SG2042_HOST=y\n"
)
"""What matters of the kernel 7.2 of Debian's coming release for riscv64."""

TRIXIE = "CONFIG_DRM_AMDGPU=m\nCONFIG_DRM_AMD_DC=y\nCONFIG_DRM_AMD_DC_FP=y\n# CONFIG_HSA_AMD is not set\n"
"""The same of Debian 13's 6.12: neither KFD nor the SG2042's PCIe were there yet."""

C920 = """\
processor\t: 0
hart\t\t: 0
isa\t\t: {isa}
mmu\t\t: sv39
uarch\t\t: thead,c920
mvendorid\t: 0x5b7
marchid\t\t: {marchid}
mimpid\t\t: 0x0

processor\t: 1
isa\t\t: rv64xyz
"""


def express(kind: int, capabilities: int, *, control: int = 0, version: int = 2, at: int = 0x70) -> bytes:
    """Return a configuration space of 256 bytes: a power management capability, then PCI Express."""
    config = bytearray(256)
    config[0x06] = 0x10
    config[0x34] = 0x40
    config[0x40:0x42] = bytes((0x01, at))
    config[at : at + 2] = bytes((0x10, 0))
    config[at + 2 : at + 4] = (kind << 4 | version).to_bytes(2, "little")
    config[at + 0x24 : at + 0x28] = capabilities.to_bytes(4, "little")
    config[at + 0x28 : at + 0x2A] = control.to_bytes(2, "little")
    return bytes(config)


class Machine:
    """Files below a directory, written one by one; ``host`` looks at them as user ``ann``."""

    def __init__(self, root: Path, machine: str = "riscv64") -> None:
        self.root = root
        self.host = Host(root, machine, uid=1000, groups=frozenset((1000,)), user="ann", accessible=self._accessible)

    @staticmethod
    def _accessible(path: Path) -> bool:
        return path.stat().st_mode & 0o006 == 0o006

    def in_groups(self, *groups: int) -> Host:
        """Return the host as the user sees it who is in these groups."""
        return replace(self.host, groups=frozenset((1000, *groups)))

    def write(self, name: str, content: str | bytes, mode: int = 0o644) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    def kernel(self, release: str, config: str | None = FORKY, *, place: str = "proc/config.gz") -> None:
        self.write("proc/sys/kernel/osrelease", f"{release}\n")
        if config is not None:
            self.write(place, gzip.compress(config.encode()) if place.endswith(".gz") else config)

    def sg2042(self, isa: str = "rv64imafdc_zicntr_zicsr_zifencei_zihpm_zfh", marchid: str = "0x0") -> None:
        """Make it a Milk-V Pioneer."""
        self.write("proc/device-tree/model", "Milk-V Pioneer\0")
        self.write("proc/device-tree/compatible", "milkv,pioneer\0sophgo,sg2042\0")
        self.write("proc/cpuinfo", C920.format(isa=isa, marchid=marchid))
        self.write("proc/meminfo", "MemTotal:       131072000 kB\nMemFree: 1 kB\n")

    def device(
        self, *chain: str, ids: tuple[int, int] = (0x1002, 0x73BF), kind: int = 0x030000, driver: str | None = "amdgpu"
    ) -> Path:
        """Add the device at the end of a chain of addresses; return its directory."""
        path = self.root / "sys/devices/pci0000:00" / "/".join(chain)
        path.mkdir(parents=True)
        for name, value in (("vendor", ids[0]), ("device", ids[1]), ("class", kind)):
            self.write(str((path / name).relative_to(self.root)), f"0x{value:04x}\n")
        bus = self.root / "sys/bus/pci/devices"
        bus.mkdir(parents=True, exist_ok=True)
        (bus / chain[-1]).symlink_to(f"../../../devices/pci0000:00/{'/'.join(chain)}")
        if driver:
            (path / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
        return path

    def card(self, capabilities: int = COMPLETER, **keywords) -> Path:
        """Add a root port and a card below it; return the card's directory."""
        path = self.device("0000:00:01.0", "0000:03:00.0", **keywords)
        (path.parent / "config").write_bytes(express(ROOT_PORT, capabilities))
        return path

    def kfd(self, version: int, address: int = 0x300, domain: int = 0) -> None:
        """Let KFD have a processor, and a card at ``address`` (bus, device and function)."""
        nodes = "sys/class/kfd/kfd/topology/nodes"
        self.write(f"{nodes}/0/properties", "cpu_cores_count 64\ngfx_target_version 0\n")
        text = f"cpu_cores_count 0\nlocation_id {address}\ndomain {domain}\ngfx_target_version {version}\n"
        self.write(f"{nodes}/1/properties", text)

    def core(self, card: Path, generation: tuple[int, int], firmware: int | None = None) -> None:
        """Let amdgpu tell the generation of a card, and its firmware."""
        for name, number in zip(("major", "minor"), generation, strict=True):
            self.write(str((card / f"ip_discovery/die/0/GC/0/{name}").relative_to(self.root)), f"{number}\n")
        if firmware is not None:
            self.write(str((card / "fw_version/mec_fw_version").relative_to(self.root)), f"0x{firmware:08x}\n")

    def node(self, name: str, mode: int = 0o660) -> None:
        """Add a device file; a plain file does for asking who may open it."""
        self.write(f"dev/{name}", "", mode)
