"""Find what earlier runs left in a workspace: areas of branches, distributions and architectures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rocmbuild.errors import UsageError, nearest
from rocmbuild.model.catalog import make_catalog
from rocmbuild.settings import Settings


def components(settings: Settings, kind: str) -> dict[str, list[Path]]:
    """Return the directories of each component below ``kind`` (build or logs), in the areas asked for."""
    suffix = ""
    if settings.target is not None:
        catalog = make_catalog(settings.manifests, settings.recipes, settings.targets)
        suffix = f"-{catalog.target(settings.target).area}"
    found: dict[str, list[Path]] = {}
    for path in sorted((settings.workspace / kind).glob("*/*/*")):
        area, branch = path.parent.name, path.parent.parent.name
        wanted = settings.branch in (None, branch) and area.endswith(suffix)
        if wanted and _of(area, settings.distribution) and path.is_dir() and not path.name.startswith("."):
            found.setdefault(path.name, []).append(path)
    return found


def _of(area: str, distribution: str | None) -> bool:
    return distribution is None or area.startswith(f"{distribution}-")


def check_workspace(path: Path) -> None:
    """Raise UsageError if ``path`` is not a workspace, which only a build makes."""
    if not (path / "workspace.json").is_file():
        raise UsageError(
            f"{path} is not a workspace: nothing was built in it", hint="name the right one with --workspace DIR"
        )


def unknown(component: str, known: Iterable[str], what: str) -> UsageError:
    """Return the error for a component of which there is nothing."""
    return UsageError(f"there is no {what} of {component}", hint=nearest(component, known))
