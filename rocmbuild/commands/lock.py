"""``rocmbuild lock``: write the commits that a branch's refs name today into its lock file."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import yaml

from rocmbuild.errors import UsageError
from rocmbuild.model.catalog import make_catalog
from rocmbuild.model.manifest import Source, lock_path
from rocmbuild.process import Runner, network_environment
from rocmbuild.settings import Settings
from rocmbuild.tools.git import Git
from rocmbuild.workspace import Cache, write_text


def run(settings: Settings) -> int:
    """Resolve every ref; nothing is written unless all of them resolve."""
    manifest = make_catalog(settings.manifests, settings.recipes, settings.targets).manifest(settings.required_branch())
    path = lock_path(manifest.path)
    if not os.access(path.parent, os.W_OK):
        raise UsageError(
            f"{path} cannot be written", hint="copy the manifest into a directory of yours and name it with --manifests"
        )
    sources = [source for source in manifest.sources() if source.kind == "git"]
    git = Git(Cache(settings.cache).git, network_environment(settings.environ), settings.mirrors, settings.offline)
    resolved = asyncio.run(_resolve(git, sources))
    data = {"format": 1, "branch": manifest.branch, "sources": resolved}
    write_text(path, f"# Written by rocmbuild lock; remove it to follow the refs again.\n{yaml.safe_dump(data)}")
    print(f"{path}: {len(resolved)} commits")
    return 0


async def _resolve(git: Git, sources: list[Source]) -> dict[str, dict[str, str]]:
    gate = asyncio.Semaphore(8)

    async def one(source: Source) -> dict[str, str]:
        async with gate:
            url, commit = await git.resolve(source.urls, source.ref, Runner())
            return {"commit": commit, "ref": source.ref, "url": url}

    async with asyncio.TaskGroup() as group:
        tasks = {source.name: group.create_task(one(replace(source, commit=None))) for source in sources}
    return {name: task.result() for name, task in tasks.items()}
