"""Measure what rocmbuild takes before it does anything, and where there is nothing to do.

``--help`` is held against ``python -c "import rich"``. A run with nothing to do is that of a small release out of git
repositories, which is built first (without a sandbox, in seconds), or of ``--workspace``, built whole already.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from harness import Report, alternate, program
from watching import Usage, run

PROGRAM = str(Path(sys.executable).with_name("rocmbuild"))
STARTS = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "import rich": (sys.executable, "-c", "import rich"),
    "rocmbuild --help": (PROGRAM, "--help"),
    "rocmbuild list branches": (PROGRAM, "list", "branches"),
}


@contextmanager
def toy() -> Iterator[list[str]]:
    """Build the release that the tests use, and give the options that name it."""
    from tests.integration.conftest import REF, REPOSITORIES, TOY
    from tests.integration.forge import Forge

    with tempfile.TemporaryDirectory(prefix="rocmbuild-startup-") as name:
        directory = Path(name)
        forge = Forge(directory / "forge")
        for component, repository in REPOSITORIES.items():
            forge.create(f"Toys/{repository}", TOY / "sources" / component, branch=REF)
        words = ["--branch", "toy", "--manifests", str(TOY / "manifests"), "--recipes", str(TOY / "recipes")]
        words += ["--mirror", f"https://forge.example/={(directory / 'forge').as_uri()}/", "--environment", "host"]
        words += ["--workspace", str(directory / "workspace"), "--cache", str(directory / "cache")]
        run([PROGRAM, "build", "--no-verify", *words], log=directory / "log", interval=None)
        yield words


@contextmanager
def built(options: argparse.Namespace) -> Iterator[list[str]]:
    """Give the options that name what is built whole."""
    if options.workspace is None:
        with toy() as words:
            yield words
    else:
        yield ["--branch", options.branch, "--workspace", str(options.workspace)]


def measure(options: argparse.Namespace, report: Report) -> None:
    """Run all in turn; a busy moment meets each of them."""
    with built(options) as words:
        commands = {
            **STARTS,
            "nothing to do": (PROGRAM, "build", "--no-verify", *words),
            "rocmbuild plan": (PROGRAM, "plan", "--format", "json", *words),
        }
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        timed = {name: partial(run, argv, env=environ, interval=None) for name, argv in commands.items()}
        alternate(timed, 1)  # compiled and in memory
        usages: dict[str, list[Usage]] = alternate(timed, options.runs)
    for name, taken in usages.items():
        report.add_usage(name, taken, watched=False)
    help_, rich = ([usage.cpu for usage in usages[name]] for name in ("rocmbuild --help", "import rich"))
    report.add_ratio("rocmbuild --help over import rich, CPU", help_, rich)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=11, help="how often each is run; the median counts")
    parser.add_argument("--workspace", type=Path, help="one in which --branch is built; otherwise a toy is built")
    parser.add_argument("--branch", default="debian-forky", help="what is built in --workspace")


if __name__ == "__main__":
    sys.exit(program("startup", __doc__ or "", measure, _options))
