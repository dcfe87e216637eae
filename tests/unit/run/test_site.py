"""What belongs to a machine: areas of the workspace, and roots as far as they have been made."""

from __future__ import annotations

import pytest

from rocmbuild.errors import RootError
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.selection import CROSS_ROOT, EMULATOR, ROOT, SYSROOT, root_packages
from rocmbuild.run.site import Area, Made, Site
from rocmbuild.run.stamps import Stamps
from rocmbuild.tools.cmake import BuildTools
from rocmbuild.tools.root import Root, RootSpec
from rocmbuild.workspace import Workspace
from tests import elf_files
from tests.releases import BOARD, DISTRIBUTION, TARGET


def made(tmp_path, *kinds, there=None, **digests):
    """Return roots of some kinds, of which those in ``there`` have been made."""
    specs = {kind: RootSpec(DISTRIBUTION, "amd64", (kind,)) for kind in kinds}
    names = {kind: kind.replace(" ", "_") for kind in kinds}
    roots = {
        kind: Root(tmp_path / names[kind], {}, digests.get(names[kind], f"of the {kind}"))
        for kind in (kinds if there is None else there)
    }
    return Made(specs, roots)


def test_on_the_host_there_are_no_roots():
    nothing = Made()
    assert (nothing.root, nothing.sysroot, nothing.installed, nothing.missing, nothing.digest) == (
        *(None, None, None),
        (),
        None,
    )


def test_a_native_build_has_one_root(tmp_path):
    found = made(tmp_path, ROOT)
    assert found.root is found.installed is found.roots[ROOT]
    assert found.sysroot is None
    assert found.digest == "of the build root", "the digest of the root itself, as it was before there were several"


def test_a_cross_build_runs_over_one_root_and_depends_on_another(tmp_path):
    found = made(tmp_path, CROSS_ROOT, SYSROOT, EMULATOR)
    assert found.root is found.roots[CROSS_ROOT]
    assert found.sysroot is found.installed is found.roots[SYSROOT]
    assert found.missing == ()


@pytest.mark.parametrize("missing", [CROSS_ROOT, SYSROOT, EMULATOR])
def test_there_is_no_digest_until_all_roots_are_there(tmp_path, missing):
    kinds = (CROSS_ROOT, SYSROOT, EMULATOR)
    found = made(tmp_path, *kinds, there=[kind for kind in kinds if kind != missing])
    assert found.digest is None
    assert [spec.packages for spec in found.missing] == [(missing,)]
    found.roots[missing] = Root(tmp_path, {}, f"of the {missing}")
    assert found.digest == made(tmp_path, *kinds).digest


@pytest.mark.parametrize("kind", ["cross_root", "sysroot", "emulator"])
def test_every_root_moves_the_digest(tmp_path, kind):
    kinds = (CROSS_ROOT, SYSROOT, EMULATOR)
    assert made(tmp_path, *kinds, **{kind: "other"}).digest != made(tmp_path, *kinds).digest


def test_two_roots_that_change_places_move_the_digest(tmp_path):
    one = made(tmp_path, CROSS_ROOT, SYSROOT, cross_root="a", sysroot="b").digest
    assert made(tmp_path, CROSS_ROOT, SYSROOT, cross_root="b", sysroot="a").digest != one


def test_the_emulator_is_in_a_root_of_its_own(tmp_path):
    found = made(tmp_path, CROSS_ROOT, SYSROOT, EMULATOR, there=[CROSS_ROOT, SYSROOT])
    with pytest.raises(RootError, match="there is no root with qemu-riscv64"):
        found.emulator("qemu-riscv64")
    program = tmp_path / "emulators/usr/bin/qemu-riscv64"
    program.parent.mkdir(parents=True)
    program.write_bytes(elf_files.library())
    found.roots[EMULATOR] = Root(tmp_path / "emulators", {}, "d")
    assert found.emulator("qemu-riscv64") == program


@pytest.fixture
def site(release, tmp_path):
    """A site of a cross build: app is compiled, device taken over from the build machine, that makes it with llvm."""
    release.components("llvm", "device", "app")
    release.recipe("llvm")
    release.recipe("device", "machine_independent: true\nneeds: {tools: [llvm]}\n")
    release.recipe("app", "needs: {libs: [device]}\n")
    plan = release.cross_plan()
    areas = {}
    for machine, packages in root_packages(plan.selection).items():
        workspace = Workspace(tmp_path / "w", "small", f"testix-{plan.selection.target_of(machine).area}")
        specs = {kind: RootSpec(DISTRIBUTION, "amd64", names) for kind, names in packages.items()}
        areas[machine] = Area(workspace, Stamps(workspace), Made(specs))
    return Site(plan, areas, BuildTools(tmp_path, tmp_path, {}), None, "")


def test_packages_come_from_the_area_of_the_host_machine(site):
    assert site.workspace is site.areas[Machine.HOST].workspace
    assert site.made is site.areas[Machine.HOST].made
    assert (TARGET.area, BOARD.area) == ("amd64", "riscv64")
    assert site.workspace.area == "testix-riscv64"


def test_each_machine_has_an_area(site, tmp_path):
    trees = tmp_path / "w/build/small"
    assert site.stage(Node("app")) == trees / "testix-riscv64/app/stage"
    assert site.stage(Node("device")) == trees / "testix-riscv64/device/stage"
    assert site.stage(Node("device", "build")) == trees / "testix-amd64/device/stage"


def test_what_is_taken_over_has_the_source_of_the_build_machine(site, tmp_path):
    sources = tmp_path / "w/src/small"
    assert site.source(site.plan.job("app")) == sources / "testix-riscv64/app"
    assert site.source(site.plan.job("device")) == sources / "testix-amd64/device"
    assert site.source(site.plan.job("device", Machine.BUILD)) == sources / "testix-amd64/device"


def test_what_is_for_the_build_machine_is_no_cross_build(site):
    assert site.is_cross(Node("app"))
    assert not site.is_cross(Node("llvm", "build"))
