"""What tasks took, out of events, and the bound that no order of them goes below."""

from __future__ import annotations

import asyncio
import sys

import pytest

from rocmbuild.events import StepEnded
from rocmbuild.machine import available_cpus
from rocmbuild.run.efforts import Efforts
from rocmbuild.run.resources import Jobserver, Memory, Resources
from rocmbuild.run.scheduler import Scheduler
from rocmbuild.run.task import Step, Task, Uses


async def _nothing(_context):
    pass


def component(name, *needs):
    steps = tuple(Step(step, _nothing) for step in ("configure", "build", "install"))
    return Task(name, steps, frozenset(needs))


def source(name):
    return Task(f"{name} source", (Step("fetch", _nothing, Uses.NETWORK), Step("prepare", _nothing, Uses.NOTHING)))


def told(tasks, ended, *, slots=2, cpus=2):
    efforts = Efforts(tasks, slots, cpus)
    for task, step, seconds, cpu in ended:
        efforts(StepEnded(0.0, task, step, seconds, cpu, 1 << 20))
    return efforts


def test_a_task_is_the_sum_of_its_steps():
    efforts = told([component("a")], [("a", "configure", 3.0, 2.0), ("a", "build", 50.0, 90.0)])
    efforts(StepEnded(0.0, "a", "install", 2.0, 1.0, 5 << 20))
    effort = efforts.of("a")
    assert (effort.seconds, effort.cpu, effort.serial_seconds, effort.memory) == (55.0, 93.0, 5.0, 5 << 20)
    assert (effort.shared, effort.held, effort.chain) == (90.0, 3.0, 3.0)
    assert efforts.of("b").cpu == 0.0


def test_work_is_cpu_seconds_and_not_time():
    tasks = [component("a"), component("b")]
    efforts = told(tasks, [("a", "build", 100.0, 40.0), ("b", "build", 100.0, 60.0)])
    assert (efforts.bound().work, efforts.bound().by_work) == (50.0, True)


def test_a_chain_divides_what_ninja_did_and_not_what_is_done_in_one_slot():
    tasks = [component("a"), component("b", "a"), component("c")]
    ended = [("a", "configure", 12.0, 10.0), ("a", "build", 40.0, 40.0), ("b", "install", 9.0, 8.0)]
    found = told(tasks, ended).bound()
    assert (found.chain, found.work) == (38.0, 29.0)


def test_a_single_large_edge_is_not_divided():
    efforts = told([component("a")], [("a", "build", 40.0, 40.0)])
    efforts.note_longest("a", 35.0)
    assert (efforts.bound().chain, efforts.bound().work) == (35.0, 20.0)


def test_a_step_with_threads_may_be_divided_like_ninja():
    assert told([component("a")], [("a", "install", 10.0, 18.0)]).bound().chain == 9.0


@pytest.mark.parametrize(("cpus", "work"), [(1, 14.0), (2, 7.0), (4, 5.0)])
def test_what_holds_no_slot_is_work_only_where_there_is_no_processor_left(cpus, work):
    tasks = [source("a"), component("a", "a source")]
    efforts = told(tasks, [("a source", "prepare", 9.0, 4.0), ("a", "build", 9.0, 10.0)], cpus=cpus)
    assert efforts.bound().work == work


def test_more_slots_than_processors_give_no_more():
    efforts = told([component("a")], [("a", "build", 9.0, 16.0)], slots=64, cpus=2)
    assert (efforts.capacity, efforts.bound().seconds) == (2, 8.0)


def test_a_real_run_does_not_go_below_its_bound(tmp_path):
    """Programs that compute, one after another and side by side, measured as a run measures them."""
    busy = "import time\nwhile time.process_time() < 0.6: sum(range(10000))"

    async def compute(context):
        await context.runner.run([sys.executable, "-c", busy])

    def task(name, *needs):
        step = Step("configure", compute)
        return Task(name, (step,), frozenset(needs), logs=lambda step: tmp_path / name / step)

    tasks = [task("a"), task("b", "a"), task("c")]
    efforts = Efforts(tasks, 2, available_cpus())
    with Jobserver(tmp_path / "fifo", 2).open() as jobserver:
        scheduler = Scheduler(Resources(jobserver, Memory(1 << 30)), efforts)

        async def run():
            await scheduler.run(tasks)
            return scheduler.now()

        seconds = asyncio.run(run())
    assert 0.5 < efforts.bound().seconds <= seconds
