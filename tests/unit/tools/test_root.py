from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess

import pytest

from rocmbuild.errors import RootError
from rocmbuild.model.target import Suite
from rocmbuild.process import Runner
from rocmbuild.tools.apt import Available
from rocmbuild.tools.root import MOUNT_POINTS, RootSpec, find_root, make_root
from tests.releases import DISTRIBUTION

SPEC = RootSpec(DISTRIBUTION, "amd64", ("dash", "perl"))


def test_the_key_names_distribution_and_architecture():
    assert SPEC.key.startswith("testix-amd64-")


@pytest.mark.parametrize("packages", [("perl", "dash"), ("dash", "perl", "dash")])
def test_the_order_of_packages_is_nothing(packages):
    assert dataclasses.replace(SPEC, packages=packages).key == SPEC.key


def test_compilers_and_words_are_nothing():
    distribution = dataclasses.replace(DISTRIBUTION, summary="x", tag="y", cc="z", system=("a",), cross=None)
    assert dataclasses.replace(SPEC, distribution=distribution).key == SPEC.key


@pytest.mark.parametrize(
    "change",
    [
        {"packages": ("dash",)},
        {"packages": ("dash", "perl", "file")},
        {"arch": "riscv64"},
        {"distribution": dataclasses.replace(DISTRIBUTION, name="other")},
        {"distribution": dataclasses.replace(DISTRIBUTION, suites=(Suite("two", "main", ("main",)),))},
        {"distribution": dataclasses.replace(DISTRIBUTION, suites=(Suite("one", "security", ("main",)),))},
        {"distribution": dataclasses.replace(DISTRIBUTION, suites=(Suite("one", "main", ("main", "contrib")),))},
    ],
)
def test_everything_else_moves_the_key(change):
    assert dataclasses.replace(SPEC, **change).key != SPEC.key


def test_a_root_is_there_with_its_record_only(tmp_path):
    assert find_root(tmp_path, SPEC) is None
    (tmp_path / SPEC.key).mkdir()
    assert find_root(tmp_path, SPEC) is None
    (tmp_path / f"{SPEC.key}.json").write_text('{"versions": {"dash:amd64": "1"}, "digest": "d"}')
    root = find_root(tmp_path, SPEC)
    assert (root.path, root.versions, root.digest) == (tmp_path / SPEC.key, {"dash:amd64": "1"}, "d")
    (tmp_path / SPEC.key).rmdir()
    assert find_root(tmp_path, SPEC) is None


def test_a_real_root_has_what_was_asked_for_and_all_it_needs(tiny_root):
    versions = {name.split(":")[0] for name in tiny_root.root.versions}
    assert {"dash", "coreutils", "libc-bin", "perl-base"} <= versions
    assert {"libc6", "dpkg", "libselinux1"} <= versions
    tree = tiny_root.root.path
    assert os.readlink(tree / "bin") == "usr/bin"
    assert os.readlink(tree / "usr/bin/sh") == "dash"
    assert (tree / "bin/ls").stat().st_mode & 0o777 == 0o755
    assert not any(path.is_dir() and not path.is_symlink() for path in (tree / "bin", tree / "lib", tree / "sbin"))
    assert all((tree / name).is_dir() for name in MOUNT_POINTS)


def test_a_real_root_knows_its_users(tiny_root):
    passwd = (tiny_root.root.path / "etc/passwd").read_text()
    assert [line.split(":")[:3] for line in passwd.splitlines()] == [["root", "x", "0"], ["builder", "x", "1000"]]


def test_a_real_root_has_the_data_of_dpkg(tiny_root):
    admin = tiny_root.root.path / "var/lib/dpkg"
    query = [
        "dpkg-query",
        f"--admindir={admin}",
        "--show",
        "--showformat=${Package}:${Architecture} ${Version} ${Status}\\n",
    ]
    rows = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()
    listed = {row.split()[0]: row.split()[1] for row in rows}
    assert listed == tiny_root.root.versions
    assert all(row.endswith("install ok installed") for row in rows)
    owner = ["dpkg-query", f"--admindir={admin}", "--search", "/usr/bin/sha256sum"]
    assert subprocess.run(owner, check=True, capture_output=True, text=True).stdout == "coreutils: /usr/bin/sha256sum\n"
    info = admin / "info"
    arch = tiny_root.spec.arch
    assert (info / f"libc6:{arch}.symbols").read_text().find("\nlibc.so.6 libc6") > 0
    assert "libc 6 libc6" in (info / f"libc6:{arch}.shlibs").read_text()
    assert (info / "coreutils.list").read_text().startswith("/.\n")
    assert not list(info.glob("*.postinst"))


def test_every_file_of_the_lists_is_there(tiny_root):
    tree = tiny_root.root.path
    names = {name for path in (tree / "var/lib/dpkg/info").glob("*.list") for name in path.read_text().splitlines()}
    assert len(names) > 1000
    assert [name for name in names if not os.path.lexists(f"{tree}{name}")] == []


