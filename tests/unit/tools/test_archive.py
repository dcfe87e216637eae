"""Archives: what is unpacked, and what must never be."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from rocmbuild.errors import FetchError
from rocmbuild.process import Runner
from rocmbuild.tools import archive as module
from rocmbuild.tools.archive import unpack

Entry = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> Entry:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), mode, 1600000000
    return info, content


def special(name: str, kind: bytes, link: str = "") -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mtime = kind, link, 1600000000
    return info


def symlink(name: str, to: str) -> Entry:
    return special(name, tarfile.SYMTYPE, to)


def directory(name: str) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, 1600000000
    return info


def pack(path: Path, entries: Iterable[Entry]) -> Path:
    with tarfile.open(path, f"w:{path.suffix.removeprefix('.').replace('tar', '')}") as tar:
        for entry in entries:
            info, content = entry if isinstance(entry, tuple) else (entry, b"")
            tar.addfile(info, io.BytesIO(content))
    return path


def run(path: Path, target: Path) -> None:
    asyncio.run(unpack(path, target, Runner()))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_the_only_top_directory_is_left_out(tmp_path: Path, suffix: str) -> None:
    entries = [directory("x-1.0"), file("x-1.0/a"), file("x-1.0/bin/run", mode=0o755), symlink("x-1.0/l", "bin/run")]
    run(pack(tmp_path / f"x.{suffix}", entries), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "bin", "l"]
    assert os.access(tmp_path / "out/bin/run", os.X_OK) and not os.access(tmp_path / "out/a", os.X_OK)
    assert (tmp_path / "out/l").readlink() == Path("bin/run")
    assert (tmp_path / "out/a").stat().st_mtime == 1600000000


def test_a_top_directory_with_an_entry_of_its_own_name(tmp_path: Path) -> None:
    run(pack(tmp_path / "x.tar", [file("./amd/amd/a"), file("./amd/b")]), tmp_path / "out")
    assert (tmp_path / "out/amd/a").is_file() and (tmp_path / "out/b").is_file()


def test_several_entries_at_the_top_stay(tmp_path: Path) -> None:
    run(pack(tmp_path / "x.tar", [file("a"), file("d/b")]), tmp_path / "out")
    assert (tmp_path / "out/d/b").is_file()


def test_zstandard_is_read_by_its_program(tmp_path: Path) -> None:
    plain = pack(tmp_path / "x.tar", [file("x/a"), file("x/b")])
    try:
        subprocess.run(["zstd", "-q", str(plain)], check=True)
    except FileNotFoundError:
        with pytest.raises(FetchError, match="zstd could not be started"):
            run(plain.rename(tmp_path / "x.tar.zst"), tmp_path / "out")
        return
    run(tmp_path / "x.tar.zst", tmp_path / "out")
    assert (tmp_path / "out/a").is_file()


@pytest.mark.parametrize(
    ("entries", "member", "fault"),
    [
        ([file("/etc/passwd")], "/etc/passwd", "has an absolute name"),
        ([file("../evil")], "../evil", "leads out"),
        ([file("a/../../evil")], "a/../../evil", "leads out"),
        ([symlink("l", "/etc")], "l", "is a link that leads out of the archive, to /etc"),
        ([symlink("a/l", "../../x")], "a/l", "leads out"),
        ([symlink("l", "..")], "l", "leads out"),
        # resolves differently once d/e is a link itself: refused by its form alone
        ([symlink("d/e", "../.."), symlink("l", "d/e/../..")], "d/e", "leads out"),
        ([directory("d"), symlink("d/e", ".."), symlink("l", "d/e/..")], "l", "leads out"),
        ([symlink("l", "d"), file("l/x")], "l/x", "lies below a link"),
        ([file("l/x"), symlink("l", "d")], "l/x", "lies below a link"),
        ([symlink("l", "a"), file("l")], "l", "is there twice"),
        ([symlink("l", "a"), directory("l")], "l", "is there twice"),
        ([file("a"), file("./a")], "./a", "is there twice"),
        ([special("h", tarfile.LNKTYPE, "/etc/passwd")], "h", "is a hard link to /etc/passwd"),
        ([special("h", tarfile.LNKTYPE, "../x")], "h", "is a hard link to ../x"),
        ([symlink("a/b/l", "../../x"), special("h", tarfile.LNKTYPE, "a/b/l")], "h", "is a hard link to a/b/l"),
        ([special("fifo", tarfile.FIFOTYPE)], "fifo", "is a device or a pipe"),
        ([special("null", tarfile.CHRTYPE)], "null", "is a device or a pipe"),
        ([special("sda", tarfile.BLKTYPE)], "sda", "is a device or a pipe"),
    ],
)
def test_hostile_members_are_named_and_nothing_is_unpacked(
    tmp_path: Path, entries: list[Entry], member: str, fault: str
) -> None:
    path = pack(tmp_path / "x.tar.gz", [file("good"), *entries])
    with pytest.raises(FetchError) as caught:
        run(path, tmp_path / "deep/out")
    assert caught.value.message.startswith(f"{path}: {member} ")
    assert fault in caught.value.message
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["deep", "x.tar.gz"]


def test_hard_links_inside_are_kept(tmp_path: Path) -> None:
    run(pack(tmp_path / "x.tar", [file("a", b"one"), special("d/h", tarfile.LNKTYPE, "a")]), tmp_path / "out")
    assert (tmp_path / "out/d/h").read_bytes() == b"one"


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(FetchError, match="unpacks to more than"):
        run(pack(tmp_path / "x.tar.gz", [file("a", bytes(600)), file("b", bytes(600))]), tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_MEMBERS", 1)
    with pytest.raises(FetchError, match="unpacks to more than"):
        run(tmp_path / "x.tar.gz", tmp_path / "out")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garble(path: Path) -> None:
    path.write_bytes(b"<html>502 Bad Gateway</html>")


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("harm", [cut, garble])
def test_damaged_archives_are_reported(tmp_path: Path, suffix: str, harm: Callable[[Path], None]) -> None:
    path = pack(tmp_path / f"x.{suffix}", [file("a", os.urandom(50000))])
    harm(path)
    with pytest.raises(FetchError) as caught:
        run(path, tmp_path / "out")
    assert caught.value.message.startswith(f"{path} cannot be unpacked: ")
    assert not (tmp_path / "out").exists()


def test_a_debian_package_keeps_its_paths(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: A Developer <a@example.org>\nDescription: x\n"
    )
    (tree / "usr/include").mkdir(parents=True)
    (tree / "usr/include/x.h").write_text("int x;\n")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(tree), str(tmp_path / "x.deb")], check=True)
    run(tmp_path / "x.deb", tmp_path / "out")
    assert [str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.h")] == ["usr/include/x.h"]
    cut(tmp_path / "x.deb")
    with pytest.raises(FetchError, match=r"x\.deb cannot be unpacked"):
        run(tmp_path / "x.deb", tmp_path / "again")
