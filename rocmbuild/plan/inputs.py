"""What a component is made from, as plain data: the dictionaries that keys are sums of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rocmbuild.model.manifest import Component
from rocmbuild.model.recipe import Provided, Resolved
from rocmbuild.model.template import substitute
from rocmbuild.plan import fingerprint
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.selection import Selection

QA_FORMAT = 1
"""Raised when a rule for stage trees changes: what passed an older one is to be checked, and packaged, again."""


@dataclass(frozen=True)
class Inputs:
    """What all components of a plan share: see the fields of ``Plan``."""

    selection: Selection
    roots: Mapping[Machine, Mapping[str, tuple[str, ...]]]
    python_packages: tuple[str, ...]
    provided: Mapping[str, Provided | None]
    package_versions: Mapping[str, str]

    @cached_property
    def _versions(self) -> str:
        return fingerprint.digest(dict(self.package_versions))  # once, not in each of a thousand keys

    def own(self, node: Node, recipe: Resolved, source_key: str, sources: Sequence[str]) -> dict[str, Any]:
        """Return a component's own inputs: all but its needs. ``sources`` are keys of the trees it reads besides."""
        selection, target = self.selection, self.selection.target_of(node.machine)
        return {
            "component": node.component,
            "source": source_key,
            "sources": list(sources),
            "subdir": recipe.subdir,
            "targets": list(recipe.targets),
            "variables": dict(recipe.variables),
            "environment": dict(recipe.environment),
            "additions": [[item.path, item.text, item.link] for item in recipe.additions],
            **({"discards": [list(item.files) for item in recipe.discards]} if recipe.discards else {}),
            **({"writable_source": True} if recipe.writable_source else {}),
            "builds": recipe.builds,
            "provided": self._provided(node.component),
            "target": [target.triple, list(target.flags)],
            "prefix": selection.manifest.prefix,
            "compilers": self._compilers(node.machine),
            "root": [
                selection.distribution.name,
                {kind: list(names) for kind, names in self.roots[node.machine].items()},
                list(self.python_packages),
            ],
            "where": selection.environment,
            "tools": dict(selection.tools),
        }

    def _provided(self, name: str) -> Any:
        provided = self.provided[name]
        return None if provided is None else [provided.version, provided.home, [list(link) for link in provided.links]]

    def _compilers(self, machine: Machine) -> list[Any]:
        """Return what compiles for a machine; in a cross build also GCC's place, CMake's processor, an emulator."""
        distribution, target = self.selection.distribution, self.selection.target_of(machine)
        if not self.selection.is_cross(machine) or distribution.cross is None:
            return [distribution.cc, distribution.cxx, list(target.gcc_flags)]
        tools = distribution.cross
        emulator = target.emulator
        return [
            *(tools.cc, tools.cxx, tools.linker, tools.binutils, tools.gcc, target.machines[0]),
            [emulator.program, emulator.cpu] if emulator else None,
        ]

    def packages(
        self,
        node: Node,
        component: Component,
        recipe: Resolved,
        values: Mapping[str, str],
        *,
        source_key: str,
        splits: Mapping[str, str],
    ) -> dict[str, Any]:
        """Return what shapes packages besides stage trees, and what decides whether these may become packages.

        Licenses and the changelog are of the source; ``splits`` are sums of which packages of each need own what.
        """
        provided = self.provided[node.component]
        return {
            **fingerprint.recipe_packages(recipe),
            "source": source_key,
            "origin": origin(component),
            "prefix": self.selection.manifest.prefix,
            "needs": dict(splits),
            "values": fingerprint.package_values(recipe, values),
            "runtime": list(provided.runtime) if provided else [],
            "versions": self._versions,
            "arch": self.selection.target_of(node.machine).arch,
            "checked": self._checked(node, recipe),
        }

    def _checked(self, node: Node, recipe: Resolved) -> list[Any]:
        """Return what the stage tree of a component is held against before it is packaged."""
        target = self.selection.target_of(node.machine)
        waivers = [[waiver.rule, list(waiver.files), waiver.why] for waiver in recipe.waivers]
        return [QA_FORMAT, [target.elf_machine, target.elf_flags, target.isa], waivers]


def origin(component: Component) -> str:
    """Return where a component's source comes from, as the changelog of its packages says it."""
    source = component.source
    match source.kind:
        case "git":
            return f"{source.urls[0]} at {source.commit}"
        case "debian":
            return f"{Path(source.path).name}, sha256 {source.sha256}"
        case "url":
            return f"{source.urls[0]}, sha256 {source.sha256}"
        case "local":
            return f"a local tree of digest {source.sha256}"
    return f"the recipe of {component.name}"


def taken_over(other: Node) -> dict[str, Any]:
    """Return the own inputs of a component whose output is that of another node."""
    return {"component": other.component, "source": ""}


def readable(own: Mapping[str, Any], component: Component, recipe: Resolved) -> dict[str, Any]:
    """Return own inputs in which what is a digest or a bare list is written out, for people to compare."""
    if "root" not in own:
        return dict(own)
    distribution, packages, python = own["root"]
    return {
        **own,
        "source": fingerprint.source_inputs(component, recipe),
        "sources": dict(zip(recipe.needs.sources, own["sources"], strict=True)),
        "root": {"distribution": distribution, "packages": packages, "python": python},
    }


def split(recipe: Resolved, values: Mapping[str, str]) -> list[list[Any]]:
    """Return how a stage tree is split into packages, which decides who owns the libraries that others need."""
    return [[rule.name, [substitute(name, values, rule.where) for name in rule.files]] for rule in recipe.packages]
