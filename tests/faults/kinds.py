"""Kinds of faults: each disturbs a run, or what lies there before it, and yields how the same command is run again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.workspace import remove_tree
from tests.faults import watching
from tests.faults.damage import damage, places
from tests.faults.disks import Disk, image, small, unavailable
from tests.faults.servers import cut_downloads, cut_git
from tests.faults.trial import After, Fault, Trial

FAILED = (0, 1, 2)
"""Exit codes of a run that was not interrupted: done, something failed, refused."""


@contextmanager
def kill(trial: Trial) -> Iterator[After]:
    """SIGKILL for rocmbuild alone, up to three times; the next run may meet what it left running."""
    for _ in range(trial.chance.choice((1, 1, 1, 2, 3))):
        process = trial.user.launch()
        there = trial.at_a_moment(process)
        process.kill()
        trial.expect(process, *((-signal.SIGKILL,) if there else (0, -signal.SIGKILL)))
        if trial.chance.random() < 0.5:
            trial.quiet()
    yield After(trial.user)


@contextmanager
def child(trial: Trial) -> Iterator[After]:
    """SIGKILL for one of the programs that rocmbuild has started: bubblewrap, Ninja, a compiler, git, dpkg-deb."""
    process = trial.user.launch()
    trial.at_a_moment(process)
    number = trial.chance.random()
    victims: dict[int, str] = {}
    while not victims and process.poll() is None:
        victims = watching.descendants(process.pid)
    trial.hit = bool(victims)
    if victims:
        names = sorted({*victims.values()})
        name = names[int(number * len(names))]
        pid = min(pid for pid, called in victims.items() if called == name)
        trial.note(f"killed {name}")
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            trial.hit = False
    trial.expect(process, *FAILED)
    yield After(trial.user)


@contextmanager
def interrupt(trial: Trial) -> Iterator[After]:
    """SIGINT, SIGTERM, or SIGHUP as from a terminal that is closed; nothing may be left running."""
    number = trial.chance.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    process = trial.user.launch()
    there = trial.at_a_moment(process)
    told = trial.user.events.read_bytes().splitlines() if trial.user.told() else []
    over = not there or (told and b'"RunEnded"' in told[-1])  # so that it may be too late to interrupt anything
    process.send_signal(number)
    trial.note(number.name)
    # without any event it may be Python's own start, in which no handler is ours
    trial.expect(process, 130, *((0,) if over else ()), *(() if told else (-number,)))
    trial.quiet(2 if number is not signal.SIGHUP else 10)
    yield After(trial.user)


@contextmanager
def full(trial: Trial) -> Iterator[After]:
    """A file system that becomes full at some moment, of bytes or of inodes; later there is room."""
    wanted = trial.state.used + trial.chance.uniform(0.01, 1.02) * (trial.state.peak - trial.state.used)
    with small(trial.ground.directory, trial.state.place, int(wanted)) as disk:
        trial.note(f"room for {int(wanted) >> 10} KiB")
        trial.expect(trial.user.launch(*disk.before), *FAILED)
        trial.hit = "No space left" in trial.user.said.read_text(errors="replace")
        disk.grow()
        yield _on(disk, trial)


@contextmanager
def file_size(trial: Trial) -> Iterator[After]:
    """A limit for the size of files (RLIMIT_FSIZE): writing more fails, or kills the program that does."""
    limit = int(10 ** trial.chance.uniform(2, 4.7))
    trial.note(f"files of {limit} bytes at most")
    process = trial.user.launch("prlimit", f"--fsize={limit}", "--")
    trial.expect(process, *FAILED)
    trial.hit = process.returncode != 0
    yield After(trial.user)


@contextmanager
def power(trial: Trial) -> Iterator[After]:
    """The power goes: the disk has what was written to it until that moment, and nothing that was only cached."""
    commit = trial.chance.choice((1, 5))
    with image(trial.ground.directory, trial.state.place, commit) as disk:
        process = trial.user.launch(*disk.before)
        trial.at_a_moment(process)
        disk.lose_power(process)
        trial.note(f"power lost, the journal is written every {commit} s")
        yield _on(disk, trial)


def _on(disk: Disk, trial: Trial) -> After:
    user = trial.ground.user()
    user.directory = disk.seen
    return After(user, disk.before)


@contextmanager
def git_server(trial: Trial) -> Iterator[After]:
    """A git server that hangs up in the middle of its first answers."""
    cuts = [int(10 ** trial.chance.uniform(0.5, 3.5)) for _ in range(trial.chance.choice((1, 1, 2, 3, 7)))]
    with cut_git(trial.user.forge, cuts) as address:
        trial.user.options += ["--mirror", f"https://forge.example/Toys/=git://{address}/Toys/"]
        trial.user.options += ["--mirror", f"https://forge.example/Toys/toywide=file://{trial.user.forge}/Toys/toywide"]
        trial.note(f"hung up after {', '.join(map(str, cuts))} bytes")
        trial.expect(trial.user.launch(), *FAILED)
        cuts.clear()
        yield After(trial.user)


@contextmanager
def file_server(trial: Trial) -> Iterator[After]:
    """A server of files that hangs up, or sends something else, for its first answers."""
    answers = [trial.chance.choice(("cut", "short", "other", "gone")) for _ in range(trial.chance.choice((1, 2, 5)))]
    with cut_downloads(trial.user.forge, answers, trial.chance.random()) as address:
        trial.user.options += ["--mirror", f"https://forge.example/Toys/toywide=http://{address}/Toys/toywide"]
        trial.note(f"answered {', '.join(answers)}")
        trial.expect(trial.user.launch(), *FAILED)
        answers.clear()
        yield After(trial.user)


@contextmanager
def flip(trial: Trial) -> Iterator[After]:
    """A file that is not what was written: a flipped bit, cut, empty, overwritten, or gone."""
    _damaged(trial, places(trial.user))
    yield After(trial.user)


@contextmanager
def store(trial: Trial) -> Iterator[After]:
    """The same of a file of the store, with a workspace that gets everything from there."""
    found = [path for path in sorted((trial.user.cache / "store").glob("**/*")) if path.is_file()]
    _damaged(trial, {"store": found} if found else {})
    yield After(trial.user)


def _damaged(trial: Trial, found: Mapping[str, list[Path]]) -> None:
    trial.hit = bool(found)
    if found:
        kind = trial.chance.choice(sorted(found))
        path = trial.chance.choice(found[kind])
        how = damage(path, trial.chance)
        trial.note(f"{kind}: {how}: {path.relative_to(trial.user.directory)}")


@contextmanager
def clock(trial: Trial) -> Iterator[After]:
    """A clock that was wrong when files were written: times in the future, or long ago."""
    moment = time.time() + trial.chance.choice((3600.0, 86400.0 * 400, -86400.0 * 4000))
    part = trial.chance.choice((1.0, 0.5, 0.1))
    where = trial.chance.choice(("workspace", "workspace/build", "workspace/src", "cache"))
    for place, names, files in os.walk(trial.user.directory / where):
        for name in (*names, *files):
            path = Path(place, name)
            if trial.chance.random() < part and not path.is_symlink():
                os.utime(path, (moment, moment))
    trial.note(f"{part:.0%} of {where} from {time.strftime('%Y-%m-%d', time.gmtime(moment))}")
    yield After(trial.user)


@contextmanager
def two(trial: Trial) -> Iterator[After]:
    """Two runs at once: on one workspace, in which the second is refused; or on two that share a cache."""
    apart, killed = trial.chance.random() < 0.5, trial.chance.random() < 0.5
    other = trial.ground.user()
    other.said, other.environ = trial.ground.base / "said-other", trial.user.environ
    first = trial.user.launch()
    if not apart:
        trial.at_a_moment(first)
    second = other.launch(argv=[*trial.user.command(), *(_ELSEWHERE if apart else ())])
    time.sleep(trial.chance.uniform(0, 1))
    if killed:
        first.kill()
    trial.note(f"{'two workspaces' if apart else 'one workspace'}{', the first run killed' if killed else ''}")
    trial.expect(first, 0, *((-signal.SIGKILL,) if killed else ()))
    trial.expect(second, 0, *(() if apart else (2,)))
    if apart:
        remove_tree(trial.user.directory / "elsewhere")
    yield After(trial.user)


_ELSEWHERE = ("--workspace", "elsewhere", "--events", "/dev/null")


@dataclass(frozen=True)
class Kind:
    """A kind of fault, the states that it is tried in, and why this machine cannot make it (None: it can)."""

    fault: Fault
    states: tuple[str, ...]
    why_not: str | None = None


WORKING = ("empty", "fetched", "changed", "packaged", "stored")

KINDS: Mapping[str, Kind] = {
    "kill": Kind(kill, WORKING),
    "child": Kind(child, WORKING),
    "interrupt": Kind(interrupt, WORKING),
    "full": Kind(full, WORKING, unavailable("user")),
    "file-size": Kind(file_size, WORKING),
    "power": Kind(power, WORKING, unavailable("loop")),
    "git-server": Kind(git_server, ("empty",)),
    "file-server": Kind(file_server, ("empty",)),
    "flip": Kind(flip, ("fetched", "changed", "packaged", "built")),
    "store": Kind(store, ("stored",)),
    "clock": Kind(clock, ("fetched", "changed", "packaged", "built")),
    "two": Kind(two, WORKING),
}
