"""Bring a release back from the store of binaries: against building it, and against copying the same files.

An empty workspace and a filled store, as after a change of branches or on a colleague's machine. ``cp -a`` copies the
stage trees and the packages of all components, and does nothing else; rocmbuild plans, verifies every entry by its
digest, makes the trees and writes the apt repository. Packages of both workspaces are compared byte for byte.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from builds import Builds, add_options, builds
from harness import Report, alternate, program, say
from watching import BenchmarkError, Usage, run


def options(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--runs", type=int, default=3, help="how often it is restored and copied")


def measure(options: argparse.Namespace, report: Report) -> None:
    """Build if need be, then restore and copy, in turn."""
    made = builds(options)
    made.ensure()
    built = made.last_cold()
    if built is None:
        raise BenchmarkError("there is no cold build to compare with")
    say(f"restored and copied, {options.runs} times")
    taken = alternate({"restore": lambda: restore(made), "cp -a": lambda: copy(made)}, options.runs)
    report.add_usage("build", [built], watched=False)
    for name, usages in taken.items():
        report.add_usage(name, usages, watched=False)
    restored = [usage.seconds for usage in taken["restore"]]
    report.add_ratio("build / restore", [built.seconds] * len(restored), restored)
    report.add_ratio("restore / cp -a", restored, [usage.seconds for usage in taken["cp -a"]])
    alike, different = compare(packages(made.workspace), packages(place(made)))
    report.add("packages that are the same, byte for byte", alike, "")
    report.add("packages that differ or are missing", different, "")
    shutil.rmtree(place(made))


def place(made: Builds) -> Path:
    """Return the workspace that is restored."""
    return made.work / "restored"


def restore(made: Builds) -> Usage:
    """Restore everything into a new workspace; BenchmarkError if something was built."""
    if place(made).is_dir():
        shutil.rmtree(place(made))
    log = made.work / "restore.txt"
    usage = run(made.build_argv(workspace=place(made)), log=log, interval=None)
    if list(place(made).glob("logs/*/*/*/build.log")):
        raise BenchmarkError(f"something was built, not restored; see {log}")
    return usage


def copy(made: Builds) -> Usage:
    """Copy what was built with cp, and remove it."""
    target = made.work / "copied"
    target.mkdir()
    script = 'target=$1; shift; for tree; do mkdir -p "$target$tree" && cp -a "$tree/." "$target$tree"; done'
    try:
        trees = [str(tree) for tree in made.trees("stage", "debs")]
        return run(["sh", "-ec", script, "sh", str(target), *trees], interval=None)
    finally:
        shutil.rmtree(target)


def packages(workspace: Path) -> dict[str, bytes]:
    """Return the packages of a workspace by their names."""
    return {path.name: path.read_bytes() for path in workspace.glob("out/*/*/**/*.deb")}


def compare(one: dict[str, bytes], other: dict[str, bytes]) -> tuple[int, int]:
    """Return how many packages are in both and the same, and how many are not."""
    alike = sum(1 for name, content in one.items() if other.get(name) == content)
    return alike, len(one.keys() | other.keys()) - alike


if __name__ == "__main__":
    sys.exit(program("restore", __doc__, measure, options))
