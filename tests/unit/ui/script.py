"""A scripted run with everything a view must show; ``python script.py [speed] [verbosity]`` plays it.

The script is data: unit tests replay it at once with a clock of their own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rocmbuild.events import (
    Event,
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

LOG = "/srv/builds/rocm with a space/logs/rocm-5.6.x/debian-13-riscv64/rocblas/build.log"
RERUN = "rocmbuild build --branch rocm-5.6.x --target sg2042 --workspace '/srv/builds/rocm with a space' --only rocblas"
SOURCE = "/srv/builds/rocm with a space/src/rocm-5.6.x/rocblas/library/src/blas3/rocblas_gemm_ex.cpp:1203:17"
FAILED = TaskFailed(
    time=41.0,
    task="rocblas",
    step="build",
    message="ninja exited with status 1: a compiler reported an error while it built rocblas_gemm_ex.cpp.o",
    where=SOURCE,
    log=LOG,
    rerun=RERUN,
    hint="the header rocprim/rocprim.hpp is not there: add rocprim to the libs that rocblas needs in its recipe",
    tail=(
        "[1203/1410] Building CXX object library/src/CMakeFiles/rocblas.dir/blas3/rocblas_gemm_ex.cpp.o",
        "\x1b[31mFAILED:\x1b[0m library/src/CMakeFiles/rocblas.dir/blas3/rocblas_gemm_ex.cpp.o",
        "/opt/rocm-5.6.1/llvm/bin/clang++ " + "-DROCBLAS_INTERNAL_API -I/opt/rocm-5.6.1/include " * 20,
        f"{SOURCE}: fatal error: 'rocprim/rocprim.hpp' file not found",
        " 1203 | #include <rocprim/rocprim.hpp>",
        "ninja: build stopped: subcommand failed.",
    ),
)

ESTIMATES = {
    "root": 4.0,
    "rocm-llvm": 12.0,
    "rocm-device-libs": 3.0,
    "rocm-comgr": 5.0,
    "rocr-runtime": 6.0,
    "hipamd": 8.0,
    "rocblas": 20.0,
    "hipblas": 5.0,
    "verify": 6.0,
}


def build(task: str, begin: float, seconds: float, edges: int, *, at: float = 1.0) -> Iterator[Event]:
    """Yield a task's events: fetch, configure, and a build that stops at the part ``at`` of its edges."""
    yield TaskStarted(begin, task)
    yield StepStarted(begin, task, "fetch", "/srv/logs/fetch.log")
    for part in range(5):
        yield StepProgress(begin + part * 0.1, task, "fetch", part * 10_485_760, 41_943_040, "bytes")
    yield StepEnded(begin + 0.5, task, "fetch", 0.5)
    yield StepStarted(begin + 0.5, task, "configure", "/srv/logs/configure.log")
    yield OutputLine(begin + 0.6, task, "configure", "-- The CXX compiler identification is \x1b[1mClang 16.0.0\x1b[0m")
    yield StepEnded(begin + 1, task, "configure", 0.5, 1.0)
    yield StepStarted(begin + 1, task, "build", LOG)
    for edge in range(int(edges * at) + 1):
        when = begin + 1 + (seconds - 1.5) * edge / edges
        text = f"Building CXX object lib/{task}/CMakeFiles/{task}.dir/source{edge}.cpp.o"
        yield StepProgress(when, task, "build", edge, edges, text)
        yield OutputLine(when, task, "build", f"[{edge}/{edges}] {text}")
    if at < 1:
        return
    yield StepEnded(begin + seconds - 0.5, task, "build", seconds - 1.5, 2 * seconds - 3.0, 900 << 20)
    yield StepStarted(begin + seconds - 0.5, task, "package", "/srv/logs/package.log")
    yield StepEnded(begin + seconds, task, "package", 0.5)
    yield TaskEnded(begin + seconds, task, "done", seconds, 2 * seconds - 2.0, 900 << 20)


