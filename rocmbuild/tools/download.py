"""Single files pinned by sha256: out of the Debian pool or from an address, kept in a cache by their sum."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from rocmbuild.errors import FetchError, UsageError
from rocmbuild.model.manifest import Source
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.apt import HELPER
from rocmbuild.tools.waiting import held, in_thread
from rocmbuild.workspace import remove_tree, sha256_file

_OPTIONS = ("APT::Sandbox::User=root", "Acquire::Retries=3", "Acquire::http::Timeout=60", "Acquire::https::Timeout=60")


class PoolDownloader(Protocol):
    """Whatever downloads files of the Debian archive."""

    async def download(self, path: str, sha256: str, target: Path, runner: Runner) -> None:
        """Download ``pool/main/<path>`` to ``target``; raises FetchError."""


@dataclass(frozen=True)
class Downloads:
    """A directory of downloaded files; ``rewrite`` applies the user's mirrors to an address."""

    directory: Path
    pool: PoolDownloader
    rewrite: Callable[[str], str]
    environment: Mapping[str, str]
    offline: bool = False

    def place(self, source: Source) -> Path:
        """Return where a source's file is kept."""
        address = source.path or urlsplit(source.urls[0]).path
        return self.directory / source.sha256 / unquote(address.rstrip("/").rpartition("/")[2])

    async def fetch(self, source: Source, runner: Runner) -> Path:
        """Return a source's file with the pinned sum, after downloading it if need be; raises FetchError."""
        place = self.place(source)
        async with held(self.directory / f"{source.sha256}.lock", runner.on_line):
            if place.is_file() and await in_thread(sha256_file, place) == source.sha256:
                return place
            if self.offline:
                state = "damaged" if place.exists() else "missing"
                raise FetchError(
                    f"{place.name} is {state} in the cache, and this run is offline", hint="run once without --offline"
                )
            await in_thread(remove_tree, place.parent)
            place.parent.mkdir(parents=True)
            part = place.with_name(f".{place.name}.part")
            await self._download(source, part, runner)
            await in_thread(_check, part, place.name, source.sha256)
            os.replace(part, place)
        return place

    async def _download(self, source: Source, target: Path, runner: Runner) -> None:
        if source.kind == "debian":
            return await self.pool.download(source.path, source.sha256, target, runner)
        failures: list[FetchError] = []
        for url in source.urls:
            try:
                return await self._download_url(self.rewrite(url), source.sha256, target, runner)
            except FetchError as error:
                failures.append(error)
        raise _any_of(failures)

    async def _download_url(self, url: str, sha256: str, target: Path, runner: Runner) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("", "file"):
            try:
                await in_thread(shutil.copyfile, unquote(parts.path), target)
            except OSError as error:
                raise FetchError(f"{url} cannot be read: {error.strerror}", hint="check the --mirror") from error
            return
        if parts.scheme not in ("http", "https"):
            raise UsageError(f"{url}: files are fetched by http, https and file only")
        options = [word for option in _OPTIONS for word in ("-o", option)]
        try:
            argv = [HELPER, *options, "download-file", url, str(target), f"SHA256:{sha256}"]
            await runner.run(argv, env=self.environment)
        except ProcessError as error:
            raise _explain(url, error) from error


def _explain(url: str, error: ProcessError) -> FetchError:
    text = " ".join(line for line in error.tail if line.startswith(("E:", "Err:"))) or " ".join(error.tail)
    if " 404 " in text:
        hint = "take a newer manifest, a mirror that still has it (--mirror PREFIX=URL), or --source COMPONENT=PATH"
        return FetchError(f"{url} is gone (404)", log=error.log, hint=hint)
    if "Hash Sum mismatch" in text:
        hint = "try another mirror; if that has the same file, the manifest is wrong"
        return FetchError(f"{url} has not the sha256 sum that the manifest pins", log=error.log, hint=hint)
    hint = "check the network and the proxy; run the same command again, or use --mirror PREFIX=URL"
    return FetchError(f"{url} could not be downloaded: {text[-300:]}", log=error.log, hint=hint)


def _any_of(failures: Sequence[FetchError]) -> FetchError:
    if len(failures) == 1:
        return failures[0]
    hints = dict.fromkeys(failure.hint for failure in failures if failure.hint)
    return FetchError("; ".join(failure.message for failure in failures), hint="; ".join(hints))


def _check(file: Path, name: str, wanted: str) -> None:
    found = sha256_file(file)
    if found != wanted:
        file.unlink()
        raise FetchError(
            f"{name} has the sha256 sum {found}, the manifest pins {wanted}",
            hint="try another mirror; if that has the same file, the manifest is wrong",
        )
