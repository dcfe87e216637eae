"""What the placeholders of recipes stand for in one plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from rocmbuild.model.manifest import Component, Manifest
from rocmbuild.model.recipe import Edit, Provided, Resolved
from rocmbuild.model.target import Target
from rocmbuild.model.template import substitute
from rocmbuild.model.version import compact, numbers

REVISION = "1"
"""Debian revision of the packages."""

SYSROOT = "/sysroot"
"""Where a cross build has the headers and libraries of the host machine."""

CONFIGURATION = "/usr/lib/rocmbuild/clang.cfg"
"""Where a cross build has the file that makes clang a compiler for the host machine."""


def placeholders(
    manifest: Manifest,
    target: Target,
    gpus: tuple[str, ...],
    recipes: Mapping[str, Resolved],
    provided: Mapping[str, Provided | None],
    *,
    cross: bool = False,
) -> dict[str, str]:
    """Return the values that all recipes of a plan share for one machine, ``target``.

    ``home:X``, ``version:X`` and ``major:X`` speak of component X: where it is installed and what it is;
    ``source:X`` stays as it is until a job knows where it runs. ``host:flags`` makes clang compile for the machine,
    ``assembler`` makes llvm-mc do so.
    """
    values = {
        "prefix": manifest.prefix,
        "release": manifest.version,
        "release:number": compact(manifest.version),
        "arch": target.arch,
        "triple": target.triple,
        "assembler": " ".join([f"-triple={target.triple}", *target.assembler]),
        "sysroot": SYSROOT if cross else "/",
        "host:flags": f"--config={CONFIGURATION}" if cross else f"--target={target.triple}",
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


def substituted(recipe: Resolved, values: Mapping[str, str], component: Component, *, cross: bool = False) -> Resolved:
    """Return the recipe with its placeholders replaced; the manifest's variables override the recipe's.

    In a cross build CMake finds what is installed for the host machine below the sysroot.
    """
    seen = _BelowSysroot(values) if cross else values

    def text(value: str) -> str:
        return substitute(value, values, recipe.where)

    def located(value: str) -> str:
        return substitute(value, seen, recipe.where)

    return replace(
        recipe,
        needs=replace(recipe.needs, system=tuple(text(name) for name in recipe.needs.system)),
        variables={key: located(value) for key, value in {**recipe.variables, **component.variables}.items()},
        environment={key: located(value) for key, value in {**recipe.environment, **component.environment}.items()},
        edits=tuple(_edit(edit, text) for edit in recipe.edits),
        additions=tuple(
            replace(item, path=text(item.path), text=item.text and text(item.text), link=item.link and text(item.link))
            for item in recipe.additions
        ),
    )


def deb_version(version: str, release: str, tag: str) -> str:
    """Return a package version in AMD's form: ``1.9.0.50601-1~debian12``."""
    return f"{version}.{compact(release)}-{REVISION}~{tag}"


class _BelowSysroot(Mapping[str, str]):
    """Values in which what is installed lies below the sysroot."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> str:
        return f"{SYSROOT}{self._values[key]}" if key.startswith("home:") else self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _edit(edit: Edit, text: Callable[[str], str]) -> Edit:
    return replace(edit, replace=text(edit.replace), write=edit.write and text(edit.write))
