"""``rocmbuild doctor --host``: what a machine lacks that is to use the packages: kernel, card, rights.

It reads files and nothing else: it starts no program, needs no network, and imports nothing that has to be installed.
"""

from __future__ import annotations

import gzip
import os
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rocmbuild.commands.cards import AMD, check_cards, find_cards
from rocmbuild.commands.finding import Finding, Status
from rocmbuild.ui.format import size

MEMORY = 2 << 30
"""Bytes; hiprtc and hipcc compile C++, which takes up to 1.5 GiB."""

_DRAFT_VECTORS = {"mvendorid": "0x5b7", "marchid": "0x0"}
"""T-Head's C906, C910 and C920; later cores of T-Head have another marchid, and the vectors of the standard."""

_BASELINE = "imafdc"
"""The extensions of rv64gc, which the packages are compiled for."""

_WITHOUT_DRIVER = "amdgpu makes it when it takes a card: see card and CONFIG_HSA_AMD"


def _accessible(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


@dataclass(frozen=True)
class Host:
    """The machine whose file system is below ``root``, and the user who asks.

    ``machine`` is what ``uname -m`` says, ``accessible`` tells whether the user may read and write a file.
    """

    root: Path = Path("/")
    machine: str = field(default_factory=lambda: os.uname().machine)
    uid: int = field(default_factory=os.getuid)
    groups: frozenset[int] = field(default_factory=lambda: frozenset((os.getgid(), *os.getgroups())))
    user: str = field(default_factory=lambda: _user_name(os.getuid()))
    accessible: Callable[[Path], bool] = _accessible

    def text(self, name: str) -> str:
        """Return the text of a file, empty if it cannot be read; strings of a device tree end with a NUL."""
        try:
            return (self.root / name).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
        except OSError:
            return ""

    @property
    def release(self) -> str:
        """Return the version of the running kernel, empty if it is not told."""
        return self.text("proc/sys/kernel/osrelease")

    @property
    def kernel(self) -> tuple[int, int]:
        """Return the first two numbers of the kernel's version."""
        match = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(match[1]), int(match[2])) if match else (0, 0)

    @property
    def compatible(self) -> list[str]:
        """Return what a device tree calls this machine, nothing where there is none."""
        return self.text("proc/device-tree/compatible").split("\0")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@dataclass(frozen=True)
class KernelOption:
    """A configuration option of Linux: what it is for, and since which version an architecture can have it.

    ``without`` is what its absence means for a user of ROCm; ``sign`` (a pattern of files) shows that something else
    does its work, such as a driver from elsewhere. ``only`` is the device tree's name of the machine that it is for.
    """

    name: str
    purpose: str
    without: Status = "missing"
    sign: str | None = None
    since: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    only: str | None = None


KERNEL_OPTIONS = (
    KernelOption("DRM_AMDGPU", "the driver of AMD's cards", sign="sys/module/amdgpu"),
    KernelOption("HSA_AMD", "KFD, the part of it that computes", sign="dev/kfd", since={"riscv64": (6, 16)}),
    KernelOption("DRM_AMD_DC", "displays of AMD's cards; computing does without", without="warning"),
    KernelOption(
        "DRM_AMD_DC_FP",
        "displays of Navi and later cards; computing does without",
        without="warning",
        since={"riscv64": (6, 10)},
    ),
    KernelOption(
        "PCIE_SG2042_HOST",
        "PCIe of the SG2042",
        sign="sys/bus/pci/devices/*",
        since={"riscv64": (6, 18)},
        only="sophgo,sg2042",
    ),
)


def examine(host: Host) -> list[Finding]:
    """Return what every check found, in the order of the table."""
    return [
        *check_processor(host),
        check_memory(host),
        *check_kernel(host),
        *check_cards(host.root),
        *check_devices(host),
        *check_groups(host),
        check_rocm(host.root),
    ]


