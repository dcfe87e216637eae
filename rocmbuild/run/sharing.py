"""Share the store: with a Conan server, or by a file for machines without a network."""

from __future__ import annotations

import contextlib
import json
import lzma
import re
import tarfile
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from rocmbuild.errors import StoreError, UsageError, nearest
from rocmbuild.process import Runner
from rocmbuild.run.conan_home import Calls
from rocmbuild.run.entry import in_order, to_entry
from rocmbuild.run.store import Entry, Store
from rocmbuild.tools import conan
from rocmbuild.tools.waiting import in_thread

Tell = Callable[[str], None]
Choice = Callable[[Iterable[Entry]], list[Entry]]
"""Which of the entries that a server has are wanted."""

_LOG_IN = "log in with CONAN_LOGIN_USERNAME and CONAN_PASSWORD in the environment of the same command"
_ARCHIVE_FOLDER = re.compile(r"(?:b/)?[A-Za-z0-9._+-]{6,}/(?:e|es|p|d/metadata)")
"""Directories that Conan writes into an archive: of recipes and packages, below its storage."""


@dataclass(frozen=True)
class Remote:
    """A server by its name."""

    name: str
    url: str


@dataclass(frozen=True)
class Moved:
    """How many entries went where they should, and how many did not, because they are damaged or cannot be read."""

    entries: int
    left_out: int


async def remotes(store: Store, runner: Runner) -> list[Remote]:
    """Return the servers that were added."""
    if store.is_empty and not (store.path / "remotes.json").exists():
        return []
    async with store.session(runner) as calls:
        found = json.loads(await calls(["remote", "list", "--format=json"]))
    return [Remote(item["name"], item["url"]) for item in found]


async def add_remote(store: Store, remote: Remote, runner: Runner, secrets: Mapping[str, str]) -> bool:
    """Add a server, or give it another address; log in if the user's environment says how, and return whether it did.

    Raises UsageError for a name or an address that is none, or if the server refuses the user.
    """
    _check_remote(remote)
    async with store.session(runner) as calls:
        await calls(["remote", "add", "--force", remote.name, remote.url])
        async with _explained(remote):
            return await _log_in(calls, remote, secrets)


async def push(
    store: Store, name: str, components: Sequence[str], runner: Runner, *, secrets: Mapping[str, str], tell: Tell
) -> Moved:
    """Give a server what it lacks of the chosen components and of what they require.

    The store is free for others between two entries. Raises UsageError or StoreError that say what the server wants.
    """
    remote = await _find(store, name, runner)
    chosen = choose((await store.contents(runner)).values(), components)
    async with store.session(runner) as calls, _explained(remote):
        await _log_in(calls, remote, secrets)
        theirs = {package.reference for package in await calls.packages(remote.name, secrets=secrets)}
    missing = [entry for entry in chosen if entry.reference not in theirs]
    pushed = 0
    for entry in missing:
        if await store.check(entry, runner) is None:
            continue
        tell(f"pushing {entry} to {remote.name}")
        async with store.session(runner) as calls, _explained(remote):
            await calls(["upload", entry.reference, "--remote", remote.name, "--confirm"], secrets=secrets)
            await calls.attempt(["cache", "clean", entry.name, "--download"])  # the archives it was sent as
        pushed += 1
    return Moved(pushed, len(missing) - pushed)


async def pull(
    store: Store, name: str, choice: Choice, runner: Runner, *, secrets: Mapping[str, str], tell: Tell
) -> Moved:
    """Take from a server what the store lacks of what is wanted.

    Raises UsageError or StoreError that say what the server wants.
    """
    remote = await _find(store, name, runner)
    ours = await store.contents(runner)
    async with store.session(runner) as calls, _explained(remote):
        await _log_in(calls, remote, secrets)
        packages = await calls.packages(remote.name, secrets=secrets)
    theirs = [entry for entry in map(to_entry, packages) if entry is not None]
    missing = [entry for entry in choice(theirs) if (entry.component, entry.key) not in ours]
    pulled = 0
    for entry in missing:
        tell(f"pulling {entry} from {remote.name}")
        async with store.session(runner, changes=entry.name) as calls, _explained(remote):
            await calls(["download", entry.reference, "--remote", remote.name], secrets=secrets)
            await calls.attempt(["cache", "clean", entry.name, "--download"])
        pulled += await store.check(entry, runner) is not None
    return Moved(pulled, len(missing) - pulled)


async def save(store: Store, path: Path, components: Sequence[str], runner: Runner) -> Moved:
    """Write the chosen entries, and what they require, into a file.

    Raises UsageError if the store has none or the file's name is not that of an archive.
    """
    if not path.name.endswith((".tgz", ".txz")):
        raise UsageError(f"{path} is not named like an archive", hint=f"{path.with_suffix('.tgz').name}, or .txz")
    if not path.parent.is_dir():
        raise UsageError(f"there is no directory {path.parent}", hint="make it, or save somewhere else")
    if path.is_dir():
        raise UsageError(f"{path} is a directory", hint="name a file, or another directory for it")
    chosen = choose((await store.contents(runner)).values(), components)
    whole = [entry for entry in chosen if await store.check(entry, runner) is not None]
    if not whole:
        hint = "rocmbuild build fills it"
        if chosen:
            raise StoreError(f"nothing in the store {store.directory} is whole, and nothing is saved", hint=hint)
        raise UsageError(f"the store {store.directory} has nothing to save", hint=hint)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as directory:
        temporary, names = Path(directory) / path.name, Path(directory) / "list.json"
        names.write_text(conan.package_list(entry.reference for entry in whole), encoding="utf-8")
        async with store.session(runner) as calls:
            await calls(["cache", "save", "--list", str(names), "--file", str(temporary), "--no-source"])
            await calls.runner.run(["sync", str(temporary)])
        temporary.rename(path)
    return Moved(len(whole), len(chosen) - len(whole))


