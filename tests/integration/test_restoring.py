"""What was built once comes back from the store: the same packages, and nothing is configured or compiled."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import Toy
from tests.integration.test_cutoff import chain, write  # noqa: F401 - chain is a fixture


@pytest.fixture
def moved(built, new_toy, tmp_path) -> Toy:
    """A user with an empty workspace, and with the store of one who has built the toy release."""
    toy = new_toy(tmp_path / "other")
    toy.options += ["--store", str(built.cache / "store")]
    return toy


def made(toy: Toy) -> set[str]:
    """Return the components that the last run configured or compiled."""
    return {step.split()[0] for step in toy.steps() if step.split()[-1] in ("configure", "build", "install")}


def test_an_empty_workspace_gets_the_same_packages_from_the_store(moved, built):
    actions = moved.actions()
    assert actions == dict.fromkeys(actions, "RESTORE") | {"toytool": "PROVIDED"}
    done = moved.build()
    assert moved.debs() == built.debs()
    assert made(moved) <= {"toytool"}
    assert not any("source" in step for step in moved.steps()), "what is not built needs no source"
    assert "restored" in done.stdout
    assert set(moved.actions().values()) == {"KEEP", "PROVIDED"}
    moved.build()
    assert moved.happened()[0]["tasks"] == {}, "and then there is nothing to do"


def test_a_plan_without_its_root_says_that_the_store_may_have_more(moved):
    known = {name for name, action in moved.actions().items() if action == "RESTORE"}
    assert json.loads(moved.run("plan", "--format", "json").stdout)["unsettled"] == []
    (moved.cache / "roots").unlink()
    found = json.loads(moved.run("plan", "--format", "json").stdout)
    assert {job["component"] for job in found["jobs"] if job["action"] == "BUILD"} == known
    assert set(found["unsettled"]) == known
    table = " ".join(moved.run("plan").stdout.split())
    assert "the build root is not there yet" in table
    assert table.endswith(f"may save the building of {', '.join(found['unsettled'])}")


def test_a_lost_root_is_made_before_it_is_decided_what_is_kept(built):
    """It may come back with other versions, and nothing new is built with these beside what was built with the old."""
    (built.cache / "roots").unlink()
    app = built.recipe("toyapp", ("cost: 3", "cost: 3\ncmake: {variables: {TOYAPP_MORE: hail}}"))
    assert app.is_file()
    built.build("--no-reuse")
    first, second = (event for event in built.happened() if event["event"] == "RunStarted")
    assert [name for name in first["tasks"] if "root" not in name] == []
    assert "toyapp" in second["tasks"] and "toybase" not in second["tasks"]


def test_a_restored_stage_tree_is_built_on(moved, built):
    app = moved.recipe("toyapp", ("cost: 3", "cost: 3\ncmake: {variables: {TOYAPP_MORE: hail}}"))
    assert app.is_file()
    assert {name for name, action in moved.actions().items() if action == "BUILD"} == {"toyapp"}
    moved.build()
    assert made(moved) - {"toytool"} == {"toyapp"}
    built.directory.joinpath("recipes").mkdir(exist_ok=True)
    shutil.copytree(app.parent, built.directory / "recipes/toyapp")
    built.options += ["--no-reuse"]
    built.build()
    assert moved.debs() == built.debs(), "the same as built on what was built there"


def entry_files(toy: Toy, name: str):
    """Return the files of that name in the entries of a user's store."""
    return [path for path in (toy.cache / "store").rglob(name) if path.is_file() and not path.is_symlink()]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "add"])
