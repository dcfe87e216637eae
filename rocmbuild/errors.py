"""Errors a user can act on: what is wrong, where, what to try, and the exit code that goes with it."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from dataclasses import dataclass


class RocmBuildError(Exception):
    """Report a failure that is not a bug; printed once, by the command line, without a traceback.

    ``where`` is ``file:line:column`` or a step's name, ``hint`` says what to try, ``log`` is the
    path of a log file, ``rerun`` the command that repeats just the failed part.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        log: str | None = None,
        rerun: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.log = log
        self.rerun = rerun

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageError(RocmBuildError):
    """Report a mistake in what the user asked for or wrote (exit 2)."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One finding in a document: where it is, what is wrong, what to do."""

    where: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}"
        return f"{text}\n    try: {self.hint}" if self.hint else text


class DocumentError(UsageError):
    """Report every problem of one document at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class FetchError(RocmBuildError):
    """Report a source that could not be fetched or is not what was pinned."""


class EditError(RocmBuildError):
    """Report an edit or a patch that does not fit the source it was written for."""


class RootError(RocmBuildError):
    """Report a build root that could not be made."""


class StoreError(RocmBuildError):
    """Report a store of binaries that could not be read or written; the build goes on without it."""


class StepError(RocmBuildError):
    """Report a build step that failed."""


class OutOfMemory(StepError):
    """Report a build step with a program that did not get the memory it asked for; alone it may."""


class PackageError(RocmBuildError):
    """Report a stage tree that cannot be turned into packages."""


class VerifyError(RocmBuildError):
    """Report packages that were built but do not pass verification."""


_REFUSALS = {
    errno.ENOSPC: "make room on that disk, or use another one: --workspace DIR, --cache DIR",
    errno.EDQUOT: "make room within your quota, or use another disk: --workspace DIR, --cache DIR",
    errno.EFBIG: "allow larger files (ulimit -f), or use another file system: --workspace DIR, --cache DIR",
    errno.EROFS: "name a writable directory with --workspace or --cache",
    errno.EACCES: "name a directory that is yours with --workspace or --cache",
    errno.EPERM: "name a directory that is yours with --workspace or --cache",
    errno.ENOTDIR: "a file is in the place of a directory: move it away",
    errno.EIO: "the disk or its file system is damaged: see what the kernel says (dmesg)",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENOMEM: "use less of it: -j N or --memory SIZE",
}
"""What to try when the machine refuses something; none of these is a bug."""


def refusal(error: OSError) -> RocmBuildError | None:
    """Return the error for what the machine refuses, such as a full disk; None for anything else."""
    if error.errno not in _REFUSALS:
        return None
    where = str(error.filename) if error.filename is not None else None
    return RocmBuildError(error.strerror or str(error), where=where, hint=_REFUSALS[error.errno])


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the known names closest to ``name``, or lists them all if few."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    if names and len(names) <= 20:
        return "known: " + ", ".join(names)
    return "nothing is named like it"
