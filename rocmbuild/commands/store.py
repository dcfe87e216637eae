"""``rocmbuild store``: share the store of binaries with a server or by a file, list it, verify it, make room."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from rocmbuild.errors import UsageError, nearest
from rocmbuild.plan import history
from rocmbuild.process import Runner, network_environment
from rocmbuild.run.conan_home import tell_on_stderr
from rocmbuild.run.sharing import Choice, Moved, Remote, add_remote, choose, load, pull, push, remotes, save
from rocmbuild.run.shelf import Shelf
from rocmbuild.run.store import Entry, Store
from rocmbuild.run.upkeep import Kept, collect, stock, verify
from rocmbuild.settings import Settings
from rocmbuild.tools.conan import credentials
from rocmbuild.ui.format import size


@dataclass(frozen=True)
class Task:
    """What an action works with; ``words`` are those behind it."""

    store: Store
    runner: Runner
    settings: Settings
    words: tuple[str, ...]

    @property
    def secrets(self) -> dict[str, str]:
        return credentials(self.settings.environ)


@dataclass(frozen=True)
class Action:
    """How many words an action takes (``maximum`` None: any number), and what it does."""

    usage: str
    minimum: int
    maximum: int | None
    run: Callable[[Task], Awaitable[int]]


def run(settings: Settings) -> int:
    """Carry out an action and return its exit code; UsageError if there is none of that name."""
    name = settings.topic or ""
    if name not in ACTIONS:
        hint = nearest(name, ACTIONS)
        known = f"rocmbuild store {'|'.join(ACTIONS)}"
        raise UsageError(f"the store has no action {name!r}", hint=hint if hint.startswith("did") else known)
    action, words = ACTIONS[name], settings.components
    if len(words) < action.minimum or (action.maximum is not None and len(words) > action.maximum):
        raise UsageError(f"store {name} takes {action.usage or 'no words'}", hint=_usage(name))
    if settings.format not in ("table", "json"):
        raise UsageError(f"{settings.format!r} is neither table nor json", where="--format")
    store = Store(settings.store, network_environment(settings.environ), tell=tell_on_stderr)
    return asyncio.run(_run(action, Task(store, Runner(), settings, words)))


async def _run(action: Action, task: Task) -> int:
    return await action.run(task)


def _usage(name: str) -> str:
    return f"rocmbuild store {name} {ACTIONS[name].usage}".rstrip()


async def _add_remote(task: Task) -> int:
    remote = Remote(*task.words)
    logged_in = await add_remote(task.store, remote, task.runner, task.secrets)
    print(f"{remote.name}: {remote.url}{', logged in' if logged_in else ''}")
    if not logged_in:
        print("if it wants to know you: CONAN_LOGIN_USERNAME and CONAN_PASSWORD in the environment log in")
    return 0


async def _remotes(task: Task) -> int:
    found = await remotes(task.store, task.runner)
    if task.settings.format == "json":
        print(json.dumps([asdict(remote) for remote in found], indent=1))
        return 0
    for remote in found:
        print(f"{remote.name}  {remote.url}")
    if not found:
        print("there are none; rocmbuild store add-remote NAME URL", file=sys.stderr)
    return 0


async def _push(task: Task) -> int:
    name, *components = task.words
    moved = await push(task.store, name, components, task.runner, secrets=task.secrets, tell=_tell)
    return _report(moved, f"pushed to {name}", f"{name} has all of it")


async def _pull(task: Task) -> int:
    name, *components = task.words
    branch = task.settings.branch
    choice = partial(choose, components=components) if branch is None else await _needed(task, components)
    moved = await pull(task.store, name, choice, task.runner, secrets=task.secrets, tell=_tell)
    wanted = f" for {branch}" if branch is not None else ""
    return _report(moved, f"pulled from {name}", f"{name} has nothing new{wanted}")


async def _needed(task: Task, components: Sequence[str]) -> Choice:
    """Return the choice of what a build would take from the store; UsageError if it cannot be told yet."""
    from rocmbuild.commands.session import open_session  # late: no other action makes a plan

    settings = replace(task.settings, components=tuple(components), topic=None)
    session = await open_session(settings, task.runner)
    rootless = {job.node.machine for job in session.plan.building if job.storable}
    rootless = {machine for machine in rootless if session.areas[machine].made.digest is None}
    if rootless:
        raise UsageError(
            "the build root is not there yet, and what fits depends on the versions in it",
            hint=f"rocmbuild fetch {session.rerun()} makes it; without --branch all is pulled",
        )
    ours = await task.store.contents(task.runner)

    def choice(theirs: Iterable[Entry]) -> list[Entry]:
        offered = {(entry.component, entry.key): entry for entry in theirs}
        plan = session.with_shelf(Shelf(task.store, {**offered, **ours})).plan
        found = ((job.node.component, job.stored or "") for job in plan.jobs if job.action is history.Action.RESTORE)
        return choose((offered[key] for key in found if key in offered), ())

    return choice


async def _save(task: Task) -> int:
    path = _path(task.words[0])
    moved = await save(task.store, path, task.words[1:], task.runner)
    return _report(moved, f"saved in {path}, {size(path.stat().st_size)}", "")


async def _load(task: Task) -> int:
    path = _path(task.words[0])
    moved = await load(task.store, path, task.runner, _tell)
    return _report(moved, f"loaded from {path}", f"{path} has nothing new")


async def _list(task: Task) -> int:
    kept = await stock(task.store, task.runner)
    if task.settings.format == "json":
        print(json.dumps([{**asdict(item.entry), "used": item.used, "size": item.size} for item in kept], indent=1))
    elif kept:
        _print(kept)
    else:
        print(f"the store {task.store.directory} is empty", file=sys.stderr)
    return 0


async def _verify(task: Task) -> int:
    found = await verify(task.store, task.runner)
    unread = f", {found.unread} not readable" if found.unread else ""
    print(f"{_entries(found.whole)} whole, {found.dropped} damaged and dropped{unread}")
    return 1 if found.dropped or found.unread else 0


async def _gc(task: Task) -> int:
    settings = task.settings
    freed = await collect(task.store, task.runner, days=settings.keep_days, size=settings.keep_size, tell=_tell)
    print(f"{size(freed)} freed" if freed else "nothing to remove")
    return 0


ACTIONS: Mapping[str, Action] = {
    "list": Action("", 0, 0, _list),
    "add-remote": Action("NAME URL", 2, 2, _add_remote),
    "remotes": Action("", 0, 0, _remotes),
    "push": Action("REMOTE [COMPONENT...]", 1, None, _push),
    "pull": Action("REMOTE [COMPONENT...]", 1, None, _pull),
    "save": Action("FILE [COMPONENT...]", 1, None, _save),
    "load": Action("FILE", 1, 1, _load),
    "verify": Action("", 0, 0, _verify),
    "gc": Action("", 0, 0, _gc),
}


def _report(moved: Moved, what: str, nothing: str) -> int:
    """Say how many entries went where, and return the exit code: 1 if some that should have gone did not."""
    if moved.entries or not moved.left_out:
        print(f"{_entries(moved.entries)} {what}" if moved.entries else nothing)
    if moved.left_out:
        print(f"{_entries(moved.left_out)} left out: damaged, or not readable", file=sys.stderr)
    return 1 if moved.left_out else 0


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _path(word: str) -> Path:
    return Path(word).expanduser().absolute()


def _tell(text: str) -> None:
    print(text, flush=True)


def _print(kept: Sequence[Kept]) -> None:
    from rich.table import Table

    from rocmbuild.ui.console import make_console, show

    table = Table("component", "version", "key", "packages", "last used", "size", box=None, header_style="bold")
    for item in kept:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.used))
        packages = "yes" if item.entry.debs is not None else "no"
        table.add_row(item.entry.component, item.entry.version, item.entry.key[:12], packages, used, size(item.size))
    show(make_console(sys.stdout), table)
