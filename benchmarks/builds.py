"""Builds by rocmbuild itself, as the benchmarks need them: cold ones that are measured, and their traces."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import say
from replay import Recorded, recorded
from watching import BenchmarkError, Usage, run

BRANCH = "debian-forky"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which build is meant."""
    cpus = len(os.sched_getaffinity(0))
    parser.add_argument("--branch", default=BRANCH, help="the release")
    parser.add_argument("--components", default="", metavar="A,B,...", help="only these, and what they need")
    parser.add_argument("-j", "--jobs", type=int, default=cpus, metavar="N", help="compile jobs")
    parser.add_argument("--work", type=Path, default=Path("workspace/benchmarks"), metavar="DIR", help="scratch space")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="OPTION",
        help="pass on to rocmbuild, such as --option=--allow-stale-archive; repeatable",
    )


@dataclass(frozen=True)
class Builds:
    """One selection of components, built in one directory."""

    branch: str
    components: tuple[str, ...]
    jobs: int
    work: Path
    options: tuple[str, ...]

    @property
    def workspace(self) -> Path:
        return self.work / "built"

    @property
    def store(self) -> Path:
        return self.work / "store"

    @property
    def events(self) -> Path:
        return self.work / "cold.jsonl"

    def argv(self, verb: str, *more: str, workspace: Path | None = None) -> list[str]:
        """Return a command line of rocmbuild, with a store of our own."""
        place = ("--branch", self.branch, "--workspace", str(workspace or self.workspace), "--store", str(self.store))
        return [sys.executable, "-m", "rocmbuild", verb, *place, *more, *self.options, *self.components]

    def build_argv(self, *more: str, workspace: Path | None = None) -> list[str]:
        return self.argv("build", "--no-verify", "-j", str(self.jobs), *more, workspace=workspace)

    def cold(self) -> Usage:
        """Build all of it in a new workspace, with an empty store, and return what that took.

        Sources and build roots are in the cache before: the network is not what is measured. What is built goes into
        the store meanwhile.
        """
        say("fetching what is not in the cache")
        self._fill_cache()
        say(f"cold build of {' '.join(self.components) or self.branch} by rocmbuild; {self.work / 'cold.txt'}")
        usage = self._build()
        (self.work / "cold.json").write_text(json.dumps({"of": self._identity(), "usage": asdict(usage)}))
        return usage

    def last_cold(self) -> Usage | None:
        """Return what the last cold build took, None if there was none of this selection."""
        try:
            data = json.loads((self.work / "cold.json").read_text())
        except (OSError, ValueError):
            return None
        return Usage(**data["usage"]) if data["of"] == self._identity() and self.events.is_file() else None

    def ensure(self) -> None:
        """Build what is not up to date."""
        if self.last_cold() is None:
            self.cold()
        run(self.build_argv(), log=self.work / "build.txt", interval=None)

    def trace(self) -> list[dict[str, Any]]:
        """Return the events of the cold build, lines of output left out."""
        with self.events.open(encoding="utf-8") as file:
            events = (json.loads(line) for line in file)
            return [event for event in events if event["event"] not in ("OutputLine", "StepProgress")]

    def plan(self) -> dict[str, Any]:
        """Return the plan as rocmbuild prints it; BenchmarkError with its words if it fails."""
        argv = self.argv("plan", "--format", "json")
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchmarkError(f"rocmbuild plan failed:\n{done.stderr.strip()}")
        plan: dict[str, Any] = json.loads(done.stdout)
        return plan

    def needs(self, plan: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return what each component waits for, in an order in which they can be built."""
        return {job["component"]: job["needs"] for job in plan["jobs"]}

    def recorded(self, components: Sequence[str]) -> list[Recorded]:
        """Return the commands of the cold build."""
        return recorded(self.workspace / "logs" / self.branch / self.area(), components)

    def area(self) -> str:
        """Return the name of the area of the cold build: of a distribution and an architecture."""
        areas = [path.name for path in (self.workspace / "logs" / self.branch).iterdir()]
        if len(areas) != 1:
            raise BenchmarkError(f"{self.workspace} is of several areas; a native build has one")
        return areas[0]

    def trees(self, *names: str) -> list[Path]:
        """Return the trees of these names (``build``, ``stage``, ``debs``) that the components have."""
        places = sorted((self.workspace / "build" / self.branch / self.area()).iterdir())
        return [place / name for place in places for name in names if (place / name).is_dir()]

    def driven(
        self, name: str, drive: Callable[[Sequence[Recorded], Mapping[str, Sequence[str]], Path], list[str]]
    ) -> Usage:
        """Build what the cold build built once more in a directory ``name`` and remove it; ``drive`` gives the argv."""
        if self.last_cold() is None:
            self.cold()
        place = self.work / name
        if place.is_dir():
            shutil.rmtree(place)
        needs = self.needs(self.plan())
        trees = [component.elsewhere(place, self.jobs) for component in self.recorded(list(needs))]
        say(f"the same once more, {name}; {self.work / name}.txt")
        try:
            return run(drive(trees, needs, place), log=self.work / f"{name}.txt")
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _fill_cache(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        run(self.argv("fetch"), log=self.work / "fetch.txt", interval=None)

    def _build(self) -> Usage:
        for directory in (self.workspace, self.store):
            if directory.is_dir():
                shutil.rmtree(directory)
        self.events.unlink(missing_ok=True)
        return run(self.build_argv("--events", str(self.events)), log=self.work / "cold.txt")

    def _identity(self) -> dict[str, Any]:
        """Return what a cold build belongs to."""
        return {
            "branch": self.branch,
            "components": list(self.components),
            "jobs": self.jobs,
            "options": list(self.options),
        }


def builds(options: argparse.Namespace) -> Builds:
    """Return the builds that the options of the command line ask for."""
    components = tuple(name for name in options.components.split(",") if name)
    return Builds(options.branch, components, options.jobs, options.work.resolve(), tuple(options.option))
