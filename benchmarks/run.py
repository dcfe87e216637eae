"""Run the benchmarks, all of them or those that are named, and gather their figures in one JSON file.

Every program runs alone too, and has --help; this one passes on which components are meant. A cold build by core.py
is what the others go on with, so the order below is the order in which they run:

  startup    how long rocmbuild --help takes
  planning   how planning grows with the number of components
  tokens     Ninjas on the jobserver: the cap, withheld tokens, tokens of a Ninja that was killed
  core       a cold build against a serial driver of the same commands, and against the bound
  nested     the same against make of ninjas, as AMD's makefiles do it
  sandbox    bubblewrap against chroot
  noop       everything up to date
  restore    restored from the store, against building and against cp -a
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builds import add_options
from harness import machine_facts, say

BUILDS = ("core", "nested", "sandbox", "noop", "restore")
"""Programs that build components."""

PROGRAMS = ("startup", "planning", "tokens", *BUILDS)

OWN = {"nested": ("--reuse",)}
"""What a program is told because others ran before it."""

QUICK = {
    "startup": ("--runs", "3"),
    "planning": ("--sizes", "20", "40", "--runs", "1"),
    "tokens": ("--sizes", "2", "--files", "3", "--kills", "1"),
    "sandbox": ("--build", "rocm-core", "--runs", "1", "--starts", "6"),
    "noop": ("--runs", "3"),
    "restore": ("--runs", "1"),
}
"""How to find out within a minute or two whether a program works here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        prog="run.py", description=(__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="the programs to run")
    parser.add_argument("--all", action="store_true", help="run all of them")
    parser.add_argument("--quick", action="store_true", help="few runs of small things: whether it works, no figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    add_options(parser)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in PROGRAMS]
    if unknown or not (options.names or options.all):
        parser.error(f"there is no {unknown[0]}; there are {', '.join(PROGRAMS)}" if unknown else "name some, or --all")
    names = [name for name in PROGRAMS if options.all or name in options.names]
    records = [run(name, options) for name in names]
    found = [record for record in records if record is not None]
    if options.json:
        text = json.dumps({"machine": machine_facts(), "results": found}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0 if len(found) == len(names) else 1


def run(name: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """Run one program, its table going to standard output; return its figures, None if it failed."""
    say(name)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        figures = Path(directory, "figures.json")
        argv = [*command(name, options), "--json", str(figures)]
        status = subprocess.run(argv, check=False).returncode
        print(flush=True)
        if status != 0:
            say(f"{name} failed with status {status}")
            return None
        record: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
        return record


def command(name: str, options: argparse.Namespace) -> list[str]:
    """Return the command line of a program."""
    argv = [sys.executable, str(Path(__file__).with_name(f"{name}.py"))]
    if name in BUILDS:
        components = options.components or ("rocm-core" if options.quick else "")
        argv += ["--branch", options.branch, "--components", components, "-j", str(options.jobs)]
        argv += ["--work", str(options.work), *(f"--option={option}" for option in options.option)]
    return [*argv, *OWN.get(name, ()), *(QUICK.get(name, ()) if options.quick else ())]


if __name__ == "__main__":
    sys.exit(main())
