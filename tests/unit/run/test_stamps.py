from __future__ import annotations

from dataclasses import replace

import pytest

from rocmbuild.model.manifest import Source
from rocmbuild.plan.history import Built, Record
from rocmbuild.run.stamps import Stamps
from rocmbuild.workspace import Workspace, read_json, write_json, write_stamp


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
    stamps.record(job, "root", "output", 12.3456, needs={})
    records = (Record(job.key, job.own_key, {}),)
    known = Built(job.key, "root", None, 12.35, "output", records, job.inputs)
    assert stamps.built(["hip", "llvm"]) == {"hip": known}
    write_json(stamps.workspace.debs("hip") / "key.json", {"key": job.package_key})
    assert stamps.built(["hip"])["hip"].packages == job.package_key


def test_a_plan_after_a_build_keeps_it(stamps, job, release):
    stamps.workspace.stage("hip").mkdir(parents=True)
    stamps.record(job, "root", "output", 1, needs={})
    write_json(stamps.workspace.debs("hip") / "key.json", {"key": job.debs_key("output", {}, "root")})
    kept = release.plan(stamps.built(["hip"]), "root").job("hip")
    assert (kept.action.value, kept.repackage) == ("KEEP", False)


def test_a_stamp_without_its_tree_does_not_count(stamps, job):
    stamps.record(job, "root", "output", 1, needs={})
    assert stamps.built(["hip"]) == {}


@pytest.mark.parametrize("content", ["", "{", "null", "[]", "{}"])
def test_a_stamp_that_is_not_whole_does_not_count(stamps, job, content):
    stamps.workspace.stage("hip").mkdir(parents=True)
    stamps.workspace.stamp("hip").write_text(content)
    assert stamps.built(["hip"]) == {}


@pytest.mark.parametrize("records", [None, 7, [7], [{}]])
def test_a_stamp_with_other_records_does_not_count(stamps, job, records):
    stamps.workspace.stage("hip").mkdir(parents=True)
    data = {"key": "k", "root": "r", "output": "o", "seconds": 1.0, "records": records}
    write_stamp(stamps.workspace.stamp("hip"), data)
    assert stamps.built(["hip"]) == {}


def test_a_stamp_is_forgotten_before_the_tree_is_touched(stamps, job):
    stamps.workspace.stage("hip").mkdir(parents=True)
    stamps.record(job, "root", "output", 1, needs={})
    stamps.forget("hip")
    stamps.forget("hip")
    assert stamps.built(["hip"]) == {}


def test_a_build_on_the_host_has_no_root(stamps, job):
    stamps.workspace.stage("hip").mkdir(parents=True)
    stamps.record(job, None, "output", 1, needs={})
    assert stamps.built(["hip"])["hip"].root is None


def configured(stamps, name):
    """Leave what CMake leaves when it is done."""
    stamps.workspace.build(name).mkdir(parents=True, exist_ok=True)
    (stamps.workspace.build(name) / "build.ninja").touch()


def test_a_build_tree_that_is_gone_or_touched_does_not_fit(stamps, job):
    stamps.record_tree(job, "root", {})
    assert not stamps.tree_fits(job, "root", {})
    configured(stamps, "hip")
    assert stamps.tree_fits(job, "root", {})
    stamps.forget_tree(job)
    assert not stamps.tree_fits(job, "root", {})


def test_a_build_tree_fits_the_job_and_the_root_it_was_configured_for(stamps, job, release):
    configured(stamps, "hip")
    assert not stamps.tree_fits(job, "root", {})
    stamps.record_tree(job, "root", {})
    assert stamps.tree_fits(job, "root", {})
    assert not stamps.tree_fits(job, "other root", {})
    assert not stamps.tree_fits(job, None, {})
    release.recipe("hip", "environment: {A: b}\n")
    assert not stamps.tree_fits(release.plan().job("hip"), "root", {})


def test_a_build_tree_goes_on_when_a_local_source_changes(stamps, job, release):
    one, two, other = (
        release.plan(sources={"hip": Source("hip", "local", path=path, sha256=sha)}).job("hip")
        for path, sha in (("/mine", "1"), ("/mine", "2"), ("/other", "1"))
    )
    configured(stamps, "hip")
    stamps.record_tree(one, "root", {})
    assert stamps.tree_fits(two, "root", {})
    assert not stamps.tree_fits(other, "root", {})


def kept(stamps, job, needs):
    return stamps.keep(job, needs) is not None


