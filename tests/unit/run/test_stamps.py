from __future__ import annotations

import pytest

from rocmbuild.model.manifest import Source
from rocmbuild.plan.plan import Built
from rocmbuild.run.stamps import Stamps
from rocmbuild.workspace import Workspace, write_json


@pytest.fixture
def stamps(tmp_path):
    return Stamps(Workspace(tmp_path / "w", "small", "testix-amd64"))


@pytest.fixture
def job(release):
    release.components("hip")
    release.recipe("hip")
    return release.plan().job("hip")


def test_nothing_is_known_of_a_new_workspace(stamps):
    assert stamps.built(["hip"]) == {}


def test_what_was_built_is_known(stamps, job):
    stamps.workspace.stage("hip").mkdir(parents=True)
    stamps.record(job, "root", "output", 12.3456)
    assert stamps.built(["hip", "llvm"]) == {"hip": Built(job.key, "root", None, 12.35, "output")}
    write_json(stamps.workspace.debs("hip") / "key.json", {"key": job.package_key})
    assert stamps.built(["hip"])["hip"].packages == job.package_key


def test_a_plan_after_a_build_keeps_it(stamps, job, release):
    stamps.workspace.stage("hip").mkdir(parents=True)
    stamps.record(job, "root", "output", 1)
    write_json(stamps.workspace.debs("hip") / "key.json", {"key": job.package_key})
    kept = release.plan(stamps.built(["hip"]), "root").job("hip")
    assert (kept.action.value, kept.repackage) == ("KEEP", False)


def test_a_stamp_without_its_tree_does_not_count(stamps, job):
    stamps.record(job, "root", "output", 1)
    assert stamps.built(["hip"]) == {}


@pytest.mark.parametrize("content", ["", "{", "null"])
def test_a_stamp_that_is_not_whole_does_not_count(stamps, job, content):
    stamps.workspace.stage("hip").mkdir(parents=True)
    stamps.workspace.stamp("hip").write_text(content)
    assert stamps.built(["hip"]) == {}


def test_a_stamp_is_forgotten_before_the_tree_is_touched(stamps, job):
    stamps.workspace.stage("hip").mkdir(parents=True)
    stamps.record(job, "root", "output", 1)
    stamps.forget("hip")
    stamps.forget("hip")
    assert stamps.built(["hip"]) == {}


def test_a_build_on_the_host_has_no_root(stamps, job):
    stamps.workspace.stage("hip").mkdir(parents=True)
    stamps.record(job, None, "output", 1)
    assert stamps.built(["hip"])["hip"].root is None


def configured(stamps, name):
    """Leave what CMake leaves when it is done."""
    stamps.workspace.build(name).mkdir(parents=True, exist_ok=True)
    (stamps.workspace.build(name) / "build.ninja").touch()


def test_a_build_tree_that_is_gone_or_touched_does_not_fit(stamps, job):
    stamps.record_tree(job, "root")
    assert not stamps.tree_fits(job, "root")
    configured(stamps, "hip")
    assert stamps.tree_fits(job, "root")
    stamps.forget_tree(job)
    assert not stamps.tree_fits(job, "root")


def test_a_build_tree_fits_the_job_and_the_root_it_was_configured_for(stamps, job, release):
    configured(stamps, "hip")
    assert not stamps.tree_fits(job, "root")
    stamps.record_tree(job, "root")
    assert stamps.tree_fits(job, "root")
    assert not stamps.tree_fits(job, "other root")
    assert not stamps.tree_fits(job, None)
    release.recipe("hip", "environment: {A: b}\n")
    assert not stamps.tree_fits(release.plan().job("hip"), "root")


def test_a_build_tree_goes_on_when_a_local_source_changes(stamps, job, release):
    one, two, other = (
        release.plan(sources={"hip": Source("hip", "local", path=path, sha256=sha)}).job("hip")
        for path, sha in (("/mine", "1"), ("/mine", "2"), ("/other", "1"))
    )
    configured(stamps, "hip")
    stamps.record_tree(one, "root")
    assert stamps.tree_fits(two, "root")
    assert not stamps.tree_fits(other, "root")
