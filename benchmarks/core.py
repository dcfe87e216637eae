"""Build a release from nothing: rocmbuild against a plain driver of the same CMake commands, and against the bound.

The plain driver is a shell script: component after component, configure, ninja -jN, install, in the same sandbox over
the same sources and prefixes. rocmbuild does more in its time (it unpacks sources, merges prefixes, checks what it
built, makes packages and keeps all of it in its store), and has to win that back by running components side by side.

The bound is what no order of the steps could beat: the longest chain of steps that wait for each other, or all CPU
time shared by N CPUs, whichever is longer.
"""

from __future__ import annotations

import argparse
import os
import sys

from bounds import bound, makespan
from builds import Builds, add_options, builds
from harness import Report, alternate, program
from replay import serial
from watching import Usage


def options(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--runs", type=int, default=1, help="how often each is built")


def measure(options: argparse.Namespace, report: Report) -> None:
    """Build both ways, in turn."""
    made = builds(options)
    taken = alternate({"rocmbuild": made.cold, "serial driver": lambda: plain(made)}, options.runs)
    for name, usages in taken.items():
        report.add_usage(name, usages)
    ours, theirs = taken["rocmbuild"], taken["serial driver"]
    add_bound(made, report)
    report.add_ratio(
        "serial driver / rocmbuild", [usage.seconds for usage in theirs], [usage.seconds for usage in ours]
    )


def add_bound(made: Builds, report: Report) -> None:
    """Add how near the last cold build came to its bound."""
    trace = made.trace()
    trees = made.workspace / "build" / made.branch / made.area()
    least = bound(trace, made.needs(made.plan()), trees, made.jobs, len(os.sched_getaffinity(0)))
    report.add("bound: CPU time shared by all jobs", least.work, "s")
    report.add("bound: critical path", least.chain, "s")
    report.add("rocmbuild: makespan, first step to last", makespan(trace), "s")
    report.add("rocmbuild: makespan / bound", makespan(trace) / least.seconds, "x")


def plain(made: Builds) -> Usage:
    """Build what rocmbuild built, one component after another."""
    return made.driven("serial", lambda components, _, place: serial(components, place))


if __name__ == "__main__":
    sys.exit(program("core", __doc__, measure, options))
