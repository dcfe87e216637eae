"""What building components took on this machine, kept in the cache for the plans and priorities of later runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.machine import available_cpus
from rocmbuild.plan.estimate import Estimate, Known, Measurement, cost_of, estimates
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Action
from rocmbuild.plan.plan import Job, Plan
from rocmbuild.run.site import Area
from rocmbuild.workspace import read_json, write_json

_MODELS = ("model name", "uarch", "cpu model", "CPU part", "isa")
"""Fields of /proc/cpuinfo that tell processors apart: of x86, RISC-V, MIPS, ARM, and older RISC-V."""


def machine_slug(cpuinfo: Path = Path("/proc/cpuinfo"), cpus: int | None = None) -> str:
    """Return a name for machines that are as fast as this one: the model of its CPU, and how many there are."""
    found: dict[str, str] = {}
    for line in _text(cpuinfo).splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    model = next((found[name] for name in _MODELS if found.get(name)), os.uname().machine)
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:60]
    return f"{slug or 'unknown'}-{available_cpus() if cpus is None else cpus}"


@dataclass(frozen=True)
class Measured:
    """The measurements below a directory of one kind of machine: ``<area>/<component>.json``.

    An area is a branch and the name of its area in workspaces.
    """

    directory: Path

    def known(self, area: str, names: Iterable[str]) -> Known:
        """Return what is known of some components for an area, and of those it knows nothing of, what others say."""
        names = set(names)
        if not names or not self.directory.is_dir():
            return Known({}, {})
        here = self._read(area, names)
        missing = names - {name for name, found in here.items() if found.whole}
        elsewhere: dict[str, tuple[str, Measurement]] = {}
        for other in sorted(self._areas() - {area}) if missing else ():
            for name, found in self._read(other, missing).items():
                if found.whole and (name not in elsewhere or found.cpu_seconds > elsewhere[name][1].cpu_seconds):
                    elsewhere[name] = (other, found)
        return Known(here, elsewhere)

    def record(self, area: str, name: str, found: Measurement) -> None:
        """Remember what building a component took; see ``Measurement.after``."""
        path = self.directory / area / f"{name}.json"
        write_json(path, found.after(Measurement.parse(read_json(path))).record())

    def _areas(self) -> set[str]:
        return {str(path.relative_to(self.directory)) for path in self.directory.glob("*/*") if path.is_dir()}

    def _read(self, area: str, names: set[str]) -> dict[str, Measurement]:
        files = {path.stem: path for path in (self.directory / area).glob("*.json")}
        read = {name: _measurement(files[name]) for name in names & files.keys()}
        return {name: found for name, found in read.items() if found is not None}


def estimated(plan: Plan, areas: Mapping[Machine, Area], measured: Measured, slots: int) -> Plan:
    """Return a plan with estimates of what it compiles, by what was measured on this machine, for some slots."""
    if not any(is_compiled(job) and job.action is Action.BUILD for job in plan.jobs):
        return plan
    found: dict[Node, Estimate] = {}
    for machine, area in areas.items():
        jobs = {job.node.component: job for job in plan.jobs if job.node.machine is machine and is_compiled(job)}
        known = measured.known(area_label(area), jobs)
        by_name = estimates({name: cost_of(job.recipe) for name, job in jobs.items()}, known, slots)
        found |= {jobs[name].node: estimate for name, estimate in by_name.items()}
    return plan.with_estimates(found)


def is_compiled(job: Job) -> bool:
    """Return whether a job runs a compiler if it is built."""
    return job.recipe.builds and job.twin is None


def area_label(area: Area) -> str:
    """Return the name of an area among the measurements."""
    return f"{area.workspace.branch}/{area.workspace.area}"


def _measurement(path: Path) -> Measurement | None:
    try:
        return Measurement.parse(read_json(path))
    except OSError:  # of another user, say: an estimate is not worth an error
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
