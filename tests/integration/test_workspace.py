"""A machine or a workspace that a build cannot work with: a message of its own for each, and nothing half-written."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import accumulate
from pathlib import Path

import pytest

from tests.integration.conftest import AREA, wait_for


def refused(done: subprocess.CompletedProcess[str], status: int, *texts: str) -> None:
    """Expect an exit code and texts, whatever the line breaks, and no traceback."""
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == status, said
    for text in texts:
        assert text in said
    assert "Traceback" not in said
    assert "bug" not in said


def test_one_run_at_a_time(slow, running):
    cmake = slow.recipe("toyslow").parent / "source/CMakeLists.txt"
    cmake.write_text(cmake.read_text().replace("sleep 0.2", "sleep 60"))
    first = slow.start("build", "--no-verify")
    running.append(first)
    wait_for((slow.area("toyslow") / "build/build.ninja").exists, 60, lambda: "nothing was built")
    for verb, words in (("build", ()), ("fetch", ()), ("shell", ("toyslow", "--", "true"))):
        done = slow.run(verb, *words)
        refused(
            done,
            2,
            f"the workspace {slow.workspace} is in use by rocmbuild, process {first.pid}",
            "use another workspace with --workspace",
        )
    assert slow.run("plan").returncode == 0, "a plan changes nothing, so it waits for nobody"
    assert first.poll() is None
    first.terminate()
    first.communicate(timeout=30)
    assert first.returncode == 130
    slow.no_orphans()


def test_two_workspaces_share_a_cache_at_once(slow, slow_debs, running):
    """Both fetch into one cache at the same time."""
    argv = slow.argv("build", "--no-verify")
    other = [*argv, "--workspace", str(slow.directory / "other")]
    programs = [subprocess.Popen(line, env=slow.env(), cwd=slow.directory) for line in (argv, other)]
    running += programs
    assert [program.wait(timeout=120) for program in programs] == [0, 0]
    assert slow.debs() == slow_debs
    twin = slow.directory / "other/out/slow" / AREA
    assert sorted(path.name for path in twin.glob("*.deb")) == sorted(name for name in slow_debs if ".deb" in name)


def test_a_file_in_the_place_of_the_workspace(toy):
    toy.workspace.write_text("mine\n")
    refused(toy.run("build"), 2, f"the workspace {toy.workspace} cannot be used", "name a writable directory")
    assert toy.workspace.read_text() == "mine\n"


def test_a_workspace_of_another_version(toy):
    toy.workspace.mkdir()
    marker = toy.workspace / "workspace.json"
    marker.write_text('{"format": 99}\n')
    refused(toy.run("build"), 2, "has format 99, this rocmbuild writes format 1", "or remove it")
    assert [path.name for path in toy.workspace.iterdir()] == ["workspace.json"]
    marker.write_text("not JSON\n")
    refused(toy.run("build"), 2, f"the workspace {toy.workspace} cannot be used")


def test_a_workspace_that_ninja_would_not_find_its_jobserver_in(new_toy, tmp_path):
    user = new_toy(tmp_path / "a user", "slow")
    done = user.run("build", "--no-verify", "--environment", "host", "-j", "1")
    refused(done, 2, "for it has a space in it", "leave --environment host out")
    assert not (user.workspace / "build").exists()
    user.build("-j", "1")
    assert _compilers_at_once(user.area("toyslow") / "build/.ninja_log") == 1


def _compilers_at_once(log: Path) -> int:
    """Return how many edges Ninja had running at one moment; one that begins as another ends is not beside it."""
    rows = [line.split("\t") for line in log.read_text().splitlines() if not line.startswith("#")]
    edges = {(int(row[0]), int(row[1]), row[4]) for row in rows}  # which may have several outputs
    changes = sorted(change for begin, end, _ in edges for change in ((begin, 1), (end, -1)))
    return max(accumulate(change for _, change in changes))


def test_a_workspace_that_is_read_only(toy, namespace):
    toy.workspace.mkdir()
    script = f"mount --bind {toy.workspace} {toy.workspace}\nmount -o remount,bind,ro {toy.workspace}"
    done = toy.call(namespace(script, toy.argv("build", "--no-verify")))
    refused(done, 2, f"the workspace {toy.workspace} cannot be used", "Read-only file system")
    assert list(toy.workspace.iterdir()) == []


def test_a_used_workspace_that_became_read_only(built, namespace):
    script = f"mount --bind {built.workspace} {built.workspace}\nmount -o remount,bind,ro {built.workspace}"
    done = built.call(namespace(script, built.argv("build", "--no-verify")))
    refused(done, 2, f"the workspace {built.workspace} cannot be used", "name a writable directory")


@pytest.mark.parametrize("size", ["60k", "200k", "300k", "360k"])
def test_a_full_disk(toy, namespace, size):
    """What was written when the disk was full does not trouble the next run, once there is room."""
    toy.workspace.mkdir()
    again = toy.directory / "again.sh"
    again.write_text(f'"$@" || echo "status $?"\nmount -o remount,size=200m {toy.workspace}\n"$@"\n')
    argv = ["sh", "-e", str(again), *toy.argv("build", "--no-verify", "toybase")]
    done = toy.call(namespace(f"mount -t tmpfs -o size={size} tmpfs {toy.workspace}", argv))
    refused(done, 0, "No space left on device", "status 1", "sudo apt install toybase toybase-dev")


def test_no_user_namespaces(toy, namespace):
    script = "echo 0 > /proc/sys/user/max_user_namespaces"
    done = toy.call(namespace(script, toy.argv("build", "--no-verify")))
    refused(done, 2, "it takes user namespaces: forbidden by user.max_user_namespaces=0", "--environment host")
    assert not (toy.workspace / "out").exists()


def test_no_network_for_the_first_build(toy, namespace):
    toy.forge = toy.directory / "nowhere"
    toy.manifest(
        ('["https://forge.example/OldToys/", "https://forge.example/Toys/"]', '["http://forge.invalid/Toys/"]')
    )
    done = toy.call(namespace("true", toy.argv("build", "--no-verify", "toybase"), "--net"))
    refused(
        done,
        1,
        "cannot fetch toy-9.9.x from http://forge.invalid/Toys/toybase: no connection to the server",
        "check the network and the proxy (https_proxy); --mirror PREFIX=URL uses another server, --offline",
        "toy.yaml:",
    )


def test_no_network_for_the_build_root(toy, namespace):
    (toy.cache / "roots").unlink()
    (toy.cache / "apt").unlink()
    done = toy.call(namespace("true", toy.argv("build", "--no-verify", "toybase"), "--net"))
    refused(done, 1, "the package index of debian-12 could not be fetched", "--apt-mirror")
    assert not list((toy.cache / "roots").glob("debian*"))


def test_without_a_network_what_was_fetched_is_enough(toy, namespace, first_build):
    done = toy.run("fetch")
    assert done.returncode == 0, done.stderr
    toy.forge = toy.directory / "nowhere"
    done = toy.call(namespace("true", toy.argv("build", "--no-verify", "--offline"), "--net"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert toy.debs() == first_build.debs()
    verifying = toy.run("verify", "--offline")
    refused(verifying, 2, "--offline forbids to fetch them", "rocmbuild verify proves them later")


def test_offline_with_an_empty_cache(toy):
    refused(toy.run("build", "--offline"), 1, "the cache has no toy-9.9.x", "run once without --offline")


def test_an_events_file_that_cannot_be_written(toy):
    done = toy.run("build", "--no-verify", "--events", str(toy.directory / "none/events"))
    refused(done, 2, "cannot write events to", "name a writable file with --events")


def test_a_cache_that_is_a_file(toy):
    (toy.directory / "file").write_text("")
    argv = [*toy.argv("build", "--no-verify"), "--cache", str(toy.directory / "file")]
    done = toy.call(argv)
    assert done.returncode in (1, 2), done.stdout + done.stderr
    refused(done, done.returncode, str(toy.directory / "file"))


def test_nothing_is_left_beside_the_workspace(first_build):
    known = {"workspace", "cache", "home", "before.json", "stdout", "events.jsonl", "made"}
    assert {path.name for path in first_build.directory.iterdir()} == known
    assert list(first_build.home.iterdir()) == []
    temporary = [path for path in first_build.workspace.rglob(".*") if re.search(r"\.\w{8}$", path.name)]
    assert temporary == []
    marker = json.loads((first_build.workspace / "workspace.json").read_text())
    assert marker == {"format": 1}
    assert not (first_build.workspace / "jobserver").exists()


def test_a_copied_workspace_is_as_good_as_the_first(built):
    library = built.area("toybase") / "stage/opt/rocm-9.9.1/lib/libtoybase.so.9.9.1"
    assert (built.area("toyapp") / "prefix/lib/libtoybase.so.9.9.1").samefile(library)
    assert set(built.actions().values()) == {"KEEP", "PROVIDED"}
