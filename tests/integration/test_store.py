"""The store with the real Conan: entries that come and go, damage, kills, several runs at once."""

import fcntl
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
from rocmbuild.run.upkeep import collect
from rocmbuild.tools import conan
from rocmbuild.workspace import tree_digest
from tests.integration.conftest import CODE
from tests.integration.shop import ROCM, Shop, key


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


@pytest.fixture(scope="module")
def base_once(tmp_path_factory):
    shop = Shop(tmp_path_factory.mktemp("base"))
    shop.put("base", "a")
    return shop


@pytest.fixture(scope="module")
def filled_once(base_once, tmp_path_factory):
    shop = copy(base_once, tmp_path_factory.mktemp("filled"))
    shop.put("app", "b", *shop.entries().values())
    return shop


def copy(shop, directory):
    """Copy a store to another place: everything in it is relative."""
    shutil.copytree(shop.directory, directory / "shop", symlinks=True)
    return Shop(directory / "shop")


@pytest.fixture
def filled(filled_once, tmp_path):
    """A store of two components, ``app`` requires ``base``."""
    return copy(filled_once, tmp_path)


@pytest.fixture
def filled_base(base_once, tmp_path):
    """A store of one component, and that."""
    shop = copy(base_once, tmp_path)
    (known,) = shop.store.remembered()
    return shop, shop.store.known(known["entry"]["reference"].partition("#")[0])


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


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a failing disk would


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


def database(shop):
    return conan.database(shop.path / "conan")


@pytest.mark.parametrize("size", [10, 100, 5000])
def test_a_truncated_database_is_set_aside(filled, size):
    (filled.path / "conan" / "remotes.json").write_text('{"remotes": []} ')
    os.truncate(database(filled), size)
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
    database(shop).parent.mkdir(exist_ok=True)
    database(shop).write_bytes(b"garbage" * 1000)
    assert shop.entries() == {}
    assert not list(shop.path.glob("conan.damaged-*"))
    assert "team" in shop.cli("remotes").stdout
    assert shop.place(shop.put("base", "a"))


def test_a_database_that_is_garbage_does_not_stop_a_put(filled):
    database(filled).write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match="the database of the store is damaged"):
        filled.put("tool", "c")
    assert filled.place(filled.put("tool", "c"))


def test_an_empty_database_is_an_empty_store(filled):
    os.truncate(database(filled), 0)
    assert filled.entries() == {}
    assert filled.place(filled.put("app", "b"))
    assert filled.cli("gc").returncode == 0
    assert len(filled.packages()) == 1


def test_a_table_that_is_missing_is_damage(filled):
    with sqlite3.connect(database(filled)) as connection:
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


def test_everything_is_verified_on_demand(filled):
    done = filled.cli("verify")
    assert (done.returncode, done.stdout) == (0, "2 entries whole, 0 damaged and dropped\n")
    flip(filled.place(filled.entries()["base", key("a")]) / "stage" / ROCM / "include" / "base.h")
    done = filled.cli("verify")
    assert (done.returncode, done.stdout) == (1, "1 entry whole, 1 damaged and dropped\n")
    assert "warning: the store's entry of base 9.9.9 is dropped: its directory stage is not" in done.stderr
    assert set(filled.entries()) == {("app", key("b"))}


@pytest.mark.parametrize("verb", ["verify", "list", "push team", "pull team", "save {file}"])
def test_a_damaged_database_is_no_empty_store_to_who_asks_for_what_is_in_it(filled, tmp_path, verb):
    assert filled.cli("add-remote", "team", "http://127.0.0.1:1").returncode == 0
    file = tmp_path / "saved.tgz"
    database(filled).write_bytes(b"garbage" * 1000)
    refused(filled.cli(*verb.format(file=file).split()))
    assert not file.exists()


def test_nothing_is_loaded_into_a_damaged_database(filled, tmp_path):
    assert filled.cli("save", str(tmp_path / "saved.tgz")).returncode == 0
    database(filled).write_bytes(b"garbage" * 1000)
    refused(filled.cli("load", str(tmp_path / "saved.tgz")))


def refused(done):
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: the database of the store is damaged" in done.stderr


def test_gc_goes_on_over_a_damaged_database(filled):
    database(filled).write_bytes(b"garbage" * 1000)
    done = filled.cli("gc")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("freed\n")
    assert not list(filled.path.glob("conan.damaged-*"))


def test_a_store_that_cannot_be_read_is_not_verified(filled):
    file = filled.path / "lock"
    file.unlink()
    file.mkdir()
    done = filled.cli("verify")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: the store {filled.path} cannot be read: [Errno 21] Is a directory" in done.stderr


