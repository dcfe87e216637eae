"""A plan for another machine: what moves the keys of which of the two, and what recipes say to each."""

from __future__ import annotations

import dataclasses

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.model.target import Emulator
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Action
from tests.releases import BOARD, TARGET, stamps_of

LLVM = """\
home: "{prefix}/llvm"
build_programs: bin
packages: [{name: rocm-llvm, summary: s}]
provided:
  testix: {version: "17.0.6", home: /usr/lib/llvm-17, system: [llvm-17-dev]}
"""

DEVICE = """\
machine_independent: true
needs: {tools: [llvm]}
cmake: {variables: {A: "{arch}", LLVM: "{home:llvm}"}}
packages: [{name: device, summary: s}]
"""

RUNTIME = """\
needs: {tools: [llvm], libs: [device, thunk], system: [libelf-dev]}
packages: [{name: runtime, summary: s}]
"""

APP = """\
needs: {tools: [llvm], libs: [llvm, runtime]}
cmake: {variables: {LLVM_DIR: "{home:llvm}/lib/cmake", P: "{prefix}", T: "{triple}"}}
environment: {CLANG_FLAGS: "{host:flags}", ROOT: "{sysroot}", HOME_OF: "{home:llvm}"}
edits: [{file: f, find: a, replace: "llvm-mc {assembler} {home:llvm} {arch} {host:flags} {sysroot}", why: w}]
add: [{path: x, link: "{home:llvm}/bin", why: w}]
packages: [{name: app, summary: s}]
"""

HOST, BUILD = Machine.HOST, Machine.BUILD


@pytest.fixture
def small(release):
    """A compiler, bitcode that it makes, libraries without a compiler of ours, and a program that links all."""
    release.components("llvm", "device", "thunk", "runtime", "app")
    release.recipe("llvm", LLVM)
    release.recipe("device", DEVICE)
    release.recipe("thunk", "packages: [{name: thunk, summary: s}]\n")
    release.recipe("runtime", RUNTIME)
    release.recipe("app", APP)
    return release


NODES = {"llvm (build)", "device (build)", "llvm", "device", "thunk", "runtime", "app"}
OWN = {"llvm", "thunk", "runtime", "app"}
"""What is compiled for the host machine; device is taken over."""


def moved(one, two):
    """Return the jobs whose key differs between two plans."""
    assert [job.name for job in one.jobs] == [job.name for job in two.jobs]
    return {job.name for job, other in zip(one.jobs, two.jobs, strict=True) if job.key != other.key}


def test_there_are_jobs_for_two_machines(small):
    plan = small.cross_plan()
    names = [job.name for job in plan.jobs]
    assert set(names) == NODES
    assert [name for name in names if name in ("llvm (build)", "device (build)", "device", "runtime", "app")] == [
        *("llvm (build)", "device (build)", "device", "runtime", "app")
    ]
    assert plan.job("app").row()["machine"] == "host"
    assert plan.job("device", BUILD).row()["machine"] == "build"
    assert plan.job("device").row()["needs"] == ["device (build)"]
    assert plan.job("app").row()["needs"] == ["llvm (build)", "llvm", "runtime"]


def test_tools_of_a_cross_build_are_components_of_a_native_one(small):
    native, cross = small.plan(), small.cross_plan()
    for name in ("llvm", "device"):
        tool, own = cross.job(name, BUILD), native.job(name)
        assert (tool.key, tool.tree_key, tool.source_key) == (own.key, own.tree_key, own.source_key)
        assert tool.recipe == own.recipe
        assert tool.values == own.values


def test_tools_that_the_distribution_provides_are_those_of_a_native_build_too(small):
    system = frozenset({"llvm"})
    native, cross = small.plan(system=system), small.cross_plan(system=system)
    assert cross.job("llvm", BUILD).key == native.job("llvm").key
    assert cross.job("device", BUILD).key == native.job("device").key
    assert cross.job("llvm").action is cross.job("llvm", BUILD).action is Action.PROVIDED
    assert cross.job("llvm").twin is None


