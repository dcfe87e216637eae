"""Real Ninjas whose jobs take memory: what they take together stays within the budget, and all of it gets done."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rocmbuild import procfs
from rocmbuild.process import ProcessError, Runner
from rocmbuild.run import governor as module
from rocmbuild.run.governor import Governor, jobs, size
from rocmbuild.run.meter import Meter
from rocmbuild.run.resources import Jobserver
from rocmbuild.tools.cmake import find_build_tools

MIB = 1 << 20

GROW = """\
import os, sys, time
open("begun", "w").close()
held = []
for _ in range(int(sys.argv[1]) // 5):
    held.append(bytearray(b"x") * (5 << 20))
    time.sleep(0.03)
open("grown", "w").close()
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end and not os.path.exists("release"):
    pass
open(sys.argv[3], "w").close()
"""
"""Take memory step by step up to some MiB, say so, compute for some seconds, say that it is done."""


def tree_of(directory: Path, *commands: str) -> Path:
    """Make a build tree with an edge for each command; ``grow MIB SECONDS`` takes memory."""
    directory.mkdir()
    (directory / "grow.py").write_text(GROW)
    text = "rule run\n  command = $command\n"
    for number, command in enumerate(commands):
        grown = re.sub(r"^grow ", f"{sys.executable} -S grow.py ", command)
        text += f"build done{number}: run\n  command = {grown} done{number}\n"
    (directory / "build.ninja").write_text(text)
    return directory


FOLLOW = "while ! test -e ../large/grown; do sleep 0.05; done; touch"
"""Wait until the job of another tree has all its memory."""


class Bench:
    """A meter and a governor over real Ninjas, and somebody outside who watches them."""

    def __init__(self, directory: Path, sandbox: tuple[str, ...]) -> None:
        self.directory = directory
        self.sandbox = sandbox
        self.expendable = True
        self.notes: list[tuple[str, str]] = []
        self.peak = 0
        self.most_paused = 0
        (directory / "pressure").touch()

    def run(self, room: int, *trees: Path, after: str | None = None, during=None):
        """Build trees side by side within ``room`` MiB beside our own process; return the watches.

        Each begins when the one before it has ``begun`` or ``grown``, if ``after`` says so.
        """
        return asyncio.run(asyncio.wait_for(self._run(room, trees, after, during), 60))

    async def _after(self, tree, after, trees):
        number = trees.index(tree)
        while after is not None and number and not (trees[number - 1] / after).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return await self._build(tree)

    async def _run(self, room, trees, after, during):
        self.own = procfs.read(os.getpid()).memory
        self.budget = self.own + room * MIB
        self.meter = Meter()
        with Jobserver(self.directory / "fifo", 4).open() as self.jobserver:
            self.governor = Governor(
                self.jobserver, self.budget, lambda *note: self.notes.append(note), self.directory / "pressure"
            )
            helpers = [asyncio.create_task(self.meter.run(self.governor.look)), asyncio.create_task(self._observe())]
            building = asyncio.gather(*(self._after(tree, after, trees) for tree in trees), return_exceptions=True)
            try:
                if during is not None:
                    await during(building)
                return await building
            finally:
                self.governor.close()
                building.cancel()
                await asyncio.gather(building, return_exceptions=True)
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
                self.left = in_fifo(self.jobserver)

    async def _build(self, tree):
        env = {"PATH": "/usr/bin:/bin", "MAKEFLAGS": self.jobserver.makeflags + str(self.jobserver.path)}
        async with self.jobserver.token(0):
            with self.meter.watch(tree.name, expendable=self.expendable) as watch:
                runner = Runner(on_start=lambda pid: self.meter.started(watch, pid), on_end=watch.ended)
                runner.log = tree / "log"
                try:
                    await runner.run([*self.sandbox, str(find_build_tools().ninja), "-C", str(tree)], env=env)
                except ProcessError as error:
                    error.watch = watch
                    raise
                return watch

    async def _observe(self):
        while True:
            family = [one for one in procfs.family(os.getpid()) if one.state != "Z"]
            self.peak = max(self.peak, sum(one.memory for one in family))
            self.most_paused = max(self.most_paused, sum(one.state == "T" for one in family))
            await asyncio.sleep(0.03)


def in_fifo(jobserver):
    with contextlib.suppress(BlockingIOError):
        return len(os.read(jobserver._descriptor, 100))
    return 0


SANDBOX = ("bwrap", "--unshare-user", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--new-session")


@pytest.fixture
def bench(tmp_path):
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    return Bench(tmp_path, (*SANDBOX, "--die-with-parent", "--"))


@pytest.fixture
def host(tmp_path):
    return Bench(tmp_path, ())


def stopped():
    return [one.pid for one in procfs.family(os.getpid()) if one.state == "T"]


def test_jobs_that_fit_are_left_alone(bench, tmp_path):
    (watch,) = bench.run(1000, tree_of(tmp_path / "a", *["grow 60 0.2"] * 4))
    assert bench.notes == []
    assert bench.most_paused == 0
    assert not watch.crowded_out
    assert watch.memory > 120 * MIB
    assert bench.left == 4


def test_memory_stays_within_the_budget_and_everything_gets_done(bench, tmp_path):
    trees = [tree_of(tmp_path / name, *["grow 100 0.1"] * 3) for name in ("a", "b")]
    results = bench.run(300, *trees)
    assert bench.peak <= bench.budget
    failed = [result for result in results if isinstance(result, ProcessError)]
    assert all(result.watch.crowded_out for result in failed)  # nothing fails but what was ended on purpose
    assert bench.most_paused > 0
    assert bench.left == 4
    assert any("no further compilers start" in text for _, text in bench.notes)
    assert any(text.startswith("paused python") for _, text in bench.notes)


def test_jobs_that_have_just_begun_wait_until_there_is_room(bench, tmp_path):
    """A job that begins when another one is large is paused before it has taken much, and gets done later."""
    large, late = tree_of(tmp_path / "large", "grow 170 30"), tree_of(tmp_path / "late", FOLLOW, "grow 100 0.1")
    text = (late / "build.ninja").read_text()
    (late / "build.ninja").write_text(text.replace("build done1: run", "build done1: run done0"))

    async def release(building):
        while not bench.most_paused:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        (large / "release").touch()

    results = bench.run(200, large, late, after="begun", during=release)
    assert not any(isinstance(result, Exception) for result in results)
    assert bench.peak <= bench.budget
    assert (late / "done1").exists()


def test_who_has_no_room_left_is_ended_and_that_is_said(bench, tmp_path):
    """Two jobs that take two thirds each cannot both be kept: the younger one gives its memory back."""
    trees = [tree_of(tmp_path / "old", "grow 200 0.5"), tree_of(tmp_path / "young", "grow 200 0.5")]
    old, young = bench.run(300, *trees, after="begun")
    assert not isinstance(old, Exception)
    assert isinstance(young, ProcessError)
    assert young.watch.crowded_out
    assert not old.crowded_out
    assert bench.peak <= bench.budget
    (text,) = [text for task, text in bench.notes if task == "young" and text.startswith("ended")]
    assert "there is no room" in text
    assert bench.left == 4


def test_what_a_configure_step_tries_is_never_ended(bench, tmp_path):
    """It would take the end of a compiler for an answer to what it asked."""
    bench.expendable = False
    trees = [tree_of(tmp_path / "old", "grow 200 0.5"), tree_of(tmp_path / "young", "grow 200 0.5")]
    old, young = bench.run(300, *trees, after="begun")
    assert not isinstance(old, Exception)
    assert not isinstance(young, Exception)
    assert not [text for _, text in bench.notes if text.startswith("ended")]


def test_a_lone_job_is_never_paused_but_told_of(bench, tmp_path):
    large = procfs.read(os.getpid()).memory // MIB + 200  # the budget is 100 more than the tests take themselves
    (watch,) = bench.run(100, tree_of(tmp_path / "a", f"grow {large} 0.3"))
    assert watch.memory > large * MIB
    assert bench.most_paused == 0
    (text,) = [text for task, text in bench.notes if task == "a"]
    assert "alone takes" in text
    assert f"--memory is {size(bench.budget)}" in text


def test_stopping_lets_paused_jobs_go_on_first(bench, tmp_path, processes):
    word = str(tmp_path)
    tree = tree_of(tmp_path / "a", *[f"grow 120 60 {word}/"] * 3)

    async def interrupt(building):
        while not bench.governor._paused or not stopped():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert len(processes(word)) >= 3
        bench.governor.close()
        await asyncio.sleep(0.3)
        assert stopped() == []
        building.cancel()

    with pytest.raises(asyncio.CancelledError):
        bench.run(220, tree, during=interrupt)
    assert processes(word) == []
    assert bench.left == 4


def test_a_program_with_paused_jobs_can_be_stopped_at_once(bench, tmp_path, processes):
    """Nobody waits for the grace period, even if the governor does not know of the end."""
    word = str(tmp_path)
    tree = tree_of(tmp_path / "a", *[f"grow 5 60 {word}/"] * 3)

    async def interrupt(building):
        while len(found := jobs(bench.meter.sample())) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for job in found:
            procfs.send_group(job.group, signal.SIGSTOP)
        begun = asyncio.get_running_loop().time()
        building.cancel()
        await asyncio.gather(building, return_exceptions=True)
        assert asyncio.get_running_loop().time() - begun < 4
        assert processes(word) == []

    with pytest.raises(asyncio.CancelledError):
        bench.run(1000, tree, during=interrupt)
    assert bench.left == 4


def test_who_waits_for_a_paused_job_gets_it_back(bench, tmp_path, monkeypatch):
    """The older job waits for the younger one, which is paused since it takes much."""
    for name, value in {"STALL": 0.5, "ROOMY": 0.0, "HIGH": 0.3, "FULL": 0.35}.items():
        monkeypatch.setattr(module, name, value)
    os.mkfifo(tmp_path / "queue")
    old = tree_of(tmp_path / "old", "touch begun; cat ../queue; touch")
    young = tree_of(tmp_path / "young", "grow 140 0.1 done && echo > ../queue; touch")
    results = bench.run(400, old, young, after="begun")
    assert not any(isinstance(result, Exception) for result in results)
    assert bench.most_paused > 0


def test_tokens_are_withheld_while_the_machine_is_short_of_memory(bench, tmp_path):
    (tmp_path / "pressure").write_text("some avg10=45.50 avg60=1.00 avg300=0.00 total=1\n")

    async def ease(building):
        while not bench.notes:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        begun = asyncio.Event()

        async def one():
            async with bench.jobserver.token(9):
                begun.set()

        late = asyncio.create_task(one())
        await asyncio.sleep(0.6)
        assert not begun.is_set()
        (tmp_path / "pressure").write_text("some avg10=0.50 avg60=1.00 avg300=0.00 total=1\n")
        await asyncio.wait_for(begun.wait(), 5)
        await late

    bench.run(1000, tree_of(tmp_path / "a", "grow 10 3"), during=ease)
    assert bench.notes == [("memory", "memory is scarce: no further compilers start for now")]
    assert bench.left == 4


def test_a_machine_that_does_not_tell_its_pressure(bench, tmp_path):
    (tmp_path / "pressure").unlink()
    bench.run(1000, tree_of(tmp_path / "a", "grow 10 0.3"))
    assert bench.notes == []


def test_on_the_host_nothing_is_paused_and_memory_stays_within_the_budget(host, tmp_path):
    trees = [tree_of(tmp_path / "old", "grow 200 0.5"), tree_of(tmp_path / "young", "grow 200 0.5")]
    old, young = host.run(300, *trees, after="begun")
    assert not isinstance(old, Exception)
    assert young.watch.crowded_out
    assert host.most_paused == 0
    assert host.peak <= host.budget
    assert host.left == 4


KILLED = """
import asyncio, signal, sys
from rocmbuild import procfs
from rocmbuild.process import Runner
from rocmbuild.run.governor import jobs
from rocmbuild.run.meter import Meter

async def body():
    meter = Meter()
    with meter.watch("a") as watch:
        runner = Runner(on_start=lambda pid: meter.started(watch, pid), on_end=watch.ended)
        running = asyncio.create_task(runner.run(sys.argv[1:]))
        while len(found := jobs(meter.sample())) < 2:
            await asyncio.sleep(0.02)
        procfs.send_group(found[0].group, signal.SIGSTOP)
        print("paused", flush=True)
        await running

asyncio.run(body())
"""


def test_what_is_paused_ends_with_us_however_we_are_killed(bench, tmp_path, processes):
    word = str(tmp_path / "tree")
    tree = tree_of(tmp_path / "tree", *[f"grow 5 60 {word}/"] * 2)
    argv = [sys.executable, "-c", KILLED, *bench.sandbox, str(find_build_tools().ninja), "-C", str(tree)]
    package = str(Path(module.__file__).parents[2])
    killed = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": package})
    assert killed.stdout.readline() == "paused\n"
    assert len(processes(word)) >= 4
    killed.kill()
    killed.communicate()
    until = time.monotonic() + 10
    while processes(word) and time.monotonic() < until:
        time.sleep(0.05)
    assert processes(word) == []


def test_jobs_are_what_ninja_started_and_nothing_above(bench, tmp_path):
    """A shell with what it runs is one job; a Ninja that runs another one, and both Ninjas, are none."""
    inner = tree_of(tmp_path / "inner", "sh -c 'sleep 2; true'", "sleep 2 #")
    outer = tree_of(tmp_path / "outer", f"{find_build_tools().ninja} -C {inner} #", "sleep 2 #")
    names = set()

    async def look(building):
        while len(found := jobs(bench.meter.sample())) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        names.update(tuple(sorted(one.process.name for one in job.members)) for job in found)

    bench.run(1000, outer, during=look)
    assert not any("ninja" in names for names in names)
    assert ("sh", "sleep") in names or ("sleep",) in names