def failing_run() -> list[Event]:
    """Return a run in which rocblas fails and what needs it is skipped."""
    events: list[Event] = [
        RunStarted(0.0, "rocm-5.6.x for sg2042", ESTIMATES, kept=("rocm-cmake", "rocm-core", "hsakmt")),
        *build("root", 0.0, 3.0, 40),
        *build("rocm-llvm", 3.0, 15.0, 3210),
        *build("rocr-runtime", 3.5, 7.0, 111),
        Note(9.0, "rocr-runtime", "edit 0003-riscv64-fence: already in this source"),
        *build("rocm-device-libs", 18.0, 3.0, 60),
        *build("rocm-comgr", 21.0, 5.0, 90),
        *build("hipamd", 21.5, 7.0, 140),
        *build("rocblas", 29.0, 14.0, 1410, at=0.85),
        FAILED,
        TaskEnded(41.0, "rocblas", "failed", 12.0),
        TaskSkipped(41.0, "hipblas", "rocblas"),
        TaskSkipped(41.0, "verify", "rocblas"),
        RunEnded(42.0, "failed", 42.0),
    ]
    return sorted(events, key=lambda event: event.time)


def good_run() -> list[Event]:
    """Return a run of two tasks in which nothing fails."""
    events: list[Event] = [
        RunStarted(0.0, "rocm-5.6.x for x86_64", {"rocr": 20.0, "clr": 10.0}),
        *build("rocr", 0.0, 118.0, 111),
        *build("clr", 118.0, 60.0, 40),
        RunEnded(178.0, "done", 178.0),
    ]
    return sorted(events, key=lambda event: event.time)


def play(speed: float, verbosity: int, mode: str) -> None:
    """Play the failing run on standard output, ``speed`` times as fast as it is written."""
    from rocmbuild.ui import make_observer

    with make_observer(mode, verbosity, None, sys.stdout) as emit:
        began = time.monotonic()
        for event in failing_run():
            time.sleep(max(0.0, event.time / speed - (time.monotonic() - began)))
            emit(event)
    finish(emit.state)


def finish(state) -> None:
    """Print what the command line prints after a run: a summary and an error."""
    from rocmbuild.errors import StepError
    from rocmbuild.model.verdict import VerifyRow
    from rocmbuild.ui.console import make_console, show
    from rocmbuild.ui.failure import render_error
    from rocmbuild.ui.plan_view import render_table
    from rocmbuild.ui.summary import ComponentRow, Summary, component_rows, print_summary

    console = make_console(sys.stdout)
    out = Path("/srv/builds/rocm with a space/out/rocm-5.6.x/debian-13-riscv64")
    rows = component_rows(state, {"rocm-llvm": "built", "rocr-runtime": "built"}, {})
    rows = (
        *(ComponentRow(row.component, row.action, row.seconds, 4000.0, 3, 345_678_901) for row in rows),
        ComponentRow("rocm-core", "kept", packages=1, size=12_345),
        ComponentRow("hsakmt", "provided"),
    )
    checks = (
        *(VerifyRow("install", f"package{number}", "pass") for number in range(12)),
        VerifyRow("lintian", "rocm-llvm", "waived", "embedded-library: the recipe says why"),
        VerifyRow("architecture", "librocblas.so.3", "fail", f"is x86-64, not RISC-V: {out}/rocblas_3.0_riscv64.deb"),
        VerifyRow("gpu", "vectorAdd", "skipped", "no GPU here"),
    )
    print_summary(Summary(rows, 4211.0, out, checks, machine="sg2042"), console)
    print()
    show(console, render_table(plan_rows()))
    print()
    error = StepError(FAILED.message, where=SOURCE, hint=FAILED.hint, log=LOG, rerun=RERUN)
    render_error(error, console)


def plan_rows() -> list[dict[str, object]]:
    """Return a small cross plan as ``rocmbuild plan`` has it."""
    llvm = {"component": "llvm", "machine": "build", "action": "build", "version": "16.0", "needs": []}
    rocr = {"component": "rocr", "machine": "host", "action": "keep", "version": "5.6.1", "needs": ["llvm"]}
    clr = {"component": "clr", "machine": "host", "action": "build", "version": "5.6.1"}
    return [
        {**llvm, "fingerprint": "0123456789abcdef", "estimate": 7384.0, "reason": "its recipe changed"},
        {**rocr, "fingerprint": "fedcba9876543210", "estimate": 0.0, "reason": "up to date"},
        {
            **clr,
            "fingerprint": "aaaaaaaabbbbbbbb",
            "needs": ["llvm", "rocr", "rocm-device-libs", "rocm-comgr", "rocm-cmake", "rocminfo"],
            "estimate": 300.0,
            "reason": "llvm is built",
        },
    ]


if __name__ == "__main__":
    speed, verbosity, mode = [*sys.argv[1:], *("1", "0", "auto")[len(sys.argv) - 1 :]]
    play(float(speed), int(verbosity), mode)
