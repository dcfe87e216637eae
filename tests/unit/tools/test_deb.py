"""Debs: what is in them, and that they are the same bytes everywhere."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rocmbuild.errors import PackageError
from rocmbuild.process import Runner
from rocmbuild.tools.deb import Deb, build_deb, compress

EPOCH = 1_690_000_000
CONTROL = {
    "Package": "hsa-rocr",
    "Version": "1:1.9.0.50601-1~debian12",
    "Architecture": "riscv64",
    "Maintainer": "ROCm <rocm@example.org>",
    "Depends": "libc6 (>= 2.38), libelf1t64",
    "Section": "devel",
    "Priority": "optional",
    "Description": "runtime\n Long text.\n .\n More.",
}
FILES = ("etc/OpenCL/vendors/amd.icd", "opt/rocm/bin/tool", "opt/rocm/lib/libhsa.so", "opt/rocm/lib/libhsa.so.1")


@pytest.fixture
def stage(tmp_path) -> Path:
    stage = tmp_path / "stage"
    for name in FILES:
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
    (stage / FILES[0]).write_text("libamdocl64.so\n")
    (stage / FILES[1]).write_text("#!/bin/sh\n")
    (stage / FILES[1]).chmod(0o4770)
    (stage / FILES[2]).symlink_to("libhsa.so.1")
    (stage / FILES[3]).write_bytes(bytes(range(256)) * 12)
    (stage / FILES[3]).chmod(0o600)
    (stage / "opt/rocm/unowned").write_text("not in the package")
    return stage


def deb(stage: Path) -> Deb:
    extra = {"usr/share/doc/hsa-rocr/copyright": b"free\n"}
    scripts = {"postinst": "#!/bin/sh\nset -e\n"}
    return Deb(control=CONTROL, stage=stage, files=FILES, extra=extra, scripts=scripts, epoch=EPOCH)


def build(package: Deb, out: Path) -> Path:
    out.mkdir(exist_ok=True)
    path, _ = asyncio.run(build_deb(package, out, Runner()))
    return path


def query(*argv: object) -> str:
    return subprocess.run([str(part) for part in argv], check=True, capture_output=True, text=True).stdout


def test_the_name_has_no_epoch_and_the_architecture_of_the_target(stage, tmp_path):
    path = build(deb(stage), tmp_path / "out")
    assert path == tmp_path / "out/hsa-rocr_1.9.0.50601-1~debian12_riscv64.deb"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert query("dpkg-deb", "--field", path, "Architecture").strip() == "riscv64"


def test_the_control_file_has_the_fields_in_order_and_the_size(stage, tmp_path):
    control = query("dpkg-deb", "--field", build(deb(stage), tmp_path / "out"))
    names = [line.partition(":")[0] for line in control.splitlines() if not line.startswith(" ")]
    assert names == [
        *("Package", "Version", "Architecture", "Maintainer", "Installed-Size"),
        *("Depends", "Section", "Priority", "Description"),
    ]
    assert "Depends: libc6 (>= 2.38), libelf1t64\n" in control
    assert control.endswith("Description: runtime\n Long text.\n .\n More.\n")
    # 1 KiB for each of 11 directories and one link, the files rounded up: 1 + 1 + 3 + 1
    assert "Installed-Size: 18\n" in control


def test_modes_owners_and_times_are_explicit(stage, tmp_path):
    listing = query("dpkg-deb", "--contents", build(deb(stage), tmp_path / "out"))
    rows = {row.split(None, 5)[5]: row.split(None, 5)[:5] for row in listing.splitlines()}
    assert rows["./opt/rocm/bin/tool"][0] == "-rwxr-xr-x"
    assert rows["./opt/rocm/lib/libhsa.so.1"][0] == "-rw-r--r--"
    assert rows["./opt/rocm/lib/"][0] == "drwxr-xr-x"
    assert "./opt/rocm/lib/libhsa.so -> libhsa.so.1" in rows
    assert {row[1] for row in rows.values()} == {"root/root"}
    assert {(row[3], row[4]) for row in rows.values()} == {("2023-07-22", "04:26")}
    assert "./opt/rocm/unowned" not in rows


def test_libraries_are_not_executable(stage, tmp_path):
    (stage / FILES[3]).chmod(0o755)
    path = build(replace(deb(stage), libraries={FILES[3]}), tmp_path / "out")
    modes = {row.split()[-1]: row.split()[0] for row in query("dpkg-deb", "--contents", path).splitlines()}
    assert (modes[f"./{FILES[3]}"], modes[f"./{FILES[1]}"]) == ("-rw-r--r--", "-rwxr-xr-x")


def test_control_members(stage, tmp_path):
    path = build(deb(stage), tmp_path / "out")
    query("dpkg-deb", "--control", path, tmp_path / "control")
    members = {member.name: member for member in (tmp_path / "control").iterdir()}
    assert set(members) == {"conffiles", "control", "md5sums", "postinst"}
    assert members["conffiles"].read_text() == "/etc/OpenCL/vendors/amd.icd\n"
    assert stat.S_IMODE(members["postinst"].stat().st_mode) == 0o755
    query("dpkg-deb", "--extract", path, tmp_path / "root")
    sums = subprocess.run(
        ["md5sum", "--check", "../control/md5sums"], cwd=tmp_path / "root", check=True, capture_output=True
    )
    assert sums.stdout.count(b": OK") == 3
    assert b"etc/" not in sums.stdout


def test_members_are_zstd(stage, tmp_path):
    members = query("ar", "t", build(deb(stage), tmp_path / "out")).split()
    assert members == ["debian-binary", "control.tar.zst", "data.tar.zst"]


def test_the_bytes_do_not_depend_on_umask_clock_order_or_threads(stage, tmp_path):
    first = build(deb(stage), tmp_path / "one")
    old = os.umask(0o077)
    try:
        time.sleep(1.1)  # the clock of archives counts seconds
        (stage / FILES[3]).touch()
        again = replace(deb(stage), files=FILES[::-1], control=dict(reversed(CONTROL.items())))
        second = build(again, tmp_path / "two")
    finally:
        os.umask(old)
    assert first.read_bytes() == second.read_bytes()
    assert stat.S_IMODE(second.stat().st_mode) == 0o644


def test_the_stage_tree_is_not_touched(stage, tmp_path):
    before = {path: path.lstat() for path in stage.rglob("*")}
    build(deb(stage), tmp_path / "out")
    assert {path: path.lstat() for path in stage.rglob("*")} == before


def test_what_is_no_file_cannot_be_packaged(stage, tmp_path, monkeypatch):
    monkeypatch.chdir(stage)  # the name of a socket has a short limit
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("opt/rocm/socket")
        with pytest.raises(PackageError, match=r"neither a file nor a link \(s") as caught:
            build(replace(deb(stage), files=("opt/rocm/socket",)), tmp_path / "out")
    assert caught.value.where == str(stage / "opt/rocm/socket")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_staged_file_in_the_place_of_a_document_is_an_error(stage, tmp_path):
    clash = replace(deb(stage), extra={FILES[0]: b"x"})
    with pytest.raises(PackageError, match="a file that packaging writes"):
        build(clash, tmp_path / "out")


def test_an_unknown_control_field_is_a_mistake_of_the_program(stage, tmp_path):
    with pytest.raises(ValueError, match="Dpends"):
        build(replace(deb(stage), control={**CONTROL, "Dpends": "x"}), tmp_path / "out")


def test_a_failed_build_leaves_nothing(stage, tmp_path):
    with pytest.raises(Exception, match="dpkg-deb exited with status 2"):
        build(replace(deb(stage), control={**CONTROL, "Package": "Not A Name"}), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_cancelled_build_leaves_nothing(stage, tmp_path):
    (tmp_path / "out").mkdir()

    async def cancelled() -> None:
        task = asyncio.create_task(build_deb(deb(stage), tmp_path / "out", Runner()))
        await asyncio.sleep(0.005)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert list((tmp_path / "out").iterdir()) == []


def test_compressed_data_has_no_time_and_no_name():
    data = compress(b"text")
    assert data[:9] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02"
    assert compress(b"text") == data