def test_nothing_for_another_machine_has_the_key_of_a_native_build(small):
    native, cross = small.plan(), small.cross_plan()
    keys = {job.key for job in native.jobs}
    assert {job.name for job in cross.jobs if job.key in keys} == {"llvm (build)", "device (build)"}


def target(**fields):
    return {"target": dataclasses.replace(BOARD, **fields)}


def cross_tools(small, **fields):
    tools = dataclasses.replace(small.distribution.cross, **fields)
    return {"distribution": dataclasses.replace(small.distribution, cross=tools)}


TARGET_INPUTS = {
    "triple": {"triple": "riscv64-unknown-linux-gnu"},
    "flags": {"flags": ("-march=rv64gcv",)},
    "CMake's name of the processor": {"machines": ("riscv", "riscv64")},
    "another emulator": {"emulator": Emulator("qemu-other", "thead-c906")},
    "another processor of the emulator": {"emulator": Emulator("qemu-riscv64", "max")},
    "no emulator": {"emulator": None},
}


@pytest.mark.parametrize("what", sorted(TARGET_INPUTS))
def test_what_the_target_is_moves_the_keys_of_what_is_compiled_for_it(small, what):
    found = moved(small.cross_plan(), small.cross_plan(**target(**TARGET_INPUTS[what])))
    assert found == OWN


@pytest.mark.parametrize(
    "fields",
    [
        {"cc": "/usr/bin/clang"},
        {"cxx": "/usr/bin/clang++"},
        {"linker": "/usr/bin/ld.lld"},
        {"binutils": "/usr/bin"},
        {"gcc": "15"},
        {"packages": ("clang-18",)},
        {"emulators": "qemu-user-static"},
    ],
)
def test_what_compiles_for_another_machine_moves_the_keys_of_what_it_compiles(small, fields):
    assert moved(small.cross_plan(), small.cross_plan(**cross_tools(small, **fields))) == OWN
    assert moved(small.plan(), small.plan(**cross_tools(small, **fields))) == set()


def test_packages_of_the_sysroot_move_the_keys_of_what_is_compiled_with_it(small):
    before = small.cross_plan()
    small.recipe("runtime", RUNTIME.replace("libelf-dev", "'libelf-dev:native'"))
    assert moved(before, small.cross_plan()) == OWN


def test_a_condition_on_cross_builds_moves_the_keys_of_what_is_compiled_in_one(small):
    before, native = small.cross_plan(), small.plan()
    small.recipe("llvm", LLVM + "variants: [{when: {cross: true}, cmake: {variables: {X: y}}}]\n")
    after = small.cross_plan()
    assert moved(before, after) == {"llvm", "app"}
    assert moved(native, small.plan()) == set()
    assert (after.job("llvm").recipe.variables, after.job("llvm", BUILD).recipe.variables) == ({"X": "y"}, {})


@pytest.mark.parametrize(("arch", "nodes"), [("riscv64", {"thunk", "runtime", "app"}), ("amd64", set())])
def test_a_condition_on_the_architecture_is_that_of_the_machine(small, arch, nodes):
    before = small.cross_plan()
    small.recipe("thunk", f"variants: [{{when: {{arch: [{arch}]}}, environment: {{X: y}}}}]\n")
    assert moved(before, small.cross_plan()) == nodes


@pytest.mark.parametrize(
    "fields",
    [{"gcc_flags": ("-mtune=x",)}, {"elf_flags": 1}, {"isa": None}, {"variant": "v"}, {"distribution": "x"}],
)
def test_what_no_compiler_of_a_cross_build_is_told_moves_no_key(small, fields):
    assert moved(small.cross_plan(), small.cross_plan(**target(**fields))) == set()


@pytest.mark.parametrize("fields", [{"flags": ("-O3",)}, {"gcc_flags": ("-mtune=x",)}, {"triple": "i686-linux-gnu"}])
def test_what_the_build_machine_is_moves_the_keys_of_its_tools_and_of_what_they_make(small, fields):
    after = small.cross_plan(build=dataclasses.replace(TARGET, **fields))
    assert moved(small.cross_plan(), after) == {"llvm (build)", "device (build)", "device", "runtime", "app"}