def test_what_conan_has_forgotten_is_not_whole(filled):
    with sqlite3.connect(database(filled)) as connection:
        connection.execute("DELETE FROM packages")
    done = filled.cli("verify")
    assert (done.returncode, done.stdout) == (1, "0 entries whole, 2 damaged and dropped\n")
    assert "the store's entry of app 9.9.9 is lost: it is not in the database" in done.stderr
    assert filled.cli("verify").stdout == "0 entries whole, 0 damaged and dropped\n"


def unreadable(shop, file, *words):
    """Run a verb where reading a file ends as on a failing disk: it is the verb's own memory, at its beginning."""
    script = 'mount --bind "/proc/$$/mem" "$0"\nexec "$@"'
    return shop.call(["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, file, *shop.argv(*words)])


def test_what_cannot_be_read_is_told_and_not_dropped(filled, tmp_path):
    file = filled.place(filled.entries()["base", key("a")]) / "stage" / ROCM / "include" / "base.h"
    done = unreadable(filled, str(file), "verify")
    assert (done.returncode, done.stdout) == (1, "1 entry whole, 0 damaged and dropped, 1 not readable\n")
    assert "the store's entry of base 9.9.9 cannot be read: [Errno 5] Input/output error" in done.stderr
    done = unreadable(filled, str(file), "save", str(tmp_path / "saved.tgz"))
    assert done.returncode == 1
    assert "1 entry left out: damaged, or not readable" in done.stderr
    assert filled.cli("verify").stdout == "2 entries whole, 0 damaged and dropped\n"


def test_an_entry_that_conan_cannot_be_asked_for_is_not_dropped(filled):
    app = filled.entries()["app", key("b")]
    shutil.rmtree(filled.store.places)
    filled.program = Path("/nowhere/conan")
    assert filled.check(app) is None
    assert "the store's entry of app 9.9.9 cannot be read: conan cache could not be started" in filled.warnings[0]
    filled.program = None
    assert filled.place(app)


def test_what_was_not_used_makes_room(filled):
    entries = filled.entries()
    tool = filled.put("tool", "c")
    for entry, days in ((entries["base", key("a")], 90), (entries["app", key("b")], 10), (tool, 50)):
        used = time.time() - days * 24 * 3600
        os.utime(filled.store.place_file(entry.name), (used, used))
    done = filled.cli("gc", "--keep-days", "30")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("removing tool 9.9.9, last used 20")
    assert "freed" in done.stdout
    assert set(filled.entries()) == set(entries)  # app requires base
    assert sorted(path.name for path in filled.store.places.iterdir()) == sorted(
        filled.store.place_file(entry.name).name for entry in entries.values()
    )
    assert filled.cli("gc", "--keep-days", "5").returncode == 0
    assert filled.entries() == {}


def test_the_list_tells_what_there_is(filled):
    done = filled.cli("list")
    assert done.returncode == 0
    assert "base" in done.stdout and key("b")[:12] in done.stdout and "yes" in done.stdout
    rows = json.loads(filled.cli("list", "--format", "json").stdout)
    assert {row["component"] for row in rows} == {"base", "app"}
    assert all(row["size"] > 0 and row["used"] > 0 and len(row["key"]) == 64 for row in rows)


FULL = """
mount -t tmpfs -o size=8m tmpfs "$0"
cp --archive "$1" "$0/store"; shift
touch --date 2020-01-01 "$0"/store/places/*
cat /dev/zero > "$0/filler" || true
"$@" gc --keep-days 1 --store "$0/store"
ls --almost-all "$0/store/places" && test ! -e "$0/store/unfinished"
"$@" list --store "$0/store"
"""


def test_room_is_made_on_a_full_disk(filled, tmp_path):
    (tmp_path / "disk").mkdir()
    verb = filled.argv()[:-2]
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", FULL, str(tmp_path / "disk")]
    done = filled.call([*argv, str(filled.path), *verb])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No space left" in done.stderr
    removed, again, freed = done.stdout.splitlines()
    assert removed.startswith("removing app 9.9.9, last used 2020"), "what requires something goes first"
    assert again.startswith("removing base 9.9.9, last used 2020")
    assert freed.endswith("freed")
    assert f"the store {tmp_path}/disk/store is empty" in done.stderr


def test_what_conan_cannot_remove_is_not_said_to_be_gone(filled, tmp_path):
    app = filled.entries()["app", key("b")]
    refusing = tmp_path / "conan"
    refusing.write_text(
        f'#!/bin/sh\nif [ "$1 $2" = "remove {app.name}" ]; then echo "ERROR: not today" >&2; exit 1; fi\n'
        f'exec {conan.find_conan()} "$@"\n'
    )
    refusing.chmod(0o755)
    filled.program = refusing
    told = []
    with pytest.raises(StoreError, match=r"^app 9\.9\.9 could not be removed: conan remove failed: not today$"):
        filled.run(collect(filled.store, Runner(), days=None, size=0, tell=told.append))
    assert len(told) == 2, "the other one is removed all the same"
    filled.program = None
    assert set(filled.entries()) == {("app", key("b"))}
    assert filled.cli("verify").stdout == "0 entries whole, 1 damaged and dropped\n"


def test_a_place_that_somebody_wrote_is_not_emptied(filled, tmp_path):
    app = filled.entries()["app", key("b")]
    (tmp_path / "mine" / "stage").mkdir(parents=True)
    file = filled.store.place_file(app.name)
    file.write_text(json.dumps({**json.loads(file.read_text()), "path": "../../mine"}))
    filled.run(filled.store.remove(app, Runner()))
    assert (tmp_path / "mine" / "stage").is_dir()
    assert set(filled.entries()) == {("base", key("a"))}


def test_who_waits_for_another_run_is_told_beside_the_output(filled):
    with (filled.path / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        argv, pipe = filled.argv("list", "--format", "json"), subprocess.PIPE
        done = subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": CODE}, stdout=pipe, stderr=pipe, text=True)
        assert done.stderr.readline() == f"rocmbuild: waiting for another run that uses the store {filled.path}\n"
    out, err = done.communicate(timeout=120)
    assert (done.returncode, err) == (0, "")
    assert len(json.loads(out)) == 2


def test_the_list_of_nothing(shop):
    done = shop.cli("list")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"the store {shop.path} is empty" in done.stderr


def test_a_saved_file_fills_another_store(filled, tmp_path):
    file = tmp_path / "saved.tgz"
    done = filled.cli("save", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"2 entries saved in {file}, ")
    other = Shop(tmp_path / "other")
    other.directory.mkdir()
    done = other.cli("load", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["loading base 9.9.9", "loading app 9.9.9", f"2 entries loaded from {file}"]
    assert other.entries() == filled.entries()
    for entry in other.entries().values():
        assert other.place(entry)
    other.run(other.store.restore(entry, tmp_path / "stage", tmp_path / "debs", Runner()))
    assert (tmp_path / "stage" / ROCM / "lib" / "empty").is_dir()
    done = other.cli("load", str(file))
    assert done.stdout == f"{file} has nothing new\n"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_named_is_saved_with_what_it_requires(filled, tmp_path):
    filled.put("tool", "c")
    assert filled.cli("save", str(tmp_path / "app.txz"), "app").stdout.startswith("2 entries saved")
    assert filled.cli("save", str(tmp_path / "tool.tgz"), "tool").stdout.startswith("1 entry saved")
    done = filled.cli("save", str(tmp_path / "x.tgz"), "tol")
    assert (done.returncode, done.stderr) == (
        2,
        "rocmbuild: error: there is no entry of tol\n  try: did you mean tool?\n",
    )


def test_damage_is_not_saved(filled, tmp_path):
    flip(filled.place(filled.entries()["base", key("a")]) / "stage" / ROCM / "include" / "base.h")
    done = filled.cli("save", str(tmp_path / "saved.tgz"))
    assert done.returncode == 1
    assert done.stdout.startswith("1 entry saved")
    assert "the store's entry of base 9.9.9 is dropped" in done.stderr
    assert "1 entry left out: damaged, or not readable" in done.stderr
    flip(filled.place(filled.entries()["app", key("b")]) / "stage" / ROCM / "include" / "app.h")
    done = filled.cli("save", str(tmp_path / "other.tgz"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "is whole, and nothing is saved" in done.stderr


def test_a_broken_file_is_refused_and_nothing_of_it_is_loaded(filled, tmp_path):
    file = tmp_path / "saved.tgz"
    filled.cli("save", str(file))
    whole = file.read_bytes()
    other = Shop(tmp_path / "other")
    other.directory.mkdir()
    for data in (whole[:-20], whole[: len(whole) // 2], b"", b"text"):
        file.write_bytes(data)
        done = other.cli("load", str(file))
        assert done.returncode == 2
        assert f"error: {file} is not whole, or no file of a store" in done.stderr
        assert "Traceback" not in done.stderr
    assert other.entries() == {}


def test_saving_says_what_is_wrong(shop, tmp_path):
    (tmp_path / "directory.tgz").mkdir()
    for words, message in (
        (("save", str(tmp_path / "directory.tgz")), "directory.tgz is a directory"),
        (("save", str(tmp_path / "x.zip")), "is not named like an archive"),
        (("save", "/nowhere/x.tgz"), "there is no directory /nowhere"),
        (("save", str(tmp_path / "x.tgz")), "has nothing to save"),
        (("save",), "store save takes FILE [COMPONENT...]"),
        (("load", str(tmp_path / "x.tgz")), "cannot be read: No such file or directory"),
        (("pull", "team"), "there is no remote team"),
        (("lsit",), "the store has no action 'lsit'"),
        (("list", "--format", "xml"), "'xml' is neither table nor json"),
    ):
        done = shop.cli(*words)
        assert done.returncode == 2, words
        assert message in done.stderr, words
        assert "Traceback" not in done.stderr