async def load(store: Store, path: Path, runner: Runner, tell: Tell) -> Moved:
    """Take what the store lacks out of a file that ``save`` wrote.

    It is unpacked into a home of its own: nothing in a broken file gets near the store. Raises UsageError if it
    cannot be read or is no such file.
    """
    await in_thread(inspect, path)
    ours = await store.contents(runner)
    loaded = left_out = 0
    with store.draft() as draft:
        scratch = Store(draft, store.environment, store.warn, store.program)
        async with scratch.session(runner) as calls:
            folders = conan.parse_restored(await calls(["cache", "restore", str(path), "--format=json"]))
        theirs = await scratch.contents(runner)
        for entry in in_order(entry for key, entry in theirs.items() if key not in ours):
            tell(f"loading {entry}")
            try:
                await store.adopt(entry, scratch.path / "p" / folders[entry.reference], runner)
            except StoreError as error:
                store.warn(f"{path}: {entry} is left out: {error.message}")
                left_out += 1
                continue
            loaded += 1
    return Moved(loaded, left_out)


def choose(entries: Iterable[Entry], components: Sequence[str]) -> list[Entry]:
    """Return the entries of components and all they require, requirements first; of all without names.

    Raises UsageError that names what is close to an unknown one.
    """
    by_name = {entry.name: entry for entry in entries}
    known = {entry.component for entry in by_name.values()}
    for component in components:
        if component not in known:
            raise UsageError(f"there is no entry of {component}", hint=nearest(component, known))
    wanted = [name for name, entry in by_name.items() if not components or entry.component in components]
    seen: dict[str, Entry] = {}
    while wanted:
        name = wanted.pop()
        if name in by_name and name not in seen:
            seen[name] = by_name[name]
            wanted += seen[name].requires
    return in_order(seen.values())


def inspect(path: Path) -> None:
    """Read a saved file to its end; UsageError unless it is whole, ours, and writes nowhere but where it should."""
    try:
        with tarfile.open(path) as archive:
            links: set[str] = set()
            told = False
            for member in archive:
                told |= member.name == "pkglist.json"
                _check_member(member, links)
                if member.issym():
                    links.add(Path(member.name).as_posix())
            while archive.fileobj is not None and archive.fileobj.read(1 << 20):
                pass  # the sum of all of it is at the end
    except (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise UsageError(f"{path} is not whole, or no file of a store: {reason}", hint="copy it once more") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    if not told:
        raise UsageError(f"{path} is an archive, but none of a store", hint="rocmbuild store save writes them")


def _check_member(member: tarfile.TarInfo, links: set[str]) -> None:
    parts = Path(member.name).parts
    places = {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}  # itself too: links are written through
    inside = member.name == "pkglist.json" or _ARCHIVE_FOLDER.match(member.name)
    if not inside or ".." in parts or places & links or not (member.isfile() or member.isdir() or member.issym()):
        raise ValueError(f"{member.name} has no place in it")


async def _find(store: Store, name: str, runner: Runner) -> Remote:
    known = {remote.name: remote for remote in await remotes(store, runner)}
    if name not in known:
        hint = nearest(name, known) if known else "rocmbuild store add-remote NAME URL"
        raise UsageError(f"there is no remote {name}", hint=hint)
    return known[name]


async def _log_in(calls: Calls, remote: Remote, secrets: Mapping[str, str]) -> bool:
    """Log in as who the user's environment says, whoever was before; return whether it says somebody."""
    own = f"_{re.sub('[^A-Z0-9]', '_', remote.name.upper())}"
    if not all(secrets.keys() & {name, f"{name}{own}"} for name in conan.CREDENTIALS):
        return False
    await calls(["remote", "login", remote.name], secrets=secrets)
    return True


def _check_remote(remote: Remote) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", remote.name):
        raise UsageError(f"{remote.name!r} is no name of a remote", hint="letters, digits, and . - _ between them")
    try:
        parts: SplitResult | None = urlsplit(remote.url)
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
        raise UsageError(f"{remote.url!r} is no address of a server", hint="http://HOST or https://HOST/PATH")
    if parts.username or parts.password:
        raise UsageError(f"the address of {remote.name} has a user in it", hint=f"leave it out, and {_LOG_IN}")


def _has_port(parts: SplitResult) -> bool:
    """Return whether the port of an address, if it has one, is a number that can be one."""
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


@contextlib.asynccontextmanager
async def _explained(remote: Remote) -> AsyncIterator[None]:
    """Say what a server wants in our words: Conan's hints name its own commands."""
    try:
        yield
    except StoreError as error:
        raise _explain(remote, error) from error


def _explain(remote: Remote, error: StoreError) -> StoreError | UsageError:
    text = error.message
    if re.search(r"Unable to connect|Max retries|timed out|Connection (?:aborted|refused|reset)", text):
        hint = "is the address right (rocmbuild store remotes)? is the network there? http_proxy and its like count"
        return StoreError(f"the server {remote.name} does not answer: {remote.url}", hint=hint)
    if re.search(r"interactive mode disabled|Please log in|[Aa]nonymous", text):
        return UsageError(f"the server {remote.name} does not know you", hint=_LOG_IN)
    if re.search(r"Wrong user or password|Authentication error|AuthenticationException", text):
        return UsageError(f"the server {remote.name} does not accept user and password", hint=_LOG_IN)
    if re.search(r"Permission denied|Forbidden", text):
        hint = "ask who runs the server for the right to write, or log in as somebody else"
        return UsageError(f"the server {remote.name} does not permit that: {text}", hint=hint)
    return error
