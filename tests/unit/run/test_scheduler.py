"""The order in which tasks run, what a failure does to the others, and what is told of it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from rocmbuild import events, process
from rocmbuild.errors import OutOfMemory, StepError
from rocmbuild.run.resources import Jobserver, Memory, Resources
from rocmbuild.run.scheduler import Scheduler
from rocmbuild.run.task import Step, Task, Uses
from rocmbuild.tools.waiting import in_thread


class Bench:
    """Tasks, a scheduler over a real jobserver, and a record of what it tells."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.events: list[events.Event] = []
        self.began: list[str] = []

    def task(self, name, *needs, cost=1.0, memory=0, uses=Uses.CPU, does=None, steps=None):
        async def step(context):
            self.began.append(name)
            await asyncio.sleep(0)
            if does is not None:
                await does(context)

        return Task(
            name,
            steps or (Step("build", step, uses),),
            frozenset(needs),
            cost=cost,
            memory=memory,
            rerun=f"rocmbuild build {name}",
            logs=lambda step: self.directory / "logs" / name / f"{step}.log",
        )

    def run(self, *tasks, cpus=1, memory=1 << 40, keep_going=False, during=None):
        async def body():
            with Jobserver(self.directory / "fifo", cpus).open() as jobserver:
                self.jobserver = jobserver
                scheduler = Scheduler(Resources(jobserver, Memory(memory)), self.events.append, keep_going)
                running = asyncio.create_task(scheduler.run(tasks))
                if during is not None:
                    await during(running)
                outcome = await asyncio.wait_for(running, 30)
                self.tokens = os.read(jobserver._descriptor, 100)
                return outcome

        return asyncio.run(body())

    def told(self, *kinds):
        """Return the events of some kinds as (kind, task, rest)."""
        return [
            (type(event).__name__, event.task)
            for event in self.events
            if hasattr(event, "task") and (not kinds or isinstance(event, kinds))
        ]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


async def fail(context):
    raise StepError("it broke", where="step", hint="mend it")


def test_nothing_to_do(bench):
    assert bench.run().status == {}
    assert bench.events == []


def test_a_task_begins_when_all_its_needs_are_done(bench):
    done = []

    def finishing(name):
        async def does(context):
            await asyncio.sleep(0.01)
            done.append(name)

        return does

    async def check(context):
        assert sorted(done) == ["a", "b"]

    tasks = (
        bench.task("c", "a", "b", does=check),
        bench.task("a", does=finishing("a")),
        bench.task("b", does=finishing("b")),
    )
    outcome = bench.run(*tasks, cpus=4)
    assert outcome.status == {"a": "done", "b": "done", "c": "done"}
    assert outcome.errors == {}


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_with_one_cpu_the_longest_remaining_path_goes_first(bench, order):
    tasks = [
        bench.task("short", cost=3),
        bench.task("root", cost=1),
        bench.task("long", "root", cost=10),
        bench.task("middle", "root", cost=5),
        bench.task("tiny", cost=0.5),
    ]
    bench.run(*(tasks[index] for index in order))
    assert bench.began == ["root", "long", "middle", "short", "tiny"]


def test_ties_go_in_the_order_of_the_plan(bench):
    bench.run(*(bench.task(name) for name in "cab"))
    assert bench.began == ["c", "a", "b"]


def test_tasks_run_side_by_side_within_the_tokens(bench):
    running, most = set(), 0

    def does(name):
        async def body(context):
            nonlocal most
            running.add(name)
            most = max(most, len(running))
            await asyncio.sleep(0.01)
            running.discard(name)

        return body

    bench.run(*(bench.task(f"t{n}", does=does(n)) for n in range(9)), cpus=3)
    assert most == 3
    assert bench.tokens == b"+++"


