"""Where manifests, recipes, targets and distributions are found: the user's directories go first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from rocmbuild.errors import UsageError, nearest
from rocmbuild.model.gpu import Gpu, load_gpus
from rocmbuild.model.manifest import Manifest, load_manifest
from rocmbuild.model.recipe import Recipe
from rocmbuild.model.recipe_reader import load_recipe
from rocmbuild.model.target import Distribution, Target, load_distribution, load_target

_PACKAGE = Path(str(files("rocmbuild")))


@dataclass(frozen=True)
class Catalog:
    """Search paths for every kind of document; the first directory that has a name wins."""

    manifest_dirs: tuple[Path, ...]
    recipe_dirs: tuple[Path, ...]
    target_dirs: tuple[Path, ...]

    def branches(self) -> dict[str, Path]:
        """Return the manifest file of each branch."""
        return _found(self.manifest_dirs, "*.yaml")

    def manifest(self, branch: str) -> Manifest:
        """Return the manifest of ``branch``; UsageError names the nearest ones."""
        return load_manifest(_pick("branch", branch, self.branches()))

    def recipes(self) -> dict[str, Path]:
        """Return the directory of each recipe."""
        found = {}
        for directory in reversed(self.recipe_dirs):
            found.update({path.parent.name: path.parent for path in directory.glob("*/recipe.yaml")})
        return dict(sorted(found.items()))

    def recipe(self, name: str) -> Recipe:
        """Return the recipe of a component; UsageError names the nearest ones."""
        places = (directory / name for directory in self.recipe_dirs)
        found = next((place for place in places if (place / "recipe.yaml").is_file()), None)
        return load_recipe(found or _pick("recipe", name, self.recipes()))

    def targets(self) -> dict[str, Path]:
        """Return the file of each target."""
        return _found(self.target_dirs, "*.yaml")

    def target(self, name: str) -> Target:
        """Return a target by name, or by the path of a file of the user's own.

        What is not the usual target of its architecture is told apart by its name, unless it says a variant.
        """
        own = name.endswith((".yaml", ".yml"))
        target = load_target(Path(name) if own else _pick("target", name, self.targets()))
        usual = {other.arch: other.name for other in map(load_target, _usual_targets().values()) if not other.variant}
        if target.variant is None and usual.get(target.arch, target.name) != target.name:
            return replace(target, variant=target.name)
        return target

    def target_for(self, machine: str) -> Target:
        """Return the usual target that is this machine; ``machine`` is what ``uname -m`` prints.

        A user's own is taken only if none that ships is.
        """
        for path in (*_usual_targets().values(), *self.targets().values()):
            target = load_target(path)
            if target.runs_on(machine) and target.variant is None:
                return target
        raise UsageError(f"no target describes this machine ({machine})", hint="write one, or name one with --target")

    def distributions(self) -> dict[str, Path]:
        """Return the file of each distribution."""
        return _found((_PACKAGE / "data" / "distributions",), "*.yaml")

    def distribution(self, name: str) -> Distribution:
        """Return a distribution by name."""
        return load_distribution(_pick("distribution", name, self.distributions()))

    def gpus(self) -> dict[str, Gpu]:
        """Return the table of GPU targets."""
        return load_gpus(_PACKAGE / "data" / "gpus.yaml")


def make_catalog(manifests: Sequence[Path] = (), recipes: Sequence[Path] = (), targets: Sequence[Path] = ()) -> Catalog:
    """Return a catalog whose own directories come after the given ones; UsageError if one is missing."""
    for directory in (*manifests, *recipes, *targets):
        if not directory.is_dir():
            raise UsageError(f"there is no directory {directory}")
    return Catalog(
        manifest_dirs=(*manifests, shipped("manifests")),
        recipe_dirs=(*recipes, shipped("recipes")),
        target_dirs=(*targets, _PACKAGE / "data" / "targets"),
    )


def _usual_targets() -> dict[str, Path]:
    return _found((_PACKAGE / "data" / "targets",), "*.yaml")


def shipped(name: str) -> Path:
    """Return a directory that lies in the wheel, or beside the package in a checkout."""
    packaged = _PACKAGE / "data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


def _found(directories: Sequence[Path], pattern: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for directory in reversed(directories):
        found.update({path.stem: path for path in directory.glob(pattern)})
    return dict(sorted(found.items()))


def _pick(kind: str, name: str, known: dict[str, Path]) -> Path:
    if name not in known:
        raise UsageError(f"there is no {kind} {name}", hint=nearest(name, known))
    return known[name]
