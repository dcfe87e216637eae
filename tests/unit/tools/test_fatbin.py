"""Bundles are built here byte by byte, after the description of the format, and put into real ELF files."""

import shutil
import struct
import subprocess
import zlib

import pytest

from rocmbuild.errors import VerifyError
from rocmbuild.tools import fatbin

HOST = "host-x86_64-unknown-linux-gnu-"


def device(gpu):
    return f"hipv4-amdgcn-amd-amdhsa--{gpu}"


def plain(*gpus, code=b"\x7fELFdevice" * 30, align=4096):
    names = [(HOST, b""), *((device(gpu), code) for gpu in gpus)]
    offset = 24 + 8 + sum(24 + len(name) for name, _ in names)
    header, body = fatbin.PLAIN + struct.pack("<Q", len(names)), b""
    for name, content in names:
        start = -(-(offset + len(body)) // align) * align
        body += bytes(start - offset - len(body)) + content
        header += struct.pack("<QQQ", start if content else 0, len(content), len(name)) + name.encode()
    return header + body


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, check=True, capture_output=True).stdout


def compressed(content, version, method=0, packed=None):
    packed = zlib.compress(content) if packed is None else packed
    start = fatbin.COMPRESSED + struct.pack("<HH", version, method)
    sizes = {
        1: lambda: struct.pack("<I", len(content)),
        2: lambda: struct.pack("<II", 24 + len(packed), len(content)),
        3: lambda: struct.pack("<QQ", 32 + len(packed), len(content)),
    }
    return start + sizes.get(version, lambda: b"\0" * 16)() + b"\x11" * 8 + packed


def padded(data, align=4096):
    return data + bytes(-len(data) % align)


def elf(directory, section):
    """Return a real object file with ``section`` as its device code."""
    directory.joinpath("code").write_bytes(section)
    source = directory / "code.s"
    source.write_text('.section .hip_fatbin,"a"\n.p2align 12\n.incbin "code"\n')
    subprocess.run(["as", "-o", "code.o", "code.s"], cwd=directory, check=True)
    return directory / "code.o"


def found(data):
    return [[entry.gpu for entry in bundle.entries] for bundle in fatbin.parse(data)]


def test_a_plain_bundle_has_the_host_and_its_gpus():
    names = ["gfx1030", "gfx90a:sramecc+:xnack-"]
    (bundle,) = fatbin.parse(plain(*names))
    assert [entry.target for entry in bundle.entries] == [HOST, *map(device, names)]
    assert [entry.gpu for entry in bundle.entries] == [None, *names]
    assert [entry.size for entry in bundle.entries] == [0, 300, 300]
    assert bundle.version == 0


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_compressed_bundle_says_the_same(version):
    (bundle,) = fatbin.parse(compressed(plain("gfx906", "gfx1100"), version))
    assert [entry.gpu for entry in bundle.entries] == [None, "gfx906", "gfx1100"]
    assert bundle.version == version


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd makes the test's data")
@pytest.mark.parametrize("version", [1, 2, 3])
def test_zstd_is_read_too(version):
    content = plain("gfx1200")
    assert found(compressed(content, version, method=1, packed=zstd(content))) == [[None, "gfx1200"]]


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd makes the test's data")
def test_bundles_of_several_units_lie_one_after_the_other():
    small = plain("gfx942")
    data = padded(plain("gfx1030")) + padded(compressed(small, 1)) + padded(plain("gfx90a"), 65536)
    data += padded(compressed(small, 1, method=1, packed=zstd(small))) + compressed(small, 3) + bytes(5)
    assert found(data) == [[None, gpu] for gpu in ("gfx1030", "gfx942", "gfx90a", "gfx942", "gfx942")]


def test_a_bundle_inside_the_code_of_another_is_not_counted():
    assert found(plain("gfx1030", code=plain("gfx803"))) == [[None, "gfx1030"]]


def test_the_section_of_an_elf_file_is_read(tmp_path):
    path = elf(tmp_path, padded(plain("gfx1030", "gfx90a")) + plain("gfx1030"))
    assert fatbin.gpus(path) == {"gfx1030", "gfx90a"}
    assert [bundle.offset for bundle in fatbin.bundles(path)] == [0, len(padded(plain("gfx1030", "gfx90a")))]


def test_a_file_that_is_a_bundle_is_read(tmp_path):
    path = tmp_path / "kernels.hipfb"
    path.write_bytes(compressed(plain("gfx1030"), 2))
    assert fatbin.gpus(path) == {"gfx1030"}


def test_an_elf_file_without_device_code_has_no_gpus(tmp_path):
    (tmp_path / "empty.s").write_text(".text\n")
    subprocess.run(["as", "-o", "empty.o", "empty.s"], cwd=tmp_path, check=True)
    assert fatbin.gpus(tmp_path / "empty.o") == frozenset()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (plain("gfx1030")[:-1], "the bundle at offset 0 is cut off"),
        (plain("gfx1030")[:40], "middle of a header"),
        (padded(plain("gfx1030")) + b"garbage", "no bundle begins at offset 8192"),
        (compressed(plain("gfx1030"), 2)[:-1], "the bundle at offset 0 is cut off"),
        (compressed(plain("gfx1030"), 9), "format version 9; 1 to 3 are known"),
        (compressed(plain("gfx1030"), 3, method=7), "compression method 7"),
        (compressed(b"no bundle in here", 3), "the compressed data is not a bundle"),
        (compressed(plain("gfx1030"), 3, packed=b"no zlib"), "incorrect header check"),
        (compressed(plain("gfx1030"), 2, packed=zlib.compress(b"short")), "has 5 bytes, its header says"),
        (compressed(plain("gfx1030"), 3, method=1, packed=b"no zstd frame"), "its zstd frame is damaged"),
        (
            fatbin.COMPRESSED + struct.pack("<HHQQQ", 3, 0, 40, 1 << 60, 0) + bytes(8),
            "claims 1152921504606846976 bytes",
        ),
        (fatbin.COMPRESSED + struct.pack("<HHIIQ", 2, 0, 0, 10, 0), "is cut off"),
    ],
)
def test_damage_is_an_error_with_the_file_and_the_place(tmp_path, data, message):
    path = tmp_path / "damaged.hipfb"
    path.write_bytes(data)
    with pytest.raises(VerifyError, match=r"its device code cannot be read") as caught:
        fatbin.gpus(path)
    assert caught.value.where == str(path)
    assert message in caught.value.message


def test_a_file_that_is_no_elf_file_is_an_error(tmp_path):
    (tmp_path / "text").write_text("no ELF file")
    with pytest.raises(VerifyError, match="Magic number does not match"):
        fatbin.gpus(tmp_path / "text")
