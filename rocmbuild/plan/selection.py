"""What a plan is made for: a release, its recipes with their conditions decided, the machines, the roots."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from rocmbuild.model.condition import Facts
from rocmbuild.model.manifest import Component, Manifest, Source
from rocmbuild.model.recipe import Provided, Recipe, Resolved
from rocmbuild.model.target import Distribution, Target
from rocmbuild.model.template import substitute
from rocmbuild.plan.graph import Machine
from rocmbuild.plan.values import placeholders

if TYPE_CHECKING:
    from rocmbuild.plan.graph import Recipes


@dataclass(frozen=True)
class Selection:
    """What a plan is made for; sources are identified already (commits known, local trees hashed)."""

    manifest: Manifest
    recipes: Mapping[str, Recipe]
    target: Target
    distribution: Distribution
    gpus: tuple[str, ...]
    system: frozenset[str]
    components: tuple[str, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    """sources that take the place of the manifest's, by component"""
    environment: str = "sandbox"
    tools: Mapping[str, str] = field(default_factory=dict)
    """versions of the CMake and Ninja in use"""
    build: Target | None = None
    """the build machine, if that is another than the target"""

    @property
    def cross(self) -> bool:
        """Return whether what is built runs on another machine than this."""
        return self.build is not None

    @property
    def machines(self) -> tuple[Machine, ...]:
        """Return the machines that components are built for."""
        return (Machine.BUILD, Machine.HOST) if self.cross else (Machine.HOST,)

    @cached_property
    def names(self) -> frozenset[str]:
        """Return the names of all components of the release."""
        return frozenset(self.manifest.components)

    @cached_property
    def resolved(self) -> Recipes:
        """Return what ``resolve`` does; several parts of a plan ask for it."""
        components = self.manifest.components.items()
        return {
            machine: {name: _resolved(self, self.recipes[name], component, machine) for name, component in components}
            for machine in self.machines
        }

    @cached_property
    def roots(self) -> dict[Machine, dict[str, tuple[str, ...]]]:
        """Return what ``root_packages`` does."""
        return _root_packages(self)

    def target_of(self, machine: Machine) -> Target:
        """Return what a machine is."""
        return self.build if self.build is not None and machine is Machine.BUILD else self.target

    def is_cross(self, machine: Machine) -> bool:
        """Return whether components for a machine are built on another one."""
        return self.cross and machine is Machine.HOST


def resolve(selection: Selection) -> Recipes:
    """Return the recipe of every component of the release for every machine, with its conditions decided."""
    return selection.resolved


def _resolved(selection: Selection, recipe: Recipe, component: Component, machine: Machine) -> Resolved:
    """Return a recipe for a machine; what is the same on every machine is what the build machine makes."""
    made = recipe.resolve(facts(selection, component, selection.machines[0]))
    return made if made.machine_independent else recipe.resolve(facts(selection, component, machine))


def facts(selection: Selection, component: Component, machine: Machine = Machine.HOST) -> Facts:
    """Return what conditions may ask about a component."""
    llvm = selection.manifest.components.get("llvm")
    provided = provided_by(selection, "llvm") if llvm else None
    return Facts(
        version=component.version,
        release=selection.manifest.version,
        llvm=provided.version if provided else (llvm.version if llvm else ""),
        arch=selection.target_of(machine).arch,
        components=selection.names,
        system=component.name in selection.system,
        cross=selection.is_cross(machine),
    )


ROOT, CROSS_ROOT, SYSROOT, EMULATOR = "build root", "cross root", "sysroot", "emulator"
"""Kinds of roots: what commands run over, with cross compilers too, the host machine's libraries, QEMU."""


CCACHE = "ccache"
"""A kind of root that is made only if asked for: what starts compilers. It shapes nothing, so it is in no key."""


def root_packages(selection: Selection) -> dict[Machine, dict[str, tuple[str, ...]]]:
    """Return the packages of the roots of each machine, sorted: what all recipes of the release ask for.

    All of the release, not of the selected components, so that every selection has the same root. The root that
    components for the build machine are built in is that of a native build.
    """
    return selection.roots


def _root_packages(selection: Selection) -> dict[Machine, dict[str, tuple[str, ...]]]:
    recipes = resolve(selection)
    asked = {machine: _asked(selection, recipes[machine], machine) for machine in selection.machines}
    found = {machine: {ROOT: _plain(names)} for machine, names in asked.items()}
    cross = selection.distribution.cross
    if selection.cross and cross is not None:
        names = asked[Machine.HOST]
        found[Machine.HOST] = {
            CROSS_ROOT: _plain({*asked[Machine.BUILD], *names, *cross.packages}),
            SYSROOT: _plain({name for name in names if not name.endswith(_NATIVE)}),
            EMULATOR: (cross.emulators,),
        }
    return found


_NATIVE = ":native"


def _plain(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name.removesuffix(_NATIVE) for name in names}))


def _asked(selection: Selection, recipes: Mapping[str, Resolved], machine: Machine) -> set[str]:
    """Return the distribution packages that the recipes for a machine ask for, with their ``:native`` suffixes."""
    provided, shared = shared_values(selection, recipes, machine)
    names = set(selection.distribution.system)
    for name, component in selection.manifest.components.items():
        values = ChainMap({"version": component.version}, shared)  # thousands are shared
        names |= {substitute(package, values, recipes[name].where) for package in recipes[name].needs.system}
        by_system = provided[name]
        names |= set(by_system.system) if by_system else set()
    return names


def shared_values(
    selection: Selection, recipes: Mapping[str, Resolved], machine: Machine
) -> tuple[dict[str, Provided | None], dict[str, str]]:
    """Return how each component is provided, and the placeholders that all recipes for a machine share."""
    provided = {name: provided_by(selection, name) for name in selection.manifest.components}
    target, cross = selection.target_of(machine), selection.is_cross(machine)
    return provided, placeholders(selection.manifest, target, selection.gpus, recipes, provided, cross=cross)


def provided_by(selection: Selection, name: str) -> Provided | None:
    """Return how the distribution provides a component, None if it is built."""
    if name not in selection.system:
        return None
    return selection.recipes[name].provided[selection.distribution.name]
