"""From settings to a plan: which machine, which distribution, which areas, and what is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import platform
import shutil
import time
from pathlib import Path

import pytest

from rocmbuild.commands.selecting import refuse_impossible
from rocmbuild.commands.session import open_session
from rocmbuild.errors import UsageError
from rocmbuild.model.catalog import make_catalog
from rocmbuild.plan.graph import Machine
from rocmbuild.plan.selection import CROSS_ROOT, EMULATOR, ROOT, SYSROOT
from rocmbuild.process import Runner
from rocmbuild.run.stamps import Stamps
from rocmbuild.settings import Settings
from rocmbuild.workspace import Workspace

HERE = make_catalog().target_for(platform.machine())

BOARD = """\
format: 1
target: board
triple: aarch64-linux-gnu
arch: arm64
machines: [board64]
elf: {machine: EM_AARCH64}
"""

HEAD = "format: 1\nbranch: small\nversion: '5.6.1'\ndistribution: debian-12\ndistributions: [debian-12, debian-13]\n"


@pytest.fixture
def settings(release, tmp_path):
    """Settings of a release of llvm and app, made for two distributions."""
    release.manifest("components:\n  llvm: {version: '16.0.0'}\n  app: {version: '1.0'}\n", HEAD)
    release.recipe("llvm")
    release.recipe("app", "needs: {tools: [llvm], system: [libelf-dev, file:native]}\n")
    (tmp_path / "targets").mkdir()
    return Settings(
        verb="plan",
        branch="small",
        gpus=("gfx1030",),
        workspace=tmp_path / "workspace",
        cache=tmp_path / "cache",
        manifests=(tmp_path / "manifests",),
        recipes=(tmp_path / "recipes",),
        targets=(tmp_path / "targets",),
        environ={"HOME": str(tmp_path)},
    )


@pytest.fixture
def opened(settings, tmp_path):
    """Return a function that opens a session with settings changed, for ``board`` if that is given as text."""

    def make(board=None, **changes):
        if board is not None:
            (tmp_path / "targets/board.yaml").write_text(board)
            changes["target"] = "board"
        return asyncio.run(open_session(dataclasses.replace(settings, **changes), Runner()))

    return make


def test_without_a_target_it_is_this_machine(opened):
    session = opened()
    selection = session.plan.selection
    assert (selection.target.name, selection.build, selection.cross) == (HERE.name, None, False)
    assert set(session.areas) == {Machine.HOST}
    assert session.workspace.area == f"debian-12-{HERE.area}"
    assert {kind: spec.arch for kind, spec in session.areas[Machine.HOST].made.specs.items()} == {ROOT: HERE.arch}


def test_a_target_of_another_machine_is_a_cross_build(opened):
    session = opened(BOARD)
    selection = session.plan.selection
    assert (selection.target.name, selection.build.name) == ("board", HERE.name)
    assert [job.name for job in session.plan.jobs] == ["llvm (build)", "app", "llvm"]
    areas = {machine: area.workspace.area for machine, area in session.areas.items()}
    assert areas == {Machine.BUILD: f"debian-12-{HERE.area}", Machine.HOST: "debian-12-arm64-board"}
    assert session.workspace.area == "debian-12-arm64-board"
    specs = session.areas[Machine.HOST].made.specs
    archs = {kind: spec.arch for kind, spec in specs.items()}
    assert archs == {CROSS_ROOT: HERE.arch, SYSROOT: "arm64", EMULATOR: HERE.arch}
    assert "file" in specs[CROSS_ROOT].packages
    assert "file" not in specs[SYSROOT].packages
    assert "libelf-dev" in specs[SYSROOT].packages


def test_a_variant_of_this_machine_is_built_natively_in_an_area_of_its_own(opened):
    own = BOARD.replace("board64", platform.machine()).replace("arm64", HERE.arch)
    session = opened(own + "variant: tuned\nflags: [-O3]\n")
    assert not session.plan.selection.cross
    assert session.workspace.area == f"debian-12-{HERE.arch}-tuned"


def test_tools_of_a_cross_build_are_those_of_a_native_build_before(opened, settings):
    native = opened()
    workspace = Workspace(settings.workspace, "small", f"debian-12-{HERE.area}")
    workspace.stage("llvm").mkdir(parents=True)
    Stamps(workspace).record(native.plan.job("llvm"), "root", "output", 1.0, needs={})
    actions = {job.name: job.action.value for job in opened(BOARD).plan.jobs}
    assert actions == {"llvm (build)": "KEEP", "app": "BUILD", "llvm": "BUILD"}


def test_what_is_built_for_another_machine_is_nothing_for_this_one(opened, settings):
    cross = opened(BOARD)
    workspace = Workspace(settings.workspace, "small", "debian-12-arm64-board")
    workspace.stage("llvm").mkdir(parents=True)
    Stamps(workspace).record(cross.plan.job("llvm"), "root", "output", 1.0, needs={})
    assert {job.name: job.action.value for job in opened(BOARD).plan.jobs} == {
        "llvm (build)": "BUILD",
        "app": "BUILD",
        "llvm": "KEEP",
    }
    assert opened().plan.job("llvm").action.value == "BUILD"


@pytest.mark.parametrize(
    ("runs", "asked", "chosen"),
    [
        (None, None, "debian-12"),
        ("debian-13", None, "debian-13"),
        ("debian-13", "debian-12", "debian-12"),
        ("debian-12", "debian-13", "debian-13"),
        ("debian-forky", None, "debian-12"),
    ],
)
def test_the_distribution_is_the_one_asked_for_or_the_targets_or_the_manifests(opened, runs, asked, chosen):
    session = opened(BOARD + (f"distribution: {runs}\n" if runs else ""), distribution=asked)
    assert session.distribution.name == chosen
    assert all(area.workspace.area.startswith(f"{chosen}-") for area in session.areas.values())


def test_a_distribution_that_the_release_is_not_made_for(opened):
    with pytest.raises(UsageError) as caught:
        opened(BOARD, distribution="debian-forky")
    assert caught.value.message == "small is not made for debian-forky"
    assert caught.value.hint == "choose with --distribution one of debian-12, debian-13"


def test_an_architecture_that_the_distribution_lacks(opened):
    with pytest.raises(UsageError) as caught:
        opened(BOARD.replace("arm64", "riscv64"))
    assert caught.value.message == "debian-12 does not exist for riscv64, the architecture of board"
    assert caught.value.hint == "it exists for amd64, arm64; choose another one with --distribution"
    assert opened(BOARD.replace("arm64", "riscv64"), distribution="debian-13").plan.selection.cross


def test_another_machine_takes_the_sandbox(opened):
    with pytest.raises(UsageError) as caught:
        opened(BOARD, environment="host")
    assert caught.value.message.startswith(f"board is another machine than this ({HERE.name}): that takes a sysroot")
    assert caught.value.hint == "leave --environment host out"
    assert opened(environment="host").areas[Machine.HOST].made.specs == {}


@pytest.mark.parametrize("sign", [*" \t,;'\"`$\\()&|<>"])
def test_without_a_sandbox_programs_have_to_read_the_path(opened, tmp_path, sign):
    place = tmp_path / f"a{sign}user" / "workspace"
    with pytest.raises(UsageError) as caught:
        opened(environment="host", workspace=place)
    assert f"would take {place} apart" in caught.value.message
    assert caught.value.message.endswith(f"it has {'a space' if sign.isspace() else sign} in it")
    assert "another directory with --workspace, or leave --environment host out" in caught.value.hint
    assert opened(workspace=place).sandboxed


@pytest.mark.parametrize("name", ["plain-1.0_2+3~4", "a:b", "#a", "ü", "a@b=c%"])
def test_other_paths_can_be_read(opened, tmp_path, name):
    assert not opened(environment="host", workspace=tmp_path / name / "workspace").sandboxed


def test_a_distribution_without_cross_compilers_builds_for_its_own_machine_only(settings):
    catalog = make_catalog()
    distribution = dataclasses.replace(catalog.distribution("debian-13"), cross=None)
    other = catalog.target("sg2042")
    with pytest.raises(UsageError) as caught:
        refuse_impossible(settings, other, HERE, distribution)
    assert caught.value.message == ("debian-13 names no compilers to build for another machine, and sg2042 is one")
    assert "choose another --distribution, or build on a machine of that architecture" in caught.value.hint
    refuse_impossible(settings, HERE, None, distribution)


@pytest.mark.parametrize(("arch", "kind"), [("arm64", SYSROOT), (HERE.arch, CROSS_ROOT)])
def test_offline_the_root_that_is_missing_is_named_with_its_architecture(opened, arch, kind):
    session = opened(BOARD, offline=True)
    assert session.areas[Machine.HOST].made.specs[kind].arch == arch
    with pytest.raises(UsageError) as caught:
        asyncio.run(session.apt(Runner(), arch))
    assert caught.value.message.startswith(f"a root of debian-12 for {arch} is not in the cache")


def test_a_rerun_is_for_the_same_target(opened):
    assert "--target board " in opened(BOARD).rerun()
    assert "--target" not in opened().rerun().split()


NO_INPUTS = {
    "jobs": {"jobs": 7},
    "memory": {"memory": 1 << 33},
    "verbosity": {"verbosity": 2},
    "going on after a failure": {"keep_going": True},
    "verification": {"verify": False},
    "events": {"events": Path("/elsewhere/events")},
    "network": {"offline": True, "apt_mirror": "http://archive.example/", "mirrors": (("https://a/", "https://b/"),)},
    "user": {
        "environ": {"HOME": "/home/other", "USER": "other", "LOGNAME": "other", "LANG": "de_DE", "TZ": "Asia/Tokyo"}
    },
    "flags of the user's shell": {"environ": {"CFLAGS": "-O0", "CC": "tcc", "ROCM_PATH": "/opt/rocm"}},
    "verb": {"verb": "build"},
}


def keys(session):
    return [(job.key, job.own_key, job.source_key, job.tree_key, job.package_key) for job in session.plan.jobs]


@pytest.mark.parametrize("what", sorted(NO_INPUTS))
def test_how_it_is_built_moves_no_key(opened, what):
    assert keys(opened(**NO_INPUTS[what])) == keys(opened())


def test_neither_places_nor_times_move_a_key(opened, tmp_path, monkeypatch):
    before = keys(opened())
    for path in (tmp_path / "recipes").rglob("*"):
        os.utime(path, (1, 1))
    monkeypatch.setattr(time, "time", lambda: 4102444800.0)
    assert keys(opened()) == before
    elsewhere = tmp_path / "else where"
    for name in ("manifests", "recipes"):
        shutil.copytree(tmp_path / name, elsewhere / name)
    places = {name: elsewhere / name for name in ("workspace", "cache")}
    documents = {name: (elsewhere / name,) for name in ("manifests", "recipes")}
    monkeypatch.chdir(elsewhere)
    assert keys(opened(**places, **documents)) == before


def test_a_root_that_two_areas_have_is_found_by_both(opened, settings):
    """The build root of the tools is the build root of native builds."""
    spec = opened().areas[Machine.HOST].made.specs[ROOT]
    assert opened(BOARD).areas[Machine.BUILD].made.specs[ROOT].key == spec.key
    place = settings.cache / "roots"
    (place / spec.key).mkdir(parents=True)
    (place / f"{spec.key}.json").write_text('{"versions": {}, "digest": "d"}')
    areas = opened(BOARD).areas
    assert areas[Machine.BUILD].made.digest == "d"
    assert areas[Machine.HOST].made.digest is None
    assert opened().areas[Machine.HOST].made.digest == "d"
