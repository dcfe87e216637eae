"""What a run was asked for: written down for the verbs that look at what it left, and as a command line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rocmbuild.settings import Settings, default_cache
from rocmbuild.workspace import read_json, write_json


def remembered(settings: Settings) -> Settings:
    """Return settings in which what was not said is as in the last build, for verbs that look at what it left.

    A shell sees what the build saw, also if only the branch is named again.
    """
    last = read_json(settings.workspace / "last.json") or {}
    if settings.verb not in ("shell", "verify", "package") or "branch" not in last:
        return settings
    if settings.branch not in (None, last["branch"]) or (settings.branch and settings.verb != "shell"):
        return settings
    unsaid = {name: _restored(name, last[name]) for name in _REMEMBERED if name in last and not getattr(settings, name)}
    if settings.environment == "sandbox":
        unsaid["environment"] = last["environment"]
    if settings.cache == default_cache(settings.environ):
        unsaid["cache"] = Path(last["cache"])
    return replace(settings, **unsaid)


def remember(settings: Settings) -> None:
    """Keep what a build was asked for, for the verbs that look at what it left."""
    record = {name: getattr(settings, name) for name in (*_REMEMBERED, "environment", "cache")}
    write_json(settings.workspace / "last.json", json.loads(json.dumps(record, default=str)))


_PATHS = ("manifests", "recipes", "targets")
_REMEMBERED = (
    *("branch", "target", "distribution", "gpus", "system", "sources", "mirrors"),
    *("apt_mirror", "allow_stale_archive", *_PATHS),
)


def _restored(name: str, value: Any) -> Any:
    if name == "sources":
        return {component: Path(path) for component, path in value.items()}
    if name in _PATHS:
        return tuple(Path(path) for path in value)
    if name == "mirrors":
        return tuple((prefix, url) for prefix, url in value)
    return tuple(value) if isinstance(value, list) else value


def options(settings: Settings) -> Iterable[str]:
    """Yield the options that decide what is built, so that a rerun line builds the same."""
    yield from ("--branch", settings.required_branch())
    for option, value in (
        ("--target", settings.target),
        ("--distribution", settings.distribution),
        ("--apt-mirror", settings.apt_mirror),
    ):
        if value is not None:
            yield from (option, value)
    if settings.gpus:
        yield from ("--gpu", ",".join(settings.gpus))
    for name in settings.system:
        yield from ("--system", name)
    for name, path in settings.sources.items():
        yield from ("--source", f"{name}={path}")
    for prefix, url in settings.mirrors:
        yield from ("--mirror", f"{prefix}={url}")
    for option, directories in (
        ("--manifests", settings.manifests),
        ("--recipes", settings.recipes),
        ("--targets", settings.targets),
    ):
        for directory in directories:
            yield from (option, str(directory))
    if settings.environment != "sandbox":
        yield from ("--environment", settings.environment)
    for option, given in (("--allow-stale-archive", settings.allow_stale_archive), ("--offline", settings.offline)):
        if given:
            yield option
    yield from ("--workspace", str(settings.workspace))
    usual = (
        ("--cache", settings.cache, default_cache(settings.environ)),
        ("--store", settings.store, settings.cache / "store"),
    )
    yield from (word for option, path, default in usual if path != default for word in (option, str(path)))
