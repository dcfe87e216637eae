from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import subprocess
from pathlib import Path

import pytest

from rocmbuild.errors import FetchError, RootError, UsageError
from rocmbuild.model.target import Distribution, Suite
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.apt import Apt, Archive, ArchiveFinder, Available, choose_addresses, find_archive

MAIN = "http://archive.example/debian/"
SECURITY = "http://archive.example/debian-security/"

DISTRIBUTION = Distribution(
    "testix",
    "",
    "testix1",
    None,
    (Suite("one", "main", ("main", "contrib")), Suite("one-security", "security", ("main",))),
    "gcc",
    "g++",
    (),
)


def archive(**changes):
    return dataclasses.replace(Archive(MAIN, SECURITY, Path("/keys.gpg"), False, {}), **changes)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], (None, None)),
        ([f"{MAIN} bookworm main Debian"], (MAIN, None)),
        ([f"{MAIN} bookworm main Debian", f"{SECURITY} bookworm-security main Debian"], (MAIN, SECURITY)),
        ([f"{SECURITY} bookworm-security main $(ORIGIN)", f"{MAIN} bookworm main $(ORIGIN)"], (MAIN, SECURITY)),
        ([f"{SECURITY} buster/updates main", f"{MAIN} buster main"], (MAIN, SECURITY)),
        ([f"{MAIN} bookworm-updates main Debian"], (None, None)),
        ([f"{MAIN} bookworm contrib Debian"], (None, None)),
        ([f"{MAIN} sid main Debian"], (MAIN, None)),
        ([f"{MAIN} bookworm main", "http://second.example/debian/ trixie main"], (MAIN, None)),
        (["http://node.example/ nodistro main $(ORIGIN)", f"{MAIN} bookworm main $(ORIGIN)"], (MAIN, None)),
        (["http://cloud.example/ cloud-sdk-bookworm main x", f"{MAIN} bookworm main Debian"], (MAIN, None)),
        (["http://browser.example/ stable main A Browser Inc", f"{MAIN} bookworm main Debian"], (MAIN, None)),
        (["http://gpu.example/ubuntu/ jammy main repo.example", f"{MAIN} bookworm main Debian"], (MAIN, None)),
        (["http://new.example/ stable main $(ORIGIN)", f"{MAIN} bookworm main Debian"], (MAIN, None)),
        (["http://other.example/ubuntu/ jammy main Ubuntu"], (None, None)),
        (["", "short"], (None, None)),
    ],
)
def test_the_archive_is_found_among_what_apt_knows(lines, found):
    assert choose_addresses("\n".join(lines)) == found


def test_source_lines():
    assert archive().source_lines(DISTRIBUTION) == [
        f"deb [signed-by=/keys.gpg] {MAIN} one main contrib",
        f"deb [signed-by=/keys.gpg] {SECURITY} one-security main",
    ]


def test_a_mirror_has_no_security_archive():
    lines = archive(security=None).source_lines(DISTRIBUTION)
    assert lines == [f"deb [signed-by=/keys.gpg] {MAIN} one main contrib"]


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("1.2-3", "libx_1.2-3_amd64.deb"),
        ("1:1.2-3", "libx_1%3a1.2-3_amd64.deb"),
        ("2:1.0~rc1+dfsg-1+b2", "libx_2%3a1.0~rc1+dfsg-1+b2_amd64.deb"),
    ],
)
def test_names_of_downloaded_files(version, name):
    assert Available("libx", version, "amd64").file_name == name


@pytest.fixture
def keyring(tmp_path):
    path = tmp_path / "keys.gpg"
    path.write_bytes(b"")
    return path


def test_a_mirror_takes_the_place_of_what_apt_knows(keyring):
    found = asyncio.run(
        find_archive(Runner(), {}, mirror="http://mirror.example/debian", allow_stale=True, keyring=keyring)
    )
    assert (found.main, found.security) == ("http://mirror.example/debian/", None)
    assert (found.base("main"), found.base("security")) == ("http://mirror.example/debian/", None)
    assert found.allow_stale


