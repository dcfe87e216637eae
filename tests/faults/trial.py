"""One run that is disturbed: the moment, the disturbance, and what is lost after the same command has run again."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.faults import watching
from tests.faults.ground import Faulted, Ground, State, ended
from tests.integration.conftest import Toy

PATIENCE = 12.0
"""Seconds after which what a killed run left running has to be gone: more than the grace of what is told to end."""


@dataclass(frozen=True)
class After:
    """How the command is run again: behind words that lead to where the user is, and how its files are seen."""

    user: Toy
    before: tuple[str, ...] = ()


Fault = Callable[["Trial"], AbstractContextManager[After]]


@dataclass
class Trial:
    """A disturbance of a user in some state; ``chance`` decides all that is left to chance."""

    ground: Ground
    chance: random.Random
    state: State
    user: Faulted
    hit: bool = True
    """whether the fault came in time"""
    done: list[str] = field(default_factory=list)
    """what was done to the run, for people"""
    losses: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.done.append(text)

    def at_a_moment(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for a moment of a run: in its planning, or a little after an event; return whether it still runs."""
        planning = self.chance.random() < 0.15
        pause = self.chance.uniform(0, self.state.planning if planning else 0.15)
        wanted = self.chance.randint(1, self.state.told)
        if not planning:
            while self.user.told() < wanted and process.poll() is None:
                time.sleep(0.003)
        time.sleep(pause)
        there = process.poll() is None
        self.hit = self.hit and there
        self.note(f"{pause:.2f} s after {'the start' if planning else f'event {wanted} of {self.state.told}'}")
        return there

    def expect(self, process: subprocess.Popen[bytes], *codes: int) -> None:
        """Wait for the end of the disturbed run; another exit code than these, or the report of a bug, is a loss."""
        code = ended(process)
        self.note(f"ended with {code}")
        if code not in codes and not self._before_us():
            wanted = " or ".join(map(str, codes))
            self.losses.append(f"status: the disturbed run ended with {code}, not {wanted}: {self._said()}")
        self.no_bug("the disturbed run")

    def no_bug(self, what: str) -> None:
        """Count a program that did not know what happened as a loss."""
        text = self.user.said.read_text(errors="replace")
        if ("Traceback" in text and not self._before_us()) or "bug:" in text:
            self.losses.append(f"bug: {what} said: {self._said()}")

    def _before_us(self) -> bool:
        """Tell whether Python was interrupted in its own start, before it came to our program."""
        text = self.user.said.read_text(errors="replace")
        return "KeyboardInterrupt" in text and "/rocmbuild/cli.py" not in text

    def _said(self) -> str:
        return " ".join(self.user.said.read_text(errors="replace").split())[-400:]

    def again(self, after: After) -> None:
        """Run the same command; it has to end well, and leave what an undisturbed run leaves."""
        code = self.user.finish(*after.before)
        if code != 0:
            text = " ".join(self.user.said.read_text(errors="replace").split())
            self.losses.append(f"status: the same command ended with {code}: {text[-600:]}")
        self.no_bug("the same command")
        if code == 0:
            self._compare(after.user)
        usual = self.state.names | self.ground.state("empty").names  # what cannot be kept is built, as from nothing
        left = sorted(watching.names_below(after.user.directory) - usual)
        left += watching.passing(after.user.directory)
        left += [str(path) for path in self.ground.scratch.iterdir()]
        if left:
            self.losses.append(f"leftovers: {', '.join(dict.fromkeys(left))}")

    def _compare(self, user: Toy) -> None:
        reference, found = self.ground.state("empty").debs, user.debs()
        if found != reference:
            names = sorted(name for name in {*reference, *found} if reference.get(name) != found.get(name))
            self.losses.append(f"bytes: {', '.join(names)} are not those of an undisturbed run")

    def quiet(self, seconds: float = PATIENCE) -> None:
        """Wait until nothing of the run is left running; what stays is a loss."""
        deadline = time.monotonic() + seconds
        while (found := self.user.orphans()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if found:
            self.losses.append(f"processes: {'; '.join(found)}")
