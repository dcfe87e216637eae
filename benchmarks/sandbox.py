"""Measure what the sandbox costs: the same commands in bubblewrap, and bare in the same root.

Both variants run CMake and Ninja of the same components with the same compilers, files and paths. Without bubblewrap
the root is entered by chroot, in a mount namespace, for the paths have to be the same: what is compared is user, pid,
ipc, uts, cgroup and network namespaces, and bubblewrap itself. The time to mount by hand is not counted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bare import bare_argv
from builds import add_options, builds
from harness import Report, alternate, program, say
from replay import STEPS, Recorded, Sandboxed
from watching import run

LOOP = "i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i+1)); done"
"""A thousand programs started, as a configure run does."""


@dataclass(frozen=True)
class Taken:
    """Wall and CPU seconds."""

    seconds: float
    cpu: float


def options(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--build", default="rocm-smi-lib", metavar="A,B,...", help="components to compile both ways")
    parser.add_argument("--runs", type=int, default=3, help="how often each is compiled")
    parser.add_argument("--starts", type=int, default=30, help="how often a program is started")


def measure(options: argparse.Namespace, report: Report) -> None:
    """Compare whole components, then starts of programs."""
    made = builds(options)
    made.ensure()
    components = made.recorded(options.build.split(","))
    for component in components:
        say(f"{component.component}, {options.runs} times in bubblewrap and in chroot")
        taken = alternate(
            {
                "bubblewrap": partial(whole, component, options.jobs, made.work, bare=False),
                "chroot": partial(whole, component, options.jobs, made.work, bare=True),
            },
            options.runs,
        )
        compare(report, component.component, taken["bubblewrap"], taken["chroot"])
    starts(report, components[0].steps["build"].without_jobserver(options.jobs), options.starts)
    report.notes.append("overhead is bubblewrap over chroot in the same root, run by run; below zero is noise")


def starts(report: Report, sandboxed: Sandboxed, times: int) -> None:
    """Compare a program that does nothing, and a shell that starts a thousand of them."""
    for name, command, number in (
        ("/bin/true", ("/bin/true",), times),
        ("1000 x /bin/true", ("/bin/sh", "-c", LOOP), max(3, times // 6)),
    ):
        say(f"starts of {name}")
        it = Sandboxed(sandboxed.options, command, sandboxed.program)
        taken = alternate({"bubblewrap": partial(once, it, bare=False), "chroot": partial(once, it, bare=True)}, number)
        for variant, values in taken.items():
            report.add(f"{name}: {variant}", [value.seconds for value in values], "s")


def compare(report: Report, name: str, sandboxed: Sequence[Taken], bare: Sequence[Taken]) -> None:
    for variant, values in (("bubblewrap", sandboxed), ("chroot", bare)):
        report.add(f"{name}: {variant}", [value.seconds for value in values], "s")
        report.add(f"{name}: {variant}, CPU time", [value.cpu for value in values], "s")
    pairs = list(zip(sandboxed, bare, strict=True))
    report.add(f"{name}: overhead", [100 * (one.seconds / other.seconds - 1) for one, other in pairs], "%")
    report.add(f"{name}: overhead, CPU time", [100 * (one.cpu / other.cpu - 1) for one, other in pairs], "%")


def whole(component: Recorded, jobs: int, work: Path, *, bare: bool) -> Taken:
    """Configure, build and install a component in new directories and return the sum."""
    place = Path(tempfile.mkdtemp(prefix="sandbox-", dir=work))
    try:
        there = component.elsewhere(place, jobs)
        there.make_places()
        taken = [once(there.steps[step], bare=bare) for step in STEPS]
    finally:
        shutil.rmtree(place)
    return Taken(sum(it.seconds for it in taken), sum(it.cpu for it in taken))


def once(sandboxed: Sandboxed, *, bare: bool) -> Taken:
    """Run a command one way or the other."""
    with tempfile.TemporaryDirectory(prefix="sandbox-") as directory:
        log, result = Path(directory, "log"), Path(directory, "result")
        if not bare:
            usage = run(sandboxed.argv, env={}, log=log, interval=None)
            return Taken(usage.seconds, usage.cpu)
        run(bare_argv(sandboxed, result), log=log, interval=None)
        return Taken(**json.loads(result.read_text()))


if __name__ == "__main__":
    sys.exit(program("sandbox", __doc__, measure, options))
