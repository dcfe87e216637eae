"""Tend the store: verify all of it, and make room."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.errors import StoreError
from rocmbuild.process import Runner
from rocmbuild.run.conan_home import DamagedHome
from rocmbuild.run.entry import in_order, to_entry
from rocmbuild.run.store import Entry, Store, Unreadable
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import remove_tree

DAY = 24 * 3600


@dataclass(frozen=True)
class Kept:
    """An entry in the store: ``used`` is when it was last, in seconds since 1970, ``size`` its bytes on disk."""

    entry: Entry
    used: float
    size: int
    place: Path | None = None


@dataclass(frozen=True)
class Verified:
    """How many entries are whole, how many were not and are dropped, and how many nobody could read."""

    whole: int
    dropped: int
    unread: int


async def stock(store: Store, runner: Runner) -> list[Kept]:
    """Return what the store has, the last used first; what is required counts as used with what requires it.

    Raises StoreError if the store cannot be read.
    """
    entries = {entry.name: entry for entry in (await store.contents(runner)).values()}
    used = effective_use(entries, {name: _used(store, name) for name in entries})
    places = {name: await store.place_of(entry, runner) for name, entry in entries.items()}
    sizes = {name: await in_thread(disk_size, place) if place else 0 for name, place in places.items()}
    kept = [Kept(entry, used[name], sizes[name], places[name]) for name, entry in entries.items()]
    return sorted(kept, key=lambda item: (-item.used, item.entry.name))


async def verify(store: Store, runner: Runner) -> Verified:
    """Read every entry, also those that Conan has forgotten; StoreError if the store cannot be read."""
    remembered = store.all_known()
    entries = list((await store.contents(runner)).values())
    dropped = _forget_lost(store, remembered, {entry.name for entry in entries})
    whole = unread = 0
    for entry in entries:
        try:
            is_whole = await store.examine(entry, runner) is not None
        except Unreadable as error:
            store.warn(error.message)
            unread += 1
            continue
        whole += is_whole
        dropped += not is_whole
    return Verified(whole, dropped, unread)


def _forget_lost(store: Store, remembered: Iterable[Entry], names: Container[str]) -> int:
    """Forget what was kept and Conan does not know any more, with a warning; return how many entries that is."""
    gone = [entry for entry in remembered if entry.name not in names]
    lost = [entry for entry in gone if store.known(entry.name) is not None]  # still: another run may have removed it
    for entry in lost:
        store.warn(f"the store's entry of {entry} is lost: it is not in the database")
        store.forget(entry.name)
    return len(lost)


async def collect(
    store: Store, runner: Runner, *, days: int | None, size: int | None, tell: Callable[[str], None]
) -> int:
    """Remove what nobody used for ``days``, then the least used beyond ``size`` bytes, and all leftovers.

    Returns the bytes that are free again. Raises StoreError, after all else, if an entry could not be removed.
    """
    try:
        kept = await stock(store, runner)
    except DamagedHome:
        kept = []  # it was set aside, and that is removed
    freed, failures = 0, []
    for item in superfluous(kept, time.time(), days, size):
        tell(f"removing {item.entry}, last used {time.strftime('%Y-%m-%d', time.gmtime(item.used))}")
        try:
            await store.remove(item.entry, runner, item.place)
        except DamagedHome:
            raise
        except StoreError as error:
            failures.append(f"{item.entry} could not be removed: {error.message}")
        freed += item.size - (await in_thread(disk_size, item.place) if item.place is not None else 0)
    freed += await _clean(store, runner)
    if failures:
        raise StoreError("\n".join(failures), hint="run the same command again")
    return freed


def superfluous(kept: Iterable[Kept], now: float, days: int | None, size: int | None) -> list[Kept]:
    """Return what to remove, the longest unused first; nothing is removed that something kept requires.

    What is required is used as late as what requires it, and comes before it: so what stays has all that it requires.
    """
    by_name = {item.entry.name: item for item in kept}
    used = effective_use(
        {name: item.entry for name, item in by_name.items()}, {name: item.used for name, item in by_name.items()}
    )
    ordered = [by_name[entry.name] for entry in in_order(item.entry for item in by_name.values())]
    chosen, total = [], 0
    for item in sorted(ordered, key=lambda item: -used[item.entry.name]):  # which leaves equal ones in their order
        total += item.size
        if (days is not None and now - used[item.entry.name] > days * DAY) or (size is not None and total > size):
            chosen.append(item)
    return chosen[::-1]


def effective_use(entries: Mapping[str, Entry], used: Mapping[str, float]) -> dict[str, float]:
    """Return when entries were last used, by themselves or by what requires them, directly or not."""
    latest = dict(used)
    todo = sorted(entries, key=lambda name: latest[name])
    while todo:
        name = todo.pop()
        for need in entries[name].requires:
            if need in entries and latest[need] < latest[name]:
                latest[need] = latest[name]
                todo.append(need)
    return latest


def disk_size(root: Path) -> int:
    """Return the bytes that a tree takes on disk."""
    return sum(os.lstat(os.path.join(top, name)).st_blocks * 512 for top, _, names in os.walk(root) for name in names)


def _used(store: Store, name: str) -> float:
    try:
        return store.place_file(name).stat().st_mtime
    except FileNotFoundError:  # pulled or made by a run that was killed right after: as good as new
        return time.time()


async def _clean(store: Store, runner: Runner) -> int:
    """Remove foreign and half-made entries, temporary files, homes that were set aside; return the bytes of these."""
    await in_thread(store.sweep)
    aside = sorted(store.directory.glob("conan.damaged-*"))
    freed = sum([await in_thread(disk_size, path) for path in aside])
    for path in aside:
        await in_thread(remove_tree, path)
    if store.is_empty:
        return freed
    before = await in_thread(disk_size, store.path)
    async with store.session(runner) as calls:
        packages = await calls.packages()
        ours = {entry.name for entry in map(to_entry, packages) if entry is not None}
        for name in sorted({*await calls.recipes()} - ours):
            await calls.remove(name)
        await calls(["cache", "clean", "*", "--source", "--build", "--download"])
        await calls.tidy()
    known = {store.place_file(name).name for name in ours}
    for path in store.places.glob("*.json"):
        if path.name not in known:
            path.unlink(missing_ok=True)
    return freed + max(0, before - await in_thread(disk_size, store.path))
