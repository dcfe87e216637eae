"""The store with the real Conan: entries that come and go, damage, kills, several runs at once."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rocmbuild.errors import StoreError
from rocmbuild.process import Runner
from rocmbuild.tools import conan
from rocmbuild.workspace import tree_digest
from tests.integration.conftest import CODE
from tests.integration.shop import ROCM, Shop, flip, key


def test_a_new_store_is_empty_and_conan_is_not_asked(shop):
    shop.program = Path("/nowhere/conan")
    assert shop.entries() == {}
    assert not shop.path.exists()


def test_what_is_put_is_found_whole_and_restored(filled, tmp_path):
    entries = filled.entries()
    assert set(entries) == {("base", key("a")), ("app", key("b"))}
    app = entries["app", key("b")]
    assert (app.version, app.packages) == ("9.9.9", key("d"))
    assert app.requires == (entries["base", key("a")].name,)
    assert filled.place(app).is_relative_to(filled.path)
    store, stage, debs = filled.store, tmp_path / "w" / "stage", tmp_path / "w" / "debs"
    filled.run(store.restore(app, stage, debs, Runner()))
    assert tree_digest(stage, ignore=frozenset()) == app.output
    assert tree_digest(debs, ignore=frozenset()) == app.debs
    assert (stage / ROCM / "lib" / "empty").is_dir()
    assert os.readlink(stage / ROCM / "lib" / "dangling") == "/nowhere"
    assert filled.warnings == []


def test_restoring_replaces_what_is_there_and_leaves_debs_that_are_not_asked_for(filled, tmp_path):
    app = filled.entries()["app", key("b")]
    (tmp_path / "stage" / "old").mkdir(parents=True)
    filled.run(filled.store.restore(app, tmp_path / "stage", None, Runner()))
    assert [path.name for path in (tmp_path / "stage").iterdir()] == ["opt"]
    assert [path.name for path in tmp_path.iterdir() if path.name != "shop"] == ["stage"]


def test_an_entry_without_packages_says_so(shop, tmp_path):
    entry = shop.put("base", "a", debs=False)
    assert (entry.packages, entry.debs) == (None, None)
    assert shop.entries() == {("base", key("a")): entry}
    (tmp_path / "debs").mkdir()
    (tmp_path / "debs" / "mine").touch()
    shop.run(shop.store.restore(entry, tmp_path / "stage", tmp_path / "debs", Runner()))
    assert (tmp_path / "debs" / "mine").exists()


def test_putting_again_makes_nothing_again(filled):
    before = filled.entries()
    filled.program = Path("/nowhere/conan")
    assert filled.put("base", "a") == before["base", key("a")]
    assert filled.put("base", "a", debs=False) == before["base", key("a")]


def test_packages_that_come_later_are_added(shop):
    bare = shop.put("base", "a", debs=False)
    whole = shop.put("base", "a")
    assert whole.debs is not None and whole.reference != bare.reference
    assert shop.entries() == {("base", key("a")): whole}
    assert len(shop.packages()) == 1
    assert shop.place(whole)


def test_other_bytes_under_the_same_key_take_the_place(shop):
    first = shop.put("base", "a")
    second = shop.put("base", "a", content="not reproducible")
    assert second.output != first.output
    assert shop.entries() == {("base", key("a")): second}
    assert len(shop.packages()) == 1


def test_the_store_does_not_share_files_with_the_workspace_it_came_from(shop):
    entry = shop.put("base", "a")
    stage = shop.directory / "trees" / "base-stage"
    with (stage / ROCM / "include" / "base.h").open("r+") as file:
        file.write("written in place")
    assert shop.place(entry)


def test_a_tree_that_is_not_what_it_should_be_is_refused(shop):
    stage = shop.stage("base")
    put = shop.store.put(
        component="base",
        version="1",
        key=key("a"),
        stage=stage,
        debs=None,
        output=key("f"),
        packages=None,
        requires=(),
        runner=Runner(),
    )
    with pytest.raises(StoreError, match="base-stage changed while it was stored"):
        shop.run(put)
    assert shop.entries() == {}
    assert not any(shop.store.drafts.iterdir())


def test_a_missing_requirement_is_left_out(filled, tmp_path):
    base = filled.entries()["base", key("a")]
    other = Shop(tmp_path / "other")
    assert other.put("app", "b", base).requires == ()
    filled.run(filled.store.remove(base, Runner()))
    again = filled.put("tool", "c", base, filled.entries()["app", key("b")])
    assert again.requires == ()  # app is there, but what it requires is not
    assert filled.place(again)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (
            lambda place: flip(place / "stage" / ROCM / "include" / "app.h"),
            "its directory stage is not what was stored",
        ),
        (lambda place: os.truncate(place / "debs" / "app.deb", 3), "its directory debs is not what was stored"),
        (lambda place: (place / "stage" / ROCM / "bin" / "app").unlink(), "its directory stage is not what was stored"),
        (lambda place: shutil.rmtree(place / "stage"), "it has no directory stage"),
        (shutil.rmtree, "its files are gone"),
        (lambda place: shutil.rmtree(place.parent), "its files are gone"),
    ],
)
def test_damage_is_a_miss_with_a_warning_and_is_gone(filled, damage, fault):
    app = filled.entries()["app", key("b")]
    damage(filled.place(app))
    assert filled.check(app) is None
    assert filled.warnings == [f"the store's entry of app 9.9.9 is dropped: {fault}"]
    assert set(filled.entries()) == {("base", key("a"))}


@pytest.mark.parametrize("name", ["conaninfo.txt", "conanmanifest.txt"])
def test_damage_of_conans_own_files_is_at_most_a_miss(filled, name):
    app = filled.entries()["app", key("b")]
    os.truncate(filled.place(app) / name, 25)
    assert set(filled.entries()) >= {("base", key("a"))}
    again = filled.put("app", "b")
    assert filled.place(again)


OWN = (
    "version.txt",
    "settings.yml",
    "extensions/plugins/profile.py",
    "extensions/plugins/compatibility/compatibility.py",
)


@pytest.mark.parametrize("names", [*((name,) for name in OWN), OWN], ids=[*OWN, "all"])
def test_what_conan_wrote_into_its_home_is_written_again_if_a_power_failure_emptied_it(filled, names):
    whole = {name: (filled.path / "conan" / name).read_text() for name in OWN}
    assert all(whole.values())
    for name in names:
        (filled.path / "conan" / name).write_text("")
    entry = filled.put("more", "e")
    assert filled.check(entry) is not None
    assert len(filled.entries()) == 3
    assert filled.warnings == []
    assert {name: (filled.path / "conan" / name).read_text() for name in OWN} == whole


def test_servers_that_a_power_failure_made_forgotten_are_said_to_be(filled):
    filled.cli("add-remote", "team", "http://127.0.0.1:9399")
    (filled.path / "conan/remotes.json").write_text("")
    done = filled.cli("remotes")
    assert (done.returncode, done.stdout) == (0, "")
    assert "the servers of the store" in done.stderr and "are forgotten" in done.stderr
    assert len(filled.entries()) == 2


def test_damage_between_check_and_restore_is_found(filled, tmp_path):
    app, store = filled.entries()["app", key("b")], filled.store
    place = filled.run(store.check(app, Runner()))
    (place / "stage" / ROCM / "include" / "app.h").write_text("changed")
    with pytest.raises(
        StoreError, match=r"entry of app 9\.9\.9 is damaged: its directory stage is not what was stored"
    ):
        filled.run(store.restore(app, tmp_path / "stage", None, Runner()))
    assert not (tmp_path / "stage").exists()
    assert set(filled.entries()) == {("base", key("a"))}


def test_restoring_what_is_gone_is_an_error_of_the_store(filled, tmp_path):
    app = filled.entries()["app", key("b")]
    filled.run(filled.store.remove(app, Runner()))
    with pytest.raises(StoreError, match="its files are gone"):
        filled.run(filled.store.restore(app, tmp_path / "stage", None, Runner()))


def test_places_that_are_lost_or_wrong_are_asked_for(filled):
    app = filled.entries()["app", key("b")]
    place = filled.place(app)
    shutil.rmtree(filled.store.places)
    assert filled.place(app) == place
    for text in ("", "[]", '{"entry": {}}', '{"entry": null, "path": 7}'):
        filled.store.place_file(app.name).write_text(text)
        assert filled.place(app) == place
    file = filled.store.place_file(app.name)
    file.write_text(json.dumps({**json.loads(file.read_text()), "path": "conan/p/elsewhere"}))
    assert filled.place(app) == place


def test_foreign_packages_are_not_seen_and_gc_removes_them(filled, tmp_path):
    recipe = tmp_path / "zlib" / "conanfile.py"
    recipe.parent.mkdir()
    recipe.write_text(
        "from conan import ConanFile\nclass Z(ConanFile):\n    name = 'zlib'\n    version = '1.3'\n"
        "    virtualbuildenv = False\n"
    )
    home = filled.path / "conan"
    environment = conan.home_environment(home, dict(os.environ))
    argv = [str(conan.find_conan()), "export-pkg", str(recipe.parent)]
    subprocess.run(argv, env=environment, cwd=home, check=True, capture_output=True)
    assert set(filled.entries()) == {("base", key("a")), ("app", key("b"))}
    assert len(filled.packages()) == 3
    assert filled.cli("gc").returncode == 0
    assert len(filled.packages()) == 2
    assert set(filled.entries()) == {("base", key("a")), ("app", key("b"))}


@pytest.mark.parametrize("size", [10, 100, 5000])
def test_a_truncated_database_is_set_aside(filled, size):
    (filled.path / "conan" / "remotes.json").write_text('{"remotes": []} ')
    os.truncate(filled.database, size)
    assert filled.entries() == {}
    (warning,) = filled.warnings
    assert "the database of the store is damaged" in warning
    assert f"set aside as {filled.path}/conan.damaged-1" in warning
    assert (filled.path / "conan.damaged-1" / "p").is_dir()
    assert (filled.path / "conan" / "remotes.json").read_text() == '{"remotes": []} '
    assert filled.place(filled.put("app", "b"))
    assert filled.cli("gc").returncode == 0
    assert not (filled.path / "conan.damaged-1").exists()


def test_a_home_that_a_full_disk_left_without_packages_is_not_kept(shop):
    assert shop.cli("add-remote", "team", "http://localhost:1").returncode == 0
    shop.database.parent.mkdir(exist_ok=True)
    shop.database.write_bytes(b"garbage" * 1000)
    assert shop.entries() == {}
    assert not list(shop.path.glob("conan.damaged-*"))
    assert "team" in shop.cli("remotes").stdout
    assert shop.place(shop.put("base", "a"))


def test_a_database_that_is_garbage_does_not_stop_a_put(filled):
    filled.database.write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match="the database of the store is damaged"):
        filled.put("tool", "c")
    assert filled.place(filled.put("tool", "c"))


def test_an_empty_database_is_an_empty_store(filled):
    os.truncate(filled.database, 0)
    assert filled.entries() == {}
    assert filled.place(filled.put("app", "b"))
    assert filled.cli("gc").returncode == 0
    assert len(filled.packages()) == 1


def test_a_table_that_is_missing_is_damage(filled):
    with sqlite3.connect(filled.database) as connection:
        connection.execute("DROP TABLE packages")
        connection.execute("CREATE TABLE packages (something TEXT)")
    assert filled.entries() == {}
    assert filled.place(filled.put("app", "b"))


def test_a_store_that_cannot_be_read_is_told_and_fails_nothing(filled):
    filled.program = Path("/nowhere/conan")
    assert filled.entries() == {}
    assert filled.warnings == [
        f"the store {filled.path} cannot be read: conan list could not be started: "
        "/nowhere/conan: No such file or directory"
    ]


def test_another_conan_home_has_no_say(filled, tmp_path, monkeypatch):
    (filled.directory / ".conanrc").write_text("conan_home=/nowhere\n")
    monkeypatch.setenv("CONAN_HOME", "/nowhere")
    assert len(filled.entries()) == 2


KILLED = """#!{python}
import fnmatch, os, signal, sys
from conan.cli.cli import main

