"""``rocmbuild list``: the branches, components, targets, distributions and GPU targets that are known."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rocmbuild.errors import UsageError, nearest
from rocmbuild.model.catalog import Catalog, make_catalog
from rocmbuild.model.manifest import Source
from rocmbuild.model.target import load_distribution, load_target
from rocmbuild.settings import Settings

Row = Mapping[str, Any]


def run(settings: Settings) -> int:
    """Print one topic as a table or as JSON; UsageError if there is no such topic or format."""
    topic = settings.topic or ""
    if topic not in _TOPICS:
        raise UsageError(f"nothing to list is named {topic!r}", hint=nearest(topic, _TOPICS))
    if settings.format not in ("table", "json"):
        raise UsageError(f"{settings.format!r} is neither table nor json", where="--format")
    catalog = make_catalog(settings.manifests, settings.recipes, settings.targets)
    rows = _TOPICS[topic](catalog, settings)
    if settings.format == "json":
        print(json.dumps(rows, indent=1))
    else:
        _print_table(rows)
    return 0


def _branches(catalog: Catalog, _settings: Settings) -> list[Row]:
    manifests = [catalog.manifest(name) for name in catalog.branches()]
    return [
        {
            "branch": manifest.branch,
            "version": manifest.version,
            "distribution": manifest.distribution,
            "summary": manifest.summary,
        }
        for manifest in manifests
    ]


def _components(catalog: Catalog, settings: Settings) -> list[Row]:
    """Return the components of a branch, or without one every recipe there is."""
    recipes = catalog.recipes()
    summaries = {name: catalog.recipe(name).document.data["summary"] for name in recipes}
    if settings.branch is None:
        return [{"component": name, "summary": summary} for name, summary in summaries.items()]
    manifest = catalog.manifest(settings.branch)
    return [
        {
            "component": name,
            "version": component.version,
            "source": _origin(component.source, component.subdir),
            "summary": summaries.get(name, ""),
        }
        for name, component in manifest.components.items()
    ]


def _origin(source: Source, subdir: str) -> str:
    """Return where a source comes from: address, the directory in it and the revision."""
    inside = "" if subdir == "." else f"//{subdir}"
    match source.kind:
        case "git":
            return f"{source.urls[0]}{inside} {source.commit or source.ref}" if source.urls else source.name
        case "debian":
            return f"debian:{source.path}{inside}"
        case "url":
            return f"{source.urls[0]}{inside}"
    return f"{source.kind}:{source.path}{inside}"


def _targets(catalog: Catalog, _settings: Settings) -> list[Row]:
    targets = [load_target(path) for path in catalog.targets().values()]
    return [
        {"target": target.name, "architecture": target.arch, "triple": target.triple, "summary": target.summary}
        for target in targets
    ]


def _distributions(catalog: Catalog, _settings: Settings) -> list[Row]:
    distributions = [load_distribution(path) for path in catalog.distributions().values()]
    return [
        {"distribution": item.name, "suite": item.suites[0].name, "compiler": item.cc, "summary": item.summary}
        for item in distributions
    ]


def _gpus(catalog: Catalog, _settings: Settings) -> list[Row]:
    return [
        {
            "gpu": gpu.name,
            "family": gpu.family,
            "since": gpu.since,
            "until": gpu.until or "",
            "features": list(gpu.features),
            "products": gpu.products,
        }
        for gpu in catalog.gpus().values()
    ]


_TOPICS: Mapping[str, Callable[[Catalog, Settings], list[Row]]] = {
    "branches": _branches,
    "components": _components,
    "targets": _targets,
    "distributions": _distributions,
    "gpus": _gpus,
}


def _print_table(rows: Sequence[Row]) -> None:
    from rich.table import Table

    from rocmbuild.ui.console import make_console, show

    if not rows:
        print("there are none", file=sys.stderr)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(rows[0]):
        table.add_column(name, no_wrap=index == 0)
    for row in rows:
        table.add_row(*(" ".join(value) if isinstance(value, list) else str(value) for value in row.values()))
    show(make_console(sys.stdout), table)
