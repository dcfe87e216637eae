"""Fingerprints: one dict of everything that can change a component's bytes, as canonical JSON, hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rocmbuild.errors import UsageError
from rocmbuild.model.manifest import Component, Source
from rocmbuild.model.recipe import Edit, Resolved
from rocmbuild.model.template import placeholders_in
from rocmbuild.workspace import tree_digest

FORMAT = 2
"""Raised when the engine itself begins to build the same inputs differently."""


def digest(data: Any) -> str:
    """Return the sha256 sum of plain data in its one canonical form."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def source_identity(source: Source, recipe: Resolved) -> dict[str, Any]:
    """Return what pins a source: its commit, its sum, or the digest of a tree."""
    pin = {"git": source.commit, "local": source.sha256, "bundled": None}.get(source.kind, source.sha256)
    return {
        "pin": pin if source.kind != "bundled" else _bundled(source, recipe),
        "submodules": source.submodules,
        "layout": [[rule.source, rule.target, list(rule.exclude)] for rule in source.layout],
        "edits": [_edit(edit) for edit in source.edits],
    }


def changes_identity(recipe: Resolved) -> dict[str, Any]:
    """Return the edits and patches that are made to the source."""
    return {
        "edits": [_edit(edit) for edit in recipe.edits],
        "patches": [_file(patch.path) for patch in recipe.patches],
    }


def source_inputs(component: Component, recipe: Resolved) -> dict[str, Any]:
    """Return everything that decides the tree a component is built from."""
    return {
        "source": source_identity(component.source, recipe),
        "subdir": component.subdir,
        "changes": changes_identity(recipe),
    }


def source_key(component: Component, recipe: Resolved) -> str:
    """Return the key of the tree a component is built from."""
    return digest(source_inputs(component, recipe))


def build_key(inputs: Mapping[str, Any]) -> str:
    """Return a key of what decides a component's bytes.

    With its needs by their static keys it is the static key; without needs, that of its own inputs.
    """
    return digest({"format": FORMAT, **inputs})


def action_key(own: str, needs: Mapping[str, str | None]) -> str:
    """Return the key of what a stage tree is made from: the key of a component's own inputs, the outputs of needs."""
    return digest({"own": own, "needs": dict(needs)})


def store_key(action: str, root: str) -> str:
    """Return the key under which a stage tree is kept: what it is made from, and the package versions of the root."""
    return digest({"action": action, "root": root})


def package_key(inputs: Mapping[str, Any]) -> str:
    """Return the key of what shapes a component's packages, besides the stage trees they are made from."""
    return digest({"format": FORMAT, **inputs})


def debs_key(package_key: str, output: str | None, needs: Mapping[str, str | None], root: str | None) -> str:
    """Return the key of packages that are made from the stage trees of a component and of its needs."""
    return digest({"package": package_key, "stage": output, "needs": dict(needs), "root": root})


def recipe_packages(recipe: Resolved) -> Any:
    """Return the rules that turn the stage tree into packages, as plain data."""
    return {
        "packages": [
            [
                rule.name,
                rule.summary,
                rule.description,
                rule.section,
                rule.architecture,
                *(list(getattr(rule, name)) for name in ("files", *_RELATIONS)),
                [[kind, _file(path)] for kind, path in rule.scripts],
            ]
            for rule in recipe.packages
        ],
        "notes": list(recipe.notes),
        "license": [recipe.spdx, list(recipe.license_files), recipe.homepage],
        "description": recipe.description,
        "changelog": [
            *([edit.file, edit.why] for edit in recipe.edits),
            *([patch.path.name, patch.why] for patch in recipe.patches),
        ],
    }


def package_values(recipe: Resolved, values: Mapping[str, str]) -> dict[str, str]:
    """Return the values of the placeholders that the packages of a recipe mention."""
    scripts = [path.read_text(encoding="utf-8") for rule in recipe.packages for _, path in rule.scripts]
    mentioned = placeholders_in(json.dumps([recipe_packages(recipe), scripts]))
    return {name: values[name] for name in sorted(mentioned & values.keys())}


_RELATIONS = ("depends", "recommends", "suggests", "provides", "conflicts", "breaks", "replaces")


def _edit(edit: Edit) -> list[Any]:
    return [edit.file, edit.find, edit.replace, edit.count, edit.present, edit.write, edit.optional]


def _file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _bundled(source: Source, recipe: Resolved) -> str:
    path = recipe.directory / source.path
    if not path.is_dir():
        raise UsageError(f"there is no directory {path}", where=source.where, hint="bundled names one of the recipe")
    return tree_digest(path)
