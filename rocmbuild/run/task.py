"""Tasks as data: what a scheduler runs, without knowing what it is."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from rocmbuild.process import Runner


class Uses(enum.Enum):
    """The resource a step occupies while it runs."""

    CPU = "cpu"
    """one CPU token"""
    NETWORK = "network"
    """one of the downloads"""
    NOTHING = "nothing"


@dataclass(frozen=True)
class StepContext:
    """What a step gets: a runner whose output goes to the step's log, and ways to tell of its progress."""

    runner: Runner
    log: Path
    progress: Callable[[int, int, str], None]
    note: Callable[[str], None]


StepFunction = Callable[[StepContext], Awaitable[None]]


@dataclass(frozen=True)
class Step:
    """A named part of a task; ``uses`` is held while it runs.

    ``needed`` is asked when its turn comes: what an earlier step of the task found to be there is not made again.
    """

    name: str
    function: StepFunction
    uses: Uses = Uses.CPU
    needed: Callable[[], bool] = lambda: True
    expendable: bool = False
    """whether its programs may be ended when memory is short: a failure of one of them fails the step for certain"""


@dataclass(frozen=True)
class Task:
    """Steps that run one after another once all tasks in ``needs`` are done.

    ``cost`` are estimated seconds, ``memory`` the bytes reserved while its CPU steps run, ``rerun`` the
    command that repeats just this task.
    """

    name: str
    steps: tuple[Step, ...]
    needs: frozenset[str] = frozenset()
    cost: float = 1.0
    memory: int = 0
    rerun: str = ""
    logs: Callable[[str], Path] = field(default=lambda step: Path(f"{step}.log"))
