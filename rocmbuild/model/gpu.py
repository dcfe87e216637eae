"""GPU targets: which exist, what they are called, which release first builds for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.errors import UsageError, nearest
from rocmbuild.model.document import load
from rocmbuild.model.version import compare


@dataclass(frozen=True)
class Gpu:
    """A gfx target; ``features`` are those that may follow it, as in ``gfx90a:xnack+``."""

    name: str
    products: str
    family: str
    features: tuple[str, ...]
    since: str
    until: str | None


def load_gpus(path: Path) -> dict[str, Gpu]:
    """Read the table of GPU targets; raises DocumentError."""
    return {
        name: Gpu(
            name=name,
            products=raw["products"],
            family=raw["family"],
            features=tuple(raw.get("features", ())),
            since=raw["since"],
            until=raw.get("until"),
        )
        for name, raw in load(path, "gpus").data["gpus"].items()
    }


def select(requested: Iterable[str], known: Mapping[str, Gpu], release: str) -> tuple[str, ...]:
    """Expand families, check names and features against ``release``; UsageError says what does not fit."""
    families = {gpu.family for gpu in known.values()}
    selected: list[str] = []
    for name in requested:
        if name in families:
            selected += [gpu.name for gpu in known.values() if gpu.family == name and _fits(gpu, release)]
        else:
            selected.append(_checked(name, known, families, release))
    for name in selected:
        base = name.partition(":")[0]
        if base != name and base in selected:
            raise UsageError(
                f"{base} and {name} cannot both be built: the first stands for every setting of its features",
                hint=f"name {base} alone, or only with features, as in {base}:xnack-,{base}:xnack+",
            )
    if not selected:
        raise UsageError("no GPU target is left to build for", hint="name some with --gpu gfx1030,gfx90a")
    return tuple(dict.fromkeys(selected))


def _checked(name: str, known: Mapping[str, Gpu], families: set[str], release: str) -> str:
    base, *features = name.split(":")
    if base not in known:
        raise UsageError(f"unknown GPU target {name}", hint=nearest(base, [*known, *families]))
    gpu = known[base]
    if compare(release, gpu.since) < 0:
        major_minor = ".".join(gpu.since.split(".")[:2])
        raise UsageError(
            f"{base} needs ROCm {major_minor} or later; this release is {release}",
            hint="choose another GPU target, or a branch of that release or later",
        )
    if not _fits(gpu, release):
        raise UsageError(f"{base} can be built up to ROCm {gpu.until}; this release is {release}")
    for feature in features:
        if feature[:-1] not in gpu.features or feature[-1:] not in ("+", "-"):
            options = ", ".join(f"{base}:{item}+" for item in gpu.features) or "none"
            raise UsageError(f"{base} has no feature {feature!r}", hint=f"features of {base}: {options}")
    return name


def _fits(gpu: Gpu, release: str) -> bool:
    return compare(release, gpu.since) >= 0 and (gpu.until is None or compare(release, gpu.until) <= 0)
