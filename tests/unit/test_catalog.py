"""The documents that are shipped: they load, fit together and say what the releases are known to hold."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.model.condition import Facts
from rocmbuild.model.gpu import select
from rocmbuild.model.manifest import Manifest
from rocmbuild.model.recipe import Resolved
from tests.shipped import CATALOG

BRANCHES = tuple(CATALOG.branches())
ARCHITECTURES = ("amd64", "arm64", "riscv64")


def resolve(
    manifest: Manifest, arch: str = "amd64", distribution: str = "", system: tuple[str, ...] = ()
) -> dict[str, Resolved]:
    """Return the recipes of a release, with the distribution's own build of ``system``."""
    distribution = distribution or manifest.distribution
    versions = {name: component.version for name, component in manifest.components.items()}
    for name in system:
        versions[name] = CATALOG.recipe(name).provided[distribution].version
    return {
        name: CATALOG.recipe(name).resolve(
            Facts(
                version=versions[name],
                release=manifest.version,
                llvm=versions.get("llvm", ""),
                arch=arch,
                components=frozenset(manifest.components),
                system=name in system,
            )
        )
        for name in manifest.components
    }


def release(branch: str, **options: str) -> dict[str, Resolved]:
    manifest = CATALOG.manifest(branch)
    return resolve(manifest, system=tuple({*manifest.system, "llvm"}), **options)


def packages(recipes: dict[str, Resolved]) -> set[str]:
    return {rule.name for recipe in recipes.values() for rule in recipe.packages}


def test_every_document_loads() -> None:
    assert {"rocm-5.6.x", "debian-forky"} <= set(BRANCHES)
    for name in CATALOG.recipes():
        assert CATALOG.recipe(name).name == name
    for name in CATALOG.targets():
        CATALOG.target(name)
    for name in CATALOG.distributions():
        CATALOG.distribution(name)
    assert CATALOG.gpus()


@pytest.mark.parametrize("branch", BRANCHES)
def test_distributions_of_a_release_exist(branch: str) -> None:
    manifest = CATALOG.manifest(branch)
    assert manifest.distribution in manifest.distributions
    for name in manifest.distributions:
        assert CATALOG.distribution(name)
        for component in manifest.system:
            assert name in CATALOG.recipe(component).provided


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("branch", BRANCHES)
def test_needs_are_components_of_the_release(branch: str, arch: str) -> None:
    recipes = release(branch, arch=arch)
    for name, recipe in recipes.items():
        needs = recipe.needs
        for need in chain(needs.tools, needs.libs, needs.sources, needs.run):
            assert need in recipes, f"{name} needs {need}"


@pytest.mark.parametrize("branch", BRANCHES)
def test_packages_are_owned_once(branch: str) -> None:
    rules = (rule.name for recipe in release(branch).values() for rule in recipe.packages)
    assert [name for name, times in Counter(rules).items() if times > 1] == []


@pytest.mark.parametrize("branch", BRANCHES)
def test_required_relations_name_packages_made_before(branch: str) -> None:
    recipes = release(branch)
    for name, recipe in recipes.items():
        made = {rule.name for before in closure(name, recipes) for rule in recipes[before].packages}
        own = {rule.name for rule in recipe.packages}
        for relation in (r for rule in recipe.packages for r in rule.depends if r.startswith("{package:")):
            package = relation.removeprefix("{package:").removesuffix("}")
            assert package in made | own, f"{name} depends on {package} and has no edge to its component"


