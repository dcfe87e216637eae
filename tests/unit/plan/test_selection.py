"""Which machines there are, what recipes are for each of them, and what their roots are made of."""

from __future__ import annotations

import dataclasses

import pytest

from rocmbuild.plan.graph import Machine
from rocmbuild.plan.selection import CROSS_ROOT, EMULATOR, ROOT, SYSROOT, facts, resolve, root_packages
from tests.releases import BOARD, DISTRIBUTION, TARGET

CROSS = {"target": BOARD, "build": TARGET}

LLVM = """\
needs: {system: ["gen-{arch}:native", python3:native]}
provided:
  testix: {version: "17.0.6", home: /usr/lib/llvm-17, system: [llvm-17-dev, "llvm-17-tools:native"]}
"""

RUNTIME = """\
needs: {system: [libelf-dev, "lib-{major:llvm}-dev"]}
variants:
  - {when: {arch: [amd64]}, needs: {system: [libx86-dev]}}
  - {when: {arch: [riscv64]}, needs: {system: [libriscv-dev]}}
  - {when: {cross: true}, needs: {system: ["crossgen:native"]}}
"""


@pytest.fixture
def small(release):
    release.components("llvm", "runtime")
    release.recipe("llvm", LLVM)
    release.recipe("runtime", RUNTIME)
    return release


def test_a_native_build_has_one_machine(small):
    selection = small.selection()
    assert (selection.cross, selection.machines) == (False, (Machine.HOST,))
    assert selection.target_of(Machine.HOST) is TARGET
    assert not selection.is_cross(Machine.HOST)
    assert set(resolve(selection)) == {Machine.HOST}


def test_a_cross_build_has_two_machines(small):
    selection = small.selection(**CROSS)
    assert (selection.cross, selection.machines) == (True, (Machine.BUILD, Machine.HOST))
    assert selection.target_of(Machine.BUILD) is TARGET
    assert selection.target_of(Machine.HOST) is BOARD
    assert selection.is_cross(Machine.HOST)
    assert not selection.is_cross(Machine.BUILD), "what runs on the build machine is built on it"


def test_conditions_ask_about_the_machine_a_component_is_for(small):
    selection = small.selection(**CROSS)
    runtime = selection.manifest.components["runtime"]
    found = {machine: facts(selection, runtime, machine) for machine in Machine}
    assert {machine: (fact.arch, fact.cross) for machine, fact in found.items()} == {
        Machine.BUILD: ("amd64", False),
        Machine.HOST: ("riscv64", True),
    }
    native = facts(small.selection(), runtime)
    assert (native.arch, native.cross) == ("amd64", False)
    assert native == found[Machine.BUILD], "tools of a cross build are those of a native one"


def test_recipes_are_resolved_for_each_machine(small):
    found = resolve(small.selection(**CROSS))
    system = {machine: set(recipes["runtime"].needs.system) for machine, recipes in found.items()}
    assert system == {
        Machine.BUILD: {"libelf-dev", "lib-{major:llvm}-dev", "libx86-dev"},
        Machine.HOST: {"libelf-dev", "lib-{major:llvm}-dev", "libriscv-dev", "crossgen:native"},
    }


def test_what_is_the_same_on_every_machine_is_resolved_once(small):
    small.recipe("runtime", "machine_independent: true\n" + RUNTIME)
    found = resolve(small.selection(**CROSS))
    assert found[Machine.HOST]["runtime"] == found[Machine.BUILD]["runtime"]
    assert "libx86-dev" in found[Machine.HOST]["runtime"].needs.system


def test_natively_what_is_the_same_on_every_machine_is_for_the_one_there_is(small):
    small.recipe("runtime", "machine_independent: true\n" + RUNTIME)
    found = resolve(small.selection(target=BOARD))[Machine.HOST]["runtime"]
    assert "libriscv-dev" in found.needs.system
    assert "crossgen:native" not in found.needs.system


def test_a_native_root_has_programs_and_libraries(small):
    assert root_packages(small.selection()) == {
        Machine.HOST: {ROOT: ("dash", "gen-amd64", "lib-1-dev", "libc6-dev", "libelf-dev", "libx86-dev", "python3")}
    }


def test_a_cross_build_has_a_root_a_sysroot_and_an_emulator(small):
    found = root_packages(small.selection(**CROSS))
    assert found[Machine.BUILD] == root_packages(small.selection())[Machine.HOST]
    assert found[Machine.HOST] == {
        CROSS_ROOT: (
            *("clang-17", "crossgen", "dash", "gen-amd64", "gen-riscv64", "lib-1-dev", "libc6-dev", "libelf-dev"),
            *("libriscv-dev", "libx86-dev", "lld-19", "python3"),
        ),
        SYSROOT: ("lib-1-dev", "libc6-dev", "libelf-dev", "libriscv-dev"),
        EMULATOR: ("qemu-user",),
    }


def test_what_the_distribution_provides_is_in_the_sysroot_too_but_for_programs(small):
    found = root_packages(small.selection(**CROSS, system=frozenset({"llvm"})))
    assert {"llvm-17-dev", "llvm-17-tools"} <= set(found[Machine.BUILD][ROOT]) & set(found[Machine.HOST][CROSS_ROOT])
    assert found[Machine.HOST][SYSROOT] == ("lib-17-dev", "libc6-dev", "libelf-dev", "libriscv-dev", "llvm-17-dev")


def test_a_library_that_one_recipe_takes_for_a_program_is_in_the_sysroot(small):
    small.recipe("runtime", "needs: {system: [python3]}\n")
    assert root_packages(small.selection())[Machine.HOST][ROOT] == ("dash", "gen-amd64", "libc6-dev", "python3")
    assert root_packages(small.selection(**CROSS))[Machine.HOST][SYSROOT] == ("libc6-dev", "python3")


def test_roots_do_not_depend_on_the_selected_components(small):
    assert root_packages(small.selection(**CROSS, components=("llvm",))) == root_packages(small.selection(**CROSS))


def test_a_release_for_several_distributions_has_the_cross_compilers_of_its_own(small):
    other = dataclasses.replace(DISTRIBUTION.cross, packages=("clang-21",), emulators="qemu-user-static")
    found = root_packages(small.selection(**CROSS, distribution=dataclasses.replace(DISTRIBUTION, cross=other)))
    assert "clang-21" in found[Machine.HOST][CROSS_ROOT]
    assert "clang-17" not in found[Machine.HOST][CROSS_ROOT]
    assert found[Machine.HOST][EMULATOR] == ("qemu-user-static",)
