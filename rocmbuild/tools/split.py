"""Which package owns which file of a stage tree: patterns of recipes applied to a list of paths. Pure.

A pattern is relative to the prefix, or to the root when it begins with ``/``. ``*`` stands for any characters but
``/``, ``**`` for any at all (``lib/**/x`` is also ``lib/x``), and a final ``/`` for everything below a directory.
A pattern that begins with ``?`` may match nothing; a package of which only such patterns match nothing is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.errors import PackageError
from rocmbuild.model.recipe import Discard, PackageRule

SHOWN = 20
"""How many files of a kind a message lists."""

_TOKEN = re.compile(r"\*\*/|\*\*|\*|[^*]+")


@dataclass(frozen=True)
class Split:
    """The sorted files of each package, in the order of the recipe, and those that belong to none."""

    packages: Mapping[str, tuple[str, ...]]
    discarded: tuple[str, ...]


def split(
    tree: Iterable[str], prefix: str, rules: Sequence[PackageRule], discards: Sequence[Discard], where: str
) -> Split:
    """Give each entry (a file or link, relative to the stage tree) to the first rule that has a pattern for it.

    Discards go before the rules. ``where`` is the recipe, for messages. Raises PackageError for files without an
    owner, for patterns without a file, for packages without either, and for packages defined twice.
    """
    tree = sorted(tree)
    _check_names(rules)
    unwanted = discarded(tree, prefix, discards, where)
    free = [entry for entry in tree if entry not in unwanted]
    packages: dict[str, tuple[str, ...]] = {}
    for rule in rules:
        claimed = _claim(tree, rule.files, prefix, rule.where or where)
        owned = tuple(entry for entry in free if entry in claimed)
        free = [entry for entry in free if entry not in claimed]
        if owned or not rule.files:
            packages[rule.name] = owned
        elif claimed or not all(pattern.startswith("?") for pattern in rule.files):
            raise PackageError(
                f"package {rule.name} is empty: packages before it, or discards, have all of its files",
                where=rule.where or where,
                hint="put it before them, or make their patterns narrower",
            )
    _check_owners(free, prefix, where)
    return Split(packages, tuple(entry for entry in tree if entry in unwanted))


def entries(stage: Path) -> Iterator[str]:
    """Give the files and links of a stage tree, relative to it; empty directories do not count."""
    for path in stage.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(stage).as_posix()


def discarded(tree: Iterable[str], prefix: str, discards: Sequence[Discard], where: str) -> frozenset[str]:
    """Return the entries that a recipe does not want; PackageError for a pattern without a file."""
    patterns = [pattern for discard in discards for pattern in discard.files]
    return _claim(sorted(tree), patterns, prefix, f"{where}: discard")


def matcher(pattern: str, prefix: str) -> Callable[[str], object]:
    """Return a test whether a path relative to the stage tree matches a pattern (without its ``?``)."""
    absolute = pattern if pattern.startswith("/") else f"{prefix.rstrip('/')}/{pattern}"
    if absolute.endswith("/"):
        absolute += "**"
    parts = (_token(token) for token in _TOKEN.findall(absolute.lstrip("/")))
    return re.compile("".join(parts), re.DOTALL).fullmatch


def _token(token: str) -> str:
    return {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*"}.get(token) or re.escape(token)


def _claim(tree: Sequence[str], texts: Iterable[str], prefix: str, where: str) -> frozenset[str]:
    """Return the entries that any of the patterns matches; every pattern without ``?`` must match one."""
    claimed: set[str] = set()
    for text in texts:
        test = matcher(text.removeprefix("?"), prefix)
        found = [entry for entry in tree if test(entry)]
        if not found and not text.startswith("?"):
            raise PackageError(
                f"the pattern {text} matches no file of the stage tree", where=where, hint=_remedy(text, tree, prefix)
            )
        claimed.update(found)
    return frozenset(claimed)


def _remedy(text: str, tree: Sequence[str], prefix: str) -> str:
    below = matcher(f"{text.rstrip('/')}/", prefix)
    if any(below(entry) for entry in tree):
        return f"it is a directory: write {text}/ for everything below it"
    return f"correct it, or write ?{text} if these files may be missing"


def _check_names(rules: Sequence[PackageRule]) -> None:
    seen: dict[str, str] = {}
    for rule in rules:
        if rule.name in seen:
            raise PackageError(
                f"package {rule.name} is defined twice, first at {seen[rule.name]}",
                where=rule.where,
                hint="keep one of them, or give one another name",
            )
        seen[rule.name] = rule.where


def _check_owners(free: Sequence[str], prefix: str, where: str) -> None:
    if not free:
        return
    inside = prefix.strip("/") + "/"
    shown = [entry.removeprefix(inside) if entry.startswith(inside) else f"/{entry}" for entry in free[:SHOWN]]
    more = f"\n  and {len(free) - SHOWN} more" if len(free) > SHOWN else ""
    raise PackageError(
        f"{len(free)} file{'s' * (len(free) > 1)} of the stage tree belong{'s' * (len(free) == 1)} to no package:\n  "
        + "\n  ".join(shown)
        + more,
        where=where,
        hint="add a pattern for them to files of a package, or to discard with the reason",
    )
