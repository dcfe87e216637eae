"""What can be said of fresh roots without making one; tests/integration/test_verify.py makes one."""

import asyncio
import dataclasses
import os
from pathlib import Path

import pytest

from rocmbuild.errors import RootError
from rocmbuild.model.catalog import make_catalog
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.apt import Archive
from rocmbuild.tools.testroot import BaseSpec, FreshRoot, as_root, make_base, reasons

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


def test_without_root_rights_the_users_own_ids_are_used(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert as_root(["tar"]) == ["unshare", "--map-root-user", "--map-auto", "--", "tar"]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert as_root(["tar"]) == ["tar"]


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
