"""Run rocmbuild where everything is up to date, against other things that find out that there is nothing to do.

- rocmbuild, as the same command that built it all, and its plan as JSON;
- Python, doing nothing;
- Ninja alone (``-n``) in every build tree in its sandbox, without the question whether anything but files has changed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from builds import add_options, builds
from harness import Report, alternate, program, say
from replay import Sandboxed
from watching import Usage, run


def options(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--runs", type=int, default=11, help="how often each is run; the median counts")


def measure(options: argparse.Namespace, report: Report) -> None:
    """Build if need be, then measure what is left to do."""
    made = builds(options)
    made.ensure()
    components = made.recorded(list(made.needs(made.plan())))
    ninjas = [dry(component.steps["build"]).argv for component in components]
    say(f"nothing to do, {options.runs} times")
    taken = alternate(
        {
            "rocmbuild": partial(once, [made.build_argv()]),
            "rocmbuild plan": partial(once, [made.argv("plan", "--format", "json")]),
            "python -c pass": partial(once, [[sys.executable, "-c", "pass"]]),
            f"ninja -n in {len(ninjas)} build trees": partial(once, ninjas),
        },
        options.runs,
    )
    for name, usages in taken.items():
        report.add_usage(name, usages, watched=False)


def dry(build: Sandboxed) -> Sandboxed:
    """Return the command that looks what there is to build, and builds nothing."""
    alone = build.without_jobserver(1)
    return replace(alone, command=(alone.command[0], "-n", *alone.command[1:]))


def once(commands: Sequence[Sequence[str]]) -> Usage:
    """Run commands one after another and return what all of them took."""
    begun = time.monotonic()
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    usages = [run(command, env=environ, interval=None) for command in commands]
    return Usage(time.monotonic() - begun, sum(usage.cpu for usage in usages))


if __name__ == "__main__":
    sys.exit(program("noop", __doc__, measure, options))
