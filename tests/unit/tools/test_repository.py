"""A repository directory that apt itself accepts."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest
from debian.deb822 import Packages, Release

from rocmbuild.errors import PackageError
from rocmbuild.process import Runner
from rocmbuild.tools.deb import Deb, build_deb
from rocmbuild.tools.repository import write_repository

EPOCH = 1_690_000_000


def make(directory: Path, name: str, depends: str = "", version: str = "1.0") -> Path:
    directory.mkdir(exist_ok=True)
    control = {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "x <x@x.example>"}
    control |= {"Depends": depends, "Description": f"{name}\n for a test"}
    deb = Deb(control=control, stage=directory, files=(), extra={}, scripts={}, epoch=EPOCH)
    return asyncio.run(build_deb(deb, directory, Runner()))[0]


def write(out: Path, *debs: Path) -> None:
    options = {"origin": "rocmbuild", "suite": "rocm-5.6.x", "arch": "amd64", "epoch": EPOCH}
    asyncio.run(write_repository(out, debs, **options, runner=Runner()))


@pytest.fixture
def debs(tmp_path) -> list[Path]:
    made = tmp_path / "debs"
    return [make(made, "zlast"), make(made, "first", "second"), make(made, "second")]


def test_the_indices_describe_the_debs(debs, tmp_path):
    out = tmp_path / "out"
    write(out, *debs)
    assert {path.name for path in out.iterdir()} == {*(deb.name for deb in debs), "Packages", "Packages.gz", "Release"}
    entries = list(Packages.iter_paragraphs((out / "Packages").read_text(), use_apt_pkg=False))
    assert [entry["Package"] for entry in entries] == ["first", "second", "zlast"]
    for entry in entries:
        deb = out / entry["Filename"]
        assert entry["SHA256"] == hashlib.sha256(deb.read_bytes()).hexdigest()
    assert gzip.decompress((out / "Packages.gz").read_bytes()) == (out / "Packages").read_bytes()


def test_release_names_the_repository_and_has_the_sums_of_the_indices(debs, tmp_path):
    out = tmp_path / "out"
    write(out, *debs)
    release = Release((out / "Release").read_text())
    assert release["Origin"] == "rocmbuild"
    assert (release["Suite"], release["Architectures"]) == ("rocm-5.6.x", "amd64 all")
    assert release["Date"] == "Sat, 22 Jul 2023 04:26:40 +0000"
    sums = {entry["name"]: entry["sha256"] for entry in release["SHA256"]}
    assert sums == {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in ("Packages", "Packages.gz")}


def test_the_same_debs_give_the_same_bytes(debs, tmp_path):
    write(tmp_path / "one", *debs)
    time.sleep(1.1)  # Release counts seconds
    write(tmp_path / "two", *reversed(debs))
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_debs_that_are_no_part_of_it_go_and_other_files_stay(debs, tmp_path):
    out = tmp_path / "out"
    write(out, *debs)
    (out / "verify.json").write_text("{}")
    newer = make(tmp_path / "newer", "second", version="2.0")
    write(out, debs[1], newer)
    expected = {debs[1].name, newer.name, "Packages", "Packages.gz", "Release", "verify.json"}
    assert {path.name for path in out.iterdir()} == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["debs", "newer", "out"]


def test_debs_are_linked_and_not_copied(debs, tmp_path):
    write(tmp_path / "out", debs[0])
    assert (tmp_path / "out" / debs[0].name).samefile(debs[0])


def test_writing_it_again_in_its_own_directory_keeps_the_debs(debs, tmp_path):
    out = tmp_path / "out"
    write(out, *debs)
    write(out, *sorted(out.glob("*.deb")))
    assert len(list(out.glob("*.deb"))) == 3


def test_an_empty_repository_is_one(tmp_path):
    write(tmp_path / "out")
    assert (tmp_path / "out/Packages").read_bytes() == b""
    assert "Packages.gz" in (tmp_path / "out/Release").read_text()


def test_two_debs_of_one_name_are_an_error(debs, tmp_path):
    other = make(tmp_path / "other", "first")
    with pytest.raises(PackageError, match=r"two packages are called first_1\.0_all\.deb") as caught:
        write(tmp_path / "out", *debs, other)
    assert str(other) in str(caught.value.where)
    assert not (tmp_path / "out").exists()


def test_apt_installs_from_it(debs, tmp_path):
    out = tmp_path / "out"
    write(out, *debs)
    state = tmp_path / "apt"
    for name in ("lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d"):
        (state / name).mkdir(parents=True)
    (state / "status").write_text("")
    (state / "etc/sources.list").write_text(f"deb [trusted=yes] file:{out} ./\n")
    settings = {
        "Dir::State": state, "Dir::State::lists": state / "lists", "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache", "Dir::Etc": state / "etc", "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",
    }  # fmt: skip
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    environment = {"PATH": os.environ["PATH"], "APT_CONFIG": "/dev/null", "LC_ALL": "C.UTF-8"}
    subprocess.run(["apt-get", *options, "update"], check=True, env=environment)
    argv = ["apt-get", *options, "-s", "install", "first"]
    plan = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment).stdout
    assert "Inst first (1.0 rocmbuild:rocm-5.6.x [all])" in plan
    assert "Inst second" in plan and "zlast" not in plan