def test_downloads_need_no_token(bench):
    fetched = asyncio.Event()

    async def fetch(context):
        fetched.set()

    async def compute(context):
        await asyncio.wait_for(fetched.wait(), 5)

    bench.run(bench.task("compute", cost=9, does=compute), bench.task("fetch", uses=Uses.NETWORK, does=fetch))
    assert fetched.is_set()


def test_only_a_few_downloads_at_once(bench):
    running = most = 0

    async def fetch(context):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    bench.run(*(bench.task(f"t{n}", uses=Uses.NETWORK, does=fetch) for n in range(12)))
    assert most == 4


@pytest.mark.parametrize("first", [Uses.CPU, Uses.NETWORK, Uses.NOTHING])
def test_memory_is_reserved_before_the_first_step_that_computes(bench, first):
    running = most = 0

    async def quick(context):
        pass

    async def compute(context):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    steps = (Step("first", quick, first), Step("build", compute))
    bench.run(*(bench.task(f"t{n}", memory=60, steps=steps) for n in range(4)), cpus=4, memory=130)
    assert most == 2


def test_steps_run_one_after_another_with_logs_of_their_own(bench):
    async def one(context):
        context.log.write_text("of one\n")

    async def two(context):
        assert context.log.read_text() == ""
        await context.runner.run(["echo", "hello"])

    task = bench.task("a", steps=(Step("configure", one), Step("build", two)))
    (bench.directory / "logs/a").mkdir(parents=True)
    (bench.directory / "logs/a/build.log").write_text("of an earlier run\n")
    bench.run(task)
    assert (bench.directory / "logs/a/configure.log").read_text() == "of one\n"
    assert (bench.directory / "logs/a/build.log").read_text() == "$ echo hello\nhello\n"


def test_what_is_told_of_a_task_that_goes_well(bench):
    async def does(context):
        context.progress(1, 2, "x.cpp")
        context.note("all is well")
        await context.runner.run(["echo", "hello"])

    outcome = bench.run(bench.task("a", does=does))
    log = str(bench.directory / "logs/a/build.log")
    unlike = {"time": 0, "seconds": 0, "cpu_seconds": 0, "memory": 0}
    assert [{**event.record(), **unlike} for event in bench.events] == [
        {**event.record(), **unlike}
        for event in (
            events.TaskStarted(0, "a"),
            events.StepStarted(0, "a", "build", log),
            events.StepProgress(0, "a", "build", 1, 2, "x.cpp"),
            events.Note(0, "a", "all is well"),
            events.OutputLine(0, "a", "build", "hello"),
            events.StepEnded(0, "a", "build", 0),
            events.TaskEnded(0, "a", "done", 0),
        )
    ]
    times = [event.time for event in bench.events]
    assert times == sorted(times)
    assert 0 < bench.events[-1].seconds <= outcome.seconds["a"] + 0.01


def test_steps_that_an_earlier_one_made_needless_are_left_out(bench):
    done = []

    def making(name):
        async def does(context):
            done.append(name)

        return does

    steps = (
        Step("look", making("look"), Uses.NOTHING),
        Step("build", making("build"), needed=lambda: "look" not in done),
        Step("package", making("package"), needed=lambda: "look" in done),
    )
    outcome = bench.run(bench.task("a", steps=steps), bench.task("b", "a", does=making("b")))
    assert done == ["look", "package", "b"]
    assert outcome.status == {"a": "kept", "b": "done"}
    assert [event.status for event in bench.events if isinstance(event, events.TaskEnded)] == ["kept", "done"]
    assert not (bench.directory / "logs/a/build.log").exists()


def test_a_failure_is_told_with_all_that_helps(bench):
    async def does(context):
        for number in range(40):
            await asyncio.sleep(0)
            with context.log.open("a") as log:
                log.write(f"line {number}\n")
        await fail(context)

    outcome = bench.run(bench.task("a", does=does))
    failed = bench.events[-1]
    assert isinstance(failed, events.TaskFailed)
    assert (failed.task, failed.step, failed.message) == ("a", "build", "it broke")
    assert (failed.where, failed.hint) == ("step", "mend it")
    assert failed.log == str(bench.directory / "logs/a/build.log")
    assert failed.rerun == "rocmbuild build a"
    assert failed.tail == tuple(f"line {number}" for number in range(15, 40))
    assert outcome.status == {"a": "failed"}
    assert outcome.errors["a"].rerun == "rocmbuild build a"
    assert outcome.seconds["a"] > 0


