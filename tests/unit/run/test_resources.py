"""Tokens are counted exactly: by us among many waiters, and by real Ninjas that share them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rocmbuild.run.resources import Jobserver, Memory, Resources
from rocmbuild.tools.cmake import find_build_tools


@pytest.fixture
def jobserver(tmp_path):
    """Return a function that runs a coroutine with an open jobserver of a size."""

    def run(size, function):
        async def body():
            with Jobserver(tmp_path / "deep/fifo", size).open() as jobserver:
                return await asyncio.wait_for(function(jobserver), 30)

        return asyncio.run(body())

    return run


def in_fifo(path):
    """Take all tokens out of a fifo, put them back, and return how many there were."""
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        found = os.read(descriptor, 4096)
        os.write(descriptor, found)
        return len(found)
    except BlockingIOError:
        return 0
    finally:
        os.close(descriptor)


async def hold(jobserver, until, priority=0.0, began=None):
    async with jobserver.token(priority):
        if began is not None:
            began.set()
        await until.wait()


def test_the_fifo_is_full_at_first_and_gone_at_last(tmp_path):
    jobserver = Jobserver(tmp_path / "fifo", 5)
    with jobserver.open():
        assert in_fifo(jobserver.path) == 5
        assert jobserver.path.stat().st_mode & 0o777 == 0o600
    assert not jobserver.path.exists()


def test_what_a_killed_run_left_is_replaced(tmp_path):
    (tmp_path / "fifo").write_text("old")
    with Jobserver(tmp_path / "fifo", 2).open() as jobserver:
        assert in_fifo(jobserver.path) == 2


def test_the_fifo_is_gone_after_a_failure(tmp_path):
    with pytest.raises(RuntimeError), Jobserver(tmp_path / "fifo", 2).open():
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_flags_make_ninja_a_client(tmp_path):
    assert Jobserver(tmp_path / "fifo", 7).makeflags + "/run/x" == " -j7 --jobserver-auth=fifo:/run/x"


def test_a_token_is_taken_and_given_back(jobserver):
    async def body(server):
        async with server.token(0):
            assert in_fifo(server.path) == 2
            async with server.token(0):
                assert in_fifo(server.path) == 1
        assert in_fifo(server.path) == 3

    jobserver(3, body)


def test_a_token_is_given_back_after_a_failure(jobserver):
    async def body(server):
        with pytest.raises(RuntimeError):
            async with server.token(0):
                raise RuntimeError
        assert in_fifo(server.path) == 2

    jobserver(2, body)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_never_more_holders_than_tokens(jobserver, size):
    holding, most = 0, 0

    async def one(server, number):
        nonlocal holding, most
        async with server.token(random.Random(number).random()):
            holding += 1
            most = max(most, holding)
            assert in_fifo(server.path) <= size - 1
            await asyncio.sleep(0.001 * (number % 3))
            holding -= 1

    async def body(server):
        await asyncio.gather(*(one(server, number) for number in range(200)))
        assert in_fifo(server.path) == size

    jobserver(size, body)
    assert most == size


def test_the_highest_priority_is_served_first(jobserver):
    order = []

    async def one(server, priority, name):
        async with server.token(priority):
            order.append(name)

    async def body(server):
        async with server.token(0):
            waiting = [
                asyncio.create_task(one(server, *entry)) for entry in ((1, "a"), (3, "b"), (2, "c"), (3, "d"), (0, "e"))
            ]
            await asyncio.sleep(0.01)
        await asyncio.gather(*waiting)

    jobserver(1, body)
    assert order == ["b", "d", "c", "a", "e"]


def test_who_comes_later_does_not_overtake_a_waiter(jobserver):
    order = []

    async def one(server, name):
        async with server.token(0):
            order.append(name)

    async def body(server):
        async with server.token(0):
            first = asyncio.create_task(one(server, "first"))
            await asyncio.sleep(0.01)
        second = asyncio.create_task(one(server, "second"))
        await asyncio.gather(first, second)

    jobserver(1, body)
    assert order == ["first", "second"]


def test_cancelled_waiters_take_nothing_with_them(jobserver):
    async def body(server):
        release = asyncio.Event()
        holder = asyncio.create_task(hold(server, release))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(hold(server, release, number)) for number in range(20)]
        await asyncio.sleep(0.01)
        for task in waiting[::2]:
            task.cancel()
        release.set()
        await asyncio.gather(holder, *waiting, return_exceptions=True)
        assert [task.cancelled() for task in waiting] == [True, False] * 10
        assert in_fifo(server.path) == 1

    jobserver(1, body)


def test_a_waiter_that_is_cancelled_in_the_moment_it_is_served_gives_its_token_back(jobserver):
    async def body(server):
        for _ in range(50):
            began = asyncio.Event()
            holder = asyncio.create_task(hold(server, asyncio.Event(), began=began))
            await began.wait()
            waiter = asyncio.create_task(hold(server, asyncio.Event()))
            await asyncio.sleep(0)
            holder.cancel()
            await asyncio.gather(holder, return_exceptions=True)
            server._serve()  # the token is the waiter's now, who has not run yet
            assert in_fifo(server.path) == 0
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
            assert waiter.cancelled()
            assert in_fifo(server.path) == 1
            assert server._held == 0

    jobserver(1, body)


def test_cancelling_at_random_never_loses_or_makes_a_token(jobserver):
    async def body(server):
        dice = random.Random(7)
        release = asyncio.Event()
        release.set()
        for _ in range(60):
            tasks = [asyncio.create_task(hold(server, release, dice.random())) for _ in range(12)]
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            for task in dice.sample(tasks, 6):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert in_fifo(server.path) == 3

    jobserver(3, body)


def test_after_cancelling_nobody_watches_the_fifo(tmp_path):
    async def body():
        server = Jobserver(tmp_path / "fifo", 1)
        with server.open():
            async with server.token(0):
                waiter = asyncio.create_task(hold(server, asyncio.Event()))
                await asyncio.sleep(0.01)
                waiter.cancel()
                await asyncio.gather(waiter, return_exceptions=True)
            descriptor = server._descriptor
        assert not asyncio.get_running_loop().remove_reader(descriptor)

    asyncio.run(body())


def test_who_waits_is_served_by_a_token_that_a_program_gives_back(jobserver):
    async def body(server):
        descriptor = os.open(server.path, os.O_RDWR)
        taken = os.read(descriptor, 2)
        waiter = asyncio.create_task(hold(server, asyncio.Event(), began=(began := asyncio.Event())))
        await asyncio.sleep(0.02)
        assert not began.is_set()
        os.write(descriptor, taken[:1])
        await asyncio.wait_for(began.wait(), 5)
        waiter.cancel()
        os.close(descriptor)

    jobserver(2, body)


THIEF = """\
import os, sys, time
os.read(os.open(sys.argv[1], os.O_RDWR), 2)
print("took", flush=True)
time.sleep(60)
"""


def test_tokens_that_a_killed_program_took_with_it_are_put_back(jobserver):
    async def body(server):
        async with server.token(0):
            thief = await asyncio.create_subprocess_exec(
                sys.executable, "-c", THIEF, str(server.path), stdout=asyncio.subprocess.PIPE
            )
            assert await thief.stdout.readline() == b"took\n"
            assert in_fifo(server.path) == 1
            thief.send_signal(signal.SIGKILL)
            await thief.communicate()
        assert in_fifo(server.path) == 4

    jobserver(4, body)


def test_tokens_are_put_back_only_when_nobody_holds_one(jobserver):
    async def body(server):
        async with server.token(0):
            async with server.token(0):
                descriptor = os.open(server.path, os.O_RDWR)
                os.read(descriptor, 1)
                os.close(descriptor)
            assert in_fifo(server.path) == 2
        assert in_fifo(server.path) == 4

    jobserver(4, body)


def test_tokens_that_are_too_many_are_taken_out(jobserver):
    async def body(server):
        async with server.token(0):
            descriptor = os.open(server.path, os.O_RDWR)
            os.write(descriptor, b"+" * 100)
            os.close(descriptor)
        assert in_fifo(server.path) == 4

    jobserver(4, body)


RECORD = """\
import sys, time
with open(sys.argv[1], "a", buffering=1) as log:
    log.write(f"{time.monotonic()} 1\\n")
    time.sleep(0.12)
    log.write(f"{time.monotonic()} -1\\n")
