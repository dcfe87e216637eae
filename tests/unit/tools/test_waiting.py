"""Lock files that outlive a killed run only as long as its programs do, and threads that are waited for."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from rocmbuild.tools.waiting import held, in_thread


def test_tasks_take_turns_and_are_told_why_they_wait(tmp_path: Path) -> None:
    order: list[str] = []
    told: list[str] = []

    async def work(name: str) -> None:
        async with held(tmp_path / "x.lock", told.append):
            order.append(f"{name} begins")
            await asyncio.sleep(0.05)
            order.append(f"{name} ends")

    async def both() -> None:
        await asyncio.gather(work("a"), work("b"))

    asyncio.run(both())
    assert order == ["a begins", "a ends", "b begins", "b ends"]
    assert told == [f"waiting for another run that uses {tmp_path / 'x'}"]


def start_orphan(lock: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "0.5"], pass_fds=(lock,))


def test_a_program_that_inherits_the_lock_keeps_it_until_it_ends(tmp_path: Path) -> None:
    async def run() -> float:
        async with held(tmp_path / "x.lock") as lock:
            orphan = start_orphan(lock)
        started = time.monotonic()
        async with held(tmp_path / "x.lock"):
            assert orphan.poll() is not None or orphan.wait(1) == 0
        return time.monotonic() - started

    assert asyncio.run(run()) > 0.2


def test_a_cancelled_wait_ends_with_the_work_in_the_thread(tmp_path: Path) -> None:
    done: list[bool] = []

    def work() -> None:
        time.sleep(0.2)
        done.append(True)

    async def run() -> None:
        task = asyncio.create_task(in_thread(work))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [True]

    asyncio.run(run())


def test_a_threads_result_and_failure_come_back() -> None:
    assert asyncio.run(in_thread(lambda left, right: left + right, 1, right=2)) == 3
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(lambda: 1 / 0))
