"""The releases that are shipped, planned for machines that are not this one: what recipes say fits together."""

from __future__ import annotations

from functools import cache

import pytest

from rocmbuild.commands.selecting import load_recipes
from rocmbuild.model.template import placeholders_in
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.plan import Plan
from rocmbuild.plan.planner import make_plan
from rocmbuild.plan.selection import CROSS_ROOT, SYSROOT, Selection
from tests.shipped import CATALOG

PC = CATALOG.target("x86_64")

CASES = [
    (branch, distribution, target, llvm)
    for branch in CATALOG.branches()
    for distribution in CATALOG.manifest(branch).distributions
    for target in ("sg2042", "arm64")
    for llvm in ("the distribution's llvm", "its own llvm")
    if CATALOG.target(target).arch in CATALOG.distribution(distribution).architectures
    # a distribution's release may have no source of a compiler
    and (llvm.startswith("the") or "llvm" not in CATALOG.manifest(branch).system)
]


@cache
def planned(branch: str, distribution: str, llvm: str, target: str | None = None) -> Plan:
    """Return the plan of a release; without a target for this machine, if that is a PC."""
    manifest = CATALOG.manifest(branch)
    selection = Selection(
        manifest=manifest,
        recipes=load_recipes(CATALOG, manifest),
        target=CATALOG.target(target) if target else PC,
        distribution=CATALOG.distribution(distribution),
        gpus=manifest.gpus,
        system=frozenset({*manifest.system, *(("llvm",) if llvm.startswith("the") else ())}),
        build=PC if target else None,
    )
    return make_plan(selection, {})


@pytest.fixture(params=CASES, ids=[f"{b}-{d}-{t}-{llvm.split()[0]}" for b, d, t, llvm in CASES])
def plans(request):
    """Return the plan of a cross build and that of a native one of the same release."""
    branch, distribution, target, llvm = request.param
    return planned(branch, distribution, llvm, target), planned(branch, distribution, llvm)


def test_tools_are_what_a_native_build_makes(plans):
    cross, native = plans
    tools = [job for job in cross.jobs if job.node.machine is Machine.BUILD]
    assert tools
    assert {job.name for job in tools if job.key != native.job(job.node.component).key} == set()


def test_what_is_for_the_machine_is_complete(plans):
    cross, native = plans
    hosts = {job.node.component for job in cross.jobs if job.node.machine is Machine.HOST}
    assert hosts == {job.node.component for job in native.jobs}
    assert set(cross.package_versions) == set(native.package_versions)


def test_programs_beside_foreign_libraries_are_there_to_be_run(plans):
    """Whoever sees a compiler's libraries for the other machine waits for its programs for this one."""
    cross, _ = plans
    for job in cross.jobs:
        for need in (cross.at(need) for need in job.needs if need.machine is Machine.HOST):
            if (
                job.node.machine is Machine.HOST
                and job.recipe.builds
                and need.recipe.build_programs
                and need.recipe.builds
            ):
                assert Node(need.node.component, "build") in job.needs, f"{job.name} sees {need.name} only"


def test_nothing_of_the_build_machine_is_said_to_the_compilers_of_the_other(plans):
    cross, _ = plans
    for job in cross.jobs:
        if job.node.machine is Machine.HOST and job.recipe.builds and job.twin is None:
            said = [*job.recipe.variables.values(), *job.recipe.environment.values()]
            said += [edit.replace for edit in job.recipe.edits]
            assert [text for text in said if PC.triple in text or "-msse" in text] == [], job.name


def test_every_placeholder_has_been_replaced(plans):
    cross, _ = plans
    for job in cross.jobs:
        texts = [*job.recipe.variables.values(), *job.recipe.environment.values(), *job.recipe.needs.system]
        left = {name for text in texts for name in placeholders_in(text) if not name.startswith("source:")}
        assert left == set(), job.name


def test_a_sysroot_has_libraries_and_no_programs(plans):
    cross, native = plans
    roots = cross.roots[Machine.HOST]
    assert set(roots[SYSROOT]) <= set(roots[CROSS_ROOT])
    programs = {"bash", "binutils", "coreutils", "dash", "file", "gawk", "patch", "pkg-config", "pkgconf", "tar", "xxd"}
    assert programs & set(roots[SYSROOT]) == set()
    assert programs & set(roots[CROSS_ROOT])
    assert [name for name in roots[SYSROOT] if name.startswith(("gcc-", "g++-"))] == []
    assert {name for name in roots[SYSROOT] if name.startswith("libstdc++-")} != set()
    assert cross.roots[Machine.BUILD] == native.roots[Machine.HOST]


def test_a_target_of_another_variant_builds_the_same_tools_and_other_packages():
    branch, distribution = "debian-forky", CATALOG.manifest("debian-forky").distribution
    llvm = "the distribution's llvm"
    plain, other = (planned(branch, distribution, llvm, name) for name in ("sg2042", "sg2042-xthead"))
    for job in plain.jobs:
        same = job.key == other.at(job.node).key
        compiled = job.node.machine is Machine.HOST and job.twin is None
        assert same is not compiled, job.name


def test_every_release_and_target_is_among_the_cases():
    assert {case[0] for case in CASES} == set(CATALOG.branches())
    assert {case[2] for case in CASES} == {"sg2042", "arm64"}
