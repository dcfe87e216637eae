"""Changes to a source tree: declarative edits, and patches for new code; each applied, already in, or an error."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import stat
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rocmbuild.errors import EditError, Problem, nearest
from rocmbuild.model.recipe import Edit, Patch
from rocmbuild.process import BASE_ENVIRONMENT, Runner
from rocmbuild.tools.waiting import in_thread

_MARKS = re.compile(r"\\([^A-Za-z0-9])|\\[A-Za-z]|[\^$*+?()|]|\[[^\]]*\]|\{\d*,?\d*\}")
"""What makes a regular expression differ from the text it stands for."""


@dataclass(frozen=True)
class Outcome:
    """What became of an edit or patch: ``applied``, ``present`` (it was in the source already) or ``left out``.

    ``why`` is the edit's reason; of one that was left out, what did not fit.
    """

    kind: str
    file: str
    times: int
    why: str

    def __str__(self) -> str:
        if self.kind == "left out":
            return f"left out: {self.why}"
        what = f"applied {_times(self.times)} to" if self.kind == "applied" else "already in"
        return f"{what} {self.file}: {self.why}"


@dataclass
class _Draft:
    """The new content of a file, kept until all edits are known to fit."""

    path: Path
    text: str
    mode: int
    windows: bool = False
    changed: bool = False


async def apply_changes(
    tree: Path, edits: Sequence[Edit], patches: Sequence[Patch], runner: Runner
) -> tuple[Outcome, ...]:
    """Apply edits, then patches, to a private tree; EditError with all that do not fit.

    The tree must be thrown away after an error: what fits is applied, so that the rest is judged fairly.
    """
    outcomes, problems = await in_thread(_edit, tree, edits, partly=True)
    patched, rejected = await _patch(tree, patches, runner)
    _raise(problems + rejected)
    return (*outcomes, *patched)


def apply_edits(tree: Path, edits: Sequence[Edit]) -> list[Outcome]:
    """Apply edits in order if all of them fit; EditError with all that do not, and then nothing is changed."""
    outcomes, problems = _edit(tree, edits, partly=False)
    _raise(problems)
    return outcomes


async def apply_patches(tree: Path, patches: Sequence[Patch], runner: Runner) -> list[Outcome]:
    """Apply patches (``-p1``, no fuzz) in order to a private tree; EditError with all that do not fit."""
    outcomes, problems = await _patch(tree, patches, runner)
    _raise(problems)
    return outcomes


def _raise(problems: Sequence[Problem]) -> None:
    if len(problems) == 1:
        raise EditError(problems[0].message, where=problems[0].where, hint=problems[0].hint)
    if problems:
        raise EditError("\n".join(map(str, problems)))


# ---- edits


def _edit(tree: Path, edits: Sequence[Edit], *, partly: bool) -> tuple[list[Outcome], list[Problem]]:
    """Apply edits to drafts, and write these if there is no problem, or even so (``partly``)."""
    drafts: dict[Path, _Draft] = {}
    outcomes: list[Outcome] = []
    problems: list[Problem] = []
    for edit in edits:
        result = _edit_one(tree, edit, drafts)
        if isinstance(result, Problem) and edit.optional:
            outcomes.append(Outcome("left out", edit.file, 0, result.message))
        elif isinstance(result, Problem):
            problems.append(result)
        else:
            outcomes.append(result)
    if partly or not problems:
        for draft in drafts.values():
            if draft.changed:
                _write(draft)
    return outcomes, problems


def _edit_one(tree: Path, edit: Edit, drafts: dict[Path, _Draft]) -> Outcome | Problem:
    path = (tree / edit.file).resolve()
    if not path.is_relative_to(tree.resolve()):
        return Problem(edit.where, f"{edit.file} leads out of the source tree")
    draft = drafts.get(path) or _read(path)
    if edit.write is not None:
        if path.is_dir():
            return Problem(edit.where, f"{edit.file} is a directory, it cannot be written as a file")
        drafts[path] = draft or _Draft(path, "", 0o644)
        return _written(edit, edit.write, drafts[path], exists=draft is not None)
    if draft is None:
        return Problem(edit.where, f"there is no file {edit.file}", nearest(edit.file, _paths(tree, edit.file)))
    drafts[path] = draft
    return _replaced(edit, draft)


def _written(edit: Edit, text: str, draft: _Draft, *, exists: bool) -> Outcome:
    if exists and draft.text == text and not draft.windows:
        return Outcome("present", edit.file, 1, edit.why)
    draft.text, draft.windows, draft.changed = text, False, True
    return Outcome("applied", edit.file, 1, edit.why)


def _replaced(edit: Edit, draft: _Draft) -> Outcome | Problem:
    try:
        pattern = re.compile(edit.find, re.MULTILINE)
        present = re.compile(edit.present, re.MULTILINE) if edit.present is not None else None
        text, times = pattern.subn(edit.replace, draft.text)
    except (re.error, IndexError) as error:
        return Problem(edit.where, f"the edit of {edit.file} is not a valid regular expression: {error}")
    if times == 0 and present is not None and (found := len(present.findall(draft.text))):
        return Outcome("present", edit.file, found, edit.why)
    if times == 0 or edit.count not in (times, "any"):
        return _mismatch(edit, pattern, draft.text, times)
    draft.text, draft.changed = text, True
    return Outcome("applied", edit.file, times, edit.why)


def _mismatch(edit: Edit, pattern: re.Pattern[str], text: str, times: int) -> Problem:
    message = f"{edit.file}: {edit.find!r} matches {_times(times)}, expected {_expected(edit)} ({edit.why})"
    if times:
        lines = [text.count("\n", 0, match.start()) + 1 for match in pattern.finditer(text)][:8]
        return Problem(
            edit.where, message, f"it matches in line {', '.join(map(str, lines))}: make it say more, or less"
        )
    found = [f"{edit.file}:{number}: {line.strip()}" for number, line in _similar(edit.find, text)]
    advice = "if this source has the change already, name what it looks like then with present"
    return Problem(
        edit.where, message, "\n    ".join(["lines that look like it:", *found, advice]) if found else advice
    )


def _expected(edit: Edit) -> str:
    return _times(edit.count) if isinstance(edit.count, int) else "at least once"


def _times(count: int) -> str:
    return {0: "nowhere", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _similar(find: str, text: str) -> list[tuple[int, str]]:
    """Return number and text of the lines that look most like the longest line a pattern stands for."""
    plain = _MARKS.sub(lambda match: match.group(1) or " ", find.replace(r"\n", "\n"))
    wanted = max((line.strip() for line in plain.splitlines()), key=len, default="")
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted)
    rated = []
    for number, line in enumerate(text.splitlines(), 1):
        matcher.set_seq1(line.strip())
        if matcher.real_quick_ratio() > 0.5 and matcher.quick_ratio() > 0.5 and (ratio := matcher.ratio()) > 0.5:
            rated.append((-ratio, number, line))
    return [(number, line) for _, number, line in sorted(rated)[:3]]


def _paths(tree: Path, wanted: str) -> list[str]:
    """Return the paths of the tree, only those of the same file name if there are any."""
    paths = [os.path.relpath(os.path.join(place, name), tree) for place, _, names in os.walk(tree) for name in names]
    same = [path for path in paths if Path(path).name == Path(wanted).name]
    return same or paths


def _read(path: Path) -> _Draft | None:
    if not path.is_file():
        return None
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    windows = "\n" in text and text.count("\n") == text.count("\r\n")
    mode = stat.S_IMODE(path.stat().st_mode)
    return _Draft(path, text.replace("\r\n", "\n") if windows else text, mode, windows)


def _write(draft: _Draft) -> None:
    """Replace a file by another one, so that no hard link to the old one sees the change."""
    text = draft.text.replace("\n", "\r\n") if draft.windows else draft.text
    draft.path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=draft.path.parent, prefix=f".{draft.path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        os.chmod(name, draft.mode)
        os.replace(name, draft.path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


# ---- patches


async def _patch(tree: Path, patches: Sequence[Patch], runner: Runner) -> tuple[list[Outcome], list[Problem]]:
    outcomes: list[Outcome] = []
    problems: list[Problem] = []
    for patch in patches:
        rejects = await _git_apply(tree, patch, runner, "--check")
        if not rejects:
            rejects = await _git_apply(tree, patch, runner)
            kind = "applied"
        elif not await _git_apply(tree, patch, runner, "--check", "--reverse"):
            rejects, kind = [], "present"
        if rejects:
            message = f"{patch.path.name} does not fit: {'; '.join(rejects)} ({patch.why})"
            hint = "the source differs from the one it was made for: make the patch anew, or limit it with when"
            problems.append(Problem(patch.where, message, hint))
        else:
            outcomes.append(Outcome(kind, patch.path.name, 1, patch.why))
    return outcomes, problems


async def _git_apply(tree: Path, patch: Patch, runner: Runner, *options: str) -> list[str]:
    """Run ``git apply`` and return its complaints; a repository around the tree must not be found."""
    env = {
        **BASE_ENVIRONMENT,
        "GIT_CEILING_DIRECTORIES": str(tree.resolve().parent),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    alone = replace(runner, tail=deque(maxlen=runner.tail.maxlen))
    status = await alone.run(["git", "apply", *options, str(patch.path.resolve())], env=env, cwd=tree, check=False)
    return list(_complaints(alone.tail)) or [f"git apply ended with status {status}"] if status else []


def _complaints(lines: Sequence[str] | deque[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("error: ") and not line.endswith(": patch does not apply"):
            yield line.removeprefix("error: ").removeprefix("patch failed: ")
