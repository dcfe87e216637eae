from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from rocmbuild.errors import FetchError, RootError, UsageError
from rocmbuild.model.target import Distribution, Suite
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.apt import Apt, Archive, ArchiveFinder, Available, choose_addresses, find_archive, out_of_step
from tests.unit.tools.signed import signed_archive

MAIN = "http://archive.example/debian/"
SECURITY = "http://archive.example/debian-security/"

DISTRIBUTION = Distribution(
    "testix",
    "",
    "testix1",
    None,
    ("amd64",),
    (Suite("one", "main", ("main", "contrib")), Suite("one-security", "security", ("main",))),
    "gcc",
    "g++",
    (),
    None,
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


SUITES = ("one", "one-updates", "one-security")
SIZE = "File has unexpected size (720 != 1108). Mirror sync in progress? [IP: 192.0.2.1 80]"


def suites(*names):
    return dataclasses.replace(DISTRIBUTION, suites=tuple(Suite(name, "main", ("main",)) for name in names))


@pytest.mark.parametrize(
    ("failures", "lost"),
    [
        ([], []),
        ([("one-updates", SIZE)], ["one-updates"]),
        ([("one-security", "Hash Sum mismatch"), ("one-updates", SIZE)], ["one-updates", "one-security"]),
        ([("one", SIZE), ("one-updates", SIZE)], ["one", "one-updates"]),
        ([("one-updates", SIZE), ("one", "404  Not Found [IP: 192.0.2.1 80]")], []),
        ([("one-updates", "404  Not Found")], []),
        ([("other", SIZE)], []),
    ],
)
def test_which_suites_are_out_of_step(failures, lost):
    lines = [f"E: Failed to fetch {MAIN}dists/{suite}/main/x/Packages.xz  {why}" for suite, why in failures]
    found = out_of_step(["Get:1 x", *lines, "   - Filesize:1108", "E: Some index files"], suites(*SUITES))
    assert [suite.name for suite in found] == lost


@pytest.fixture
def own(tmp_path):
    """An archive of our own, and apt for it; ``said`` is what the user sees."""
    if not shutil.which("gpg") or not shutil.which("apt-ftparchive"):
        pytest.skip("needs gpg and apt-ftparchive")
    with signed_archive(tmp_path) as made:
        for number, suite in enumerate(SUITES, 1):
            made.suite(suite, f"{number}.0")
        yield made


def use(own, said=None, arch="amd64"):
    """Fetch the indices as the program does; return the version of the package that would be installed."""
    apt = Apt(own.archive, suites(*SUITES), arch, own.directory / "apt", own.directory / "debs")
    runner = Runner(log=own.directory / "log", on_line=said.append if said is not None else None)
    asyncio.run(apt.update(runner))
    (found,) = asyncio.run(apt.closure(["tool"], runner))
    return found.version


def test_updates_that_are_out_of_step_are_left_out_and_named(own):
    assert use(own) == "3.0"
    own.out_of_step("one-updates")
    own.out_of_step("one-security")
    said = []
    assert use(own, said) == "1.0"
    notes = [line for line in said if "going on" in line]
    assert notes == ["going on without one-updates and one-security: this mirror has them out of step for amd64"]


def test_updates_are_used_again_once_they_are_in_step(own):
    own.out_of_step("one-security")
    assert use(own) == "2.0"
    own.suite("one-security", "3.1")
    assert use(own) == "3.1"


def test_the_distribution_itself_must_be_in_step(own):
    own.out_of_step("one")
    own.out_of_step("one-updates")
    with pytest.raises(FetchError) as caught:
        use(own)
    assert caught.value.message.startswith("the package index of testix could not be fetched: E: Failed to fetch")
    assert caught.value.hint.startswith("the mirror is being updated, or is out of step: try again later")


def test_updates_that_are_not_signed_are_an_error(own):
    release = own.directory / "dists/one-updates/InRelease"
    release.write_text(release.read_text().replace("Suite: one-updates", "Suite: one-update"))
    with pytest.raises(FetchError) as caught:
        use(own)
    assert "one-updates InRelease" in caught.value.message


def test_an_architecture_that_the_archive_does_not_have(own):
    with pytest.raises(FetchError) as caught:
        use(own, arch="riscv64")
    assert caught.value.message == f"file:{own.directory}/ has no packages of testix for riscv64"
    assert "choose another --distribution" in caught.value.hint


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