def test_missing_keys_are_told_before_anything_is_fetched(tmp_path):
    with pytest.raises(UsageError) as caught:
        asyncio.run(find_archive(Runner(), {}, mirror="http://x/", allow_stale=False, keyring=tmp_path / "no.gpg"))
    assert caught.value.message == f"the keys of the Debian archive are missing ({tmp_path}/no.gpg)"
    assert "debian-archive-keyring" in caught.value.hint


def test_a_machine_without_a_debian_archive(keyring, tmp_path):
    program = tmp_path / "bin/apt-get"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'http://other.example/ubuntu/ jammy main Ubuntu'\n")
    program.chmod(0o755)
    env = {"PATH": str(program.parent)}
    with pytest.raises(UsageError) as caught:
        asyncio.run(find_archive(Runner(), env, mirror=None, allow_stale=False, keyring=keyring))
    assert caught.value.message == "this machine's apt knows no Debian archive"
    assert "--apt-mirror" in caught.value.hint


def failed(*lines):
    return ProcessError(["apt-get"], 100, lines, Path("/log"))


@pytest.fixture
def apt(tmp_path):
    return Apt(archive(), DISTRIBUTION, "amd64", tmp_path / "apt", tmp_path / "debs")


@pytest.mark.parametrize(
    "line",
    [
        "E: Release file for http://x is expired (invalid since 5d 3h). Updates will not be applied.",
        "E: Release file for http://x is not valid yet (invalid for another 3h).",
    ],
)
def test_an_old_index_is_told_apart_from_one_that_is_not_there(apt, line):
    error = apt._update_error(failed("Get:1 http://x", line))
    assert error.message == "the package index of testix is older than its own Valid-Until date"
    assert "--allow-stale-archive" in error.hint
    assert error.log == "/log"


def test_an_index_that_cannot_be_fetched(apt):
    error = apt._update_error(failed("Err:1 http://x", "E: Failed to fetch http://x  404  Not Found", "Done"))
    assert error.message.startswith("the package index of testix could not be fetched: E: Failed to fetch http://x")
    assert "--apt-mirror" in error.hint


def real(path, mirror, **changes):
    """Return apt over an archive of our own."""
    distribution = dataclasses.replace(DISTRIBUTION, suites=(Suite("one", "main", ("main",)),))
    made = archive(main=mirror, security=None, environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, **changes)
    return Apt(made, distribution, "amd64", path / "apt", path / "debs")


def test_an_archive_that_is_not_there_is_told_by_the_real_apt(tmp_path, keyring):
    runner = Runner(log=tmp_path / "log")
    with pytest.raises(FetchError) as caught:
        asyncio.run(real(tmp_path, f"file://{tmp_path}/none/", keyring=keyring).update(runner))
    assert caught.value.message.startswith("the package index of testix could not be fetched: ")
    assert "does not have a Release file" in caught.value.message
    assert caught.value.log == str(tmp_path / "log")


def test_an_archive_that_is_not_signed_is_refused(tmp_path, keyring):
    release = tmp_path / "archive/dists/one/Release"
    release.parent.mkdir(parents=True)
    release.write_text("Suite: one\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nArchitectures: amd64\nComponents: main\n")
    with pytest.raises(FetchError, match="is not signed"):
        asyncio.run(real(tmp_path, f"file://{tmp_path}/archive/", keyring=keyring).update(Runner()))


