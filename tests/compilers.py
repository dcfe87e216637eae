"""Recipes of the compiler and of HIP as they are for one machine and one release."""

from __future__ import annotations

from dataclasses import replace

from rocmbuild.model.condition import Facts
from rocmbuild.model.recipe import Edit, Resolved
from rocmbuild.model.template import substitute
from tests.shipped import CATALOG

RECIPES = ("clr-hip", "clr-opencl", "comgr", "hip", "hipcc", "hipify", "llvm")
VERSIONS = {
    "5.6": {"clr-hip": "5.6.31062", "clr-opencl": "2.0.0", "comgr": "2.5.0", "hip": "5.6.31062", "hipcc": "1.0.0"},
    "5.7": {"clr-hip": "5.7.31921", "clr-opencl": "2.0.0", "comgr": "2.5.0", "hip": "5.7.31921", "hipcc": "1.0.0"},
    "6.4": {"clr-hip": "6.4.43484", "clr-opencl": "2.0.0", "comgr": "7.0.2", "hip": "6.4.43484", "hipcc": "7.0.2"},
}
MACHINES = {
    "amd64": {
        "triple": "x86_64-linux-gnu",
        "assembler": "-triple=x86_64-linux-gnu",
        "host:flags": "--target=x86_64-linux-gnu",
    },
    "arm64": {
        "triple": "aarch64-linux-gnu",
        "assembler": "-triple=aarch64-linux-gnu",
        "host:flags": "--config=/clang.cfg",
    },
    "riscv64": {
        "triple": "riscv64-linux-gnu",
        "assembler": "-triple=riscv64-linux-gnu -mattr=+m,+a,+f,+d,+c -target-abi=lp64d",
        "host:flags": "--config=/clang.cfg",
    },
}


def resolved(
    recipe: str, arch: str, release: str = "5.6", *, cross: bool = True, system: bool = False, llvm: str = "17.0.6"
) -> Resolved:
    """Return a recipe as it is for one machine."""
    version = VERSIONS[release].get(recipe, "16.0.0")
    facts = Facts(version, f"{release}.1", llvm, arch, frozenset({"llvm", "rocr"}), system=system, cross=cross)
    return CATALOG.recipe(recipe).resolve(facts)


def edits(recipe: str, arch: str = "riscv64", release: str = "5.6") -> list[Edit]:
    """Return the edits of a recipe for one machine, their placeholders replaced."""
    chosen = resolved(recipe, arch, release, cross=arch != "amd64").edits
    return [replace(edit, replace=substitute(edit.replace, MACHINES[arch])) for edit in chosen]
