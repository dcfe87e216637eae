"""Failures and errors as the user reads them."""

from __future__ import annotations

import io

import pytest

from rocmbuild.errors import DocumentError, Problem, RocmBuildError, StepError, UsageError
from rocmbuild.events import TaskFailed
from rocmbuild.process import ProcessError
from rocmbuild.ui import lines
from rocmbuild.ui.console import make_console
from rocmbuild.ui.failure import TAIL, error_lines, failure_lines, from_event, log_tail, render_error
from rocmbuild.ui.format import ASCII

from .script import FAILED, LOG, RERUN, SOURCE


def panel(event, width=None, marks=ASCII):
    return [lines.plain(row) for row in failure_lines(from_event(event), marks, width)]


def error(problem, width=None):
    return [lines.plain(row) for row in error_lines(problem, ASCII, width)]


def rendered(problem, *, terminal=False, width=60):
    stream = io.StringIO()
    console = make_console(stream, force_terminal=terminal)
    console.size = (width, 24)
    render_error(problem, console)
    return stream.getvalue()


def test_the_panel_tells_everything():
    rows = panel(FAILED)
    assert rows[0].startswith("== x rocblas failed in build ====")
    assert rows[1] == FAILED.message
    assert rows[2:4] == [f"  where {SOURCE}", f"  log   {LOG}"]
    assert rows[4:6] == ["to run just this again:", f"  {RERUN}"]
    assert rows[6:8] == ["what to try:", f"  {FAILED.hint}"]
    assert rows[8] == "last lines of the log:"
    assert rows[9:11] == [
        f"  {FAILED.tail[0]}",
        "  FAILED: library/src/CMakeFiles/rocblas.dir/blas3/rocblas_gemm_ex.cpp.o",
    ]
    assert set(rows[-1]) == {"="}


@pytest.mark.parametrize("width", [20, 60, 80, 140])
def test_paths_and_commands_are_whole_at_every_width(width):
    rows = panel(FAILED, width)
    assert {f"  where {SOURCE}", f"  log   {LOG}", f"  {RERUN}"} <= set(rows)


def test_prose_is_wrapped_between_words():
    rows = panel(FAILED, 60)
    first, second = rows[1:3]
    assert f"{first} {second}".startswith("ninja exited with status 1: a compiler reported an error")
    assert len(first) <= 60
    assert len(rows[0]) == 60


def test_what_is_not_known_is_left_out():
    rows = panel(TaskFailed(0.0, "root", "", "no archive is configured"))
    assert rows[0].startswith("== x root failed ==")
    assert len(rows) == 3


def test_without_advice_the_log_is_the_advice():
    rows = panel(TaskFailed(0.0, "rocr", "build", "broken", log="/w/build.log"))
    assert rows[3:5] == ["what to try:", "  read the log named above"]


def test_advice_that_only_repeats_the_log_is_not_given_twice():
    tail = ("one", "two", "three")
    rows = panel(TaskFailed(0.0, "rocr", "build", "broken", log="/w/b.log", hint="two\nthree", tail=tail))
    assert rows.count("  three") == 1
    assert "  read the whole log, named above" in rows


def test_the_tail_is_short_and_its_lines_too():
    rows = panel(TaskFailed(0.0, "rocr", "build", "broken", tail=(*(str(number) for number in range(40)), "x" * 5000)))
    assert "  26" in rows
    assert "  25" not in rows
    assert max(len(row) for row in rows) < 300


def test_an_error_on_the_command_line():
    problem = StepError("it broke", where="rocr: build", hint="try this\nor that", log="/no/such.log", rerun=RERUN)
    assert error(problem) == [
        "error: it broke",
        "  where rocr: build",
        "  log   /no/such.log",
        f"  rerun {RERUN}",
        "  try   try this",
        "        or that",
    ]


def test_a_bare_error_is_one_line():
    assert error(UsageError("no component is named rocblass")) == ["error: no component is named rocblass"]
    assert error(RocmBuildError("")) == ["error: "]


def test_an_error_shows_the_end_of_the_log_it_names(tmp_path):
    log = tmp_path / "build.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    rows = error(StepError("it broke", log=str(log)))
    assert rows[-TAIL - 1 :] == ["  last lines of the log:", *(f"    line {number}" for number in range(85, 100))]


def test_a_programs_last_lines_come_from_the_error_itself():
    problem = ProcessError(["/usr/bin/ninja", "-j4"], 1, [f"line {number}" for number in range(40)], None)
    rows = error(problem)
    assert rows[0] == "error: ninja exited with status 1: /usr/bin/ninja -j4"
    assert rows[1] == "  last lines of the log:"
    assert rows[-1] == "    line 39"
    assert not any(row.startswith("  try") for row in rows)


def test_every_problem_of_a_document_is_told():
    problem = DocumentError(
        [
            Problem("manifests/m.yaml:7:10", "7 is not of type 'string'", "put it in quotes"),
            Problem("manifests/m.yaml:9:1", "unknown key 'rev'"),
        ]
    )
    assert error(problem) == [
        "manifests/m.yaml:7:10: error: 7 is not of type 'string'",
        "    try: put it in quotes",
        "manifests/m.yaml:9:1: error: unknown key 'rev'",
        "2 problems found",
    ]


def test_render_error_colors_terminals_only():
    problem = StepError("it broke", where=SOURCE, rerun=RERUN)
    assert "\x1b[" not in rendered(problem)
    assert "\x1b[1;31merror: " in rendered(problem, terminal=True)


@pytest.mark.parametrize("terminal", [True, False])
def test_render_error_never_breaks_a_path(terminal):
    text = rendered(StepError("[bold]it[/bold] broke", where=SOURCE, log=LOG, rerun=RERUN), terminal=terminal)
    assert SOURCE in text
    assert LOG in text
    assert RERUN in text
    assert "[bold]it[/bold] broke" in text


def test_the_tail_of_a_long_log_begins_with_a_whole_line(tmp_path):
    log = tmp_path / "build.log"
    log.write_text("".join(f"{number:06} {'x' * 90}\n" for number in range(3000)))
    tail = log_tail(str(log), count=5000)
    assert len(tail) < 1000
    assert all(len(row) == 97 for row in tail)
    assert tail[-1].startswith("002999 ")


def test_a_log_that_is_not_there_has_no_tail(tmp_path):
    assert log_tail(None) == ()
    assert log_tail(str(tmp_path / "missing.log")) == ()
    assert log_tail(str(tmp_path)) == ()
