"""The machine that LLVM bitcode is for."""

import pytest

from rocmbuild.tools.bitcode import is_bitcode, triple
from tests.elf_files import bitcode


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", ["amdgcn-amd-amdhsa", "x86_64-pc-linux-gnu", None])
def test_the_triple_of_a_module(name, wrapped):
    data = bitcode(name, wrapped=wrapped)
    assert is_bitcode(data[:4])
    assert triple(data) == name


def test_other_files_are_no_bitcode():
    assert not is_bitcode(b"\x7fELF")
    assert triple(b"\x7fELF" + bytes(60)) is None


def test_damaged_bitcode_has_no_triple_and_ends():
    data = bitcode("amdgcn-amd-amdhsa")
    for length in range(len(data) - 8):
        assert triple(data[:length]) != "amdgcn-amd-amdhsa"
    for index in range(4, len(data)):
        triple(data[:index] + b"\xff" + data[index + 1 :])
