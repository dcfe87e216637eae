"""The outcome of a check, as the run records it, verify.json keeps it and the summary shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "fail", "warning", "waived", "skipped"]


@dataclass(frozen=True)
class VerifyRow:
    """One check of one package, file or program; ``detail`` says why it is not a pass."""

    check: str
    subject: str
    status: Status
    detail: str = ""