def check_processor(host: Host) -> list[Finding]:
    """Name the processor; on RISC-V compare its instruction set with what the packages are compiled for."""
    fields = _cpuinfo(host)
    model = host.text("proc/device-tree/model")
    known = [model or fields.get("model name", ""), host.machine, fields.get("isa", "")]
    detail = ", ".join(part for part in known if part)
    if host.machine != "riscv64":
        return [Finding("processor", "ok", detail)]
    if "isa" not in fields:
        return [Finding("processor", "warning", f"{detail}: /proc/cpuinfo does not tell its instruction set")]
    letters = _letters(fields["isa"])
    lacking = [letter for letter in _BASELINE if letter not in letters]
    if lacking:
        text = f"{detail}: the packages need rv64gc, here is no {', '.join(lacking)}"
        return [Finding("processor", "missing", text)]
    return [Finding("processor", "ok", detail), *_vectors(host, fields)]


def _cpuinfo(host: Host) -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo."""
    first = host.text("proc/cpuinfo").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _letters(isa: str) -> str:
    """Return the extensions of one letter; ``g`` stands for several."""
    return isa.partition("_")[0].removeprefix("rv64").replace("g", "imafd")


def _vectors(host: Host, fields: Mapping[str, str]) -> list[Finding]:
    """Tell T-Head's vectors of the draft 0.7.1 from the standard's, and what the kernel does about GhostWrite."""
    isa = fields["isa"]
    early = all(fields.get(key) == value for key, value in _DRAFT_VECTORS.items())
    findings = []
    if early and "v" in _letters(isa):
        detail = "this kernel says v, but these cores have the draft 0.7.1: what was compiled for rv64gcv fails here"
        findings.append(Finding("vectors", "warning", f"{detail}; the packages use no vectors"))
    elif "xtheadvector" in isa.split("_"):
        findings.append(Finding("vectors", "ok", "xtheadvector, the draft 0.7.1; the packages use no vectors"))
    told = host.text("sys/devices/system/cpu/vulnerabilities/ghostwrite")
    if told not in ("", "Not affected"):
        bad = told.startswith("Vulnerable")
        advice = "boot without mitigations=off: the kernel then disables xtheadvector" if bad else ""
        findings.append(Finding("GhostWrite", "warning" if bad else "ok", told, advice=advice))
    return findings


def check_memory(host: Host) -> Finding:
    """Compare the machine's memory with what a compiler takes."""
    match = re.search(r"^MemTotal:\s+([0-9]+) kB", host.text("proc/meminfo"), re.MULTILINE)
    if match is None:
        return Finding("memory", "warning", "/proc/meminfo does not tell it")
    total = int(match[1]) << 10
    if total >= MEMORY:
        return Finding("memory", "ok", size(total))
    return Finding("memory", "warning", f"{size(total)}; compiling kernels takes up to 1.5 GiB", advice="add swap")


def check_kernel(host: Host) -> list[Finding]:
    """Look at the kernel and at those options of it that matter on this machine."""
    options = [option for option in KERNEL_OPTIONS if option.only is None or option.only in host.compatible]
    found = _configuration(host)
    if found is None:
        detail = f"{host.release or 'unknown'}; its configuration is neither in /proc nor in /boot"
        return [Finding("kernel", "warning", detail, advice=_since(host, options))]
    place, values = found
    kernel = Finding("kernel", "ok", f"{host.release}, configured as in {place}")
    return [kernel, *(_option(host, option, values.get(f"CONFIG_{option.name}", "n")) for option in options)]


def _configuration(host: Host) -> tuple[str, dict[str, str]] | None:
    """Return where the configuration of the running kernel is told, and its options that are set."""
    places = ["proc/config.gz", f"boot/config-{host.release}", f"lib/modules/{host.release}/config"]
    for place in places:
        try:
            data = (host.root / place).read_bytes()
            text = (gzip.decompress(data) if place.endswith(".gz") else data).decode(errors="replace")
        except (OSError, EOFError):
            continue
        return f"/{place}", dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE))
    return None


