"""What a plan decides, and why it says so."""

from __future__ import annotations

import dataclasses

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.model.manifest import Source
from rocmbuild.plan.estimate import DISK, Estimate
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Action
from rocmbuild.plan.selection import ROOT, facts, root_packages
from tests.releases import stamps_of

LLVM = """\
home: "{prefix}/llvm"
needs: {system: [python3]}
packages: [{name: rocm-llvm, summary: s}]
provided:
  testix:
    version: "17.0.6"
    home: /usr/lib/llvm-17
    system: [llvm-17-dev]
    runtime: [libllvm17]
    links: {llvm: "{home}"}
"""

HIP = """\
needs: {tools: [llvm], system: ["lib-{major:llvm}-dev"]}
cost: 100
cmake: {variables: {LLVM: "{home:llvm}", V: "{version}"}}
packages: [{name: hip-dev, summary: s}]
"""


@pytest.fixture
def small(release):
    """core, llvm ← hip ← blas; free stands alone."""
    release.manifest(
        "components:\n"
        "  llvm: {version: '16.0.0'}\n"
        "  hip: {version: '5.6.31'}\n"
        "  blas: {version: '3.0'}\n"
        "  free: {version: '1.0'}\n"
    )
    release.recipe("llvm", LLVM)
    release.recipe("hip", HIP)
    release.recipe("blas", "needs: {libs: [hip], python: ['wheel==0.42.0', 'build==1.0']}\ncost: 10\n")
    release.recipe("free")
    return release


def built(plan, root="R", *, names=None, **changes):
    """Return stamps that say all of a plan was built, one field changed."""
    found = {node.component: known for node, known in stamps_of(plan, root).items()}
    found = {name: known for name, known in found.items() if names is None or name in names}
    return found | {name: dataclasses.replace(found[name], **fields) for name, fields in changes.items()}


def rows(plan):
    return {job.node.component: (job.action.value, job.reason, job.repackage) for job in plan.jobs}


def test_nothing_is_built_yet(small):
    assert rows(small.plan()) == dict.fromkeys(["llvm", "hip", "blas", "free"], ("BUILD", "not built yet", True))


def test_each_job_comes_after_its_needs(small):
    plan = small.plan()
    assert [job.name for job in plan.jobs] == ["free", "llvm", "hip", "blas"]
    assert plan.job("blas").after == (Node("hip"),)
    assert plan.job("blas").needs == (Node("hip"), Node("llvm"))
    assert plan.job("free").after == ()


def test_everything_is_up_to_date(small):
    plan = small.plan(built(small.plan()), "R")
    assert rows(plan) == dict.fromkeys(["llvm", "hip", "blas", "free"], ("KEEP", "up to date", False))
    assert plan.building == ()


def test_without_a_root_yet_what_was_built_is_kept(small):
    assert {action for action, *_ in rows(small.plan(built(small.plan()), None)).values()} == {"KEEP"}


def test_a_changed_recipe_rebuilds_it_and_its_dependants(small):
    before = built(small.plan())
    small.recipe("hip", HIP.replace("LLVM:", "LLVM_DIR:"))
    plan = small.plan(before, "R")
    assert rows(plan) == {
        "free": ("KEEP", "up to date", False),
        "llvm": ("KEEP", "up to date", False),
        "hip": ("BUILD", "its inputs changed", True),
        "blas": ("BUILD", "hip is built anew; kept if that changes nothing", True),
    }
    assert [job.name for job in plan.building] == ["hip", "blas"]


def test_what_is_missing_rebuilds_its_dependants(small):
    plan = small.plan(built(small.plan(), names=["hip", "blas", "free"]), "R")
    assert rows(plan) == {
        "free": ("KEEP", "up to date", False),
        "llvm": ("BUILD", "not built yet", True),
        "hip": ("BUILD", "llvm is built anew; kept if that changes nothing", True),
        "blas": ("BUILD", "hip is built anew; kept if that changes nothing", True),
    }


def test_another_root_rebuilds_everything(small):
    found = rows(small.plan(built(small.plan(), "old"), "new"))
    assert set(found.values()) == {("BUILD", "the build root has other package versions", True)}