def test_the_failure_of_a_program_is_told_with_its_last_lines(bench):
    async def does(context):
        await context.runner.run(["sh", "-c", "echo one; echo two; exit 1"])

    bench.run(bench.task("a", does=does))
    assert bench.events[-1].tail == ("one", "two")
    assert bench.events[-1].message.startswith("sh exited with status 1")


def test_a_later_step_does_not_run_after_a_failure(bench):
    async def never(context):
        pytest.fail("it ran")

    outcome = bench.run(bench.task("a", steps=(Step("configure", fail), Step("build", never))))
    assert outcome.status == {"a": "failed"}
    assert bench.events[-1].step == "configure"


def test_what_depends_on_a_failure_is_skipped_and_says_because_of_what(bench):
    tasks = (bench.task("a", does=fail), bench.task("b", "a"), bench.task("c", "b"), bench.task("free"))
    outcome = bench.run(*tasks, keep_going=True)
    assert outcome.status == {"a": "failed", "b": "skipped", "c": "skipped", "free": "done"}
    skipped = {event.task: event.because for event in bench.events if isinstance(event, events.TaskSkipped)}
    assert skipped == {"b": "a", "c": "b"}
    assert list(outcome.errors) == ["a"]
    assert set(outcome.seconds) == {"a", "free"}


def test_keeping_on_after_failures_finds_all_of_them(bench):
    tasks = (bench.task("a", does=fail), bench.task("b", does=fail), bench.task("c"))
    outcome = bench.run(*tasks, keep_going=True)
    assert outcome.status == {"a": "failed", "b": "failed", "c": "done"}
    assert bench.tokens == b"+"


def test_a_failure_stops_everything_else(bench, processes):
    word = f"41{os.getpid()}.5"

    async def sleep(context):
        await context.runner.run(["sleep", word])

    async def break_later(context):
        while not processes(word):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await fail(context)

    begun = time.monotonic()
    tasks = (
        bench.task("sleeper", does=sleep),
        bench.task("breaker", does=break_later),
        bench.task("after", "breaker"),
        bench.task("other", "sleeper"),
    )
    outcome = bench.run(*tasks, cpus=2)
    assert time.monotonic() - begun < 10
    assert outcome.status == {"sleeper": "skipped", "breaker": "failed", "after": "skipped", "other": "skipped"}
    assert processes(word) == []
    assert ("TaskStarted", "after") not in bench.told()


def test_after_a_failure_nothing_new_begins(bench):
    tasks = (bench.task("a", cost=9, does=fail), *(bench.task(f"t{n}") for n in range(20)))
    bench.run(*tasks)
    assert bench.began == ["a"]


def test_tokens_are_back_after_a_failure(bench):
    async def slow(context):
        await asyncio.sleep(60)

    async def soon(context):
        await asyncio.sleep(0.02)
        await fail(context)

    bench.run(bench.task("a", does=slow), bench.task("b", does=slow), bench.task("c", does=soon), cpus=3)
    assert bench.tokens == b"+++"


def test_cancelling_ends_real_programs(bench, processes, monkeypatch):
    monkeypatch.setattr(process, "GRACE", 0.2)
    word = f"42{os.getpid()}.5"

    async def stubborn(context):
        await context.runner.run(["sh", "-c", f"trap '' TERM; sleep {word} & sleep {word}; sleep {word}"])

    async def interrupt(running):
        while len(processes(word)) < 6:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert processes(word) == []
        raise RuntimeError("as expected")

    tasks = (bench.task("a", does=stubborn), bench.task("b", does=stubborn), bench.task("c", "a"))
    with pytest.raises(RuntimeError, match="as expected"):
        bench.run(*tasks, cpus=2, during=interrupt)
    assert bench.began == ["a", "b"]
    assert not bench.told(events.TaskEnded, events.TaskFailed)


