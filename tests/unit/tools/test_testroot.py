"""What can be said of fresh roots without making one; tests/integration/test_verify.py makes one."""

import asyncio
import dataclasses
import shutil
from pathlib import Path

import pytest

from rocmbuild.errors import RootError
from rocmbuild.model.catalog import make_catalog
from rocmbuild.model.target import Suite
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.apt import Archive
from rocmbuild.tools.emulation import Emulation
from rocmbuild.tools.testroot import BaseSpec, FreshRoot, _configure, make_base, reasons
from tests.unit.tools.signed import signed_archive

ARCHIVE = Archive("http://archive.example/debian/", None, Path("/usr/share/keyrings/example.gpg"), False, {})
SPEC = BaseSpec(ARCHIVE, make_catalog().distribution("debian-forky"), "amd64", ("make", "cmake"))


def root(directory):
    return FreshRoot(SPEC, directory / "place", directory / "archives", directory / "my repository")


@pytest.mark.parametrize(
    "change",
    [
        {"arch": "riscv64"},
        {"packages": ("make",)},
        {"archive": dataclasses.replace(ARCHIVE, main="http://other.example/debian/")},
        {"distribution": make_catalog().distribution("debian-13")},
    ],
)
def test_everything_that_makes_another_base_makes_another_name(change):
    assert dataclasses.replace(SPEC, **change).key != SPEC.key


def test_the_order_of_packages_does_not_make_another_base():
    assert dataclasses.replace(SPEC, packages=("cmake", "make", "make")).key == SPEC.key
    assert SPEC.key.startswith("debian-forky-amd64-")


def test_a_base_that_exists_is_not_made_again(tmp_path):
    tarball = tmp_path / f"{SPEC.key}.tar"
    tarball.touch()
    assert asyncio.run(make_base(SPEC, tmp_path, Runner())) == tarball


def test_a_base_that_cannot_be_made_leaves_nothing_and_says_what_to_do(tmp_path):
    with pytest.raises(RootError) as caught:
        asyncio.run(make_base(dataclasses.replace(SPEC, archive=dead(tmp_path)), tmp_path, Runner(tmp_path / "log")))
    assert "no fresh root of debian-forky for amd64 could be made" in caught.value.message
    assert caught.value.log == str(tmp_path / "log")
    assert caught.value.hint
    assert [path.suffix for path in tmp_path.iterdir() if path.name.startswith(".")] == [".lock"]


def dead(directory):
    """Return an archive without packages, in a directory of this machine, so that no network is asked."""
    return dataclasses.replace(
        ARCHIVE, main=f"file:{directory}/", environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    )


def test_a_command_inside_sees_the_root_the_repository_and_no_network(tmp_path):
    argv = root(tmp_path).enter(["ldd", "x y"], {"LANG": "C"}, "/srv")
    text = " ".join(argv)
    assert argv[-2:] == ["ldd", "x y"]
    assert "--unshare-net" in argv
    assert f"--bind {tmp_path}/place/root /" in text
    assert f"--ro-bind {tmp_path}/my repository {tmp_path}/my repository" in text
    assert "--clearenv" in argv
    assert text.count("--setenv") == 1
    assert "--setenv LANG C" in text
    assert "--chdir /srv" in text


EMULATION = Emulation(Path("/roots/x/usr/bin/qemu-riscv64"), "riscv64", "EM_RISCV", "thead-c906")
FOREIGN = dataclasses.replace(SPEC, arch="riscv64", emulation=EMULATION)


def test_the_emulator_makes_no_other_base():
    assert FOREIGN.key == dataclasses.replace(FOREIGN, emulation=None).key
    other = dataclasses.replace(EMULATION, interpreter=Path("/elsewhere/qemu-riscv64"), cpu="max")
    assert FOREIGN.key == dataclasses.replace(FOREIGN, emulation=other).key


def test_a_command_of_another_architecture_is_emulated_with_its_processor(tmp_path):
    argv = FreshRoot(FOREIGN, tmp_path / "place", tmp_path / "a", tmp_path / "r").enter(["true"], {"LANG": "C"})
    native = FreshRoot(SPEC, tmp_path / "place", tmp_path / "a", tmp_path / "r").enter(
        ["true"], {"QEMU_CPU": "thead-c906", "LANG": "C"}
    )
    assert argv == EMULATION.wrap(native)


def test_without_its_emulator_no_base_is_begun(tmp_path):
    with pytest.raises(RootError) as caught:
        asyncio.run(make_base(FOREIGN, tmp_path, Runner(tmp_path / "log")))
    assert caught.value.message.startswith("programs of riscv64 cannot be emulated here: ")
    assert "mmdebstrap" not in (tmp_path / "log").read_text()


def test_both_apts_go_without_updates_that_are_out_of_step(tmp_path):
    if not shutil.which("gpg") or not shutil.which("apt-ftparchive"):
        pytest.skip("needs gpg and apt-ftparchive")
    names = ("one", "one-updates")
    distribution = dataclasses.replace(
        SPEC.distribution, suites=tuple(Suite(name, "main", ("main",)) for name in names)
    )
    with signed_archive(tmp_path) as own:
        for name in names:
            own.suite(name, "1.0")
        own.out_of_step("one-updates")
        fresh = FreshRoot(
            BaseSpec(own.archive, distribution, "amd64"), tmp_path / "place", tmp_path / "debs", tmp_path / "repository"
        )
        for path in ("etc/apt/apt.conf.d", "etc/dpkg/dpkg.cfg.d", "var/lib/dpkg"):
            (fresh.path / path).mkdir(parents=True)
        (fresh.path / "var/lib/dpkg/status").touch()
        for path in (tmp_path / "place/state/lists/partial", tmp_path / "debs/partial", tmp_path / "repository"):
            path.mkdir(parents=True)
        (tmp_path / "repository/Packages").touch()
        _configure(fresh)
        said = []
        asyncio.run(fresh.update(Runner(tmp_path / "log", said.append)))
        assert "going on without one-updates: this mirror has them out of step for amd64" in said
        sources = (fresh.path / "etc/apt/sources.list").read_text()
        assert [line.split()[3] for line in sources.splitlines()] == ["one", "./"]
        own.out_of_step("one")
        with pytest.raises(RootError) as caught:
            asyncio.run(fresh.update(Runner(tmp_path / "log")))
    assert caught.value.hint.startswith("the mirror is being updated")


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (["Reading", "E: Unable to locate package x"], "E: Unable to locate package x"),
        (
            [" older", "The following packages have unmet dependencies:", " x : Depends: y but", "E: broken"],
            "x : Depends: y but E: broken",
        ),
        (
            ["dpkg: error processing package x (--configure):", "quiet"],
            "dpkg: error processing package x (--configure):",
        ),
        (["a", "b", "c", "no reason"], "b c no reason"),
    ],
)
def test_the_reasons_of_apt_and_dpkg(tail, expected):
    assert reasons(ProcessError(["apt-get"], 100, tail, None)) == expected


def test_a_program_that_prints_nothing_has_a_reason_too():
    assert "exited with status 1" in reasons(ProcessError(["tar", "-x"], 1, [], None))
