"""CPU seconds and memory of real programs, told apart by the step that started them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rocmbuild import procfs
from rocmbuild.process import Runner
from rocmbuild.run.meter import Meter

MIB = 1 << 20

HOLD = """\
import os, sys, time
data = bytearray(b"x") * (int(sys.argv[1]) << 20)
end = time.process_time() + float(sys.argv[2])
while time.process_time() < end:
    pass
time.sleep(float(sys.argv[3]))
"""
"""Take MiB of memory, compute for some CPU seconds, sleep for some seconds."""


def hold(mib, cpu=0.0, seconds=0.4):
    return (sys.executable, "-S", "-c", HOLD, str(mib), str(cpu), str(seconds))


def runner_of(meter, watch):
    return Runner(on_start=lambda pid: meter.started(watch, pid), on_end=watch.ended)


def measured(*steps, interval=0.02):
    """Run programs of steps side by side under one meter; return the watches."""

    async def step(meter, programs, prefix):
        with meter.watch(prefix) as watch:
            await asyncio.gather(*(runner_of(meter, watch).run(program) for program in programs))
            return watch

    async def body():
        meter = Meter()
        sampling = asyncio.create_task(meter.run(lambda sample: interval))
        try:
            return await asyncio.gather(*(step(meter, programs, str(n)) for n, programs in enumerate(steps)))
        finally:
            sampling.cancel()

    return asyncio.run(body())


def test_memory_and_cpu_seconds_of_a_program():
    (watch,) = measured([hold(100, cpu=0.5)])
    assert 100 * MIB <= watch.memory < 130 * MIB
    assert watch.largest == watch.memory
    assert 0.4 < watch.cpu_seconds < 0.9
    assert watch.processes == 1


def test_programs_of_a_step_are_added_up():
    (watch,) = measured([hold(60), hold(80)])
    assert 140 * MIB <= watch.memory < 180 * MIB
    assert 80 * MIB <= watch.largest < 100 * MIB
    assert watch.processes == 2


def test_programs_one_after_another_take_the_memory_of_the_largest_and_the_time_of_both():
    script = " ; ".join(f"{sys.executable} -S -c '{HOLD}' {mib} 0.3 0.1" for mib in (40, 90, 20))
    (watch,) = measured([("sh", "-c", script)])
    assert 90 * MIB <= watch.memory < 120 * MIB
    assert 0.7 < watch.cpu_seconds < 1.6


def test_steps_side_by_side_are_told_apart():
    small, large = measured([hold(30, seconds=0.6)], [hold(120, cpu=0.3)])
    assert 30 * MIB <= small.memory < 60 * MIB
    assert 120 * MIB <= large.memory < 150 * MIB
    assert small.cpu_seconds < 0.2 < large.cpu_seconds


def test_children_in_sessions_of_their_own_and_those_left_by_their_parents_count():
    code = f"""
import subprocess, sys, time
program = [sys.executable, "-S", "-c", {HOLD!r}, "70", "0", "0.6"]
subprocess.Popen(program, start_new_session=True)
subprocess.Popen(["sh", "-c", 'sleep 0.1; "$@" & exit 0', "sh", *program]).wait()
time.sleep(0.5)
"""
    (watch,) = measured([(sys.executable, "-S", "-c", code)])
    assert 140 * MIB <= watch.memory < 200 * MIB


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_programs_in_a_process_namespace_count():
    sandbox = ("bwrap", "--unshare-user", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--new-session")
    (watch,) = measured([(*sandbox, "--die-with-parent", "--", *hold(90, cpu=0.4))])
    assert 90 * MIB <= watch.memory < 120 * MIB
    assert 0.3 < watch.cpu_seconds < 0.9
    assert watch.processes == 3


def test_what_runs_elsewhere_does_not_count():
    other = subprocess.Popen(hold(150, cpu=0.3, seconds=5), start_new_session=True)
    try:
        (watch,) = measured([hold(10, seconds=0.5)])
        assert watch.memory < 50 * MIB
        assert watch.processes == 1
    finally:
        other.kill()
        other.wait()


def test_a_sample_has_all_processes_and_our_own_memory():
    async def body():
        meter = Meter()
        with meter.watch("a") as watch:
            running = asyncio.create_task(runner_of(meter, watch).run(hold(50, seconds=60)))
            while watch.memory < 50 * MIB:
                await asyncio.sleep(0.01)
                sample = meter.sample()
            (member,) = sample.members
            assert (member.watch, member.root) == (watch, member.process.pid)
            own = procfs.read(os.getpid()).memory
            assert sample.memory == pytest.approx(member.process.memory + own, rel=0.1)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert meter.sample().members == ()
            assert list(watch.roots) == []
        assert meter.sample().memory == pytest.approx(own, rel=0.1)

    asyncio.run(body())


def test_a_program_that_was_seen_before_it_was_told_of_counts():
    async def body():
        meter = Meter()
        with meter.watch("a") as watch:
            started = []
            running = asyncio.create_task(Runner(on_start=started.append).run(hold(20, seconds=60)))
            while not started:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert meter.sample().members == ()
            meter.started(watch, started[0])
            assert [member.process.pid for member in meter.sample().members] == started
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(body())


def test_the_next_look_is_as_late_as_the_last_one_asks():
    async def body():
        meter, looks = Meter(), []

        def look(sample):
            looks.append(time.monotonic())
            return 0.02 if len(looks) < 10 else 60

        with meter.watch("a"):
            sampling = asyncio.create_task(meter.run(look))
            await asyncio.sleep(0.6)
            sampling.cancel()
        assert len(looks) == 10
        assert looks[-1] - looks[0] >= 0.18

    asyncio.run(body())


def test_samples_are_cheap():
    """Two hundred processes, looked at four times a second, take less than a twentieth of a CPU."""
    script = "for n in $(seq 200); do sleep 60 & done; wait"
    shell = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    try:
        meter = Meter()
        with meter.watch("a") as watch:
            meter.started(watch, shell.pid)
            until = time.monotonic() + 10
            while watch.processes < 201 and time.monotonic() < until:
                meter.sample()
                time.sleep(0.05)
            begun = time.process_time()
            for _ in range(20):
                meter.sample()
            seconds = (time.process_time() - begun) / 20
        print(f"{seconds * 1000:.2f} ms a sample of {watch.processes} processes")
        assert watch.processes == 201
        assert seconds < 0.0125
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