def _option(host: Host, option: KernelOption, value: str) -> Finding:
    subject = f"CONFIG_{option.name}"
    if value in ("y", "m"):
        return Finding(subject, "ok", f"{value}: {option.purpose}")
    if option.sign and any(host.root.glob(option.sign)):
        return Finding(subject, "ok", f"not set, but something else does it: {option.purpose}")
    advice = _since(host, [option])
    if option.without == "missing" and not advice:
        advice = "use a kernel that was configured with it"
    return Finding(subject, option.without, f"not set: {option.purpose}", advice=advice)


def _since(host: Host, options: list[KernelOption]) -> str:
    """Name the versions of Linux that have the options, where this kernel is older."""
    known = [(option.name, option.since.get(host.machine, (0, 0))) for option in options]
    later = [(name, since) for name, since in known if since > host.kernel]
    return "; ".join(f"CONFIG_{name} takes Linux {major}.{minor} or later" for name, (major, minor) in later)


def check_devices(host: Host) -> list[Finding]:
    """Look for the device files that ROCm opens, and whether this user may."""
    return [_device_file(host, host.root / "dev/kfd", "KFD's"), *_render_nodes(host)]


def _render_nodes(host: Host) -> list[Finding]:
    """Look at the render nodes of AMD's cards; other cards have some, too."""
    nodes = sorted((host.root / "dev/dri").glob("renderD*"))
    vendors = {node: host.text(f"sys/class/drm/{node.name}/device/vendor") for node in nodes}
    ours = [node for node in nodes if vendors[node] in ("", hex(AMD))]
    if not ours and find_cards(host.root):
        return [Finding("/dev/dri/renderD*", "missing", "no render node of an AMD card", advice=_WITHOUT_DRIVER)]
    return [_device_file(host, node, "a card's") for node in ours]


def _device_file(host: Host, path: Path, whose: str) -> Finding:
    subject = f"/{path.relative_to(host.root)}"
    if not path.exists():
        return Finding(subject, "missing", f"there is none: {whose} driver has not made it", advice=_WITHOUT_DRIVER)
    if host.accessible(path):
        return Finding(subject, "ok", f"{host.user} may read and write it")
    advice = "it should belong to the group render, with mode 0660; see groups"
    return Finding(subject, "missing", f"{host.user} may not read and write it", advice=advice)


def check_groups(host: Host) -> list[Finding]:
    """Look whether the user is in the groups that device files belong to; root needs none."""
    if host.uid == 0:
        return [Finding("groups", "ok", "root needs none")]
    lines = [line.split(":") for line in host.text("etc/group").splitlines() if line.count(":") == 3]
    known = {name: (int(gid), members.split(",")) for name, _, gid, members in lines if name in ("render", "video")}
    lacking = [name for name, (gid, _) in known.items() if gid not in host.groups]
    if "render" in known and "render" not in lacking:
        return [
            Finding("groups", "ok", f"{host.user} is in {' and '.join(name for name in known if name not in lacking)}")
        ]
    if lacking and all(host.user in known[name][1] for name in lacking):
        return [Finding("groups", "warning", f"{host.user} is in {', '.join(lacking)} from the next login on")]
    if "render" not in known:
        return [Finding("groups", "warning", "there is no group render, to which udev gives the device files")]
    command = ("usermod", "--append", "--groups", ",".join(lacking), host.user)
    detail = f"{host.user} is not in {', '.join(lacking)}"
    return [Finding("groups", "warning", detail, command=command, advice="they count from the next login on")]


def check_rocm(root: Path) -> Finding:
    """Say which ROCm is installed, and which of them /opt/rocm leads to."""
    found = sorted(f"/opt/{path.name}" for path in (root / "opt").glob("rocm-*") if path.is_dir())
    if not found:
        advice = "copy the packages here and install them; the summary of their build has the commands"
        return Finding("ROCm", "warning", "not installed", advice=advice)
    link = root / "opt/rocm"
    target = f"; /opt/rocm leads to {link.readlink()}" if link.is_symlink() else ""
    return Finding("ROCm", "ok", f"{', '.join(found)}{target}")
