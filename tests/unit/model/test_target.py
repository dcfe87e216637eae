from __future__ import annotations

import pytest

from rocmbuild.errors import DocumentError
from rocmbuild.model.catalog import make_catalog
from rocmbuild.model.target import Emulator, load_distribution, load_target
from tests.releases import CROSS_TOOLS

TARGET = """\
format: 1
target: sg2042
triple: riscv64-linux-gnu
arch: riscv64
machines: [riscv64]
elf: {machine: EM_RISCV, flags: 5}
flags: [-march=rv64gc]
emulator: {program: qemu-riscv64}
"""

WHOLE = """\
variant: vector
distribution: debian-13
elf: {machine: EM_RISCV, flags: 5, isa: rv64gcv}
gcc_flags: [-mtune=thead-c906]
assembler: ["-mattr=+v"]
emulator: {program: qemu-riscv64, cpu: thead-c906}
"""

DISTRIBUTION = """\
format: 1
distribution: testix
tag: testix1
suites: [{suite: one}, {suite: two, archive: security, components: [main, contrib]}]
compiler: {c: /usr/bin/gcc, cxx: /usr/bin/g++}
system: [dash]
architectures: [amd64, riscv64]
"""

CROSS = """\
cross:
  c: /usr/lib/llvm-17/bin/clang
  cxx: /usr/lib/llvm-17/bin/clang++
  linker: /usr/lib/llvm-19/bin/ld.lld
  binutils: /usr/lib/llvm-17/bin
  gcc: "14"
  system: [clang-17, lld-19]
  emulators: qemu-user
"""


def test_a_target(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(TARGET)
    target = load_target(path)
    assert (target.name, target.summary, target.triple, target.arch) == ("sg2042", "", "riscv64-linux-gnu", "riscv64")
    assert (target.elf_machine, target.elf_flags) == ("EM_RISCV", 5)
    assert target.flags == ("-march=rv64gc",)
    assert target.emulator == Emulator("qemu-riscv64", None)
    assert target.runs_on("riscv64")
    assert not target.runs_on("x86_64")
    assert (target.variant, target.area, target.distribution, target.isa) == (None, "riscv64", None, None)
    assert (target.gcc_flags, target.assembler) == ((), ())


def test_a_target_with_everything(tmp_path):
    path = tmp_path / "t.yaml"
    kept = [line for line in TARGET.splitlines() if not line.startswith(("elf:", "emulator:"))]
    path.write_text("\n".join([*kept, WHOLE]))
    target = load_target(path)
    assert (target.variant, target.area, target.distribution) == ("vector", "riscv64-vector", "debian-13")
    assert (target.isa, target.gcc_flags, target.assembler) == ("rv64gcv", ("-mtune=thead-c906",), ("-mattr=+v",))
    assert target.emulator == Emulator("qemu-riscv64", "thead-c906")


def test_a_distribution(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text(DISTRIBUTION)
    distribution = load_distribution(path)
    assert [(suite.name, suite.archive, suite.components) for suite in distribution.suites] == [
        ("one", "main", ("main",)),
        ("two", "security", ("main", "contrib")),
    ]
    assert distribution.release_id is None
    assert (distribution.cc, distribution.cxx) == ("/usr/bin/gcc", "/usr/bin/g++")
    assert distribution.architectures == ("amd64", "riscv64")
    assert distribution.cross is None


def test_a_distribution_that_builds_for_other_machines(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text(DISTRIBUTION + CROSS)
    assert load_distribution(path).cross == CROSS_TOOLS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('gcc: "14"', "gcc: 14", "cross.gcc: 14 is not of type 'string'"),
        ('gcc: "14"', 'gcc: "14.2"', 'cross.gcc: "14.2" is not the major version of GCC in quotes'),
        ("  linker: /usr/lib/llvm-19/bin/ld.lld\n", "", "cross: the key linker is missing"),
        ("architectures: [amd64, riscv64]\n", "", "the key architectures is missing"),
        ("architectures: [amd64, riscv64]", "architectures: []", "architectures: [] should be non-empty"),
    ],
)
def test_mistakes_in_a_distribution_are_told(tmp_path, old, new, message):
    path = tmp_path / "d.yaml"
    path.write_text((DISTRIBUTION + CROSS).replace(old, new, 1))
    with pytest.raises(DocumentError) as caught:
        load_distribution(path)
    assert any(problem.message.startswith(message) for problem in caught.value.problems), caught.value


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ("machines: [riscv64]", "machines: []", "5:11", "machines: [] "),
        ("flags: 5", "flags: five", "6:33", "elf.flags: \"five\" is not of type 'integer'"),
        ("arch: riscv64", "arch: RISC-V", "4:7", "is not a name of lower-case letters"),
        ("triple:", "tripel:", "3:1", "tripel: unknown key"),
        ("flags: 5", "isa: rv64 gc", "6:31", 'elf.isa: "rv64 gc" is not a RISC-V instruction set such as rv64gc'),
        ("{program: qemu-riscv64}", "[qemu-riscv64]", "8:11", "emulator: [\"qemu-riscv64\"] is not of type 'object'"),
        ("program: qemu-riscv64", "cpu: c906", "8:11", "emulator: the key program is missing"),
    ],
)
def test_mistakes_in_a_target_are_located(tmp_path, old, new, where, message):
    path = tmp_path / "t.yaml"
    path.write_text(TARGET.replace(old, new, 1))
    with pytest.raises(DocumentError) as caught:
        load_target(path)
    assert any(problem.where == f"{path}:{where}" and message in problem.message for problem in caught.value.problems)


def test_every_distribution_and_target_that_ships_is_whole():
    catalog = make_catalog()
    assert catalog.distributions()
    for name in catalog.distributions():
        distribution = catalog.distribution(name)
        assert distribution.name == name
        assert distribution.cc.split("-")[-1] == distribution.cxx.split("-")[-1]
        assert f"g++-{distribution.cxx.split('-')[-1]}:native" in distribution.system
        assert distribution.cross is not None
        assert f"libstdc++-{distribution.cross.gcc}-dev" in distribution.system, "a sysroot has its headers"
        wanted = {path.split("/")[3] for path in (distribution.cross.cc, distribution.cross.linker)}
        assert wanted <= {
            package.replace("clang", "llvm").replace("lld", "llvm") for package in distribution.cross.packages
        }
    for name in catalog.targets():
        target = catalog.target(name)
        assert target.name == name
        assert target.emulator is not None
        assert target.distribution is None or target.arch in catalog.distribution(target.distribution).architectures
