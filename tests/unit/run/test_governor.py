"""Real Ninjas whose jobs take memory: what they take together stays within the budget, and all of it gets done."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
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
import sys, time
held = []
for _ in range(int(sys.argv[1]) // 5):
    held.append(bytearray(b"x") * (5 << 20))
    time.sleep(0.01)
open("grown", "w").close()
time.sleep(float(sys.argv[2]))
open(sys.argv[3], "w").close()
"""
"""Take memory step by step up to some MiB, say so, keep it for some seconds, say that it is done."""


def tree_of(directory: Path, *commands: str) -> Path:
    """Make a build tree with an edge for each command; ``grow MIB SECONDS`` takes memory, ``after TREE`` waits."""
    directory.mkdir()
    (directory / "grow.py").write_text(GROW)
    text = "rule run\n  command = $command\n"
    for number, command in enumerate(commands):
        grown = command.replace("grow", f"{sys.executable} -S grow.py")
        grown = re.sub(r"after (\w+)", r"while ! test -e ../\1/grown; do sleep 0.05; done", grown)
        text += f"build done{number}: run\n  command = {grown} done{number}\n"
    (directory / "build.ninja").write_text(text)
    return directory


class Bench:
    """A meter and a governor over real Ninjas, and somebody outside who watches them."""

    def __init__(self, directory: Path, pressure: str = "") -> None:
        self.directory = directory
        self.notes: list[tuple[str, str]] = []
        self.peak = 0
        self.most_paused = 0
        (directory / "pressure").write_text(pressure)

    def run(self, room: int, *trees: Path, tokens: int = 4, during=None):
        """Build trees side by side within ``room`` MiB beside our own process; return the watches."""
        return asyncio.run(asyncio.wait_for(self._run(room, trees, tokens, during), 90))

    async def _run(self, room, trees, tokens, during):
        self.own = procfs.read(os.getpid()).memory
        self.budget = self.own + room * MIB
        self.meter = Meter()
        with Jobserver(self.directory / "fifo", tokens).open() as self.jobserver:
            self.governor = Governor(
                self.jobserver, self.budget, lambda *note: self.notes.append(note), self.directory / "pressure"
            )
            helpers = [asyncio.create_task(self.meter.run(self.governor.look)), asyncio.create_task(self._observe())]
            building = asyncio.gather(*(self._build(tree) for tree in trees), return_exceptions=True)
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
            with self.meter.watch(tree.name) as watch:
                runner = Runner(on_start=lambda pid: self.meter.started(watch, pid), on_end=watch.ended)
                runner.log = tree / "log"
                try:
                    await runner.run([str(find_build_tools().ninja), "-C", str(tree)], env=env)
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


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


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
    """What is large goes on; a job that begins meanwhile is paused before it has taken anything, and then gets done."""
    trees = [tree_of(tmp_path / "large", "grow 170 1.5"), tree_of(tmp_path / "late", "after large; grow 100 0.1")]
    results = bench.run(200, *trees)
    assert not any(isinstance(result, Exception) for result in results)
    assert bench.peak <= bench.budget
    assert bench.most_paused > 0
    assert {path.name for path in tmp_path.glob("*/done*")} == {"done0"}
    assert len(list(tmp_path.glob("*/done*"))) == 2


def test_who_has_no_room_left_is_ended_and_that_is_said(bench, tmp_path):
    """Two jobs that take two thirds each cannot both be kept: the younger one gives its memory back."""
    trees = [tree_of(tmp_path / "old", "grow 200 0.5"), tree_of(tmp_path / "young", "sleep 0.1 && grow 200 0.5")]
    old, young = bench.run(300, *trees)
    assert not isinstance(old, Exception)
    assert isinstance(young, ProcessError)
    assert young.watch.crowded_out
    assert not old.crowded_out
    assert bench.peak <= bench.budget
    (text,) = [text for task, text in bench.notes if task == "young" and text.startswith("ended")]
    assert "there is no room" in text
    assert bench.left == 4


def test_a_lone_job_is_never_paused_but_told_of(bench, tmp_path):
    (watch,) = bench.run(100, tree_of(tmp_path / "a", "grow 300 0.3"))
    assert watch.memory > 300 * MIB
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
    """The second job has to wait for the first, which is paused since it is the younger one."""
    monkeypatch.setattr(module, "STALL", 0.5)
    monkeypatch.setattr(module, "ROOMY", 0.0)
    trees = tree_of(tmp_path / "old", "after young; touch"), tree_of(tmp_path / "young", "sleep 0.3 && grow 140 0.1")
    results = bench.run(150, *trees)
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
