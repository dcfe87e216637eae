"""The live board: what reaches the terminal, and when."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest

from rocmbuild.events import (
    Note,
    OutputLine,
    RunEnded,
    RunStarted,
    StepProgress,
    StepStarted,
    TaskEnded,
    TaskStarted,
)
from rocmbuild.ui.board import Board
from rocmbuild.ui.console import make_console
from rocmbuild.ui.format import clean

from .script import RERUN, failing_run, good_run

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
ERASE_UP = "\x1b[1A\x1b[2K"


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A terminal that keeps all it was sent."""

    encoding = "utf-8"

    def taken(self):
        """Return what came since the last call."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def clock():
    return Clock()


def board_on(terminal, clock, *, width=80, **options):
    console = make_console(terminal, force_terminal=True)
    console.size = (width, 24)
    return Board(console, clock=clock, **{"interval": None, **options})


def rows(text):
    return [clean(row) for row in text.split("\n")]


def test_what_runs_is_drawn_with_time_that_goes_on_between_events(terminal, clock):
    board = board_on(terminal, clock)
    board(RunStarted(0.0, "run", {"rocr": 60.0}))
    board(TaskStarted(0.0, "rocr"))
    board(StepStarted(0.0, "rocr", "build"))
    board.tick()
    assert any(row.split() == ["rocr", "build", "0s"] for row in rows(terminal.taken()))
    clock.now += 42
    board.tick()
    lines = rows(terminal.taken())
    assert any(row.split() == ["rocr", "build", "42s"] for row in lines)
    assert any("42s elapsed" in row for row in lines)
    board.close()


def test_events_alone_draw_nothing(terminal, clock):
    board = board_on(terminal, clock)
    board(RunStarted(0.0, "run", {"rocr": 60.0}))
    board.tick()
    terminal.taken()
    for edge in range(5000):
        board(StepProgress(edge / 1000, "rocr", "build", edge, 5000))
        board(OutputLine(edge / 1000, "rocr", "build", "text"))
    assert terminal.taken() == ""
    board.close()


def test_thousands_of_events_cost_little(terminal):
    board = board_on(terminal, time.monotonic, interval=0.2)
    board(RunStarted(0.0, "run", {"rocr": 60.0}))
    board(TaskStarted(0.0, "rocr"))
    began = time.process_time()
    for edge in range(20_000):
        board(StepProgress(0.0, "rocr", "build", edge, 20_000))
        board(OutputLine(0.0, "rocr", "build", "text"))
    board.close()
    assert time.process_time() - began < 5.0
    assert terminal.getvalue().count("20000") < 60


def test_finished_tasks_stay_above_the_board(terminal, clock):
    board = board_on(terminal, clock)
    board(RunStarted(0.0, "run", {"rocr": 60.0, "rocm-comgr": 60.0}, kept=("llvm",)))
    board(TaskStarted(0.0, "rocr"))
    board(TaskEnded(118.0, "rocr", "done", 118.0))
    board(Note(118.0, "rocm-comgr", "patch already in"))
    board.tick()
    lines = rows(terminal.taken())
    assert lines[:4] == [
        "run: 2 tasks, about 2 min",
        "= up to date: llvm",
        "✔ rocr        1m 58s",
        "• rocm-comgr: patch already in",
    ]
    assert lines[4].startswith("1/2 tasks · 0 running")
    board.close()


def test_what_was_kept_after_all_is_over_too(terminal, clock):
    board = board_on(terminal, clock)
    board(RunStarted(0.0, "run", {"rocr": 60.0, "clr": 60.0}))
    board(TaskStarted(0.0, "rocr"))
    board(TaskEnded(1.0, "rocr", "kept", 1.0))
    board.tick()
    lines = rows(terminal.taken())
    assert lines[1] == "= rocr  kept: its needs came out unchanged"
    assert lines[2].startswith("1/2 tasks")
    board.close()


def test_a_printed_line_and_the_board_below_it_agree(terminal, clock):
    board = board_on(terminal, clock)
    board(RunStarted(0.0, "run", {"rocr": 60.0}))
    board(TaskStarted(0.0, "rocr"))
    board.tick()
    terminal.taken()
    board(TaskEnded(5.0, "rocr", "done", 5.0))
    board.tick()
    text = terminal.taken()
    assert "✔" in text
    assert text.count("rocr") == 1
    board.close()


def test_a_failure_is_shown_at_once(terminal, clock):
    board = board_on(terminal, clock)
    for event in failing_run():
        board(event)
        if type(event).__name__ == "TaskFailed":
            break
    lines = rows(terminal.taken())
    assert any(line.startswith("━━ ✘ rocblas failed in build ━━") for line in lines)
    assert f"  {RERUN}" in lines
    board.close()


def test_the_end_takes_the_board_away_and_gives_the_cursor_back(terminal, clock):
    board = board_on(terminal, clock)
    for event in failing_run():
        board(event)
    text = terminal.getvalue()
    assert text.rindex(SHOW) > text.rindex(HIDE)
    assert rows(text)[-4:] == [
        "✘ failed after 42s: 6 done, 1 failed, 2 skipped",
        "  rocblas failed in build; to run just this again:",
        f"    {RERUN}",
        "",
    ]
    assert "running" not in rows(text)[-5]


def test_close_without_an_end_gives_the_terminal_back(terminal, clock):
    before = sys.stdout, sys.stderr
    board = board_on(terminal, clock)
    board(RunStarted(0.0, "run", {"rocr": 60.0}))
    board(TaskStarted(0.0, "rocr"))
    board.close()
    board.close()
    assert terminal.getvalue().count(HIDE) == terminal.getvalue().count(SHOW) == 1
    assert (sys.stdout, sys.stderr) == before


def test_a_second_run_has_a_board_too(terminal, clock):
    board = board_on(terminal, clock)
    for event in [*good_run(), *good_run()]:
        board(event)
    assert rows(terminal.getvalue()).count("✔ done: 2 tasks in 2m 58s") == 2
    assert terminal.getvalue().count(SHOW) == 2


def test_quiet_draws_no_board(terminal, clock):
    board = board_on(terminal, clock, verbosity=-1)
    for event in failing_run():
        board(event)
    text = terminal.getvalue()
    assert HIDE not in text
    assert rows(text)[0].startswith("━━ ✘ rocblas failed in build")
    assert "✘ failed after 42s: 6 done, 1 failed, 2 skipped" in rows(text)
    assert "✔" not in text


def test_verbose_prints_output_above_the_board(terminal, clock):
    board = board_on(terminal, clock, verbosity=1)
    board(RunStarted(0.0, "run", {"rocr": 60.0}))
    board(OutputLine(1.0, "rocr", "build", "\x1b[31m[red] error[/red]\x1b[0m"))
    board.tick()
    assert "rocr │ [red] error[/red]" in rows(terminal.taken())
    board.close()


def test_a_flood_of_output_is_not_held_back_without_end(terminal, clock):
    board = board_on(terminal, clock, verbosity=1)
    for number in range(2100):
        board(OutputLine(1.0, "rocr", "build", f"line {number}"))
    assert "line 2000" in terminal.taken()
    board.close()
    assert "line 2099" in terminal.taken()


def test_a_narrower_terminal_leaves_no_rest_of_the_board(terminal, clock):
    board = board_on(terminal, clock, width=100)
    board(RunStarted(0.0, "run", {"rocr": 60.0}))
    board(TaskStarted(0.0, "rocr"))
    board(StepStarted(0.0, "rocr", "build"))
    board(StepProgress(0.0, "rocr", "build", 5, 10))
    board.tick()
    (row,) = [row for row in rows(terminal.taken()) if row.startswith("rocr")]
    assert 60 < len(row) < 100
    board._console.size = (60, 24)
    board.tick()
    text = terminal.taken()
    assert len(re.findall(r"\x1b\[1A", text)) == 2  # a row that was wrapped, and the row above the last
    assert max(len(row) for row in rows(text)) < 60
    board.tick()
    assert len(re.findall(r"\x1b\[1A", terminal.taken())) == 1
    board.close()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_drawn_row_reaches_the_edge(terminal, clock, width):
    board = board_on(terminal, clock, width=width)
    for event in good_run():
        board(event)
        if type(event) in {StepStarted, TaskEnded}:
            board.tick()
    assert max(len(row) for row in rows(terminal.taken())) < width


def test_without_color_there_is_none(clock, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    board = board_on(terminal, clock)
    for event in good_run():
        board(event)
    assert not re.search(r"\x1b\[[\d;]*3[0-7]", terminal.getvalue())


def test_other_encodings_get_ascii(clock):
    buffer = io.BytesIO()
    terminal = io.TextIOWrapper(buffer, encoding="ascii")
    board = board_on(terminal, clock)
    board(Note(0.0, "rocr", "größer"))
    for event in failing_run():
        board(event)
    terminal.flush()
    text = buffer.getvalue().decode("ascii")
    assert "x rocblas failed in build" in text
    assert "gr\\xf6\\xdfer" in text


def test_an_error_of_the_drawing_thread_reaches_the_observers_caller(clock):
    class Gone(Terminal):
        broken = False

        def write(self, text):
            if self.broken:
                raise OSError(5, "Input/output error")
            return super().write(text)

    terminal = Gone()
    board = board_on(terminal, clock, interval=0.01)
    board(RunStarted(0.0, "run", {"rocr": 60.0}))
    terminal.broken = True
    time.sleep(0.2)
    with pytest.raises(OSError, match="Input/output error"):
        board(Note(0.0, "rocr", "text"))
    terminal.broken = False
    board(RunEnded(1.0, "done", 1.0))
    assert "done" in terminal.getvalue()
