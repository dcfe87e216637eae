"""What the tasks of a run took, out of its events, and how near the run came to the shortest one possible."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rocmbuild.events import Event, StepEnded
from rocmbuild.plan.makespan import Bound, Work, bound
from rocmbuild.run.task import Task, Uses

NINJA = "build"
"""The step of a component that computes in as many slots as it gets; every other step is done in one."""


@dataclass
class Effort:
    """What a task took: seconds by the clock, CPU seconds, and the peak of memory in bytes.

    ``shared`` are CPU seconds of Ninja, ``held`` those of other steps that held a slot, ``free`` those of steps that
    held none. ``longest``, a part of ``shared``, and ``chain``, one of the rest, would not be less on more slots.
    """

    seconds: float = 0.0
    shared_seconds: float = 0.0
    shared: float = 0.0
    held: float = 0.0
    free: float = 0.0
    chain: float = 0.0
    longest: float = 0.0
    memory: int = 0

    @property
    def cpu(self) -> float:
        return self.shared + self.held + self.free

    @property
    def serial_seconds(self) -> float:
        return self.seconds - self.shared_seconds


class Efforts:
    """Observe a run of some tasks on ``slots`` slots of a machine with ``cpus`` processors."""

    def __init__(self, tasks: Iterable[Task], slots: int, cpus: int) -> None:
        self.slots = slots
        self.capacity = min(slots, cpus)
        """CPU seconds that are to be had in a second"""
        self._tasks = {task.name: task for task in tasks}
        self._uses = {(task.name, step.name): step.uses for task in self._tasks.values() for step in task.steps}
        self._efforts: dict[str, Effort] = {}
        self._cpus = cpus

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepEnded):
            self._add(self._efforts.setdefault(event.task, Effort()), event)

    def of(self, task: str) -> Effort:
        """Return what a task took."""
        return self._efforts.get(task, Effort())

    def note_longest(self, task: str, seconds: float) -> None:
        """Note that an edge of a task's Ninja computed so many seconds at least."""
        self._efforts.setdefault(task, Effort()).longest = seconds

    def bound(self) -> Bound:
        """Return the seconds that no order of these tasks would have gone below; see ``makespan.bound``.

        CPU seconds alone count: of Ninja's, those of a step divide among all slots; a step in one slot takes its CPU
        seconds, unless it took more of them than seconds, having threads. Steps without a slot compute beside the
        others: their CPU seconds are work for the slots only where there are no more processors than slots.
        """
        return bound((self._work(task) for task in self._tasks.values()), self.capacity)

    def _work(self, task: Task) -> Work:
        effort = self.of(task.name)
        cpu = effort.shared + effort.held + (effort.free if self.slots >= self._cpus else 0.0)
        return Work(task.name, cpu, effort.chain + max(effort.shared / self.capacity, effort.longest), task.needs)

    def _add(self, effort: Effort, event: StepEnded) -> None:
        effort.seconds += event.seconds
        effort.memory = max(effort.memory, event.memory)
        if event.step == NINJA:
            effort.shared_seconds += event.seconds
            effort.shared += event.cpu_seconds
            return
        if self._uses.get((event.task, event.step)) is Uses.CPU:
            effort.held += event.cpu_seconds
        else:
            effort.free += event.cpu_seconds
        alone = event.cpu_seconds <= event.seconds
        effort.chain += event.cpu_seconds if alone else event.cpu_seconds / self._cpus
