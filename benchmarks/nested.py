"""Build components side by side without anyone who owns the machine, as AMD's makefiles do, against rocmbuild.

``make -jN`` runs up to N components, each of which runs ``ninja -jN``: N x N compilers may run at once. It has the
same commands, sandboxes, sources and prefixes as rocmbuild's own build, with which it is compared: time, the most
compilers and the most memory at one instant.
"""

from __future__ import annotations

import argparse
import sys

from builds import Builds, add_options, builds
from harness import Report, alternate, program
from replay import nested
from watching import Usage


def options(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--runs", type=int, default=1, help="how often each is built")
    parser.add_argument(
        "--reuse", action="store_true", help="take rocmbuild's own figures from the last cold build of core.py"
    )


def measure(options: argparse.Namespace, report: Report) -> None:
    """Build both ways, in turn."""
    made = builds(options)
    last = made.last_cold() if options.reuse else None
    ours = (lambda: last) if last is not None else made.cold
    taken = alternate({"rocmbuild": ours, "make of ninjas": lambda: unowned(made)}, options.runs)
    for name, usages in taken.items():
        report.add_usage(name, usages)
    pairs = (taken["make of ninjas"], taken["rocmbuild"])
    for what in ("seconds", "compilers", "memory"):
        report.add_ratio(
            f"make of ninjas / rocmbuild: {what}", *([getattr(usage, what) for usage in usages] for usages in pairs)
        )
    if last is not None:
        report.notes.append("rocmbuild's figures are those of the last cold build in the scratch space")


def unowned(made: Builds) -> Usage:
    """Build what rocmbuild built, under make."""
    return made.driven("nested", lambda components, needs, place: nested(components, needs, place, made.jobs))


if __name__ == "__main__":
    sys.exit(program("nested", __doc__, measure, options))
