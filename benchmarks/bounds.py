"""What a build could have taken at least, out of its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rocmbuild.events import StepEnded
from rocmbuild.plan.makespan import Bound
from rocmbuild.run.efforts import NINJA, Efforts
from rocmbuild.run.recorder import longest_edge
from rocmbuild.run.task import Step, StepContext, Task, Uses

WAITING = {"fetch": Uses.NETWORK, "prepare": Uses.NOTHING, "compare": Uses.NOTHING, "store": Uses.NOTHING}
"""Steps that hold no CPU token."""

SOURCE = " source"
"""What the name of the task ends with that fetches a component's source."""


def makespan(trace: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds from the first event to the last."""
    return max(float(event["time"]) for event in trace)


def bound(
    trace: Sequence[Mapping[str, Any]], needs: Mapping[str, Iterable[str]], trees: Path, slots: int, cpus: int
) -> Bound:
    """Return what no order of the steps of a run could have gone below; ``trees`` has the components' build trees."""
    ended = [event for event in trace if event["event"] == "StepEnded"]
    names = list(dict.fromkeys(event["task"] for event in ended))
    efforts = Efforts(tasks(ended, names, needs), slots, cpus)
    for event in ended:
        efforts(StepEnded(**{key: value for key, value in event.items() if key != "event"}))
        if event["step"] == NINJA:
            log = trees / event["task"] / "build" / ".ninja_log"
            efforts.note_longest(event["task"], longest_edge(log, event["cpu_seconds"]))
    return efforts.bound()


def tasks(ended: Iterable[Mapping[str, Any]], names: Sequence[str], needs: Mapping[str, Iterable[str]]) -> list[Task]:
    """Return the tasks of a run as far as a bound has to know them."""
    steps: dict[str, list[Step]] = {name: [] for name in names}
    for event in ended:
        steps[event["task"]].append(Step(event["step"], _nothing, WAITING.get(event["step"], Uses.CPU)))
    return [Task(name, tuple(steps[name]), frozenset(_needs(name, names, needs))) for name in names]


def _needs(name: str, names: Sequence[str], needs: Mapping[str, Iterable[str]]) -> Iterable[str]:
    if name in needs:
        yield from needs[name]
        yield name + SOURCE
    elif name == "repository":
        yield from (other for other in names if other in needs)


async def _nothing(context: StepContext) -> None:
    """Stand for a step that was carried out long ago."""
