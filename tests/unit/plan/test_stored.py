"""What a plan takes from the store: what was made there from the same inputs, over the same root."""

from __future__ import annotations

import dataclasses

import pytest

from rocmbuild.model.manifest import Source
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Stored
from tests.releases import stamps_of, stored_of

PACKAGES = "packages: [{name: NAME, summary: s}]\n"


@pytest.fixture
def chain(release):
    """A release of three components, each needing the one before: base ← middle ← top."""
    release.components("base", "middle", "top")
    release.recipe("base", PACKAGES.replace("NAME", "base"))
    release.recipe("middle", "needs: {libs: [base]}\n" + PACKAGES.replace("NAME", "middle"))
    release.recipe("top", "needs: {libs: [middle]}\n" + PACKAGES.replace("NAME", "top"))
    return release


def actions(plan):
    return {job.name: job.action.value for job in plan.jobs}


def test_an_empty_workspace_takes_everything_from_a_full_store(chain):
    stored = stored_of(chain.plan(root="R"))
    plan = chain.plan(root="R", stored=stored)
    assert actions(plan) == dict.fromkeys(("base", "middle", "top"), "RESTORE")
    assert not any(job.repackage or job.conditional for job in plan.jobs)
    assert {job.node.component: job.stored for job in plan.jobs} == dict(stored.keys())
    assert plan.job("top").reason == "not built yet; the store has it"


def test_what_is_here_is_kept_and_not_restored(chain):
    first = chain.plan(root="R")
    plan = chain.plan(stamps_of(first), root="R", stored=stored_of(first))
    assert set(actions(plan).values()) == {"KEEP"}


@pytest.mark.parametrize("root", [None, "another"])
def test_another_root_or_one_that_is_not_made_yet_takes_nothing(chain, root):
    plan = chain.plan(root=root, stored=stored_of(chain.plan(root="R")))
    assert set(actions(plan).values()) == {"BUILD"}


def test_other_inputs_take_nothing_and_what_needs_them_cannot_be_known(chain):
    stored = stored_of(chain.plan(root="R"))
    chain.recipe("middle", "needs: {libs: [base]}\ncmake: {variables: {A: b}}\n" + PACKAGES.replace("NAME", "middle"))
    plan = chain.plan(root="R", stored=stored)
    assert actions(plan) == {"base": "RESTORE", "middle": "BUILD", "top": "BUILD"}
    assert plan.job("top").stored is None, "the output of middle decides"
    assert plan.job("middle").stored is not None


def test_a_component_that_gives_the_same_as_before_brings_back_what_needs_it(chain):
    """The key of what needs it has the output that the store tells, not how that came about."""
    stored = stored_of(chain.plan(root="R"))
    other = {
        key: dataclasses.replace(item, output="else") if key[0] == "middle" else item for key, item in stored.items()
    }
    assert actions(chain.plan(root="R", stored=other)) == {"base": "RESTORE", "middle": "RESTORE", "top": "BUILD"}


def test_packages_are_made_again_if_those_in_the_store_are_of_other_rules(chain):
    stored = stored_of(chain.plan(root="R"))
    chain.recipe(
        "middle", "needs: {libs: [base]}\n" + PACKAGES.replace("summary: s", "summary: t").replace("NAME", "middle")
    )
    plan = chain.plan(root="R", stored=stored)
    assert set(actions(plan).values()) == {"RESTORE"}
    assert [job.name for job in plan.jobs if job.repackage] == ["middle"]


def test_a_stage_tree_without_packages_is_restored_and_packaged(chain):
    stored = {key: Stored(item.output, None) for key, item in stored_of(chain.plan(root="R")).items()}
    plan = chain.plan(root="R", stored=stored)
    assert {(job.action.value, job.repackage) for job in plan.jobs} == {("RESTORE", True)}


def test_checkouts_what_the_distribution_provides_and_host_builds_are_not_stored(chain, tmp_path):
    (tmp_path / "checkout").mkdir()
    chain.recipe("base", "provided: {testix: {version: '1', home: /usr, system: [base-dev]}}\n")
    plan = chain.plan(root="R", system=frozenset({"base"}))
    assert [job.name for job in plan.jobs if job.storable] == ["middle", "top"]
    assert not any(job.storable for job in chain.plan(root="R", environment="host").jobs)


@pytest.mark.parametrize("cross", [False, True])
def test_what_reads_a_checkout_of_another_component_is_not_stored(release, tmp_path, cross):
    release.components("text", "reader", "user")
    release.recipe("text")
    release.recipe("reader", "needs: {sources: [text]}\nmachine_independent: true\n")
    release.recipe("user", "needs: {libs: [reader]}\n")
    plan = release.cross_plan if cross else release.plan
    assert all(job.storable for job in plan().jobs)
    checkout = Source("text", "local", path=str(tmp_path), sha256="1")
    storable = {job.node.component for job in plan(sources={"text": checkout}).jobs if job.storable}
    assert storable == {"user"}, "its key has the output of what it needs"


def test_a_cross_build_takes_tools_from_the_store_of_native_builds(chain):
    chain.recipe("top", "needs: {tools: [middle]}\n" + PACKAGES.replace("NAME", "top"))
    native = chain.plan(root="R")
    plan = chain.cross_plan({}, {Machine.BUILD: "R", Machine.HOST: "S"}, stored_of(native))
    restored = [str(job.node) for job in plan.jobs if job.action.value == "RESTORE"]
    assert restored == ["base (build)", "middle (build)"]
    assert plan.at(Node("middle", "build")).repackage is False, "packages are of the host machine"
