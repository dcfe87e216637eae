"""Archives: of the machine's own ar, and written byte by byte."""

import mmap
import subprocess

import pytest

from rocmbuild.errors import PackageError
from rocmbuild.tools.ar import read_archive
from tests.elf_files import archive

LONG = "a_name_of_more_than_sixteen_characters.o"


def contents(data):
    found = read_archive(data, "lib.a")
    assert found is not None
    return {member.name: data[member.start : member.start + member.size] for member in found.members}


@pytest.fixture
def files(tmp_path):
    """Files with one of odd length, one of a long name, and one in a directory."""
    code = {"a.o": b"abc", LONG: b"long", "sub/b.o": b"", "c d.o": b"d" * 99}
    for name, content in code.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    subprocess.run(["gcc", "-c", "-x", "c", "-", "-o", "real.o"], input=b"int f;", cwd=tmp_path, check=True)
    return {**code, "real.o": (tmp_path / "real.o").read_bytes()}


def test_an_archive_of_ar_with_a_symbol_table_and_long_names(files, tmp_path):
    subprocess.run(["ar", "rcs", "lib.a", *files], cwd=tmp_path, check=True)
    wanted = {name.rpartition("/")[2]: content for name, content in files.items()}
    assert contents((tmp_path / "lib.a").read_bytes()) == wanted
    with (tmp_path / "lib.a").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert contents(data) == wanted


def test_a_thin_archive_has_paths_and_no_contents(files, tmp_path):
    subprocess.run(["ar", "rcsT", "lib.a", *files], cwd=tmp_path, check=True)
    found = read_archive((tmp_path / "lib.a").read_bytes(), "lib.a")
    assert found is not None and found.thin
    assert [member.name for member in found.members] == list(files)


def test_an_archive_without_members():
    assert contents(archive()) == {}


def test_symbol_tables_with_offsets_of_64_bits_are_no_members():
    table = (1).to_bytes(8, "big") + (100).to_bytes(8, "big") + b"f\0"
    assert contents(archive(("/SYM64/", table), ("//", b"long_name.o/\n"), ("/0", b"x"))) == {"long_name.o": b"x"}


def test_names_of_bsd_stand_before_the_content():
    data = archive(("#1/12", b"long_name.o\0content"), ("b.o", b"x"))
    assert contents(data) == {"long_name.o": b"content", "b.o": b"x"}


def test_members_of_an_archive_within_a_thin_one():
    data = archive(("//", b"other.a/\n"), magic=b"!<thin>\n") + archive(("/0:68", b""), magic=b"")
    found = read_archive(data, "lib.a")
    assert found is not None
    assert [member.name for member in found.members] == ["other.a"]


@pytest.mark.parametrize("data", [b"", b"!<arc", b"GROUP ( libm-2.41.a )\n", b"\x7fELF"])
def test_what_is_no_archive(data):
    assert read_archive(data, "lib.a") is None


WHOLE = archive(("a.o/", b"1234"), ("b.o/", b"5678"))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (WHOLE[:-1], "the member at offset 72 is cut off"),
        (WHOLE[:100], "at offset 72 there is no header of a member"),
        (WHOLE[:60] + b"x" + WHOLE[61:], "at offset 8 there is no header of a member"),
        (WHOLE.replace(b"4         `", b"4x        `"), "at offset 8 there is no header of a member"),
        (WHOLE + b"\0" * 60, "at offset 136 there is no header of a member"),
        (archive(("//", b"a.o/\n"), ("/5", b"x")), "the name of the member at offset 74 is missing"),
        (archive(("/5", b"x")), "the name of the member at offset 8 is missing"),
        (archive(("//", b"a.o/\n"), ("/x", b"x")), "the name of the member at offset 74 is missing"),
    ],
)
def test_a_damaged_archive_is_an_error_that_names_it(data, what):
    with pytest.raises(PackageError, match="begins like an archive but cannot be read") as caught:
        read_archive(data, "lib.a")
    assert caught.value.message.endswith(what)
    assert caught.value.where == "lib.a"
    assert caught.value.hint