"""


def make_ninja_tree(directory: Path, log: Path, edges: int) -> Path:
    directory.mkdir()
    (directory / "record.py").write_text(RECORD)
    rule = f"rule record\n  command = {sys.executable} -S record.py {log}\n"
    (directory / "build.ninja").write_text(rule + "".join(f"build edge{number}: record\n" for number in range(edges)))
    return directory


def most_at_once(log: Path) -> int:
    running = most = 0
    rows = sorted((float(at), int(step)) for at, step in map(str.split, log.read_text().splitlines()))
    for _, step in rows:
        running += step
        most = max(most, running)
    assert running == 0
    return most


@pytest.mark.parametrize("size", [2, 3])
def test_real_ninjas_share_the_tokens(jobserver, tmp_path, size):
    log = tmp_path / "times"
    trees = [make_ninja_tree(tmp_path / name, log, 6) for name in ("one", "two")]
    ninja = str(find_build_tools().ninja)

    async def build(server, tree):
        async with server.token(0):
            env = {"PATH": "/usr/bin:/bin", "MAKEFLAGS": server.makeflags + str(server.path)}
            process = await asyncio.create_subprocess_exec(
                ninja, "-C", str(tree), env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            output, _ = await process.communicate()
            assert process.returncode == 0, output.decode()

    async def body(server):
        await asyncio.gather(*(build(server, tree) for tree in trees))
        assert in_fifo(server.path) == size

    jobserver(size, body)
    assert len(log.read_text().splitlines()) == 24
    assert 2 <= most_at_once(log) <= size


def test_a_lone_ninja_uses_all_tokens(jobserver, tmp_path):
    log = tmp_path / "times"
    tree = make_ninja_tree(tmp_path / "one", log, 6)
    ninja = str(find_build_tools().ninja)

    async def body(server):
        async with server.token(0):
            env = {"PATH": "/usr/bin:/bin", "MAKEFLAGS": server.makeflags + str(server.path)}
            await asyncio.to_thread(subprocess.run, [ninja, "-C", str(tree)], env=env, check=True, capture_output=True)

    jobserver(3, body)
    assert 2 <= most_at_once(log) <= 3


def test_who_is_narrowed_gets_no_further_token_and_widened_all_of_them(jobserver):
    async def body(server):
        async with server.token(0):
            server.narrow("a")
            server.narrow("b")
            assert in_fifo(server.path) == 0
            server.widen("a")
            assert in_fifo(server.path) == 0
            server.widen("b")
            assert in_fifo(server.path) == 3
        assert in_fifo(server.path) == 4

    jobserver(4, body)


def test_tokens_that_come_back_while_it_is_narrow_are_withheld(jobserver):
    async def body(server):
        descriptor = os.open(server.path, os.O_RDWR)
        async with server.token(0):
            taken = os.read(descriptor, 2)
            server.narrow("a")
            os.write(descriptor, taken[:1])
            await asyncio.sleep(0.02)
            assert in_fifo(server.path) == 0
            waiter = asyncio.create_task(hold(server, asyncio.Event(), 9, began=(began := asyncio.Event())))
            os.write(descriptor, taken[1:])
            await asyncio.sleep(0.02)
            assert not began.is_set()
            server.widen("a")
            await asyncio.wait_for(began.wait(), 5)
            assert in_fifo(server.path) == 2
            waiter.cancel()
        os.close(descriptor)

    jobserver(4, body)


def test_narrow_or_not_somebody_may_always_begin(jobserver):
    async def body(server):
        server.narrow("a")
        order = []

        async def one(number):
            async with server.token(number):
                order.append(number)
                assert server._held == 1
                await asyncio.sleep(0.01)

        await asyncio.gather(*(one(number) for number in range(5)))
        assert sorted(order) == list(range(5))
        server.widen("a")
        assert in_fifo(server.path) == 3

    jobserver(3, body)


def test_narrowing_at_random_never_loses_or_makes_a_token(jobserver):
    async def body(server):
        dice = random.Random(3)

        async def one():
            async with server.token(dice.random()):
                await asyncio.sleep(dice.random() / 200)

        for _ in range(30):
            tasks = [asyncio.create_task(one()) for _ in range(12)]
            for _ in range(6):
                dice.choice((server.narrow, server.widen))(dice.choice("ab"))
                await asyncio.sleep(dice.random() / 200)
            for task in dice.sample(tasks, 4):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            server.widen("a")
            server.widen("b")
            assert in_fifo(server.path) == 3

    jobserver(3, body)


def test_nobody_watches_a_narrow_fifo_without_work(tmp_path):
    async def body():
        server = Jobserver(tmp_path / "fifo", 2)
        with server.open():
            async with server.token(0):
                server.narrow("a")
            await asyncio.sleep(0.02)
            assert not asyncio.get_running_loop().remove_reader(server._descriptor)
            assert in_fifo(server.path) == 2

    asyncio.run(body())


def test_a_narrowed_ninja_runs_one_job_at_a_time(jobserver, tmp_path):
    log = tmp_path / "times"
    tree = make_ninja_tree(tmp_path / "one", log, 4)
    ninja = str(find_build_tools().ninja)

    async def body(server):
        async with Resources(server, Memory(100)).alone():
            env = {"PATH": "/usr/bin:/bin", "MAKEFLAGS": server.makeflags + str(server.path)}
            await asyncio.to_thread(subprocess.run, [ninja, "-C", str(tree)], env=env, check=True, capture_output=True)
        assert in_fifo(server.path) == 3

    jobserver(3, body)
    assert most_at_once(log) == 1


def use(memory, *sizes, seconds=0.02):
    """Reserve sizes side by side; return the most bytes and the most jobs that ran at once."""
    used = [0, 0]
    most = [0, 0]

    async def one(size):
        async with memory.reserve(size):
            used[0] += size
            used[1] += 1
            most[:] = [max(pair) for pair in zip(most, used, strict=True)]
            await asyncio.sleep(seconds)
            used[0] -= size
            used[1] -= 1

    async def body():
        await asyncio.wait_for(asyncio.gather(*(one(size) for size in sizes)), 30)

    asyncio.run(body())
    return tuple(most)


@pytest.mark.parametrize(
    ("sizes", "most"),
    [
        ((40, 40), (80, 2)),
        ((60, 60), (60, 1)),
        ((50, 50, 50), (100, 2)),
        ((10,) * 25, (100, 10)),
        ((0,) * 5, (0, 5)),
        ((100, 1), (100, 1)),
    ],
)
def test_reservations_stay_within_the_budget(sizes, most):
    assert use(Memory(100), *sizes) == most


def test_who_needs_more_than_there_is_runs_alone():
    assert use(Memory(100), 500, 10, 10) == (500, 2)


def test_memory_goes_to_the_highest_priority_and_nobody_overtakes_it():
    order = []

    async def one(memory, size, priority, name):
        async with memory.reserve(size, priority):
            order.append(name)
            await asyncio.sleep(0.01)

    async def body():
        memory = Memory(100)
        entries = ((80, 0, "first"), (90, 2, "large"), (5, 1, "small"), (30, 3, "most"), (10, 1, "smaller"))
        await asyncio.wait_for(asyncio.gather(*(one(memory, *entry) for entry in entries)), 5)

    asyncio.run(body())
    assert order == ["first", "most", "large", "small", "smaller"]


def test_a_failure_gives_its_memory_back():
    async def body():
        memory = Memory(100)
        with pytest.raises(RuntimeError):
            async with memory.reserve(100):
                raise RuntimeError
        async with asyncio.timeout(5), memory.reserve(100):
            pass

    asyncio.run(body())


def test_cancelling_gives_memory_back_and_wakes_those_who_wait():
    async def body():
        memory = Memory(100)

        async def one(size, began):
            async with memory.reserve(size):
                began.set()
                await asyncio.sleep(60)

        began = [asyncio.Event() for _ in range(3)]
        tasks = [asyncio.create_task(one(100, event)) for event in began]
        await asyncio.wait_for(began[0].wait(), 5)
        tasks[1].cancel()  # it waits
        tasks[0].cancel()  # it holds
        await asyncio.wait_for(began[2].wait(), 5)
        assert not began[1].is_set()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    begun = time.monotonic()
    asyncio.run(body())
    assert time.monotonic() - begun < 5
