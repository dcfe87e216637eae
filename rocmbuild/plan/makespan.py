"""How long tasks take together on some slots: what any schedule takes at least, and what ours will.

A *slot* is one of the run's CPU tokens. A task that Ninja carries out is malleable: it computes in as many slots as it
gets, up to ``cpu / span`` of them; the others hold one. Time is in seconds.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_DONE = 1e-9
"""Seconds of a slot; less work than this is a rounding error."""


@dataclass(frozen=True)
class Work:
    """A task as a schedule sees it.

    ``cpu`` are the seconds it occupies slots, added up; 0 for one that holds none (a download). ``span`` are the
    seconds it takes however many slots there are, ``memory`` the bytes reserved for it.
    """

    name: str
    cpu: float
    span: float
    needs: frozenset[str] = frozenset()
    memory: int = 0

    def least(self, slots: float) -> float:
        """Return the seconds it takes with all of some slots for itself."""
        return max(self.span, self.cpu / slots)


@dataclass(frozen=True)
class Bound:
    """The seconds that no schedule goes below: ``work`` is all slots busy all the time, ``chain`` the critical path."""

    work: float
    chain: float

    @property
    def seconds(self) -> float:
        return max(self.work, self.chain)

    @property
    def by_work(self) -> bool:
        """Return whether the slots are what it lacks, not the order."""
        return self.work >= self.chain


@dataclass(frozen=True)
class Schedule:
    """What a simulation found: its length, and the most memory reserved at one time."""

    seconds: float
    memory: int


def bound(works: Iterable[Work], slots: float, longest: Mapping[str, float] | None = None) -> Bound:
    """Return what every schedule of some tasks takes at least; ``longest`` are their ``longest_paths``, if known.

    It is a true lower bound, for two reasons that hold whatever the order. In a second ``slots`` slots give at most
    ``slots`` seconds of CPU: so ``work`` is all of it divided by the slots. And tasks that need one another run one
    after another, each for its span or longer, and no shorter than its CPU seconds on all slots: so ``chain`` is the
    longest sum of these along the needs. Nothing is added for what a better schedule might have avoided: waiting for a
    disk or a network, memory that was short, slots that a program held without computing.
    """
    works = list(works)
    longest = longest_paths(works, slots) if longest is None else longest
    return Bound(sum(work.cpu for work in works) / slots, max(longest.values(), default=0.0))


def longest_paths(works: Iterable[Work], slots: float) -> dict[str, float]:
    """Return for each task the seconds from its start to the end of the longest path, each alone on all slots.

    Each of ``works`` comes after what it needs, as a plan has them.
    """
    works = list(works)
    return remaining({work.name: work.needs for work in works}, {work.name: work.least(slots) for work in works})


def remaining(needs: Mapping[str, Iterable[str]], seconds: Mapping[str, float]) -> dict[str, float]:
    """Return for each task the seconds from its start to the end of the longest path through it.

    ``seconds`` names the tasks so that each comes after its needs; needs that are not in it do not count. Raises
    ValueError if one comes before a need.
    """
    found: dict[str, float] = {}
    after: dict[str, float] = {}  # of what comes after a task, the longest
    for name in reversed(list(seconds)):
        total = found[name] = seconds[name] + after.get(name, 0.0)
        for need in needs[name]:
            if need in found:
                raise ValueError(f"{name} comes before {need}, which it needs")
            if total > after.get(need, 0.0):
                after[need] = total
    return found


def ordered(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Return tasks so that each comes after its needs; networkx.NetworkXUnfeasible if they go in a circle."""
    import networkx as nx  # late: to load it takes longer than all of a run in which nothing is to be ordered

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(needs)
    graph.add_edges_from((need, name) for name in needs for need in needs[name] if need in needs)
    return list(nx.topological_sort(graph))