def test_a_damaged_entry_is_a_miss_with_a_warning(moved, built, damage):
    (library,) = entry_files(built, "libtoybase.so.9.9.1")
    content = bytearray(library.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        library.write_bytes(content)
    elif damage == "truncate":
        library.write_bytes(content[:100])
    elif damage == "remove":
        library.unlink()
    else:
        (library.parent / "stranger").write_text("was not built")
    done = moved.build()
    assert "toybase" in made(moved)
    assert "toyapp" not in made(moved), "what came out is what the entry was"
    assert "damaged" in done.stdout + done.stderr
    assert moved.debs() == built.debs()


def test_damaged_packages_in_an_entry_are_not_taken(moved, built):
    (deb,) = list(entry_files(built, "toyapp_*.deb"))
    content = bytearray(deb.read_bytes())
    content[-5] ^= 1
    deb.write_bytes(content)
    moved.build()
    assert moved.debs() == built.debs()


def test_without_reuse_everything_is_built_and_nothing_is_stored(built, new_toy, tmp_path):
    toy = new_toy(tmp_path / "other")
    toy.options += ["--store", str(built.cache / "store"), "--no-reuse"]
    before = sorted((built.cache / "store").rglob("*"))
    toy.build("toybase")
    assert made(toy) == {"toybase"}
    assert sorted((built.cache / "store").rglob("*")) == before


def test_a_store_that_cannot_be_written_fails_no_build(new_toy, tmp_path):
    toy = new_toy(tmp_path / "user")
    (tmp_path / "file").write_text("in the way")
    toy.options += ["--store", str(tmp_path / "file/store")]
    done = toy.build("toybase")
    assert "not stored" in done.stdout


def test_what_was_built_before_there_was_a_store_is_stored_by_the_next_run(built, new_toy, tmp_path):
    shutil.rmtree(built.cache / "store")
    only_stores(built)
    toy = new_toy(tmp_path / "other")
    toy.options += ["--store", str(built.cache / "store")]
    assert set(toy.actions().values()) == {"RESTORE", "PROVIDED"}


def only_stores(toy: Toy) -> None:
    """Build where nothing is to be done but to fill a store, and see that it is filled once."""
    toy.build()
    tasks = toy.happened()[0]["tasks"]
    assert tasks and all(task.endswith(" store") for task in tasks), tasks
    toy.build()
    assert toy.happened()[0]["tasks"] == {}


def test_another_store_is_filled_from_a_workspace_in_which_nothing_is_to_be_done(built, new_toy, tmp_path):
    built.options += ["--store", str(tmp_path / "store")]
    only_stores(built)
    toy = new_toy(tmp_path / "other")
    toy.options += ["--store", str(tmp_path / "store")]
    assert set(toy.actions().values()) == {"RESTORE", "PROVIDED"}


def test_a_store_that_was_set_aside_is_filled_again(built):
    (built.cache / "store/conan/p/cache.sqlite3").write_bytes(b"garbage" * 1000)
    assert built.run("store", "verify").returncode == 1
    only_stores(built)


def test_what_an_older_rocmbuild_stored_is_looked_up_once(built):
    paths = list(built.workspace.rglob("stored.json"))
    for path in paths:
        data = json.loads(path.read_text())
        path.write_text(json.dumps({"key": data["key"]}))
    (built.cache / "store/store.json").unlink()
    only_stores(built)
    assert paths and all("store" in json.loads(path.read_text()) for path in paths)


def test_nothing_to_do_does_not_touch_the_store(built):
    with (built.cache / "store/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who asks the store waits for it
        built.build()
    assert built.happened()[0]["tasks"] == {}


@pytest.mark.parametrize("words", [("plan", "--format", "json"), ("build", "--no-verify")], ids=["plan", "build"])
def test_a_run_that_waits_for_the_store_says_so(moved, words):
    store = moved.options[-1]
    with Path(store, "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = moved.start(*words)
        said = run.stderr.readline()
    run.communicate(timeout=120)
    assert run.returncode == 0
    assert said == f"rocmbuild: waiting for another run that uses the store {store}\n"


def test_a_stage_tree_that_somebody_changed_is_made_again_before_it_is_used(built):
    (library,) = built.area("toybase").rglob("stage/**/libtoybase.so.9.9.1")
    library.write_bytes(b"not a library")
    before = built.debs()
    built.recipe("toyapp", ("summary: a program that greets\n    section", "summary: it greets\n    section"))
    done = built.build()
    assert "toybase" in done.stdout
    assert "not what was built" in done.stdout + done.stderr
    after = built.debs()
    assert {name: after[name] for name in after if name.startswith("toybase")} == {
        name: before[name] for name in before if name.startswith("toybase")
    }


def test_what_needs_something_new_comes_from_the_store_if_that_gives_what_it_gave(chain, new_toy, tmp_path):  # noqa: F811
    """middle has a new comment: it is built; its output is as before, so top need not be."""
    write(chain, "middle", "# a comment\none")
    shutil.rmtree(chain.workspace)
    actions = chain.actions()
    assert actions == {"base": "RESTORE", "middle": "BUILD", "top": "BUILD", "apart": "RESTORE"}
    chain.build()
    assert made(chain) == {"middle"}