def test_the_assembler_moves_the_key_of_who_calls_it(small):
    assert moved(small.cross_plan(), small.cross_plan(**target(assembler=("-mattr=+v",)))) == {"app"}


def test_the_architecture_moves_the_keys_of_packages(small):
    one, two = small.cross_plan(), small.cross_plan(**target(arch="vax"))
    changed = {job.name for job, other in zip(one.jobs, two.jobs, strict=True) if job.package_key != other.package_key}
    assert changed == {"llvm", "device", "thunk", "runtime", "app"}


def test_the_place_of_programs_that_are_exchanged_moves_the_action_keys_of_who_sees_them(small):
    one = small.cross_plan()
    small.recipe("llvm", LLVM.replace("build_programs: bin", "build_programs: libexec"))
    two = small.cross_plan()
    changed = {job.name for job, other in zip(one.jobs, two.jobs, strict=True) if job.own_key != other.own_key}
    assert changed == {"runtime", "app"}


def test_what_is_taken_over_has_its_twins_output_and_its_own_packages(small):
    plan = small.cross_plan()
    device, tool = plan.job("device"), plan.job("device", BUILD)
    assert device.twin == tool.node
    assert tool.twin is None
    assert (device.needs, device.after) == ((), (tool.node,))
    assert device.key != tool.key
    assert (device.cost, tool.cost) == (1.0, 60.0)


def test_sources_that_are_read_are_those_of_the_machine(small):
    """Edits may differ between machines, and so trees and keys do."""
    small.recipe("app", APP.replace("libs:", "sources: [thunk], libs:"))
    before = small.cross_plan().job("app").key
    edit = "edits: [{file: f, find: a, replace: b, why: w, when: {arch: [ARCH]}}]\n"
    small.recipe("thunk", edit.replace("ARCH", "amd64"))
    assert small.cross_plan().job("app").key == before
    small.recipe("thunk", edit.replace("ARCH", "riscv64"))
    assert small.cross_plan().job("app").key != before


def test_cmake_finds_what_is_installed_below_the_sysroot(small):
    recipe = small.cross_plan().job("app").recipe
    assert recipe.variables == {
        "LLVM_DIR": "/sysroot/opt/rocm-5.6.1/llvm/lib/cmake",
        "P": "/opt/rocm-5.6.1",
        "T": "riscv64-linux-gnu",
    }
    assert recipe.environment == {
        "CLANG_FLAGS": "--config=/usr/lib/rocmbuild/clang.cfg",
        "ROOT": "/sysroot",
        "HOME_OF": "/sysroot/opt/rocm-5.6.1/llvm",
    }


def test_what_is_written_into_files_names_final_places(small):
    recipe = small.cross_plan().job("app").recipe
    assert recipe.edits[0].replace == (
        "llvm-mc -triple=riscv64-linux-gnu -mattr=+m,+a -target-abi=lp64d /opt/rocm-5.6.1/llvm riscv64 "
        "--config=/usr/lib/rocmbuild/clang.cfg /sysroot"
    )
    assert recipe.additions[0].link == "/opt/rocm-5.6.1/llvm/bin"


def test_natively_there_is_no_sysroot(small):
    recipe = small.plan().job("app").recipe
    assert recipe.variables["LLVM_DIR"] == "/opt/rocm-5.6.1/llvm/lib/cmake"
    assert recipe.environment == {
        "CLANG_FLAGS": "--target=x86_64-linux-gnu",
        "ROOT": "/",
        "HOME_OF": "/opt/rocm-5.6.1/llvm",
    }
    assert recipe.edits[0].replace == (
        "llvm-mc -triple=x86_64-linux-gnu /opt/rocm-5.6.1/llvm amd64 --target=x86_64-linux-gnu /"
    )


