"""Many disturbed runs, one after another, and what was lost in them."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import watching
from tests.faults.ground import Ground, copy
from tests.faults.kinds import KINDS
from tests.faults.trial import Trial


@dataclass(frozen=True)
class Result:
    """A run of a campaign: whether its fault came in time, what was done, what was lost."""

    number: int
    kind: str
    state: str
    hit: bool
    done: str
    losses: tuple[str, ...]
    seconds: float


@dataclass
class Campaign:
    """Runs that are numbered: seed, number and ``kinds`` say all about one, so that it can be repeated alone."""

    ground: Ground
    seed: int
    kinds: Sequence[str] = ()
    states: Sequence[str] = ()
    """those to choose from; none: all that a kind is tried in"""
    tell: Callable[[str], None] = print
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        asked = self.kinds or tuple(KINDS)
        self._reasons = {name: reason for name in asked if (reason := KINDS[name].why_not) is not None}
        self._possible = [name for name in asked if name not in self._reasons]

    def run(self, numbers: Sequence[int]) -> None:
        """Make runs and tell each as it ends."""
        for name, reason in self._reasons.items():
            self.tell(f"left out: {name}: {reason}")
        for number in numbers if self._possible else ():
            result = self.one(number, self._possible[number % len(self._possible)])
            self.results.append(result)
            words = "; ".join(("LOST", *result.losses)) if result.losses else "nothing lost"
            missed = "" if result.hit else " (too late)"
            self.tell(
                f"{number:4} {result.seconds:5.1f} s  {result.kind} in {result.state}{missed}: {result.done}: {words}"
            )

    def one(self, number: int, name: str) -> Result:
        """Make one run of a kind; the user's directory is kept if something was lost."""
        begun = time.monotonic()
        kind = KINDS[name]
        chance = random.Random(f"{self.seed} {number} {name}")
        states = [state for state in kind.states if state in self.states] or kind.states
        state = self.ground.state(chance.choice(states))
        trial = Trial(self.ground, chance, state, self.ground.lay(state))
        before = (watching.mounts(self.ground.base), watching.loops(self.ground.base))
        with kind.fault(trial) as after:
            trial.again(after)
            if trial.losses:
                self._keep(number, after.user.directory)
        trial.quiet()
        if (after := (watching.mounts(self.ground.base), watching.loops(self.ground.base))) != before:
            trial.losses.append(f"mounts: {before} (and loop devices) before, {after} after")
        seconds = time.monotonic() - begun
        return Result(number, name, state.name, trial.hit, ", ".join(trial.done), tuple(trial.losses), seconds)

    def _keep(self, number: int, directory: Path) -> None:
        lost = self.ground.base / "lost" / f"{self.seed}-{number}"
        shutil.rmtree(lost, ignore_errors=True)
        lost.parent.mkdir(exist_ok=True)
        copy(directory, lost)
        shutil.copy(self.ground.base / "said", lost / "said")

    def summary(self) -> str:
        """Return the table of all runs, and how to repeat those in which something was lost."""
        lost = [result.number for result in self.results if result.losses]
        only = "".join(f" --kind {name}" for name in self.kinds)
        again = [f"again: python -m tests.faults --seed {self.seed}{only} --only {number}" for number in lost]
        return "\n".join([f"seed {self.seed}", *table(self.results), *again])


def table(results: Sequence[Result]) -> list[str]:
    """Return lines that tell runs, faults that came in time, and losses of each kind."""
    rows = [("kind", "runs", "faults", "losses", "s/run")]
    for name in (*dict.fromkeys(result.kind for result in results), "all"):
        mine = [result for result in results if name in (result.kind, "all")]
        faults, lost = sum(result.hit for result in mine), sum(bool(result.losses) for result in mine)
        mean = sum(result.seconds for result in mine) / max(len(mine), 1)
        rows.append((name, str(len(mine)), str(faults), str(lost), f"{mean:.1f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:]))) for row in rows]
