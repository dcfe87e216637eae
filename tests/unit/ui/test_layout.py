"""The board's lines at every width and height."""

from __future__ import annotations

from functools import reduce

import pytest

from rocmbuild.events import RunStarted, StepProgress, StepStarted, TaskEnded, TaskFailed, TaskStarted
from rocmbuild.ui import lines
from rocmbuild.ui.format import ASCII, UNICODE
from rocmbuild.ui.layout import board_lines
from rocmbuild.ui.state import RunState, fold

from .script import failing_run


def folded(*events):
    return reduce(fold, events, RunState())


def drawn(state, now=0.0, width=80, height=24, marks=UNICODE):
    return [lines.plain(row) for row in board_lines(state, now, width, height, marks)]


def building(done=50, total=111, text="Building CXX object a.cpp.o"):
    return folded(
        RunStarted(0.0, "run", {"rocr": 60.0, "rocm-device-libs": 60.0}),
        TaskStarted(0.0, "rocr"),
        StepStarted(10.0, "rocr", "build"),
        StepProgress(20.0, "rocr", "build", done, total, text),
    )


def test_a_task_has_name_step_bar_count_and_time():
    row, _ = drawn(building(), now=118.0)
    assert row == f"rocr             build     {'━' * 15}{'╌' * 19}    50/111  1m 58s"


def test_the_last_line_sums_up():
    state = building()
    assert drawn(state, now=20.0, width=100)[-1] == "0/2 tasks · 1 running · 20s elapsed · under a minute left"
    state = fold(state, TaskEnded(21.0, "rocr", "done", 21.0))
    state = fold(state, TaskFailed(21.0, "rocm-device-libs", "build", "x"))
    assert drawn(state, now=30.0)[-1] == "1/2 tasks · 1 failed · 0 running · 30s elapsed"


def test_the_bar_is_full_at_the_end_and_empty_at_the_start():
    assert "━" not in drawn(building(done=0))[0]
    assert "╌" not in drawn(building(done=111))[0]


def test_a_step_that_does_not_tell_its_progress_has_no_bar():
    state = folded(TaskStarted(0.0, "rocr"), StepStarted(0.0, "rocr", "configure"))
    assert drawn(state, now=4.0)[0].split() == ["rocr", "configure", "4s"]


def test_wide_terminals_show_what_is_being_made():
    assert drawn(building(), width=140)[0].endswith("  Building CXX object a.cpp.o")
    assert "Building" not in drawn(building(), width=80)[0]
    assert "bytes" not in drawn(building(text="bytes"), width=140)[0]


@pytest.mark.parametrize("width", [1, 10, 20, 30, 40, 50, 60, 80, 100, 140, 250])
@pytest.mark.parametrize("marks", [ASCII, UNICODE])
def test_no_line_reaches_the_last_column(width, marks):
    state = RunState()
    for event in failing_run():
        state = fold(state, event)
        if not isinstance(event, StepProgress) or event.done % 400 == 0:
            assert all(len(row) < max(2, width) for row in drawn(state, event.time, width, 24, marks))


def test_the_least_useful_goes_first_when_it_gets_narrow():
    assert "50/111" in drawn(building(), width=60)[0]
    assert "━" in drawn(building(), width=60)[0]
    narrow = drawn(building(), now=20.0, width=40)
    assert narrow[0].split() == ["rocr", "build", "20s"]
    assert narrow[-1] == "0/2 tasks · under a minute left"


def test_more_tasks_than_rows_are_counted():
    names = [f"task{number}" for number in range(9)]
    state = folded(RunStarted(0.0, "run", dict.fromkeys(names, 1.0)), *(TaskStarted(0.0, name) for name in names))
    rows = drawn(state, height=6)
    assert len(rows) == 5
    assert rows[-2] == "… and 6 more running"
    assert len(drawn(state, height=24)) == 10
    assert drawn(state, height=1)[-1].startswith("0/9 tasks")


def test_columns_do_not_move_when_tasks_come_and_go():
    alone = drawn(building())[0]
    both = drawn(fold(building(), TaskStarted(1.0, "rocm-device-libs")))[0]
    assert alone == both


def test_ascii_is_ascii():
    assert "".join(drawn(building(), width=140, marks=ASCII)).isascii()
