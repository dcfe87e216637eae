"""Repeat what rocmbuild ran, without rocmbuild: the commands in its logs, in other trees and by other drivers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from watching import BenchmarkError

STEPS = ("configure", "build", "install")

ARITY = {
    **dict.fromkeys(("--ro-bind", "--bind", "--symlink", "--setenv", "--dev-bind"), 2),
    **dict.fromkeys(("--tmpfs", "--proc", "--dev", "--remount-ro", "--chdir", "--uid", "--gid", "--hostname"), 1),
    **dict.fromkeys(("--dir", "--cap-add", "--cap-drop", "--unsetenv"), 1),
}
"""How many words follow an option of bubblewrap; none follow the others."""

_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(frozen=True)
class Sandboxed:
    """A command line of bubblewrap: its options, each with its words, and the command that runs inside."""

    options: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]
    program: str = "bwrap"

    @property
    def argv(self) -> list[str]:
        return [self.program, *(word for option in self.options for word in option), "--", *self.command]

    def place(self, inside: str) -> Path | None:
        """Return what is mounted at a path inside, None if nothing is."""
        found = [option[1] for option in self.options if option[0] in ("--bind", "--ro-bind") and option[2] == inside]
        return Path(found[-1]) if found else None

    def mounting(self, places: Mapping[str, Path]) -> Sandboxed:
        """Return the same command with other directories at the paths inside that ``places`` has."""
        binds = ("--bind", "--ro-bind")
        options = (
            (option[0], str(places[option[2]]), option[2]) if option[0] in binds and option[2] in places else option
            for option in self.options
        )
        return replace(self, options=tuple(options))

    def without_jobserver(self, jobs: int) -> Sandboxed:
        """Return the same command with ``-jN`` for Ninja in place of the tokens of a jobserver."""
        kept = (option for option in self.options if "MAKEFLAGS" not in option and option[-1] != "/run/jobserver")
        command = self.command
        if Path(command[0]).name == "ninja":
            command = (command[0], f"-j{jobs}", *command[1:])
        return replace(self, options=tuple(kept), command=command)


@dataclass(frozen=True)
class Recorded:
    """What was run for one component, by step."""

    component: str
    steps: Mapping[str, Sandboxed]

    def elsewhere(self, directory: Path, jobs: int) -> Recorded:
        """Return the same in a new build tree and a new stage tree below ``directory``, with ``-jN``."""
        places = {f"/{name}": directory / self.component / name for name in ("build", "stage")}
        steps = {step: it.mounting(places).without_jobserver(jobs) for step, it in self.steps.items()}
        return replace(self, steps=steps)

    def make_places(self) -> None:
        """Make the build tree and the stage tree, empty; BenchmarkError if one is not empty."""
        for inside in ("/build", "/stage"):
            path = self.steps["build"].place(inside)
            if path is None:
                raise BenchmarkError(f"the log of {self.component} does not say what {inside} is")
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise BenchmarkError(f"{path} is not empty: what is measured there would not be a whole build")

    def script(self) -> str:
        """Return a shell script that does what rocmbuild did with CMake and Ninja."""
        commands = (shlex.join(self.steps[step].argv) for step in STEPS)
        return "\n".join(["set -e", *(f"{command} </dev/null" for command in commands)]) + "\n"


def parse(line: str) -> Sandboxed | None:
    """Return the command of a log's line ``$ [cd DIRECTORY &&] [VARIABLE=VALUE...] bwrap ...``, None for others."""
    if not line.startswith("$ "):
        return None
    try:
        words = shlex.split(line[2:])
    except ValueError:
        return None
    if words[:1] == ["cd"] and "&&" in words:
        words = words[words.index("&&") + 1 :]
    while words and _ASSIGNMENT.match(words[0]):
        words.pop(0)
    if not words or Path(words[0]).name != "bwrap" or "--" not in words:
        return None
    return split(words)


def split(argv: Sequence[str]) -> Sandboxed:
    """Return a command line of bubblewrap in parts; BenchmarkError for an option that is not known here."""
    end = argv.index("--")
    return Sandboxed(tuple(_options(argv[1:end])), tuple(argv[end + 1 :]), argv[0])


def _options(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    place = 0
    while place < len(words):
        count = 1 + ARITY.get(words[place], 0)
        option = tuple(words[place : place + count])
        if not option[0].startswith("--") or len(option) < count:  # an option with words that ARITY does not have
            raise BenchmarkError(f"bubblewrap's options are not as expected here: {' '.join(option)}")
        yield option
        place += count


def read_log(path: Path) -> Sandboxed | None:
    """Return the last command of a step's log that ran in the sandbox."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = (parse(line) for line in reversed(lines))
    return next((command for command in found if command is not None), None)


def recorded(logs: Path, components: Iterable[str]) -> list[Recorded]:
    """Return what the logs of an area say was run for components, in their order, those that compile nothing left out.

    Raises BenchmarkError if there is none: a build without the sandbox, or one that was not cold.
    """
    found = []
    for component in components:
        steps = {step: read_log(logs / component / f"{step}.log") for step in STEPS}
        whole = {step: command for step, command in steps.items() if command is not None}
        if whole.keys() == set(STEPS):
            found.append(Recorded(component, whole))
        elif "configure" in whole or "build" in whole:
            raise BenchmarkError(f"the logs of {component} in {logs} do not have all of {', '.join(STEPS)}")
    if not found:
        raise BenchmarkError(f"no log in {logs} has commands of a sandbox")
    return found


def closed(needs: Mapping[str, Iterable[str]], names: Iterable[str]) -> dict[str, list[str]]:
    """Return for each of ``names`` those of them that it needs, also by way of components that are not among them."""
    wanted = list(names)
    result = {}
    for name in wanted:
        seen: set[str] = set()
        left = list(needs.get(name, ()))
        while left:
            need = left.pop()
            if need not in seen:
                seen.add(need)
                left += needs.get(need, ())
        result[name] = [other for other in wanted if other in seen]
    return result


def serial(components: Sequence[Recorded], directory: Path) -> list[str]:
    """Write the scripts of a driver that takes one component after another; return its argv."""
    scripts = _scripts(components, directory)
    whole = directory / "serial.sh"
    text = "\n".join(["set -e", *(f"sh {shlex.quote(str(path))}" for path in scripts.values())])
    whole.write_text(text + "\n", encoding="utf-8")
    return ["sh", str(whole)]


def nested(components: Sequence[Recorded], needs: Mapping[str, Iterable[str]], directory: Path, jobs: int) -> list[str]:
    """Write a makefile of components, each of which runs its own ``ninja -jN``; return the argv of ``make -jN``."""
    scripts = _scripts(components, directory)
    lines = [f"all: {' '.join(scripts)}", f".PHONY: all {' '.join(scripts)}"]
    for name, above in closed(needs, scripts).items():
        lines += [f"{name}: {' '.join(above)}".rstrip(), f"\tsh {shlex.quote(str(scripts[name]))}"]
    makefile = directory / "nested.mk"
    makefile.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["make", "--no-print-directory", f"-j{jobs}", "-f", str(makefile)]


def _scripts(components: Sequence[Recorded], directory: Path) -> dict[str, Path]:
    directory.mkdir(parents=True, exist_ok=True)
    scripts = {}
    for component in components:
        component.make_places()
        scripts[component.component] = directory / f"{component.component}.sh"
        scripts[component.component].write_text(component.script(), encoding="utf-8")
    return scripts
