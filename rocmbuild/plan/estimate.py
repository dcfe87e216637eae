"""What building a component will take of time, memory and disk, from what it took before and from its recipe."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from rocmbuild.model.recipe import Resolved
from rocmbuild.plan.makespan import Bound, Work, bound, longest_paths, simulate

MEASURED = "measured"
ELSEWHERE = "measured for "
"""Begins the basis of what was measured with another branch, distribution or architecture, which follows."""
SCALED = "recipe, scaled"
"""The recipe's figure, multiplied by what others took here for each second of theirs."""
RECIPE = "recipe"

SERIAL = 10.0
"""Seconds of a recipe's cost that are not Ninja's: configuring, installing, packaging are done in one slot."""

DISK = 512 << 10
"""Bytes that are written for each CPU second, where nothing was measured: between OpenCL's 0.1 MB and comgr's 2.5."""

_LEAST_COST = 5.0
"""CPU seconds of a recipe below which what was measured says little about the machine."""


@dataclass(frozen=True)
class Measurement:
    """What building a component took.

    ``seconds`` is the time of all steps, ``serial`` of those in one slot, ``shared`` the CPU seconds of Ninja and what
    it ran; ``longest`` are CPU seconds that one of Ninja's edges took at least. ``memory`` (the peak) and ``disk`` are
    bytes, ``jobs`` the slots there were. What is not ``whole`` went on in an earlier build tree, or had help of a
    cache: it says how much the component takes at least.
    """

    seconds: float
    cpu_seconds: float
    serial: float
    shared: float
    memory: int
    disk: int
    jobs: int
    longest: float = 0.0
    whole: bool = True

    @staticmethod
    def parse(data: Any) -> Measurement | None:
        """Return a measurement out of plain data, None if it is not one."""
        if not isinstance(data, Mapping) or not isinstance(data.get("whole"), bool):
            return None
        numbers: dict[str, Any] = {
            item.name: data.get(item.name) for item in fields(Measurement) if item.name != "whole"
        }
        if not all(_is_amount(number) for number in numbers.values()) or numbers["jobs"] == 0:
            return None
        return Measurement(whole=data["whole"], **numbers)

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(self).items()}

    def after(self, before: Measurement | None) -> Measurement:
        """Return what is to be remembered of this and an earlier one: a part never makes a whole smaller."""
        if self.whole or before is None:
            return self
        larger = max(before, self, key=lambda one: one.cpu_seconds)
        memory, disk = max(self.memory, before.memory), max(self.disk, before.disk)
        return replace(larger, memory=memory, disk=disk, whole=before.whole)


@dataclass(frozen=True)
class Cost:
    """What a recipe says: CPU seconds, and the peak of memory in bytes."""

    cpu: float
    memory: int


def cost_of(recipe: Resolved) -> Cost:
    """Return what a recipe says."""
    return Cost(recipe.cost, recipe.memory)


@dataclass(frozen=True)
class Estimate:
    """What a component will take: ``seconds`` with all slots for itself, ``cpu`` seconds of slots, bytes."""

    seconds: float
    cpu: float
    memory: int
    disk: int
    basis: str = RECIPE

    def work(self, name: str, needs: Iterable[str]) -> Work:
        """Return it as a schedule sees it."""
        return Work(name, self.cpu, self.seconds, frozenset(needs), self.memory)

    def row(self) -> dict[str, Any]:
        """Return it as ``rocmbuild plan --format json`` shows it, beside what the plan says."""
        return {"seconds": round(self.seconds, 1), "memory": self.memory, "disk": self.disk, "basis": self.basis}


BRIEF = Estimate(1.0, 1.0, 0, 0, "")
"""Of a component that is not compiled: nothing says more."""
NO_ESTIMATE = Estimate(0.0, 0.0, 0, 0, "")


@dataclass(frozen=True)
class Known:
    """What was measured on this machine: ``here`` as it is asked for, by component, ``elsewhere`` with its place."""

    here: Mapping[str, Measurement]
    elsewhere: Mapping[str, tuple[str, Measurement]]


NOTHING = Known({}, {})


