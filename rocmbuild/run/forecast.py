"""What carrying out the tasks of a plan will take, as far as it is known before."""

from __future__ import annotations

from collections.abc import Iterable

from rocmbuild.plan.estimate import Outlook, outlook
from rocmbuild.plan.makespan import Work
from rocmbuild.plan.plan import Plan
from rocmbuild.run.task import Task, Uses


def forecast(tasks: Iterable[Task], plan: Plan, slots: int, memory: int) -> Outlook:
    """Return what tasks will take on some slots, within a budget of memory in bytes."""
    building = {job.name: job.estimate for job in plan.building}
    works = [
        building[task.name].work(task.name, task.needs) if task.name in building else _other(task) for task in tasks
    ]
    return outlook(works, building.values(), slots, memory)


def _other(task: Task) -> Work:
    """Return a task that builds nothing; its cost is a guess."""
    holds = any(step.uses is Uses.CPU for step in task.steps)
    return Work(task.name, task.cost if holds else 0.0, task.cost, task.needs, task.memory)
