"""A small release as it is built: natively, or for another machine with tools for this one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rocmbuild.plan.selection import EMULATOR, root_packages
from rocmbuild.run.site import Area, Made, Site
from rocmbuild.run.stamps import Stamps
from rocmbuild.tools.cmake import BuildTools
from rocmbuild.tools.root import Root, RootSpec
from rocmbuild.workspace import Workspace
from tests import elf_files
from tests.releases import Release

LLVM = """\
home: "{prefix}/llvm"
build_programs: bin
needs: {libs: [zstd]}
provided: {testix: {version: "17.0.6", home: /usr/lib/llvm-17, system: [llvm-17-dev]}}
"""

APP = """\
needs: {tools: [llvm, device], libs: [llvm, runtime], sources: [runtime]}
cmake: {variables: {LLVM_DIR: "{home:llvm}/lib/cmake", RUNTIME: "{source:runtime}"}}
environment: {LLVM: "{home:llvm}"}
packages: [{name: app, summary: s}]
"""

DEVICE = """\
machine_independent: true
needs: {tools: [llvm]}
packages: [{name: device, summary: s}]
"""


@pytest.fixture
def make_site(release: Release, tmp_path: Path) -> Callable[..., Site]:
    """Return a function that makes a site; every root and stage tree is there, with files that say for which machine.

    zstd ← llvm ← device ← runtime, and app needs llvm, device and runtime.
    """
    release.manifest(
        "sources: {" + ", ".join(f"{name}: {{debian: p/{name}.tar.xz, sha256: {'ab' * 32}}}" for name in NAMES) + "}\n"
        "components: {" + ", ".join(f"{name}: {{version: '1.0'}}" for name in NAMES) + "}\n"
    )
    release.recipe("zstd")
    release.recipe("llvm", LLVM)
    release.recipe("device", DEVICE)
    release.recipe("runtime", "needs: {libs: [device]}\n")
    release.recipe("app", APP)

    def make(*stamps, cross=True, **changes) -> Site:
        plan = release.cross_plan(*stamps, **changes) if cross else release.plan(*stamps, **changes)
        areas = {}
        for machine, packages in root_packages(plan.selection).items():
            workspace = Workspace(tmp_path / "w", "small", f"testix-{plan.selection.target_of(machine).area}")
            specs = {kind: RootSpec(release.distribution, "amd64", names) for kind, names in packages.items()}
            roots = {kind: Root(tmp_path / "roots" / machine.value / kind, {}, kind) for kind in specs}
            areas[machine] = Area(workspace, Stamps(workspace), Made(specs, roots))
        site = Site(plan, areas, BuildTools(tmp_path / "cmake", tmp_path / "ninja", {}), None, "")
        _fill(site)
        _write(tmp_path / "roots/host" / EMULATOR / "usr/bin/qemu-riscv64", elf_files.library())
        return site

    return make


NAMES = ("zstd", "llvm", "device", "runtime", "app")


def _fill(site: Site) -> None:
    for job in site.plan.jobs:
        name, text = job.node.component, f"for the {job.node.machine_name} machine".encode()
        prefix = site.stage(job.node) / "opt/rocm-5.6.1"
        _write(prefix / f"own-{name}", text)
        if name == "llvm":
            _write(prefix / "llvm/bin/clang", text)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
