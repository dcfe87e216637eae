"""The fold of events into a run's state."""

from __future__ import annotations

from functools import reduce

from rocmbuild.events import (
    Note,
    OutputLine,
    RunEnded,
    RunStarted,
    StepEnded,
    StepProgress,
    StepStarted,
    TaskEnded,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
)
from rocmbuild.ui.state import WAITING, RunState, Status, fold

from .script import failing_run

START = RunStarted(0.0, "run", {"rocr": 60.0, "clr": 30.0}, kept=("llvm",))


def folded(*events):
    return reduce(fold, events, RunState())


def test_a_run_begins_with_its_tasks_queued_in_their_order():
    state = folded(START)
    assert list(state.tasks) == ["rocr", "clr"]
    assert [task.status for task in state.tasks.values()] == [Status.QUEUED, Status.QUEUED]
    assert (state.title, state.kept, state.tasks["rocr"].estimate) == ("run", ("llvm",), 60.0)


def test_a_task_runs_through_its_steps():
    state = folded(START, TaskStarted(1, "rocr"), StepStarted(2, "rocr", "build", "/l"))
    state = fold(state, StepProgress(5, "rocr", "build", 50, 200, "edges"))
    task = state.tasks["rocr"]
    assert (task.status, task.step, task.step_started, task.log) == (Status.RUNNING, "build", 2, "/l")
    assert task.fraction == 0.25
    assert task.elapsed(11) == 10


def test_a_new_step_forgets_the_progress_of_the_last():
    events = (START, TaskStarted(1, "rocr"), StepStarted(2, "rocr", "build"), StepProgress(3, "rocr", "build", 1, 2))
    assert folded(*events, StepStarted(4, "rocr", "install")).tasks["rocr"].fraction is None
    assert folded(*events, StepEnded(4, "rocr", "build", 2)).tasks["rocr"].fraction is None
    assert folded(*events, StepEnded(4, "rocr", "fetch", 2)).tasks["rocr"].fraction == 0.5


def test_the_fraction_stays_between_nothing_and_all():
    def fraction(done, total):
        return folded(START, StepProgress(1, "rocr", "build", done, total)).tasks["rocr"].fraction

    assert fraction(0, 0) is None
    assert fraction(7, 5) == 1.0
    assert fraction(-1, 5) == 0.0


def test_a_task_ends_with_the_seconds_that_were_measured():
    task = folded(START, TaskStarted(1, "rocr"), TaskEnded(9, "rocr", "done", 8.25)).tasks["rocr"]
    assert (task.status, task.elapsed(1000)) == (Status.DONE, 8.25)


def test_a_failure_is_kept_whichever_event_comes_first():
    failed, ended = TaskFailed(9, "rocr", "build", "broken"), TaskEnded(9, "rocr", "failed", 8)
    begun = (START, TaskStarted(1, "rocr"))
    for order in ((failed, ended), (ended, failed)):
        task = folded(*begun, *order).tasks["rocr"]
        assert (task.status, task.failure, task.seconds, task.step) == (Status.FAILED, failed, 8, "build")


def test_a_skipped_task_knows_why():
    task = folded(START, TaskSkipped(9, "clr", "rocr")).tasks["clr"]
    assert (task.status, task.because) == (Status.SKIPPED, "rocr")


def test_a_task_that_was_not_announced_is_added():
    state = folded(START, TaskStarted(1, "root"))
    assert list(state.tasks) == ["rocr", "clr", "root"]


def test_what_is_running_when_the_run_ends_was_stopped():
    state = folded(START, TaskStarted(1, "rocr"), RunEnded(5, "interrupted", 5))
    assert (state.status, state.seconds) == ("interrupted", 5)
    assert state.tasks["rocr"].status is Status.STOPPED
    assert state.tasks["rocr"].elapsed(100) == 4
    assert state.tasks["clr"].status is Status.QUEUED


def test_output_and_notes_change_nothing():
    state = folded(START)
    assert fold(state, OutputLine(1, "rocr", "build", "text")) is state
    assert fold(state, Note(1, "rocr", "text")) is state


def test_the_fold_is_pure():
    before = folded(START)
    fold(before, TaskStarted(1, "rocr"))
    assert before == folded(START)


def test_running_tasks_come_longest_first():
    state = folded(START, TaskStarted(2, "rocr"), TaskStarted(1, "clr"))
    assert [task.name for task in state.running()] == ["clr", "rocr"]


def test_a_second_run_starts_anew():
    state = fold(folded(*failing_run()), START)
    assert state == folded(START)


def test_the_scripted_run_adds_up():
    state = folded(*failing_run())
    statuses = {name: task.status.value for name, task in state.tasks.items()}
    assert statuses["rocblas"] == "failed"
    assert statuses["hipblas"] == statuses["verify"] == "skipped"
    assert list(statuses.values()).count("done") == 6


def test_between_two_steps_a_task_waits():
    state = folded(START, TaskStarted(1, "rocr"), StepStarted(1, "rocr", "configure"))
    state = fold(state, StepEnded(3, "rocr", "configure", 2))
    assert state.tasks["rocr"].step == WAITING
    assert fold(state, StepStarted(9, "rocr", "build")).tasks["rocr"].step == "build"
