"""What the placeholders of recipes stand for in one plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from rocmbuild.model.manifest import Component, Manifest
from rocmbuild.model.recipe import Edit, Provided, Resolved
from rocmbuild.model.target import Target
from rocmbuild.model.template import substitute
from rocmbuild.model.version import compact, numbers

REVISION = "1"
"""Debian revision of the packages."""


def placeholders(
    manifest: Manifest,
    target: Target,
    gpus: tuple[str, ...],
    recipes: Mapping[str, Resolved],
    provided: Mapping[str, Provided | None],
) -> dict[str, str]:
    """Return the values that all recipes of a plan share.

    ``home:X``, ``version:X`` and ``major:X`` speak of component X: where it is installed and what it is;
    ``source:X`` stays as it is until a job knows where it runs.
    """
    values = {
        "prefix": manifest.prefix,
        "release": manifest.version,
        "release:number": compact(manifest.version),
        "arch": target.arch,
        "triple": target.triple,
        "gpus": ";".join(gpus),
    }
    for name, component in manifest.components.items():
        by_system = provided[name]
        version = by_system.version if by_system else component.version
        values[f"home:{name}"] = by_system.home if by_system else substitute(recipes[name].home, values)
        values[f"version:{name}"] = version
        values[f"major:{name}"] = str((*numbers(version), 0)[0])
        values[f"source:{name}"] = f"{{source:{name}}}"
    return values


def substituted(recipe: Resolved, values: Mapping[str, str], component: Component) -> Resolved:
    """Return the recipe with its placeholders replaced; the manifest's variables override the recipe's."""

    def text(value: str) -> str:
        return substitute(value, values, recipe.where)

    return replace(
        recipe,
        needs=replace(recipe.needs, system=tuple(text(name) for name in recipe.needs.system)),
        variables={key: text(value) for key, value in {**recipe.variables, **component.variables}.items()},
        environment={key: text(value) for key, value in {**recipe.environment, **component.environment}.items()},
        edits=tuple(_edit(edit, text) for edit in recipe.edits),
        additions=tuple(
            replace(item, path=text(item.path), text=item.text and text(item.text), link=item.link and text(item.link))
            for item in recipe.additions
        ),
    )


def deb_version(version: str, release: str, tag: str) -> str:
    """Return a package version in AMD's form: ``1.9.0.50601-1~debian12``."""
    return f"{version}.{compact(release)}-{REVISION}~{tag}"


def _edit(edit: Edit, text: Callable[[str], str]) -> Edit:
    return replace(edit, replace=text(edit.replace), write=edit.write and text(edit.write))