def closure(name: str, recipes: dict[str, Resolved]) -> set[str]:
    """Return the components that are built before ``name``."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        needs = recipes[waiting.pop()].needs
        waiting += [n for n in (*needs.tools, *needs.libs, *needs.sources) if n not in found]
        found |= {*needs.tools, *needs.libs, *needs.sources}
    assert name not in found, f"{name} needs itself"
    return found


def test_packages_of_5_6_are_those_of_amd() -> None:
    expected = {
        *("rocm-core", "rocm-cmake", "rocm-llvm", "hsakmt-roct-dev", "hsa-rocr", "hsa-rocr-dev", "rocm-device-libs"),
        *("comgr", "rocminfo", "hipcc", "hip-dev", "hip-runtime-amd", "rocm-opencl", "rocm-opencl-dev"),
        *("rocm-smi-lib", "hipify-clang", "rocm-hip-runtime", "rocm-hip-runtime-dev"),
    }
    assert expected <= packages(release("rocm-5.6.x"))


def test_the_thunk_moved_into_the_runtime() -> None:
    old, new = release("rocm-5.6.x"), release("debian-forky")
    assert old["rocr"].subdir == "src" and "roct" in old["rocr"].needs.libs
    assert new["rocr"].subdir == "." and "roct" not in new
    (development,) = (rule for rule in new["rocr"].packages if rule.name == "hsa-rocr-dev")
    assert any(provided.startswith("hsakmt-roct-dev") for provided in development.provides)


@pytest.mark.parametrize("branch", BRANCHES)
def test_llvm_is_taken_from_one_place(branch: str) -> None:
    for recipe in release(branch).values():
        for package in ("LLVM", "Clang", "LLD"):
            directory = recipe.variables.get(f"{package}_DIR")
            assert directory in (None, f"{{home:llvm}}/lib/cmake/{package.lower()}")


@pytest.mark.parametrize(("arch", "backend"), [("amd64", "X86"), ("arm64", "AArch64"), ("riscv64", "RISCV")])
def test_llvm_has_the_backend_of_the_machine(arch: str, backend: str) -> None:
    llvm = resolve(CATALOG.manifest("rocm-5.6.x"), arch)["llvm"]
    assert llvm.builds
    assert llvm.variables["LLVM_TARGETS_TO_BUILD"] == f"AMDGPU;{backend}"
    assert not release("rocm-5.6.x", arch=arch)["llvm"].builds


def test_llvm_of_the_distribution_is_linked_where_rocm_looks_for_it() -> None:
    for distribution, provided in CATALOG.recipe("llvm").provided.items():
        assert provided.home == f"/usr/lib/llvm-{provided.version.split('.')[0]}", distribution
        assert set(dict(provided.links)) == {"llvm", "lib/llvm"}
        assert provided.runtime


@pytest.mark.parametrize("branch", BRANCHES)
def test_every_edit_says_why(branch: str) -> None:
    edits = [edit for recipe in release(branch).values() for edit in recipe.edits]
    assert edits
    assert all(edit.why for edit in edits)


def test_edits_for_a_newer_llvm_do_not_touch_5_6_with_its_own() -> None:
    manifest = CATALOG.manifest("rocm-5.6.x")
    with_16 = resolve(manifest, distribution="debian-12", system=("llvm",))
    with_17 = resolve(manifest, distribution="debian-13", system=("llvm",))
    assert not with_16["comgr"].edits and not with_16["device-libs"].edits
    assert [edit.file for edit in with_16["hipify"].edits] == ["CMakeLists.txt"]
    assert [edit.file for edit in with_17["device-libs"].edits] == ["ockl/src/dots.cl"]


@pytest.mark.parametrize("branch", BRANCHES)
def test_default_gpus_can_be_built(branch: str) -> None:
    manifest = CATALOG.manifest(branch)
    assert select(manifest.gpus, CATALOG.gpus(), manifest.version) == manifest.gpus


@pytest.mark.parametrize(
    ("gpu", "release_version", "message"),
    [
        ("gfx942", "5.6.1", "gfx942 needs ROCm 6.0 or later"),
        ("gfx1200", "6.3.3", "gfx1200 needs ROCm 6.4 or later"),
        ("gfx940", "6.4.3", "gfx940 can be built up to ROCm 6.3.3"),
        ("gfx803", "6.0.0", "gfx803 can be built up to ROCm 5.7.1"),
        ("gfx1030:xnack+", "5.6.1", "gfx1030 has no feature"),
    ],
)
def test_gpus_that_do_not_fit_are_refused(gpu: str, release_version: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select([gpu], CATALOG.gpus(), release_version)


def test_families_hold_what_the_release_can_build() -> None:
    gpus = CATALOG.gpus()
    assert select(["gfx94X-dcgpu"], gpus, "6.4.3") == ("gfx942",)
    assert select(["gfx103X-dgpu"], gpus, "5.6.1") == ("gfx1030", "gfx1031", "gfx1032", "gfx1034")
    assert select(["gfx110X-all"], gpus, "5.6.1") == ("gfx1100", "gfx1101", "gfx1102", "gfx1103")
