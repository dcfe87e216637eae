"""The summary after a run."""

from __future__ import annotations

import io
import shlex
from functools import reduce
from pathlib import Path

import pytest

from rocmbuild.model.verdict import VerifyRow
from rocmbuild.plan.makespan import Bound
from rocmbuild.tools.ccache import Counts
from rocmbuild.ui.console import make_console
from rocmbuild.ui.format import clean
from rocmbuild.ui.state import RunState, fold
from rocmbuild.ui.summary import (
    ComponentRow,
    Makespan,
    Summary,
    component_rows,
    print_summary,
    source_line,
)

from .script import failing_run

OUT = Path("/srv/a rather long directory name for builds/rocm/out/rocm-5.6.x/debian-13-riscv64")
ROWS = (
    ComponentRow("rocm-llvm", "built", seconds=7384.0, packages=12, size=345_678_901),
    ComponentRow("rocr", "kept", packages=3, size=1_234_567),
    ComponentRow("hsakmt", "provided"),
)
CHECKS = (
    VerifyRow("install", "rocr", "pass"),
    VerifyRow("install", "clr", "fail", "Depends: libfoo is not installable"),
    VerifyRow("lintian", "rocr", "waived", "embedded-library"),
    VerifyRow("gpu", "vectorAdd", "skipped", "no GPU here"),
)


def printed(summary, *, terminal=False, width=60):
    stream = io.StringIO()
    console = make_console(stream, force_terminal=terminal)
    console.size = (width, 24)
    print_summary(summary, console)
    return stream.getvalue()


def test_a_whole_summary():
    assert printed(Summary(ROWS, 8000.0, OUT, CHECKS)).splitlines() == [
        "",
        "component  action      time  debs       size",
        "rocm-llvm  built     2h 03m    12  329.7 MiB",
        "rocr       kept                 3    1.2 MiB",
        "hsakmt     provided",
        "total                          15  330.8 MiB",
        "",
        "check    pass  fail  waived  skipped",
        "install     1     1",
        "lintian                   1",
        "gpu                                1",
        "- skipped gpu: vectorAdd: no GPU here",
        "• waived lintian: rocr: embedded-library",
        "✘ fail install: clr: Depends: libfoo is not installable",
        "",
        "15 packages, 330.8 MiB, in",
        f"  {OUT}",
        "",
        "to install them:",
        "  echo 'deb [trusted=yes] file:/srv/a%20rather%20long%20directory%20name%20for%20builds/rocm/out/rocm-5.6.x/"
        "debian-13-riscv64 ./' | sudo tee /etc/apt/sources.list.d/rocm.list",
        "  printf 'Package: *\\nPin: release o=rocmbuild\\nPin-Priority: 600\\n' | "
        "sudo tee /etc/apt/preferences.d/rocm",
        "  sudo apt update",
        "  sudo apt install rocm-hip-runtime-dev",
        "",
        "total time 2h 13m",
    ]


@pytest.mark.parametrize("width", [30, 60, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_paths_are_never_broken(width, terminal):
    checks = (VerifyRow("elf", "librocr.so", "fail", f"{OUT}/rocr_1_riscv64.deb is for x86-64"),)
    text = printed(Summary(ROWS, 1.0, OUT, checks), terminal=terminal, width=width)
    assert f"  {OUT}\n" in text
    assert source_line(OUT) in text
    assert f"{OUT}/rocr_1_riscv64.deb is for x86-64" in text


def test_what_was_measured_has_columns_only_if_it_was():
    assert not {"cpu", "memory"} & set(printed(Summary(ROWS, 1.0, OUT)).split())
    measured = (ComponentRow("rocr", "built", 60.0, 3700.0, memory=3 << 29), ComponentRow("clr", "built", 60.0))
    assert printed(Summary(measured, 1.0)).splitlines()[1:5] == [
        "component  action    time     cpu   memory  debs  size",
        "rocr       built   1m 00s  1h 02m  1.5 GiB",
        "clr        built   1m 00s",
        "total                      1h 02m              0   0 B",
    ]


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (Bound(451.0, 300.0), "makespan 7m 40s; bound 7m 31s (work on 2 jobs), ratio 1.02"),
        (Bound(300.0, 451.0), "makespan 7m 40s; bound 7m 31s (critical path), ratio 1.02"),
    ],
)
def test_a_run_is_held_against_the_shortest_one_possible(bound, words):
    lines = printed(Summary(ROWS, 462.0, OUT, makespan=Makespan(460.0, bound, 2))).splitlines()
    assert lines[-2:] == [words, "total time 7m 42s"]


