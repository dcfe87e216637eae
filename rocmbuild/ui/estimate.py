"""How long a run will still take, from the estimates it began with and what was measured since."""

from __future__ import annotations

from rocmbuild.ui.state import RunState, Status, TaskState

MAIN_STEP = "build"
"""The step whose own progress stands for the task; the others are short beside it."""

_PRIOR = 0.05
"""Part of all estimated work that must be measured before measurements count as much as the estimates."""

_TRUSTED = 0.25
"""Part of the main step after which its own progress alone decides."""


def remaining(state: RunState, now: float) -> float | None:
    """Return the seconds left at time ``now``; None if nothing is known.

    All remaining work shared by as many tasks as ran at once so far, but not less than what the longest
    running task needs.
    """
    scaled = scale(state, now)
    running = [_left(task, scaled, now) for task in state.having(Status.RUNNING)]
    queued = [task.estimate * scaled for task in state.having(Status.QUEUED)]
    work = sum(running) + sum(queued)
    if work <= 0:
        return None
    at_once = min(parallelism(state, now), float(len(running) + len(queued)))
    return max(work / max(1.0, at_once), *running, 0.0)


def scale(state: RunState, now: float) -> float:
    """Return how much longer than estimated things take here, 1.0 while nothing was measured."""
    prior = _PRIOR * sum(task.estimate for task in state.tasks.values())
    measured = expected = prior
    for task in state.tasks.values():
        if task.status is Status.DONE and task.estimate > 0:
            measured += task.seconds
            expected += task.estimate
        elif part := _progress(task):
            measured += max(0.0, now - task.step_started)
            expected += task.estimate * part
    return measured / expected if expected > 0 else 1.0


def parallelism(state: RunState, now: float) -> float:
    """Return how many tasks ran at once on average, at least 1."""
    busy = sum(task.elapsed(now) for task in state.tasks.values())
    return max(1.0, busy / now) if now > 0 else 1.0


def _progress(task: TaskState) -> float:
    """Return the done part of a running task, 0 if its main step does not tell or it was not estimated."""
    if task.status is not Status.RUNNING or task.step != MAIN_STEP or task.estimate <= 0:
        return 0.0
    return task.fraction or 0.0


def _left(task: TaskState, scaled: float, now: float) -> float:
    by_estimate = max(0.0, task.estimate * scaled - task.elapsed(now))
    part = _progress(task)
    if part <= 0:
        return by_estimate
    by_progress = max(0.0, now - task.step_started) * (1 - part) / part
    trust = min(1.0, part / _TRUSTED)
    return trust * by_progress + (1 - trust) * by_estimate
