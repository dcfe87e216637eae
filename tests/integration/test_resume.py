"""A run that is interrupted or killed, and the same command after it."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.conftest import AREA, Toy, wait_for


def parts(toy: Toy) -> dict[str, int]:
    """Return the parts of the slow component that are made, and when."""
    return {path.name: path.stat().st_mtime_ns for path in (toy.area("toyslow") / "build").glob("part-*.txt")}


def finished(toy: Toy) -> dict[str, int]:
    """Return the parts that Ninja has noted as made, and when; one that it was at may lie there unfinished."""
    log = (toy.area("toyslow") / "build/.ninja_log").read_text()
    return {name: when for name, when in parts(toy).items() if f"\t{name}\t" in log}


def interrupted(toy: Toy, running: list[subprocess.Popen[str]], number: signal.Signals, *words: str):
    """Send a signal once some parts of the slow component are made; return the process and its output."""
    process = toy.start("build", "--no-verify", *words)
    running.append(process)
    wait_for(lambda: len(parts(toy)) >= 4 or process.poll() is not None, 60, lambda: "nothing was built")
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    return process, process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("environment", "number"),
    [
        pytest.param(environment, number, id=f"{environment}-{number.name}")
        for environment, number in (
            ("sandbox", signal.SIGINT),
            ("sandbox", signal.SIGTERM),
            ("sandbox", signal.SIGKILL),
            ("host", signal.SIGINT),
            ("host", signal.SIGKILL),
        )
    ],
)
def test_the_same_command_goes_on_in_the_same_tree(slow, slow_debs, running, number, environment):
    options = ("--environment", environment)
    process, (output, errors) = interrupted(slow, running, number, *options)
    if number is signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert "interrupted" in output
        assert errors == "rocmbuild: interrupted: the same command goes on from here\n"
    slow.no_orphans()
    done = finished(slow)
    assert 0 < len(done) < 12

    text = slow.build(*options).stdout
    assert "toyslow: note: goes on in the build tree of an earlier run" in text
    after = parts(slow)
    assert len(after) == 12
    assert {name: after[name] for name in done} == done, "what was made is not made again"
    if environment == "sandbox":
        assert slow.debs() == slow_debs


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_three_times_at_random_it_ends_with_the_same_packages(slow, slow_debs, running, seed):
    moments = random.Random(seed)
    for _ in range(3):
        process = slow.start("build", "--no-verify")
        running.append(process)
        time.sleep(moments.uniform(0.5, 3.5))
        process.kill()
        process.communicate(timeout=30)
    slow.build()
    assert slow.debs() == slow_debs
    slow.no_orphans()


def test_a_second_interrupt_leaves_nothing_running_either(slow, running):
    process = slow.start("build", "--no-verify")
    running.append(process)
    wait_for(lambda: parts(slow), 60, lambda: "nothing was built")
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in errors
    slow.no_orphans()
    slow.build()


def test_an_interrupt_while_sources_are_fetched_is_resumed(slow, running, slow_debs):
    process = slow.start("build", "--no-verify")
    running.append(process)
    wait_for(lambda: any((slow.cache / "git").glob("*.git")), 60, lambda: "nothing was fetched")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130
    slow.no_orphans()
    slow.build()
    assert slow.debs() == slow_debs


def test_a_failed_run_is_gone_on_with_once_the_cause_is_gone(slow, slow_debs):
    log = slow.workspace / "logs/slow" / AREA / "toyslow/build.log"
    slow.recipe("toyslow")
    cmake = slow.directory / "recipes/toyslow/source/CMakeLists.txt"
    right = cmake.read_text()
    cmake.write_text(right.replace("COMMAND sleep 0.2", "COMMAND test ${number} -lt 7"))
    slow.build(status=1)
    assert "FAILED" in log.read_text()
    cmake.write_text(right)
    slow.build()
    assert slow.debs() == slow_debs


def test_an_interrupted_packaging_leaves_the_old_repository_whole(built, running):
    """Whatever the moment, an index never names a package that is not there."""
    built.recipe("toybase", ("section: libs", "section: games"))
    for delay in (0.9, 1.2, 1.5):
        process = built.start("build", "--no-verify")
        running.append(process)
        time.sleep(delay)
        process.kill()
        process.communicate(timeout=30)
        names = [line.split("./")[1] for line in _lines(built.out / "Packages") if line.startswith("Filename:")]
        assert names
        assert all((built.out / name).is_file() for name in names)
    built.build()
    assert "Section: games" in (built.out / "Packages").read_text()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