def test_a_bug_in_a_step_stops_everything_and_is_raised_as_it_is(bench):
    stopped = []

    async def slow(context):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.append("slow")
            raise

    async def bug(context):
        await asyncio.sleep(0.01)
        raise ZeroDivisionError("bug")

    with pytest.raises(ZeroDivisionError, match="bug"):
        bench.run(bench.task("a", does=slow), bench.task("b", does=bug), cpus=2, keep_going=True)
    assert stopped == ["slow"]


def test_a_chain_of_many_tasks(bench):
    tasks = [bench.task("t0"), *(bench.task(f"t{n}", f"t{n - 1}") for n in range(1, 300))]
    assert set(bench.run(*tasks).status.values()) == {"done"}
    assert bench.began == [f"t{n}" for n in range(300)]


KILLED = ["sh", "-c", "echo compiling; kill -KILL $$"]


def notes(bench):
    return [event.text for event in bench.events if isinstance(event, events.Note)]


@pytest.mark.parametrize("uses", [Uses.NETWORK, Uses.NOTHING])
def test_what_does_not_compute_is_not_taken_for_lacking_memory(bench, uses):
    """To repeat it alone would mean to wait for all who compute."""
    outcome = bench.run(bench.task("a", uses=uses, does=lambda context: context.runner.run(KILLED)))
    assert outcome.status == {"a": "failed"}
    assert not [text for text in notes(bench) if "not enough memory" in text]


def test_a_killed_program_is_tried_again_alone(bench):
    tries = []

    async def does(context):
        tries.append(1)
        await context.runner.run(KILLED if len(tries) == 1 else ["echo", "fine"])

    outcome = bench.run(bench.task("a", memory=50, does=does), cpus=3)
    assert outcome.status == {"a": "done"}
    assert len(tries) == 2
    (note,) = [text for text in notes(bench) if "not enough memory" in text]
    assert note.startswith("not enough memory, so build is repeated alone, one program at a time (sh was killed")
    assert (bench.directory / "logs/a/build.log").read_text() == "$ echo fine\nfine\n"
    assert [kind for kind, _ in bench.told(events.TaskStarted)] == ["TaskStarted"]
    assert bench.tokens == b"+++"


def test_while_a_step_is_tried_again_nobody_else_computes_and_it_gets_no_further_token(bench):
    tries, running, others = [], set(), []

    async def hungry(context):
        tries.append(len(running))
        if len(tries) == 1:
            raise OutOfMemory("it took too much")
        for _ in range(10):
            await asyncio.sleep(0.02)
            others.append(set(running))
            with pytest.raises(BlockingIOError):
                os.read(bench.jobserver._descriptor, 1)

    async def other(context):
        running.add(id(context))
        await asyncio.sleep(0.1)
        running.discard(id(context))

    tasks = [bench.task(f"t{n}", memory=10, does=other) for n in range(12)]
    outcome = bench.run(bench.task("hungry", cost=5, memory=10, does=hungry), *tasks, cpus=4, memory=40)
    assert set(outcome.status.values()) == {"done"}
    assert len(tries) == 2
    assert tries[1] == 0
    assert others == [set()] * 10
    assert bench.tokens == b"++++"


def test_several_steps_that_lack_memory_are_tried_again_one_at_a_time(bench):
    tries, alone = {}, []

    def hungry(name):
        async def does(context):
            tries[name] = tries.get(name, 0) + 1
            if tries[name] == 1:
                await asyncio.sleep(0.05)
                raise OutOfMemory("it took too much")
            alone.append(name)
            await asyncio.sleep(0.02)
            assert alone[-1] == name

        return does

    outcome = bench.run(*(bench.task(name, memory=10, does=hungry(name)) for name in "abc"), cpus=3, memory=100)
    assert set(outcome.status.values()) == {"done"}
    assert tries == {"a": 2, "b": 2, "c": 2}


