"""``rocmbuild clean``: remove build trees and stage trees; the store keeps what it has of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rocmbuild.commands.areas import check_workspace, components, unknown
from rocmbuild.model.catalog import make_catalog
from rocmbuild.settings import Settings
from rocmbuild.ui.format import size
from rocmbuild.workspace import exclusive, open_workspace, remove_tree


def run(settings: Settings) -> int:
    """Remove what was built of the named components, or of all; sources, logs and packages in ``out`` stay."""
    check_workspace(settings.workspace)
    with exclusive(open_workspace(settings.workspace)):
        chosen = [*_left(settings.workspace), *_chosen(settings)]
        freed = bytes_freed(chosen)
        for path in chosen:
            print(f"removing {path}", flush=True)
            _remove(path)
    print(f"{size(freed)} freed" if chosen else "nothing to remove")
    return 0


def _chosen(settings: Settings) -> list[Path]:
    found = components(settings, "build")
    recipes = make_catalog(settings.manifests, settings.recipes, settings.targets).recipes()
    for name in settings.components:
        if name not in found and name not in recipes:
            raise unknown(name, [*found, *recipes], "build tree")
    return [path for name in settings.components or found for path in found.get(name, ())]


def _left(workspace: Path) -> list[Path]:
    """Return what is left where removing a directory was interrupted, or failed."""
    return sorted(workspace.glob("build/*/*/.*.????????"))


def _remove(path: Path) -> None:
    """Remove a component's directory, under another name: what a kill leaves of it must not pass for a whole one.

    Its stamps are not enough to remove first: some speak of what is built, some of what a build goes on with.
    """
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    path.rename(aside)
    remove_tree(aside)


def bytes_freed(trees: Iterable[Path]) -> int:
    """Return the bytes on disk that removing the trees frees: a file with a hard link elsewhere frees none."""
    seen: dict[tuple[int, int], tuple[int, int]] = {}
    sizes: dict[tuple[int, int], int] = {}
    for tree in trees:
        for directory, _, files in os.walk(tree):
            for name in files:
                status = os.lstat(os.path.join(directory, name))
                key = (status.st_dev, status.st_ino)
                seen[key] = (seen.get(key, (0, 0))[0] + 1, status.st_nlink)
                sizes[key] = status.st_blocks * 512
    return sum(sizes[key] for key, (names, links) in seen.items() if names >= links)