def test_one_component_from_another_root(small):
    found = rows(small.plan(built(small.plan(), free={"root": "old"}), "R"))
    assert found["free"] == ("BUILD", "the build root has other package versions", True)
    assert found["llvm"] == ("KEEP", "up to date", False)


def test_packages_alone_are_made_anew(small):
    before = built(small.plan())
    small.recipe("hip", HIP.replace("summary: s}", "summary: other}"))
    found = rows(small.plan(before, "R"))
    assert found["hip"] == ("KEEP", "up to date", True)
    assert found["blas"] == ("KEEP", "up to date", False)


def test_packages_that_are_not_there_are_made(small):
    found = rows(small.plan(built(small.plan(), hip={"packages": None}), "R"))
    assert {name: row[2] for name, row in found.items()} == {"llvm": False, "hip": True, "blas": False, "free": False}


def test_what_the_system_provides_is_not_built(small):
    plan = small.plan(system=frozenset({"llvm"}))
    llvm, hip = plan.job("llvm"), plan.job("hip")
    assert (llvm.action, llvm.reason, llvm.repackage) == (Action.PROVIDED, "by testix", True)
    assert not llvm.recipe.builds
    assert llvm.provided.runtime == ("libllvm17",)
    assert hip.recipe.variables == {"LLVM": "/usr/lib/llvm-17", "V": "5.6.31"}
    assert plan.job("free").provided is None


def test_what_the_system_provides_is_done_once(small):
    system = frozenset({"llvm"})
    before = built(small.plan(system=system))
    found = rows(small.plan(before, "R", system=system))
    assert found["llvm"] == ("PROVIDED", "by testix", False)
    assert found["hip"] == ("KEEP", "up to date", False)


def test_what_the_system_provides_differently_is_made_anew_and_so_are_its_users(small):
    system = frozenset({"llvm"})
    before = built(small.plan(system=system))
    small.recipe("llvm", LLVM.replace("/usr/lib/llvm-17", "/usr/lib/llvm-18"))
    found = rows(small.plan(before, "R", system=system))
    assert found["llvm"] == ("PROVIDED", "by testix", True)
    assert found["hip"] == ("BUILD", "its inputs changed", True)
    assert found["blas"][0] == "BUILD"


def test_changing_to_the_systems_one_rebuilds_its_users(small):
    found = rows(small.plan(built(small.plan()), "R", system=frozenset({"llvm"})))
    assert found["llvm"] == ("PROVIDED", "by testix", True)
    assert found["hip"][:2] == ("BUILD", "its inputs changed")


def test_a_selection_plans_what_it_needs_with_the_same_keys(small):
    whole, part = small.plan(), small.plan(components=("hip",))
    assert [job.name for job in part.jobs] == ["llvm", "hip"]
    assert part.job("hip").key == whole.job("hip").key
    assert part.job("hip").package_key == whole.job("hip").package_key


def test_an_unknown_component_is_named(small):
    with pytest.raises(UsageError, match="there is no component hpi"):
        small.plan(components=("hpi",))


def test_costs_are_those_of_recipes_until_better_ones_are_given(small):
    plan = small.plan()
    assert plan.job("hip").estimate == Estimate(100.0, 100.0, 1 << 30, 100 * DISK, "recipe")
    better = Estimate(9.0, 17.0, 1 << 20, 1 << 21, "measured")
    other = plan.with_estimates({plan.job("hip").node: better})
    assert (other.job("hip").estimate, other.job("hip").cost) == (better, 9.0)
    assert other.job("blas") == plan.job("blas")
    row = other.job("hip").row()
    assert (row["estimate"], row["seconds"], row["basis"]) == (17.0, 9.0, "measured")


def test_what_is_not_built_takes_nothing(small):
    plan = small.plan(built(small.plan(), names=["llvm"]), "R")
    assert {name: plan.job("llvm").row()[name] for name in ("estimate", "seconds", "memory", "disk", "basis")} == {
        "estimate": 0.0,
        "seconds": 0.0,
        "memory": 0,
        "disk": 0,
        "basis": "",
    }