def test_a_second_lack_of_memory_is_a_failure_that_says_what_to_try(bench):
    tries = []

    async def does(context):
        tries.append(1)
        await context.runner.run(KILLED)

    outcome = bench.run(bench.task("a", memory=50, does=does), memory=3 << 30)
    assert len(tries) == 2
    assert outcome.status == {"a": "failed"}
    assert isinstance(outcome.errors["a"], OutOfMemory)
    failed = bench.events[-1]
    assert failed.message.startswith("sh was killed by SIGKILL")
    assert failed.hint == "it failed alone too: raise --memory (3.0 GiB), or add memory or swap"
    assert failed.tail[-1] == "compiling"


def test_later_steps_of_a_task_that_was_tried_again_run_beside_others(bench):
    tries, together = [], []

    async def build(context):
        tries.append(1)
        if len(tries) == 1:
            raise OutOfMemory("it took too much")

    async def package(context):
        together.append(1)
        while len(together) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    steps = (Step("build", build), Step("package", package))
    tasks = (bench.task("a", memory=60, steps=steps), bench.task("b", memory=40, steps=(Step("package", package),)))
    assert bench.run(*tasks, cpus=2, memory=100).status == {"a": "done", "b": "done"}


def test_other_failures_are_not_tried_again(bench):
    tries = []

    async def does(context):
        tries.append(1)
        await context.runner.run(["sh", "-c", "kill -TERM $$"])

    assert bench.run(bench.task("a", does=does)).status == {"a": "failed"}
    assert len(tries) == 1


TAKE = "import time; x = bytearray(b'x') * (80 << 20); sum(range(4000000)); time.sleep(0.5)"


def test_what_steps_take_is_told_and_what_exceeds_its_reservation_is_noted(bench):
    async def does(context):
        await context.runner.run([sys.executable, "-S", "-c", TAKE])

    async def nothing(context):
        await asyncio.sleep(0)

    steps = (Step("build", does), Step("install", nothing))
    bench.run(bench.task("a", memory=10 << 20, steps=steps), bench.task("b", memory=1 << 30, does=does))
    ended = {(event.task, event.step): event for event in bench.events if isinstance(event, events.StepEnded)}
    tasks = {event.task: event for event in bench.events if isinstance(event, events.TaskEnded)}
    assert ended["a", "install"].memory == 0
    for event in (ended["a", "build"], tasks["a"], ended["b", "build"], tasks["b"]):
        assert 80 << 20 <= event.memory < 120 << 20
        assert 0.02 < event.cpu_seconds < 5
    assert [text for text in notes(bench) if "expected" in text] == [
        "took 0.1 GiB of memory where 0.0 GiB were expected"
    ]


def test_what_a_thread_of_ours_takes_counts_for_its_step_alone(bench):
    async def computes(context):
        await asyncio.gather(in_thread(busy), in_thread(busy))

    async def nothing(context):
        await in_thread(time.sleep, 0.2)

    bench.run(bench.task("a", does=computes), bench.task("b", does=nothing))
    spent = {event.task: event.cpu_seconds for event in bench.events if isinstance(event, events.StepEnded)}
    assert spent["a"] >= 0.2
    assert spent["b"] < 0.1


def busy() -> None:
    begun = time.thread_time()
    while time.thread_time() < begun + 0.1:
        pass


def test_what_a_failed_task_took_is_told_too(bench):
    async def does(context):
        await context.runner.run([sys.executable, "-S", "-c", f"{TAKE}; raise SystemExit(1)"])

    bench.run(bench.task("a", does=does))
    assert bench.events[-1].memory >= 80 << 20
    assert bench.events[-1].cpu_seconds > 0.02