def test_what_the_distribution_provides_is_below_the_sysroot_too(small):
    plan = small.cross_plan(system=frozenset({"llvm"}))
    assert plan.job("app").recipe.variables["LLVM_DIR"] == "/sysroot/usr/lib/llvm-17/lib/cmake"
    assert plan.job("app").values["home:llvm"] == "/usr/lib/llvm-17"
    assert plan.job("device", BUILD).recipe.variables["LLVM"] == "/usr/lib/llvm-17"


def test_values_that_all_share_are_those_of_the_host_machine(small):
    values = small.cross_plan().values
    assert (values["arch"], values["triple"], values["sysroot"]) == ("riscv64", "riscv64-linux-gnu", "/sysroot")


def stamps(plan):
    """Return stamps that say all of a plan was built, with a root for each machine."""
    found = stamps_of(plan, ROOTS)
    return {job.node: found[job.node] for job in plan.jobs if job.node.machine is HOST or job.recipe.builds}


ROOTS = {BUILD: "B", HOST: "H"}


def conditional(plan):
    return {job.name for job in plan.jobs if job.conditional}


def building(plan):
    return {job.name: job.reason for job in plan.building}


def test_everything_is_up_to_date(small):
    before = stamps(small.cross_plan())
    assert building(small.cross_plan(before, ROOTS)) == {}
    assert not any(job.repackage for job in small.cross_plan(before, ROOTS).jobs)


def test_tools_of_an_earlier_native_build_are_kept(small):
    """They lie in the area of native builds, where they were packaged or not."""
    native = {
        Node(node.component, "build"): dataclasses.replace(known, root="B", packages=None)
        for node, known in stamps(small.plan()).items()
    }
    plan = small.cross_plan(native, ROOTS)
    assert {job.name for job in plan.jobs if job.action is Action.KEEP} == {"llvm (build)", "device (build)"}
    assert not any(job.repackage for job in plan.jobs if job.node.machine is BUILD)


def test_another_sysroot_rebuilds_what_is_for_the_host_machine(small):
    found = small.cross_plan(stamps(small.cross_plan()), {**ROOTS, HOST: "other"})
    reason = "the build root has other package versions"
    assert building(found) == dict.fromkeys(["llvm", "device", "thunk", "runtime", "app"], reason)


def test_another_root_of_the_tools_rebuilds_them_and_what_they_make(small):
    found = building(small.cross_plan(stamps(small.cross_plan()), {**ROOTS, BUILD: "other"}))
    assert found == {
        "llvm (build)": "the build root has other package versions",
        "device (build)": "the build root has other package versions",
        "device": "device (build) is built anew; kept if that changes nothing",
        "runtime": "device is built anew; kept if that changes nothing",
        "app": "device is built anew; kept if that changes nothing",
    }


def test_a_tool_that_changed_says_whose(small):
    before = stamps(small.cross_plan())
    small.recipe("device", DEVICE.replace("A:", "B:"))
    plan = small.cross_plan(before, ROOTS)
    assert conditional(plan) == {"device", "runtime", "app"}
    assert building(plan) == {
        "device (build)": "its inputs changed",
        "device": "device (build) is built anew; kept if that changes nothing",
        "runtime": "device is built anew; kept if that changes nothing",
        "app": "device is built anew; kept if that changes nothing",
    }


def test_packages_are_made_for_the_host_machine_only(small):
    before = {node: dataclasses.replace(known, packages=None) for node, known in stamps(small.cross_plan()).items()}
    plan = small.cross_plan(before, ROOTS)
    assert {job.name for job in plan.jobs if job.repackage} == {"llvm", "device", "thunk", "runtime", "app"}


def test_a_component_that_the_machine_does_not_need_is_not_built_for_it(small):
    assert {job.name for job in small.cross_plan(components=("thunk",)).jobs} == {"thunk"}


def test_a_circle_names_the_machine(small):
    small.recipe("llvm", LLVM + "needs: {tools: [device]}\n")
    with pytest.raises(UsageError) as caught:
        small.cross_plan()
    assert (
        caught.value.message == "components need each other in a circle: device (build) → llvm (build) → device (build)"
    )