def test_a_row_as_json_shows_it(small):
    plan = small.plan()
    assert plan.job("hip").row() == {
        "component": "hip",
        "machine": "host",
        "action": "BUILD",
        "version": "5.6.31",
        "fingerprint": plan.job("hip").key,
        "action_key": None,
        "conditional": False,
        "needs": ["llvm"],
        "estimate": 100.0,
        "reason": "not built yet",
        "package": True,
        "seconds": 100.0,
        "memory": 1 << 30,
        "disk": 100 * DISK,
        "basis": "recipe",
    }
    assert small.plan(built(plan), "R").job("hip").row()["estimate"] == 0.0


def test_the_root_has_what_all_recipes_ask_for(small):
    base = ("dash", "lib-16-dev", "libc6-dev", "python3")
    assert small.plan().roots == {Machine.HOST: {ROOT: base}}
    provided = ("dash", "lib-17-dev", "libc6-dev", "llvm-17-dev", "python3")
    assert small.plan(system=frozenset({"llvm"})).roots == {Machine.HOST: {ROOT: provided}}
    assert small.plan().python_packages == ("build==1.0", "wheel==0.42.0")


def test_every_selection_has_the_same_root(small):
    assert root_packages(small.selection(components=("free",))) == root_packages(small.selection())


def test_package_versions_have_amds_form(small):
    plan = small.plan()
    assert plan.package_versions == {"rocm-llvm": "16.0.0.50601-1~testix1", "hip-dev": "5.6.31.50601-1~testix1"}
    assert plan.job("hip").deb_version == "5.6.31.50601-1~testix1"


def test_values_of_placeholders(small):
    plan = small.plan()
    values = plan.job("hip").values
    assert {
        key: values[key] for key in ("prefix", "release", "release:number", "version", "arch", "triple", "gpus")
    } == {
        "prefix": "/opt/rocm-5.6.1",
        "release": "5.6.1",
        "release:number": "50601",
        "version": "5.6.31",
        "arch": "amd64",
        "triple": "x86_64-linux-gnu",
        "gpus": "gfx1030",
    }
    assert values["home:llvm"] == "/opt/rocm-5.6.1/llvm"
    assert (values["version:llvm"], values["major:llvm"]) == ("16.0.0", "16")
    assert values["source:llvm"] == "{source:llvm}"
    assert values["source"] == "{source:hip}"
    assert plan.values["home:hip"] == "/opt/rocm-5.6.1"


def test_gpus_are_a_list_of_cmake(small):
    assert small.plan(gpus=("gfx1030", "gfx90a")).values["gpus"] == "gfx1030;gfx90a"


def test_an_unknown_placeholder_names_the_recipe(small):
    small.recipe("hip", HIP.replace("{home:llvm}", "{home:lvm}"))
    with pytest.raises(UsageError) as caught:
        small.plan()
    assert caught.value.message == "unknown placeholder {home:lvm}"
    assert caught.value.where == f"{small.directory}/recipes/hip/recipe.yaml:1:1"
    assert "home:llvm" in caught.value.hint


def test_every_string_that_is_built_with_is_substituted(small):
    small.recipe(
        "hip",
        """\
        needs: {tools: [llvm]}
        cmake: {variables: {A: "{prefix}"}}
        environment: {E: "{arch}"}
        edits: [{file: x, find: '{prefix}', replace: '{prefix}', why: w}, {file: y, write: '{release}', why: w}]
        add: [{path: '{release}', text: '{major:llvm}', why: w}, {path: x, link: '{home:llvm}', why: w}]
        """,
    )
    recipe = small.plan().job("hip").recipe
    assert recipe.variables == {"A": "/opt/rocm-5.6.1"}
    assert recipe.environment == {"E": "amd64"}
    assert [(edit.find, edit.replace, edit.write) for edit in recipe.edits] == [
        ("{prefix}", "/opt/rocm-5.6.1", None),
        ("", "", "5.6.1"),
    ]
    assert [(item.path, item.text, item.link) for item in recipe.additions] == [
        ("5.6.1", "16", None),
        ("x", None, "/opt/rocm-5.6.1/llvm"),
    ]