def estimates(costs: Mapping[str, Cost], known: Known, slots: int) -> dict[str, Estimate]:
    """Return an estimate for each component, by the best that is known of it."""
    factor = _scale(costs, known)
    return {name: _estimate(name, cost, known, factor, slots) for name, cost in costs.items()}


def of_recipe(cost: Cost, slots: int = 1, factor: float | None = None) -> Estimate:
    """Return what a recipe lets expect; ``factor`` is how much longer things take on this machine."""
    cpu = cost.cpu * (1.0 if factor is None else factor)
    serial = min(cpu, SERIAL)
    seconds = serial + (cpu - serial) / slots
    return Estimate(seconds, cpu, cost.memory, int(cpu * DISK), RECIPE if factor is None else SCALED)


def of_measurement(measured: Measurement, slots: int, basis: str = MEASURED) -> Estimate:
    """Return what a measurement lets expect; with more slots than it had, more programs take memory at once.

    The peak is taken an eighth higher than it was: no two builds meet at the same moment.
    """
    seconds = measured.serial + max(measured.shared / slots, min(measured.longest, measured.shared))
    memory = measured.memory * 9 // 8 * max(slots, measured.jobs) // measured.jobs
    return Estimate(seconds, measured.serial + measured.shared, memory, measured.disk, basis)


def _estimate(name: str, cost: Cost, known: Known, factor: float | None, slots: int) -> Estimate:
    place, measured = MEASURED, known.here.get(name)
    if (measured is None or not measured.whole) and name in known.elsewhere:
        area, other = known.elsewhere[name]
        place, measured = f"{ELSEWHERE}{area}", other.after(measured)
    by_recipe = of_recipe(cost, slots, factor)
    if measured is None:
        return by_recipe
    found = of_measurement(measured, slots, place)
    if measured.whole:
        return found
    longer = by_recipe if by_recipe.cpu > found.cpu else found
    return replace(longer, memory=max(found.memory, by_recipe.memory), disk=max(found.disk, by_recipe.disk))


def _scale(costs: Mapping[str, Cost], known: Known) -> float | None:
    """Return how many CPU seconds were measured for one of a recipe's, None if nothing was."""
    import statistics

    measured = {**{name: other for name, (_, other) in known.elsewhere.items()}, **known.here}
    ratios = [
        measured[name].cpu_seconds / cost.cpu
        for name, cost in costs.items()
        if name in measured and measured[name].whole and cost.cpu >= _LEAST_COST
    ]
    return statistics.median(ratios) if ratios else None


@dataclass(frozen=True)
class Outlook:
    """What carrying a plan out will take: seconds, the bound they are to be held against, bytes, and what says so.

    ``memory`` is the most that is reserved at one time, ``disk`` what build and stage trees take.
    """

    seconds: float
    bound: Bound
    cpu: float
    jobs: int
    memory: int
    disk: int
    basis: Mapping[str, int]
    """how many of the components that are compiled are estimated by what"""

    def row(self) -> dict[str, Any]:
        """Return it as ``rocmbuild plan --format json`` shows it."""
        return {
            "seconds": round(self.seconds, 1),
            "bound": round(self.bound.seconds, 1),
            "cpu_seconds": round(self.cpu, 1),
            "jobs": self.jobs,
            "memory": self.memory,
            "disk": self.disk,
            "basis": dict(self.basis),
        }


def outlook(works: Iterable[Work], building: Iterable[Estimate], slots: int, memory: int) -> Outlook:
    """Return what tasks will take on some slots and with a budget of memory; ``building`` are the components of them.

    What is not built is among ``works`` alone.
    """
    works, building = list(works), list(building)
    longest = longest_paths(works, slots)
    found = simulate(works, slots, memory, longest)
    return Outlook(
        seconds=found.seconds,
        bound=bound(works, slots, longest),
        cpu=sum(work.cpu for work in works),
        jobs=slots,
        memory=found.memory,
        disk=sum(estimate.disk for estimate in building),
        basis=Counter(estimate.basis for estimate in building if estimate.basis),
    )


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
