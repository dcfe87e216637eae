"""Names of instruction sets, as compilers write them and as targets do."""

import pytest

from rocmbuild.model.catalog import make_catalog
from rocmbuild.tools.riscv import beyond, parse_isa

GCC_14 = "rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_zicsr2p0_zifencei2p0_zmmul1p0_zaamo1p0_zalrsc1p0_zca1p0_zcd1p0"
VECTOR = (
    "rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_v1p0_zicsr2p0_zifencei2p0_zmmul1p0_zaamo1p0_zalrsc1p0_zca1p0_zcd1p0"
    "_zve32f1p0_zve32x1p0_zve64d1p0_zve64f1p0_zve64x1p0_zvl128b1p0_zvl32b1p0_zvl64b1p0"
)
"""What clang 21 writes for rv64gcv."""


def extra(named, allowed):
    return beyond(parse_isa(named), parse_isa(allowed))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("rv64i", {"i"}),
        ("rv64i2p1m2p0", {"i", "m", "zmmul"}),
        ("rv64i2_m2", {"i", "m", "zmmul"}),
        ("RV64IMzicsr", {"i", "m", "zmmul", "zicsr"}),
        ("rv64im_zvl32b1p0", {"i", "m", "zmmul", "zvl32b"}),
        ("rv64i2p1_za128rs1p0_zic64b1p0", {"i", "za128rs", "zic64b"}),
        ("rv64g", {*"imafd", "zicsr", "zifencei", "zmmul", "zaamo", "zalrsc"}),
    ],
)
def test_how_names_are_written(text, names):
    assert parse_isa(text).extensions == names


@pytest.mark.parametrize("text", ["", "rv64", "rv16i", "rv64xtheadba", "x86-64", "rv64i_1p0", "rv64i2p1_z", "rv64i-m"])
def test_what_is_no_instruction_set(text):
    with pytest.raises(ValueError, match="names no RISC-V instruction set") as caught:
        parse_isa(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("named", "allowed"),
    [
        (GCC_14, "rv64gc"),
        ("rv64i2p0_m2p0_a2p0_f2p0_d2p0_c2p0", "rv64gc"),
        ("rv64gc", "rv64imafdc_zicsr_zifencei_zicntr"),
        ("rv32imafc_zcf", "rv32gc"),
        ("rv64gc_b", "rv64gc_zba_zbb_zbs"),
        ("rv64gc_zba_zbb_zbs", "rv64gcb"),
        ("rv64imafdc", "rv64imfd_zaamo_zalrsc_zca_zcd"),
        (VECTOR, "rv64gcv"),
        (VECTOR, "rv64gcv_zvl256b"),
        ("rv64gc_zve32x_zvl512b", "rv64gcv_zvl1024b"),
    ],
)
def test_parts_of_what_is_allowed_are_allowed(named, allowed):
    assert extra(named, allowed) == ()


@pytest.mark.parametrize(
    ("named", "allowed", "found"),
    [
        (VECTOR, "rv64gc", ("v",)),
        ("rv64gc_zve32x_zvl32b", "rv64gc", ("zve32x",)),
        ("rv64gc_zvl256b", "rv64gcv", ("zvl256b",)),
        ("rv64gc_xtheadba1p0_xtheadvector1p0", "rv64gc_xtheadba", ("xtheadvector",)),
        ("rv64gc_zfh_zfhmin", "rv64gc", ("zfh",)),
        ("rv64gc_zba_zbb", "rv64gc_zba", ("zbb",)),
        ("rv64imc", "rv64i_zmmul_zca", ("c", "m")),
        ("rv64imac_zcf", "rv64gc", ("zcf",)),
        ("rv32gc", "rv64gc", ("rv32",)),
        ("rv64e", "rv64i", ("e",)),
    ],
)
def test_what_goes_beyond_what_is_allowed_is_named_alone(named, allowed, found):
    assert extra(named, allowed) == found


@pytest.mark.parametrize("name", ["sg2042", "sg2042-xthead"])
@pytest.mark.parametrize(
    "forbidden", ["v", "_zve32x", "_zve64d", "_zvl128b", "_xtheadvector", "_zvfh", "_zba", "_zfh", "_zicond"]
)
def test_targets_without_vectors(name, forbidden):
    isa = make_catalog().target(name).isa
    assert isa is not None
    assert extra(f"rv64gc{forbidden}", isa) == (forbidden.lstrip("_"),)
    assert extra(GCC_14, isa) == ()


@pytest.mark.parametrize("name", ["sg2042", "sg2042-xthead"])
def test_targets_take_what_their_own_flags_and_the_profile_of_debian_bring(name):
    target = make_catalog().target(name)
    (flag,) = (flag for flag in target.flags if flag.startswith("-march="))
    assert target.isa is not None
    assert extra(flag.removeprefix("-march="), target.isa) == ()
    assert extra("rv64gc_ziccamoa1p0_ziccif1p0_zicclsm1p0_ziccrse1p0_zicntr2p0_za128rs1p0", target.isa) == ()