def test_nothing_of_the_machines_configuration_is_touched(apt):
    config = apt._configure()
    text = config.read_text()
    for name in ("state", "cache", "sources.list", "status"):
        assert f"{apt.directory}/{name}" in text
    assert f'Dir::Cache::archives "{apt.archives}";' in text
    dumped = subprocess.run(
        ["apt-config", "-c", str(config), "dump"], check=True, capture_output=True, text=True
    ).stdout
    values = dict(line.rstrip(";").split(" ", 1) for line in dumped.splitlines() if " " in line)
    assert values["APT::Architecture"] == '"amd64"'
    assert values["APT::Architectures::"] == '"amd64"'
    assert values["Acquire::Check-Valid-Until"] == '"true"'
    assert values["Acquire::AllowInsecureRepositories"] == '"false"'
    assert values["APT::Install-Recommends"] == '"false"'
    assert not [key for key in values if key.startswith("DPkg::Post-Invoke") or key.startswith("APT::Update::Post")]


def test_stale_indices_can_be_allowed(tmp_path):
    found = Apt(archive(allow_stale=True), DISTRIBUTION, "amd64", tmp_path / "a", tmp_path / "d")
    assert 'Acquire::Check-Valid-Until "false";' in found._configure().read_text()


def test_a_package_that_does_not_exist_is_named(machine_apt, tiny_root, tmp_path):
    with pytest.raises(RootError) as caught:
        asyncio.run(machine_apt.closure(["dash", "no-such-package-anywhere"], Runner(log=tmp_path / "log")))
    assert caught.value.message == (
        f"{machine_apt.distribution.name} cannot install the packages the recipes ask for: "
        "E: Unable to locate package no-such-package-anywhere"
    )
    assert "needs.system" in caught.value.hint


@pytest.fixture
def finder(machine_apt):
    found = ArchiveFinder(machine_apt.archive.environment)
    found._found = machine_apt.archive
    return found


def download(finder, path, sha256, target, log=None):
    asyncio.run(finder.download(path, sha256, target, Runner(log=log)))


def test_a_file_that_vanished_is_explained(finder, tmp_path):
    with pytest.raises(FetchError) as caught:
        download(finder, "d/dash/dash_0.0.1.orig.tar.xz", "ab" * 32, tmp_path / "file", tmp_path / "log")
    assert caught.value.message == (
        "pool/main/d/dash/dash_0.0.1.orig.tar.xz is not in the archive (any more): "
        "a newer version has taken its place, or this mirror does not carry it"
    )
    assert "--apt-mirror" in caught.value.hint
    assert "--source" in caught.value.hint
    assert not (tmp_path / "file").exists()


@pytest.fixture(scope="module")
def pooled(machine_apt, tiny_root):
    """The path of a package below pool/main and its sum, as the machine's apt knows them."""
    argv = ["apt-cache", "-c", str(machine_apt._configure()), "show", "--no-all-versions", "dash"]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    return fields["Filename"].removeprefix("pool/main/"), fields["SHA256"]


def test_a_file_of_the_archive_arrives_whole(finder, pooled, tmp_path):
    path, sha256 = pooled
    download(finder, path, sha256, tmp_path / "file")
    assert hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest() == sha256


def test_a_file_with_another_sum_is_refused(finder, pooled, tmp_path):
    path, _ = pooled
    with pytest.raises(FetchError) as caught:
        download(finder, path, "ab" * 32, tmp_path / "file")
    assert caught.value.message == f"pool/main/{path} has not the sha256 sum that the manifest pins"
    assert not (tmp_path / "file").exists()


def test_a_number_in_a_name_is_not_taken_for_an_answer(tmp_path):
    found = ArchiveFinder({"PATH": "/usr/bin:/bin"})
    found._found = archive(main=f"file://{tmp_path}/none/", environment={"PATH": "/usr/bin:/bin"})
    with pytest.raises(FetchError, match="could not be downloaded: "):
        download(found, "x/x_1.404.tar.xz", "ab" * 32, tmp_path / "file")


def test_the_archive_is_asked_for_once(machine_apt, tmp_path):
    log = tmp_path / "log"
    finder = ArchiveFinder(machine_apt.archive.environment, allow_stale=True)

    async def twice():
        return [await finder.find(Runner(log=log)) for _ in range(2)]

    first, second = asyncio.run(twice())
    assert first is second
    assert log.read_text().count("$ ") == 1
