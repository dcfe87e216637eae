"""Lines for logs and pipes."""

from __future__ import annotations

import io
import re

from rocmbuild.events import (
    Note,
    OutputLine,
    RunEnded,
    RunStarted,
    StepProgress,
    StepStarted,
    TaskEnded,
    TaskFailed,
    TaskStarted,
)
from rocmbuild.ui.format import ASCII, UNICODE
from rocmbuild.ui.plain import PlainLines

from .script import LOG, RERUN, SOURCE, failing_run, good_run


def written(events, **options):
    stream = io.StringIO()
    observer = PlainLines(stream, **options)
    for event in events:
        observer(event)
    return stream.getvalue().splitlines()


def steps(*progress):
    """Return a build step that comes to the given (seconds, done) of 100."""
    return [
        RunStarted(0.0, "run", {"rocr": 1.0}),
        StepStarted(0.0, "rocr", "build"),
        *(StepProgress(float(time), "rocr", "build", done, 100) for time, done in progress),
    ]


def test_a_run_in_lines():
    lines = written(good_run())
    assert lines[:5] == [
        "[   0s] rocm-5.6.x for x86_64: 2 tasks, under a minute",
        "[   0s] rocr: started",
        "[   0s] rocr: fetch",
        "[   0s] rocr: configure",
        "[   1s] rocr: build",
    ]
    assert "[ 118s] rocr: done in 1m 58s" in lines
    assert lines[-1] == "[ 178s] + done: 2 tasks in 2m 58s"


def test_every_line_of_a_good_run_has_a_time_stamp():
    assert all(re.match(r"\[ *\d+s\] ", line) for line in written(good_run()))


def test_progress_is_told_each_tenth():
    lines = written(steps((6, 9), (12, 10), (13, 30), (18, 31)))
    assert lines[2:] == ["[  12s] rocr: build 10/100", "[  18s] rocr: build 31/100"]


def test_slow_progress_is_told_every_half_minute():
    lines = written(steps(*((second, second // 20) for second in range(1, 100))))
    assert lines[2:] == ["[  30s] rocr: build 1/100", "[  60s] rocr: build 3/100", "[  90s] rocr: build 4/100"]


def test_a_second_step_is_counted_anew():
    again = [StepStarted(11.0, "rocr", "build"), StepProgress(17.0, "rocr", "build", 10, 100)]
    assert "[  17s] rocr: build 10/100" in written([*steps((10, 90)), *again])


def test_bytes_are_written_as_sizes():
    events = [StepStarted(0.0, "rocr", "fetch"), StepProgress(40.0, "rocr", "fetch", 5 << 20, 40 << 20, "bytes")]
    assert written(events)[-1] == "[  40s] rocr: fetch 5.0/40.0 MiB"


def test_output_is_told_only_when_asked():
    events = [OutputLine(3.0, "rocr", "build", "\x1b[1mwarning:\x1b[0m unused")]
    assert written(events) == []
    assert written(events, verbosity=1) == ["[   3s] rocr: | warning: unused"]


def test_quiet_tells_failures_and_the_end():
    lines = written(failing_run(), verbosity=-1)
    assert lines[0].startswith("== x rocblas failed in build ==")
    assert any(line.startswith("[  42s] x failed after 42s") for line in lines)
    assert not any("started" in line or "skipped: " in line for line in lines)
    assert written(good_run(), verbosity=-1) == ["[ 178s] + done: 2 tasks in 2m 58s"]


def test_a_failure_has_its_four_parts_on_whole_lines():
    lines = written(failing_run())
    assert f"  where {SOURCE}" in lines
    assert f"  log   {LOG}" in lines
    assert f"  {RERUN}" in lines
    assert any(line.startswith("  the header rocprim/rocprim.hpp is not there") for line in lines)


def test_the_end_repeats_how_to_run_what_failed():
    lines = written(failing_run())
    assert lines[-3:] == [
        "[  42s] x failed after 42s: 6 done, 1 failed, 2 skipped",
        "  rocblas failed in build; to run just this again:",
        f"    {RERUN}",
    ]


def test_a_failure_without_details_is_still_told():
    events = [TaskStarted(0.0, "rocr"), TaskEnded(4.0, "rocr", "failed", 4.0), RunEnded(4.0, "failed", 4.0)]
    lines = written(events)
    assert "[   4s] rocr: failed after 4s" in lines
    assert lines[-1] == "  rocr failed"


def test_a_failure_without_a_rerun_line_names_its_log():
    events = [
        StepStarted(0.0, "rocr", "build", "/w/b.log"),
        TaskFailed(1.0, "rocr", "build", "broken"),
        RunEnded(1.0, "failed", 1.0),
    ]
    assert written(events)[-1] == "  rocr failed in build; log: /w/b.log"


def test_an_interrupted_run_says_how_to_go_on():
    begin = [RunStarted(0.0, "run", {"rocr": 1.0, "clr": 1.0}), TaskStarted(0.0, "rocr")]
    assert written([*begin, RunEnded(5.0, "interrupted", 5.0)])[-1] == (
        "[   5s] x interrupted after 5s: 0 of 2 tasks done; the same command goes on from here"
    )


def test_what_was_kept_after_all_is_told_as_that():
    begin = [RunStarted(0.0, "run", {"rocr": 1.0, "clr": 1.0}, kept=("llvm",)), TaskStarted(0.0, "rocr")]
    ends = [TaskEnded(1.0, "rocr", "done", 1.0), TaskStarted(1.0, "clr"), TaskEnded(1.0, "clr", "kept", 0.0)]
    lines = written([*begin, *ends, RunEnded(1.0, "done", 1.0)])
    assert "[   1s] clr: kept: its needs came out unchanged" in lines
    assert lines[-1] == "[   1s] + done: 1 task in 1s, 2 up to date"


def test_nothing_to_do():
    events = [RunStarted(0.0, "run", {}, kept=("rocr", "clr")), RunEnded(0.0, "done", 0.0)]
    assert written(events) == [
        "[   0s] run: 0 tasks",
        "[   0s] up to date: rocr, clr",
        "[   0s] + nothing to do, 2 up to date",
    ]


def test_notes_and_marks():
    assert written([Note(1.0, "rocr", "already in")]) == ["[   1s] rocr: note: already in"]
    assert "".join(written(failing_run(), marks=ASCII)).isascii()
    assert "✘" in "".join(written(failing_run(), marks=UNICODE))


def test_no_escape_sequence_reaches_a_log():
    assert "\x1b" not in "\n".join(written(failing_run(), verbosity=1))