def test_a_second_call_makes_nothing(tiny_root, machine_apt, tmp_path):
    runner = Runner(log=tmp_path / "log")
    again = asyncio.run(make_root(tiny_root.directory, tiny_root.spec, machine_apt, runner))
    assert again == tiny_root.root
    assert not runner.log.exists()


def test_nothing_is_left_beside_a_root(tiny_root):
    key = tiny_root.spec.key
    assert {path.name for path in tiny_root.directory.iterdir()} == {key, f"{key}.json", f".{key}.lock"}


def test_no_script_of_a_package_has_run(tiny_root):
    text = tiny_root.log.read_text()
    programs = {
        line.split()[-1 if line.startswith("$ cd") else 1] for line in text.splitlines() if line.startswith("$ ")
    }
    assert not {"dpkg", "chroot", "bwrap"} & programs
    assert not (tiny_root.root.path / "etc/ld.so.cache").exists()


class Damaged:
    """An apt whose download is not a package."""

    def __init__(self, directory) -> None:
        self.directory = directory / "apt"
        self.deb = directory / "x_1_all.deb"
        self.deb.write_text("this is no package")

    async def update(self, runner):
        pass

    async def closure(self, packages, runner):
        return [Available("x", "1", "all")]

    async def download(self, packages, runner):
        return [self.deb]


def test_a_damaged_package_is_named_and_nothing_is_left(tmp_path):
    runner = Runner(log=tmp_path / "log")
    with pytest.raises(RootError) as caught:
        asyncio.run(make_root(tmp_path / "roots", SPEC, Damaged(tmp_path), runner))
    assert caught.value.message == "x_1_all.deb could not be unpacked"
    assert f"remove {tmp_path}/x_1_all.deb" in caught.value.hint
    assert caught.value.log == str(tmp_path / "log")
    assert [path.name for path in (tmp_path / "roots").iterdir()] == [f".{SPEC.key}.lock"]


class Built(Damaged):
    """An apt whose download is a package made of ``files``; a text that begins with ``->`` is a link."""

    def __init__(self, directory, files) -> None:
        super().__init__(directory)
        for name, text in {"DEBIAN/control": CONTROL, **files}.items():
            path = directory / "package" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                path.symlink_to(text[3:])
            else:
                path.write_text(text)
        argv = ["dpkg-deb", "--root-owner-group", "--build", directory / "package", self.deb]
        subprocess.run(argv, check=True, capture_output=True)


CONTROL = "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: n <n@example.org>\nDescription: d\n"

LINKS = {
    "usr/lib/vax-linux-gnu/libx.so": "-> /lib/vax-linux-gnu/libx.so.1",
    "usr/lib/vax-linux-gnu/libx.so.1": "library",
    "usr/lib/llvm-17/lib/clang/17/include": "-> /usr/include/clang",
    "usr/include/clang/stddef.h": "header",
    "usr/bin/cc": "-> /etc/alternatives/cc",
    "etc/alternatives/cc": "-> /usr/bin/gcc",
    "usr/bin/gcc": "compiler",
    "usr/share/same": "-> ../lib/vax-linux-gnu",
    "vmlinuz": "-> /boot/vmlinuz",
}


@pytest.fixture
def linked(tmp_path):
    root = asyncio.run(make_root(tmp_path / "roots", SPEC, Built(tmp_path, LINKS), Runner()))
    return root.path


def test_absolute_links_of_packages_lead_to_the_root_they_are_in(linked):
    links = {name: os.readlink(linked / name) for name, text in LINKS.items() if text.startswith("-> ")}
    assert links == {
        "usr/lib/vax-linux-gnu/libx.so": "../../../lib/vax-linux-gnu/libx.so.1",
        "usr/lib/llvm-17/lib/clang/17/include": "../../../../../include/clang",
        "usr/bin/cc": "../../etc/alternatives/cc",
        "etc/alternatives/cc": "../../usr/bin/gcc",
        "usr/share/same": "../lib/vax-linux-gnu",
        "vmlinuz": "boot/vmlinuz",
    }
    assert (linked / "usr/lib/vax-linux-gnu/libx.so").read_text() == "library"
    assert (linked / "usr/lib/llvm-17/lib/clang/17/include/stddef.h").read_text() == "header"
    assert (linked / "usr/bin/cc").read_text() == "compiler"


def test_a_root_can_be_moved_below_another(linked, tmp_path):
    (tmp_path / "other").mkdir()
    linked.rename(tmp_path / "other/sysroot")
    assert (tmp_path / "other/sysroot/usr/lib/vax-linux-gnu/libx.so").read_text() == "library"
    assert (tmp_path / "other/sysroot/usr/bin/cc").read_text() == "compiler"


def test_no_link_of_a_real_root_leads_out_of_it(tiny_root):
    tree = tiny_root.root.path
    links = [path for path in tree.rglob("*") if path.is_symlink()]
    assert len(links) > 10
    assert [path for path in links if os.readlink(path).startswith("/")] == []
    assert [path for path in links if not path.resolve().is_relative_to(tree.resolve())] == []