def hook(event, args):
    if event == {event!r} and fnmatch.fnmatch(str(args[0]), {path!r}):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
main(sys.argv[1:])
"""


def killing(shop, event, path):
    """Return a Conan that is killed right before it does something to a path."""
    script = shop.directory / "killed-conan"
    script.write_text(KILLED.format(python=sys.executable, event=event, path=f"{shop.path}/{path}"))
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ("os.mkdir", "conan/p/t/app*"),
        ("open", "conan/p/t/app*/e/conanmanifest.txt"),
        ("open", "conan/p/b/app*/p.dirty"),
        ("shutil.move", "new/*/stage"),
        ("shutil.move", "new/*/debs"),
        ("open", "conan/p/b/app*/p/conanmanifest.txt"),
        ("os.remove", "conan/p/b/app*/p.dirty"),
    ],
)
def test_a_conan_killed_at_any_moment_leaves_a_usable_store(filled_base, event, path):
    shop, base = filled_base
    shop.program = killing(shop, event, path)
    with pytest.raises(StoreError, match="conan export-pkg was killed by SIGKILL"):
        shop.put("app", "b", base)
    assert (shop.path / "unfinished").exists()
    shop.program = None
    assert shop.entries() == {("base", key("a")): base}
    assert not (shop.path / "unfinished").exists()
    assert not list(shop.path.glob("new/*"))
    assert len(shop.packages()) == 1
    assert shop.place(base)
    assert shop.warnings == []


def test_what_was_killed_is_put_again(filled_base):
    shop, base = filled_base
    shop.program = killing(shop, "os.remove", "conan/p/b/app*/p.dirty")
    with pytest.raises(StoreError):
        shop.put("app", "b", base)
    shop.program = None
    assert shop.place(shop.put("app", "b", base))
    assert len(shop.entries()) == len(shop.packages()) == 2


def test_a_killed_run_leaves_nothing_behind_in_the_end(shop):
    shop.put("base", "a")
    child = start(shop, "b")
    deadline = time.monotonic() + 30
    while not (shop.path / "unfinished").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)  # Conan goes on, and keeps the lock
    child.wait()
    assert set(shop.entries()) == {("base", key("a"))}
    shop.put("app", "c")
    assert len(list((shop.path / "new").iterdir())) == 0
    assert len(shop.packages()) == 2


CHILD = """
import sys
from pathlib import Path
from tests.integration.shop import Shop
shop = Shop(Path(sys.argv[1]) / sys.argv[2])
shop.__class__.path = property(lambda self: Path(sys.argv[1]) / "store")
for letter in sys.argv[3]:
    entry = shop.put("app", letter)
    assert shop.place(entry).is_dir()
    assert entry == shop.entries()["app", entry.key]
print(*shop.warnings)
"""


def start(shop, letters, name="child"):
    argv = [sys.executable, "-c", CHILD, str(shop.directory), name, letters]
    return subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": CODE}, stdout=subprocess.PIPE, text=True)


def test_several_runs_share_a_store(shop):
    children = [start(shop, letters, f"child{number}") for number, letters in enumerate(("ab", "bc", "ca"))]
    told = [child.communicate(timeout=300)[0].strip() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert told == ["", "", ""]
    assert {entry_key for _, entry_key in shop.entries()} == {key(letter) for letter in "abc"}
    assert len(shop.packages()) == 3
