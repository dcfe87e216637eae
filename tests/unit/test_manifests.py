"""The manifests of AMD's releases: the same recipes serve them all, and the changes for LLVM 17 fit each of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from rocmbuild.model.recipe import Edit
from rocmbuild.plan.graph import Machine
from rocmbuild.plan.plan import Action, Plan
from rocmbuild.plan.planner import make_plan
from rocmbuild.plan.selection import Selection, resolve
from rocmbuild.tools.edits import apply_edits
from tests.shipped import CATALOG

RELEASES = {
    # branch: the number of its packages, the one of the two distributions it is built for unless told otherwise
    "rocm-5.6.x": ("50601", "debian-12"),
    "rocm-5.7.x": ("50701", "debian-13"),
    "rocm-6.0.x": ("60002", "debian-13"),
}
BRANCHES = tuple(RELEASES)
DISTRIBUTIONS = ("debian-12", "debian-13")


@cache
def select(branch: str, distribution: str, *system: str) -> Selection:
    manifest = CATALOG.manifest(branch)
    return Selection(
        manifest=manifest,
        recipes={name: CATALOG.recipe(name) for name in manifest.components},
        target=CATALOG.target("x86_64"),
        distribution=CATALOG.distribution(distribution),
        gpus=manifest.gpus,
        system=frozenset(system),
        tools={"cmake": "3.31", "ninja": "1.13"},
    )


@cache
def plan(branch: str, distribution: str, *system: str) -> Plan:
    return make_plan(select(branch, distribution, *system), {})


def edits(branch: str, component: str, distribution: str, *system: str) -> tuple[Edit, ...]:
    return resolve(select(branch, distribution, *system))[Machine.HOST][component].edits


# ---- the releases


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_release_is_built_with_the_recipes_of_5_6(branch: str) -> None:
    manifest, first = CATALOG.manifest(branch), CATALOG.manifest("rocm-5.6.x")
    assert list(manifest.components) == list(first.components)
    assert {name: component.subdir for name, component in manifest.components.items()} == {
        name: component.subdir for name, component in first.components.items()
    }
    assert manifest.distributions == DISTRIBUTIONS
    assert manifest.distribution == RELEASES[branch][1]


@pytest.mark.parametrize("branch", BRANCHES)
def test_refs_are_those_of_the_release_and_each_repository_has_its_own_kind(branch: str) -> None:
    manifest = CATALOG.manifest(branch)
    number = branch.removeprefix("rocm-").removesuffix(".x")
    others = {"rocm-cmake": f"release/rocm-rel-{number}", "llvm": f"rocm-{manifest.version}"}
    assert manifest.version.startswith(f"{number}.")
    for source in (source for source in manifest.sources() if source.kind == "git"):
        assert source.ref == others.get(source.name, branch), source.name


@pytest.mark.parametrize(
    ("branch", "source", "urls"),
    [
        (
            "rocm-5.7.x",
            "rocr",
            ("https://github.com/RadeonOpenCompute/ROCR-Runtime", "https://github.com/ROCm/ROCR-Runtime"),
        ),
        ("rocm-5.7.x", "clr", ("https://github.com/ROCm-Developer-Tools/clr", "https://github.com/ROCm/clr")),
        ("rocm-6.0.x", "clr", ("https://github.com/ROCm/clr",)),
    ],
)
def test_repositories_are_looked_for_where_they_were_and_where_they_are(
    branch: str, source: str, urls: tuple[str, ...]
) -> None:
    assert {s.name: s.urls for s in CATALOG.manifest(branch).sources()}[source] == urls


# ---- their plans


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("branch", BRANCHES)
def test_a_release_is_planned_with_the_compiler_of_amd_or_of_the_distribution(branch: str, distribution: str) -> None:
    own, system = plan(branch, distribution), plan(branch, distribution, "llvm")
    assert {job.action for job in own.jobs} == {Action.BUILD}
    assert [job.node.component for job in system.jobs if job.action is Action.PROVIDED] == ["llvm"]
    assert {job.node.component for job in system.jobs} == set(CATALOG.manifest(branch).components)


@pytest.mark.parametrize(("branch", "number"), [(branch, number) for branch, (number, _) in RELEASES.items()])
def test_packages_have_the_versions_of_amds_and_the_number_of_the_release(branch: str, number: str) -> None:
    versions = plan(branch, "debian-13", "llvm").package_versions
    components = CATALOG.manifest(branch).components
    for package, component in {
        "hsa-rocr": "rocr",
        "comgr": "comgr",
        "hip-dev": "clr-hip",
        "rocm-cmake": "rocm-cmake",
    }.items():
        assert versions[package] == f"{components[component].version}.{number}-1~debian13"


def test_releases_share_no_key() -> None:
    keys = [job.key for branch in BRANCHES for job in plan(branch, "debian-13").jobs]
    assert len(set(keys)) == len(keys)


# ---- the changes for LLVM 17


@pytest.mark.parametrize("component", ["comgr", "device-libs"])
@pytest.mark.parametrize("branch", BRANCHES)
def test_what_amd_released_together_fits_as_it_is(branch: str, component: str) -> None:
    for found in (edits(branch, component, "debian-13"), edits(branch, component, "debian-12", "llvm")):
        assert {edit.file for edit in found} <= {"cmake/OCL.cmake", "cmake/Packages.cmake"}


def test_comgr_of_5_6_and_5_7_is_changed_alike_for_llvm_17() -> None:
    found = {branch: edits(branch, "comgr", "debian-13", "llvm") for branch in BRANCHES}
    assert found["rocm-5.6.x"] and found["rocm-5.6.x"] == found["rocm-5.7.x"]
    assert not found["rocm-6.0.x"]


BEFORE_17 = {
    # file: what it has of 5.6, and what that becomes
    "src/comgr-compiler.cpp": (
        '#include "llvm/Support/Host.h"\n#include <x>\n\nusing namespace llvm;\nusing namespace clang;\n'
        "  ArrayRef<const char *> ArgRefs = llvm::makeArrayRef(LLDArgs);\n",
        '#include "llvm/TargetParser/Host.h"\n#include <x>\n\nLLD_HAS_DRIVER(elf)\n\nusing namespace llvm;\n'
        "using namespace clang;\n  ArrayRef<const char *> ArgRefs(LLDArgs);\n",
    ),
    "src/comgr-objdump.cpp": (
        '#include "llvm/ADT/Optional.h"\n#include "llvm/ADT/Triple.h"\n#include "llvm/Support/Host.h"\n'
        "  Optional<A> One;\n  llvm::Optional<B> Two;\n",
        '#include <optional>\n#include "llvm/TargetParser/Triple.h"\n#include "llvm/TargetParser/Host.h"\n'
        "  std::optional<A> One;\n  std::optional<B> Two;\n",
    ),
    "src/comgr-env.h": (
        '#include "llvm/ADT/Optional.h"\nllvm::Optional<llvm::StringRef> logs();\n',
        "#include <optional>\nstd::optional<llvm::StringRef> logs();\n",
    ),
    "src/comgr-env.cpp": ("Optional<StringRef> logs() {\n", "std::optional<StringRef> logs() {\n"),
    "src/time-stat/time-stat.cpp": (
        '#include "llvm/ADT/Optional.h"\n  if (Optional<StringRef> Logs = logs()) {\n',
        "#include <optional>\n  if (std::optional<StringRef> Logs = logs()) {\n",
    ),
    "src/comgr-disassembly.cpp": (
        '#include "comgr-disassembly.h"\n',
        '#include "comgr-disassembly.h"\n#include "llvm/ADT/StringExtras.h"\n',
    ),
    "src/comgr-elfdump.cpp": (
        '#include "llvm/Object/ELFObjectFile.h"\n  countTrailingZeros<uint64_t>(Align)\n',
        '#include "llvm/ADT/bit.h"\n#include "llvm/Object/ELFObjectFile.h"\n  llvm::countr_zero<uint64_t>(Align)\n',
    ),
    "src/comgr-metadata.cpp": (
        "auto Text = Note.getDescAsStringRef();\n" + "Note.getDesc().size();\n" * 7,
        "auto Text = Note.getDescAsStringRef(4);\n" + "Note.getDesc(4).size();\n" * 7,
    ),
    "src/comgr-symbolizer.cpp": (
        "  auto Printer = std::make_unique<LLVMPrinter>(OS, OS, Config);\n",
        "  auto OnError = [&OS](const llvm::ErrorInfoBase &Info, llvm::StringRef Banner) {\n    OS << Banner;\n"
        "    Info.log(OS);\n    OS << '\\n';\n  };\n"
        "  auto Printer = std::make_unique<LLVMPrinter>(OS, OnError, Config);\n",
    ),
    "src/comgr.cpp": (
        "  Optional<StringRef> Logs;\nfor (auto &V : M->getGlobalList())\nfor (auto &F : M->getFunctionList())\n",
        "  std::optional<StringRef> Logs;\nfor (auto &V : M->globals())\nfor (auto &F : M->functions())\n",
    ),
}  # fmt: skip


@pytest.fixture
def comgr(tmp_path: Path) -> Path:
    return write(tmp_path, {file: before for file, (before, _) in BEFORE_17.items()})


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def read(directory: Path) -> dict[str, str]:
    return {str(p.relative_to(directory)): p.read_text() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_comgr_written_for_llvm_16_is_changed_for_17(comgr: Path) -> None:
    outcomes = apply_edits(comgr, edits("rocm-5.6.x", "comgr", "debian-13", "llvm"))
    assert read(comgr) == {file: after for file, (_, after) in BEFORE_17.items()}
    assert {outcome.kind for outcome in outcomes} == {"applied"}


def test_comgr_written_for_llvm_17_has_it_already(comgr: Path) -> None:
    changes = edits("rocm-5.7.x", "comgr", "debian-13", "llvm")
    apply_edits(comgr, changes)
    after = read(comgr)
    assert {outcome.kind for outcome in apply_edits(comgr, changes)} == {"present"}
    assert read(comgr) == after


def test_either_number_of_notes_fits(comgr: Path) -> None:
    metadata = comgr / "src/comgr-metadata.cpp"
    metadata.write_text("Note.getDescAsStringRef();\n" + "Note.getDesc();\n" * 6)
    outcomes = apply_edits(comgr, edits("rocm-5.6.x", "comgr", "debian-13", "llvm"))
    assert [outcome.kind for outcome in outcomes if outcome.file.endswith("metadata.cpp")] == [
        "applied",
        "present",
        "applied",
    ]
    assert metadata.read_text() == "Note.getDescAsStringRef(4);\n" + "Note.getDesc(4);\n" * 6


def test_of_the_dot_products_only_that_of_halves_changes(tmp_path: Path) -> None:
    other = '__attribute__((target("dot7-insts"), const)) static uint amdgcn_udot4(uint a, uint b, uint c, bool s)\n'
    half = '__attribute__((target("{}"), const)) static float amdgcn_fdot2(half2 a, half2 b, float c, bool s)\n'
    tree = write(tmp_path, {"ockl/src/dots.cl": half.format("dot7-insts") + other})
    changes = edits("rocm-5.6.x", "device-libs", "debian-13", "llvm")
    assert [outcome.kind for outcome in apply_edits(tree, changes)] == ["applied"]
    assert read(tree) == {"ockl/src/dots.cl": half.format("dot10-insts") + other}
    assert [outcome.kind for outcome in apply_edits(tree, changes)] == ["present"]


def test_bitcode_goes_below_the_prefix_where_the_sources_would_put_it_into_the_compiler(tmp_path: Path) -> None:
    own = "DESTINATION ${CLANG_RESOURCE_DIR}/${SUFFIX}\n"
    tree = write(tmp_path, {f"cmake/{name}.cmake": own for name in ("OCL", "Packages")})
    changes = edits("rocm-6.0.x", "device-libs", "debian-13")
    for kind in ("applied", "present"):
        assert [outcome.kind for outcome in apply_edits(tree, changes)] == [kind, kind]
        assert set(read(tree).values()) == {"DESTINATION ${CMAKE_INSTALL_PREFIX}/${SUFFIX}\n"}