def test_a_run_that_computes_nothing_is_not_held_against_anything():
    text = printed(Summary(ROWS, 2.0, OUT, makespan=Makespan(2.0, Bound(0.0, 0.0), 2)))
    assert "makespan" not in text
    assert "makespan" not in printed(Summary(ROWS, 2.0, OUT))


def test_what_ccache_did_is_told_if_it_did_something():
    text = printed(Summary(ROWS, 2.0, OUT, cached=Counts(118, 2, 3)))
    assert "ccache: 118 of 120 compilations out of the cache (98%), 3 not cached\n" in text
    assert "ccache" not in printed(Summary(ROWS, 2.0, OUT, cached=Counts()))
    assert "ccache" not in printed(Summary(ROWS, 2.0, OUT))


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_of_figures_is_broken_in_a_terminal(width):
    rows = [
        ComponentRow(name, "provided", 45_000.0, 88_000.0, 12, 345_678_901, 7 << 30)
        for name in ("rocm-llvm-for-the-build", "rocm-smi-lib")
    ]
    summary = Summary(tuple(rows), 1.0, makespan=Makespan(88_000.0, Bound(87_000.0, 45_000.0), 128))
    plain = [clean(row).rstrip() for row in printed(summary, terminal=True, width=width).splitlines()]
    assert plain == printed(summary).splitlines()
    assert max(len(row) for row in plain) <= width


def test_without_packages_nothing_is_said_about_installing():
    text = printed(Summary((ComponentRow("rocr", "built", 3.0),), 3.0, OUT))
    assert "install" not in text
    assert str(OUT) not in text
    assert text.endswith("total time 3s\n")


def test_another_machine_is_named_and_other_packages_too():
    text = printed(Summary(ROWS, 1.0, OUT, install=("hsa-rocr", "hip runtime"), machine="sg2042"))
    assert "to install them on sg2042:" in text
    assert "sudo apt install hsa-rocr 'hip runtime'" in text
    assert "sudo" not in printed(Summary(ROWS, 1.0, OUT, install=()))


def test_the_install_command_is_one_shell_command(tmp_path):
    out = tmp_path / "it's & here"
    text = printed(Summary(ROWS, 1.0, out))
    (command,) = [line for line in text.splitlines() if line.startswith("  echo ")]
    assert shlex.split(command)[:2] == ["echo", f"deb [trusted=yes] file:{tmp_path}/it%27s%20%26%20here ./"]


def test_rows_come_from_the_run_and_the_files(tmp_path):
    deb = tmp_path / "rocr.deb"
    deb.write_bytes(b"x" * 2048)
    state = reduce(fold, failing_run(), RunState())
    actions = {"rocr-runtime": "built", "rocm-core": "kept", "rocblas": "built", "hipblas": "built"}
    assert component_rows(state, actions, {"rocr-runtime": [deb, deb]}) == (
        ComponentRow("rocr-runtime", "built", 7.0, 12.0, 2, 4096, 900 << 20),
        ComponentRow("rocm-core", "kept"),
        ComponentRow("rocblas", "failed", 12.0, 1.0),
        ComponentRow("hipblas", "skipped"),
    )


def test_terminals_get_color_and_files_none():
    summary = Summary(ROWS, 1.0, OUT, CHECKS)
    assert "\x1b[" in printed(summary, terminal=True, width=100)
    assert "\x1b[" not in printed(summary)
