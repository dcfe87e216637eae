"""What a campaign disturbs with, and how it sees what is lost: each of these does what it says."""

from __future__ import annotations

import random
import subprocess
import urllib.error
import urllib.request

import pytest

from tests.faults import watching
from tests.faults.damage import damage
from tests.faults.disks import image, small, unavailable
from tests.faults.ground import Faulted, Ground, State, ended
from tests.faults.servers import cut_downloads, cut_git
from tests.faults.trial import Trial
from tests.integration.conftest import AREA, wait_for
from tests.integration.forge import Forge


@pytest.fixture
def content(tmp_path):
    """A directory with a file, to be put on a disk."""
    path = tmp_path / "content"
    path.mkdir()
    (path / "old").write_text("old")
    return path


def test_a_small_disk_is_full_and_then_is_not(content, tmp_path):
    if unavailable("user"):
        pytest.skip(unavailable("user"))
    place = tmp_path / "place"
    place.mkdir()
    mounts = watching.mounts(tmp_path)
    with small(place, content, 1 << 16) as disk:
        argv = [*disk.before, "dd", "if=/dev/zero", f"of={place}/new", "bs=1k", "count=200"]
        assert (disk.seen / "old").read_text() == "old"
        assert "No space left" in subprocess.run(argv, capture_output=True, text=True, check=False).stderr
        disk.grow()
        subprocess.run(argv, check=True, capture_output=True)
        assert (disk.seen / "new").stat().st_size == 200 << 10
        assert list(place.iterdir()) == []
    assert watching.mounts(tmp_path) == mounts == 0


def test_a_disk_that_loses_power_has_what_was_synchronized(content, tmp_path):
    if unavailable("loop"):
        pytest.skip(unavailable("loop"))
    place = tmp_path / "place"
    place.mkdir()
    with image(place, content, 5) as disk:
        script = f"cd {place}; echo 1 > kept; sync kept; echo 2 > lost; exec sleep 60"
        process = subprocess.Popen([*disk.before, "sh", "-c", script])
        while not (disk.seen / "lost").exists() or not (disk.seen / "lost").read_text():
            assert process.poll() is None
        disk.lose_power(process)
        assert watching.loops(tmp_path) == 1
        assert (disk.seen / "old").read_text() == "old"
        assert (disk.seen / "kept").read_text() == "1\n"
        assert not (disk.seen / "lost").exists() or not (disk.seen / "lost").read_text()
    assert (watching.loops(tmp_path), process.returncode) == (0, -9)


def test_a_git_server_hangs_up_as_often_as_it_is_told(tmp_path):
    repository = Forge(tmp_path / "forge").create("Toys/one", {"a": "b"}, branch="main")
    with cut_git(tmp_path / "forge", [10, 30]) as address:
        argv = ["git", "ls-remote", f"git://{address}/Toys/one"]
        runs = [subprocess.run(argv, capture_output=True, text=True, check=False) for _ in range(3)]
    assert [run.returncode for run in runs] == [128, 128, 0]
    assert repository.head() in runs[2].stdout


def test_a_server_of_files_answers_as_it_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    with cut_downloads(tmp_path, ["short", "other", "gone"], 0.5) as address:
        got = []
        for _ in range(4):
            try:
                got.append(urllib.request.urlopen(f"http://{address}/file").read())
            except urllib.error.HTTPError as error:
                got.append(error.code)
    assert got == [b"01234", b"9876543210", 404, b"0123456789"]


def test_a_spoiled_file_is_another_and_its_links_are_not(tmp_path):
    kinds = set()
    for seed in range(40):
        path, link = tmp_path / f"{seed}", tmp_path / f"{seed}-link"
        path.write_bytes(b"0123456789")
        link.hardlink_to(path)
        kinds.add(damage(path, random.Random(seed)))
        assert not path.exists() or path.read_bytes() != b"0123456789"
        assert link.read_bytes() == b"0123456789"
    assert kinds == {"bit", "bit, same time", "cut", "empty", "zeros", "gone"}


@pytest.fixture
def trial(tmp_path):
    """A trial of a user whose command line does nothing."""

    class Idle(Faulted):
        def command(self) -> list[str]:
            return ["sh", "-c", self.script]

    ground = Ground(tmp_path, tmp_path / "cache")
    user = Idle(ground.directory, tmp_path, "faults", said=tmp_path / "said")
    user.out.mkdir(parents=True)
    (user.out / "a.deb").write_text("a")
    ground.scratch.mkdir()
    user.script = "exit 0"
    names = watching.names_below(user.directory)
    state = State("empty", tmp_path, 1, 0.0, names, 0, 0, user.debs())
    ground._states["empty"] = state
    return Trial(ground, random.Random(1), state, user)


def lost(trial):
    from tests.faults.trial import After

    trial.again(After(trial.user))
    return [loss.split(":")[0] for loss in trial.losses]


def test_nothing_is_lost_if_nothing_happens(trial):
    assert lost(trial) == []


@pytest.mark.parametrize(
    ("script", "losses"),
    [
        ("exit 1", ["status"]),
        ("echo Traceback; exit 3", ["status", "bug"]),
        (f"echo b > workspace/out/faults/{AREA}/a.deb", ["bytes"]),
        (f"echo b > workspace/out/faults/{AREA}/b.deb", ["bytes", "leftovers"]),
        (f"rm workspace/out/faults/{AREA}/a.deb", ["bytes"]),
        ("touch workspace/.stamp.json.abcd1234", ["leftovers"]),
        ("mkdir -p cache/git/a.git/objects/pack && touch cache/git/a.git/objects/pack/tmp_pack_x", ["leftovers"]),
        ("touch ../tmp/something", ["leftovers"]),
    ],
)
def test_a_loss_is_seen(trial, script, losses):
    trial.user.script = script
    assert lost(trial) == losses


def test_what_is_left_running_is_seen(trial):
    process = subprocess.Popen(["sleep", "60"], cwd=trial.user.directory)
    wait_for(trial.user.orphans, 10, lambda: "not seen")  # the kernel says a moment later what it was started with
    trial.quiet(0.2)
    process.kill()
    process.wait()
    assert [loss.split(":")[0] for loss in trial.losses] == ["processes"]


def test_the_end_of_a_run_is_waited_for_as_long_as_it_may_take(trial):
    trial.user.script = "sleep 60"
    process = trial.user.launch()
    children = watching.descendants(process.pid)
    assert ended(process, 0.3) == -1000
    assert set(children.values()) <= {"sleep", "sh"}


def test_a_moment_is_in_planning_or_after_an_event(trial):
    trial.user.script = f"echo one > {trial.user.events}; sleep 60"
    process = trial.user.launch()
    assert trial.at_a_moment(process)
    trial.chance = random.Random(2)
    process.kill()
    process.wait()
    assert not trial.at_a_moment(process)
    assert (trial.hit, len(trial.done)) == (False, 2)
