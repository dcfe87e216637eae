"""What the doctor found, without anything that has to be installed: it must be able to say what is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. What mends it: Debian ``packages``, or a ``command`` to run as root, or ``advice``.

    ``missing`` means that a build will fail, or that the packages will not work.
    """

    subject: str
    status: Status
    detail: str
    packages: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    advice: str = ""
