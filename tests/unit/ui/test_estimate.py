"""The estimate of what is left."""

from __future__ import annotations

from functools import reduce

import pytest

from rocmbuild.events import RunStarted, StepProgress, StepStarted, TaskEnded, TaskFailed, TaskSkipped, TaskStarted
from rocmbuild.ui.estimate import parallelism, remaining, scale
from rocmbuild.ui.state import RunState, fold

from .script import failing_run


def folded(*events):
    return reduce(fold, events, RunState())


def started(**tasks):
    return RunStarted(0.0, "run", tasks)


def test_before_anything_runs_it_is_the_sum_of_the_estimates():
    assert remaining(folded(started(a=60.0, b=30.0)), 0.0) == 90.0


def test_nothing_is_said_without_estimates():
    assert remaining(folded(started(a=0.0)), 0.0) is None
    assert remaining(RunState(), 5.0) is None


def test_nothing_is_left_when_all_is_done():
    assert remaining(folded(started(a=60.0), TaskStarted(0, "a"), TaskEnded(50, "a", "done", 50)), 50) is None


def test_a_machine_that_is_half_as_fast_doubles_what_is_left():
    state = folded(started(a=100.0, b=100.0), TaskStarted(0, "a"), TaskEnded(200, "a", "done", 200))
    assert scale(state, 200) == pytest.approx(2.0, abs=0.1)
    assert remaining(state, 200) == pytest.approx(200, abs=10)


def test_a_short_task_does_not_spoil_long_estimates():
    state = folded(started(short=1.0, long=7200.0), TaskStarted(0, "short"), TaskEnded(10, "short", "done", 10))
    assert scale(state, 10) < 1.05


def test_the_builds_own_progress_decides_once_there_is_enough_of_it():
    events = (started(a=100.0), TaskStarted(0, "a"), StepStarted(0, "a", "build"))
    state = folded(*events, StepProgress(300, "a", "build", 50, 100))
    assert remaining(state, 300) == pytest.approx(300)


def test_a_little_progress_counts_a_little():
    events = (started(a=1000.0), TaskStarted(0, "a"), StepStarted(0, "a", "build"))
    state = folded(*events, StepProgress(1, "a", "build", 1, 100))
    assert 100 < remaining(state, 1) < 1000


def test_the_progress_of_a_download_is_not_that_of_the_task():
    events = (started(a=1000.0), TaskStarted(0, "a"), StepStarted(0, "a", "fetch"))
    state = folded(*events, StepProgress(10, "a", "fetch", 99, 100))
    assert remaining(state, 10) == pytest.approx(990)


def test_tasks_side_by_side_share_the_work():
    events = [started(a=100.0, b=100.0, c=100.0, d=100.0), TaskStarted(0, "a"), TaskStarted(0, "b")]
    state = folded(*events)
    assert parallelism(state, 10) == 2.0
    assert remaining(state, 10) == pytest.approx((90 + 90 + 100 + 100) / 2)


def test_it_is_never_less_than_the_longest_running_task_needs():
    events = [started(a=1000.0, b=10.0), TaskStarted(0, "a"), TaskStarted(0, "b")]
    assert remaining(folded(*events), 5) == pytest.approx(995)


def test_what_failed_or_was_skipped_is_not_waited_for():
    state = folded(
        started(a=10.0, b=100.0, c=30.0),
        TaskStarted(0, "a"),
        TaskFailed(1, "a", "build", "x"),
        TaskSkipped(1, "b", "a"),
    )
    assert remaining(state, 1) == 30.0


def test_a_task_that_takes_longer_than_expected_gives_no_false_promise():
    assert remaining(folded(started(a=10.0), TaskStarted(0, "a")), 60) is None


def test_no_estimate_of_the_scripted_run_is_negative_or_raises():
    state = RunState()
    for event in failing_run():
        state = fold(state, event)
        left = remaining(state, event.time)
        assert left is None or left > 0