@pytest.fixture
def user(release, stamps):
    """The job of a component that needs hip, built when hip gave ``one``."""
    release.components("hip", "user")
    release.recipe("hip")
    release.recipe("user", "needs: {libs: [hip]}\n")
    job = release.plan().job("user")
    stamps.workspace.stage("user").mkdir(parents=True)
    stamps.record(job, "root", "output", 5, needs={"hip": "one"})
    return job


def test_a_stage_tree_is_kept_if_what_it_was_made_from_came_out_the_same(stamps, user, release):
    release.recipe("hip", "environment: {A: b}\n")
    job = release.plan().job("user")
    assert job.key != user.key
    assert not kept(stamps, job, {"hip": "two"})
    assert not kept(stamps, job, {"hip": None})
    assert stamps.read("user").key == user.key, "nothing was noted"
    assert kept(stamps, job, {"hip": "one"})
    known = stamps.read("user")
    assert (known.key, known.output, known.seconds, len(known.records)) == (job.key, "output", 5, 1)


def test_a_stage_tree_is_not_kept_if_the_component_changed_itself(stamps, user, release):
    release.recipe("user", "needs: {libs: [hip]}\nenvironment: {A: b}\n")
    assert not kept(stamps, release.plan().job("user"), {"hip": "one"})


def test_inputs_that_gave_the_same_tree_are_remembered(stamps, user):
    before = stamps.read("user")
    stamps.record(user, "root", "output", 1, needs={"hip": "two"}, before=before)
    assert [record.needs["hip"] for record in stamps.read("user").records] == ["two", "one"]
    for number in range(30):
        stamps.record(user, "root", "output", 1, needs={"hip": f"{number}"}, before=stamps.read("user"))
    assert [record.needs["hip"] for record in stamps.read("user").records] == [f"{n}" for n in range(29, 9, -1)]


@pytest.mark.parametrize(("root", "output"), [("other", "output"), ("root", "other")])
def test_inputs_that_gave_another_tree_or_had_another_root_are_forgotten(stamps, user, root, output):
    stamps.record(user, root, output, 1, needs={"hip": "two"}, before=stamps.read("user"))
    assert [record.needs["hip"] for record in stamps.read("user").records] == ["two"]


def test_a_stamp_names_the_action_key_and_is_explained_by_inputs(stamps, user):
    data = read_json(stamps.workspace.stamp("user"))
    assert data["records"][0]["action"] == user.record({"hip": "one"}).action
    assert data["inputs"] == user.inputs


def test_a_stamp_of_an_older_rocmbuild_is_read(stamps, user):
    old = {"key": user.key, "root": "root", "output": "output", "seconds": 1.0}
    write_json(stamps.workspace.stamp("user"), old)
    assert stamps.read("user") == Built(user.key, "root", None, 1.0, "output")
    assert not kept(stamps, user, {"hip": "one"})


def test_a_build_tree_fits_the_outputs_it_was_configured_with(stamps, user):
    configured(stamps, "user")
    stamps.record_tree(user, "root", {"hip": "one"})
    assert stamps.tree_fits(user, "root", {"hip": "one"})
    assert not stamps.tree_fits(user, "root", {"hip": "two"})


def test_what_one_store_has_another_one_does_not(stamps, job, tmp_path):
    one, other = (replace(stamps, store=tmp_path / name) for name in ("one", "other"))
    stored = replace(job, stored="key")
    for name in ("one", "other"):
        write_stamp(tmp_path / name / "store.json", {"id": name})
    assert not one.is_stored(stored)
    one.mark_stored("hip", "key")
    assert one.is_stored(stored) and not other.is_stored(stored)
    assert not one.is_stored(replace(job, stored="another key"))
    write_stamp(tmp_path / "one" / "store.json", {"id": "begun anew"})
    assert not one.is_stored(stored)
    (tmp_path / "one" / "store.json").unlink()
    assert not one.is_stored(stored)
    (tmp_path / "one" / "store.json").mkdir()
    assert not one.is_stored(stored), "what cannot be read fails nothing"


def test_what_was_stored_when_stores_had_no_names_is_looked_up(stamps, job, tmp_path):
    write_stamp(stamps.workspace.component("hip") / "stored.json", {"key": "key"})
    assert not stamps.is_stored(replace(job, stored="key"))
    assert not replace(stamps, store=tmp_path).is_stored(replace(job, stored="key"))


def test_what_cannot_have_a_key_need_not_be_stored(stamps, job):
    assert stamps.is_stored(replace(job, stored=None))
