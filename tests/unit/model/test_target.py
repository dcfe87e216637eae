from __future__ import annotations

import pytest

from rocmbuild.errors import DocumentError
from rocmbuild.model.catalog import make_catalog
from rocmbuild.model.target import load_distribution, load_target

TARGET = """\
format: 1
target: sg2042
triple: riscv64-linux-gnu
arch: riscv64
machines: [riscv64]
elf: {machine: EM_RISCV, flags: 5}
flags: [-march=rv64gc]
emulator: [qemu-riscv64, -cpu, rv64]
"""

DISTRIBUTION = """\
format: 1
distribution: testix
tag: testix1
suites: [{suite: one}, {suite: two, archive: security, components: [main, contrib]}]
compiler: {c: /usr/bin/gcc, cxx: /usr/bin/g++}
system: [dash]
"""


def test_a_target(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(TARGET)
    target = load_target(path)
    assert (target.name, target.summary, target.triple, target.arch) == ("sg2042", "", "riscv64-linux-gnu", "riscv64")
    assert (target.elf_machine, target.elf_flags) == ("EM_RISCV", 5)
    assert target.flags == ("-march=rv64gc",)
    assert target.emulator == ("qemu-riscv64", "-cpu", "rv64")
    assert target.runs_on("riscv64")
    assert not target.runs_on("x86_64")


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


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ("machines: [riscv64]", "machines: []", "5:11", "machines: [] "),
        ("flags: 5", "flags: five", "6:33", "elf.flags: \"five\" is not of type 'integer'"),
        ("arch: riscv64", "arch: RISC-V", "4:7", "is not a name of lower-case letters"),
        ("triple:", "tripel:", "3:1", "tripel: unknown key"),
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
        assert f"g++-{distribution.cxx.split('-')[-1]}" in distribution.system
    for name in catalog.targets():
        assert catalog.target(name).name == name