def simulate(
    works: Iterable[Work], slots: int, budget: int | None = None, priority: Mapping[str, float] | None = None
) -> Schedule:
    """Return what the scheduler will do with tasks whose durations are known: those of high priority first.

    Each that runs has a slot; slots that are left go to those of them that can use more, in the same order. ``budget``
    are the bytes that may be reserved at once (more by one alone); ``priority`` is the longest remaining path if none
    is given.
    """
    works = list(works)
    if priority is None:
        priority = longest_paths(works, slots)
    return _Simulation(works, slots, budget, priority).run()


@dataclass(order=True)
class _Running:
    """A task that holds a slot: its place in the order, the CPU seconds that are left of it, and CPUs it has."""

    rank: tuple[float, int]
    work: Work = field(compare=False)
    left: float = field(compare=False)
    rate: float = field(default=1.0, compare=False)


class _Simulation:
    """Time goes from one end of a task to the next; in between, everything runs at the same rate."""

    def __init__(self, works: list[Work], slots: int, budget: int | None, priority: Mapping[str, float]) -> None:
        self.slots = slots
        self.budget = budget
        self.works = {work.name: work for work in works}
        self.ranks = {work.name: (-priority[work.name], number) for number, work in enumerate(works)}
        self.users, self.waiting = _edges(works)
        self.ready: list[tuple[tuple[float, int], str]] = []
        self.running: list[_Running] = []
        self.beside: list[tuple[float, str]] = []
        """when those end that run without a slot"""
        self.now = 0.0
        self.used = 0

    def run(self) -> Schedule:
        peak = 0
        for name in [name for name, count in self.waiting.items() if count == 0]:
            self._release(name)
        while self.running or self.beside or self.ready:
            self._start()
            peak = max(peak, self.used)
            self._share()
            ends = [self.now + item.left / item.rate for item in self.running]
            step = min([*ends, *(end for end, _ in self.beside[:1])]) - self.now
            self.now += step
            for item in self.running:
                item.left -= step * item.rate
            self._finish()
        return Schedule(self.now, peak)

    def _release(self, name: str) -> None:
        """Start what holds no slot at once; let the others wait for one."""
        work = self.works[name]
        if work.cpu > 0:
            heapq.heappush(self.ready, (self.ranks[name], name))
        else:
            heapq.heappush(self.beside, (self.now + work.span, name))

    def _start(self) -> None:
        free, put_off = self.slots - len(self.running), []
        while free > 0 and self.ready:
            rank, name = heapq.heappop(self.ready)
            work = self.works[name]
            if self.budget is not None and self.used > 0 and self.used + work.memory > self.budget:
                put_off.append((rank, name))
                continue
            self.used += work.memory
            self.running.append(_Running(rank, work, work.cpu))
            free -= 1
        for waiting in put_off:
            heapq.heappush(self.ready, waiting)

    def _share(self) -> None:
        """Give each that runs a slot, and the first ones as many more as they can use."""
        free = float(self.slots - len(self.running))
        for item in sorted(self.running):
            widest = item.work.cpu / item.work.least(self.slots)
            more = min(free, max(0.0, widest - 1.0))
            item.rate = min(widest, 1.0 + more)
            free -= more

    def _finish(self) -> None:
        ended = [item.work.name for item in self.running if item.left <= _DONE]
        self.used -= sum(self.works[name].memory for name in ended)
        self.running = [item for item in self.running if item.left > _DONE]
        while self.beside and self.beside[0][0] <= self.now + _DONE:
            ended.append(heapq.heappop(self.beside)[1])
        for user in (user for name in ended for user in self.users[name]):
            self.waiting[user] -= 1
            if self.waiting[user] == 0:
                self._release(user)


def _edges(works: Iterable[Work]) -> tuple[dict[str, list[str]], Counter[str]]:
    """Return who needs each task, and how many tasks each waits for; needs that are not among them are there."""
    works = list(works)
    users: dict[str, list[str]] = {work.name: [] for work in works}
    waiting: Counter[str] = Counter()
    for work in works:
        found = [users[need] for need in work.needs if need in users]
        waiting[work.name] = len(found)
        for others in found:
            others.append(work.name)
    return users, waiting
