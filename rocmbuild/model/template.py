"""Placeholders in recipes: ``{prefix}``, ``{home:llvm}`` … CMake's own ``${VAR}`` is left alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rocmbuild.errors import UsageError, nearest

_PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z_]+(?::[a-z0-9+.-]+)?)\}")


def placeholders_in(text: str) -> set[str]:
    """Return the names of the placeholders in ``text``."""
    return set(_PLACEHOLDER.findall(text))


def substitute(text: str, values: Mapping[str, str], where: str | None = None) -> str:
    """Replace each placeholder by its value; UsageError names an unknown one."""
    if "{" not in text:  # as nearly all
        return text

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            raise UsageError(f"unknown placeholder {{{name}}}", where=where, hint=nearest(name, values))
        return values[name]

    return _PLACEHOLDER.sub(value, text)
