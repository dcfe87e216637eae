"""Conditions on facts: LLVM major, versions, architecture, what else the release has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rocmbuild.model.version import VersionRange


@dataclass(frozen=True)
class Facts:
    """What a condition may ask about one component in one plan."""

    version: str
    """version of the component"""
    release: str
    """ROCm version of the manifest"""
    llvm: str
    """version of the LLVM in use; empty when the release has none"""
    arch: str
    """Debian architecture of the machine it is built for"""
    components: frozenset[str]
    """components of the release"""
    system: bool = False
    """whether the distribution provides the component"""
    cross: bool = False
    """whether it is built on another machine than it runs on"""


def holds(when: Mapping[str, Any] | None, facts: Facts) -> bool:
    """Return whether every clause of a ``when`` mapping is true; an absent mapping is."""
    return all(_clause(key, value, facts) for key, value in (when or {}).items())


def _clause(key: str, value: Any, facts: Facts) -> bool:
    match key:
        case "llvm" | "version" | "release":
            actual = getattr(facts, key)
            return bool(actual) and actual in VersionRange.parse(value)
        case "arch":
            return facts.arch in value
        case "not_arch":
            return facts.arch not in value
        case "has":
            return set(value) <= facts.components
        case "lacks":
            return not set(value) & facts.components
        case "system" | "cross":
            return getattr(facts, key) is value
    raise ValueError(f"unknown condition {key!r}")  # the schema admits no other key
