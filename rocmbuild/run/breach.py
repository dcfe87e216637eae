"""What a file does against a rule, before it is known whose file it is."""

from __future__ import annotations

from typing import NamedTuple

ERROR, WARNING = "error", "warning"


class Breach(NamedTuple):
    """A rule, by its name, and what breaks it."""

    rule: str
    detail: str
    severity: str = ERROR
