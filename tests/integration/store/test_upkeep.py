"""The verb store on a real store: what it verifies, lists, removes, saves and loads, and says of what is lost."""

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from rocmbuild.errors import StoreError
from rocmbuild.process import Runner
from rocmbuild.run.upkeep import collect
from rocmbuild.tools import conan
from tests.integration.conftest import CODE
from tests.integration.shop import ROCM, Shop, flip, key


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
    filled.database.write_bytes(b"garbage" * 1000)
    refused(filled.cli(*verb.format(file=file).split()))
    assert not file.exists()


def test_nothing_is_loaded_into_a_damaged_database(filled, tmp_path):
    assert filled.cli("save", str(tmp_path / "saved.tgz")).returncode == 0
    filled.database.write_bytes(b"garbage" * 1000)
    refused(filled.cli("load", str(tmp_path / "saved.tgz")))


def refused(done):
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: the database of the store is damaged" in done.stderr


def test_gc_goes_on_over_a_damaged_database(filled):
    filled.database.write_bytes(b"garbage" * 1000)
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
    with sqlite3.connect(filled.database) as connection:
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