def test_variables_of_the_manifest_override_the_recipes(small):
    small.manifest(
        "components:\n  llvm: {version: '16'}\n"
        "  hip: {version: '1', variables: {LLVM: '{release}', N: true}, environment: {E: '{arch}'}}\n"
    )
    recipe = small.plan().job("hip").recipe
    assert recipe.variables == {"LLVM": "5.6.1", "V": "1", "N": "ON"}
    assert recipe.environment == {"E": "amd64"}


def test_a_source_of_ones_own_takes_the_place_of_the_manifests(small):
    small.manifest(
        "sources: {hip: {debian: x, sha256: " + "ab" * 32 + "}}\n"
        "components: {llvm: {version: '16'}, hip: {version: '1', subdir: deep}}\n"
    )
    source = Source("hip", "local", path="/mine", sha256="1")
    job = small.plan(sources={"hip": source}).job("hip")
    assert job.component.source is source
    assert job.component.subdir == "."
    assert small.plan().job("hip").component.subdir == "deep"


@pytest.mark.parametrize(
    ("system", "llvm", "is_system"), [(frozenset(), "16.0.0", False), (frozenset({"llvm"}), "17.0.6", True)]
)
def test_facts_speak_of_the_llvm_in_use(small, system, llvm, is_system):
    selection = small.selection(system=system)
    found = facts(selection, selection.manifest.components["llvm"])
    assert (found.llvm, found.system, found.version, found.release, found.arch) == (
        llvm,
        is_system,
        "16.0.0",
        "5.6.1",
        "amd64",
    )
    assert found.components == {"llvm", "hip", "blas", "free"}


def test_a_release_without_llvm(release):
    release.components("free")
    release.recipe("free", "variants: [{when: {llvm: '>=1'}, environment: {E: x}}]\n")
    assert release.plan().job("free").recipe.environment == {}


def test_an_unknown_job_is_a_bug(small):
    with pytest.raises(KeyError):
        small.plan().job("nothing")


def test_a_cross_build_has_a_job_for_each_machine(small):
    small.recipe("blas", "needs: {libs: [hip, llvm]}\n")
    plan = small.cross_plan(components=("blas",))
    assert [job.name for job in plan.jobs] == ["llvm (build)", "hip", "llvm", "blas"]
    keys = {job.key for job in plan.jobs}
    assert len(keys) == 4
    assert plan.job("hip").needs == (Node("llvm", "build"),)
    assert plan.job("llvm", Machine.BUILD) is plan.jobs[0]


def test_what_the_distribution_provides_is_not_fetched(release):
    release.manifest(
        "remotes: {far: ['https://forge.invalid/']}\n"
        "sources: {llvm: {repository: llvm-project, remote: far, ref: main}}\n"
        "components: {llvm: {version: '16.0.0'}}\n"
    )
    release.recipe("llvm", LLVM)
    assert release.plan().job("llvm").component.source.kind == "git"
    assert release.plan(system=frozenset({"llvm"})).job("llvm").component.source.kind == "none"


@pytest.mark.parametrize(("made", "subdir"), [("lib/comgr", "lib/comgr"), ("other", ".")])
def test_a_checkout_is_of_the_repository_or_of_the_directory(release, tmp_path, made, subdir):
    release.manifest("components: {comgr: {version: '2.5', subdir: lib/comgr}}\n")
    release.recipe("comgr")
    (tmp_path / "checkout" / made).mkdir(parents=True)
    local = Source("comgr", "local", path=str(tmp_path / "checkout"), sha256="0")
    assert release.plan(sources={"comgr": local}).job("comgr").component.subdir == subdir


def test_packages_are_made_again_when_those_they_depend_on_change_hands(small):
    before = small.plan().job("hip")
    small.recipe("llvm", LLVM.replace("summary: s}", "summary: s}, {name: llvm-libs, summary: t}"))
    after = small.plan().job("hip")
    assert (before.key, before.package_key != after.package_key) == (after.key, True)
