"""What was built before, and whether it is still what a plan wants: the end of a wave of rebuilds.

A static key is known before anything is built, but it moves with every comment in a need. What a component is really
made from is its own inputs and the *outputs* of its needs; a stage tree that was made from the same is kept.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rocmbuild.plan import fingerprint


class Action(enum.Enum):
    """What a plan does about a component."""

    BUILD = "BUILD"
    RESTORE = "RESTORE"
    KEEP = "KEEP"
    PROVIDED = "PROVIDED"


@dataclass(frozen=True)
class Record:
    """Inputs that gave a stage tree: the static key, the key of the component's own ones, the outputs of its needs."""

    key: str
    own: str
    needs: Mapping[str, str | None]

    @property
    def action(self) -> str:
        """Return the action key."""
        return fingerprint.action_key(self.own, self.needs)

    def fits(self, own: str, needs: Mapping[str, str | None]) -> bool:
        """Return whether inputs are these, or may be: None stands for an output that is not known yet."""
        same = own == self.own and needs.keys() == self.needs.keys()
        return same and all(output in (None, self.needs[name]) for name, output in needs.items())


@dataclass(frozen=True)
class Built:
    """What a component's stamps say was made.

    ``key`` is the static key, ``root`` the root's digest, ``packages`` the key of its packages, ``output`` the digest
    of the stage tree. Each of ``records``, the newest first, gave this same tree with the same root; ``inputs`` are
    those of the newest, for people.
    """

    key: str
    root: str | None
    packages: str | None
    seconds: float
    output: str
    records: tuple[Record, ...] = ()
    inputs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Stored:
    """What the store has of a component: the digest of the stage tree, the key of the packages that lie beside it."""

    output: str
    packages: str | None


@dataclass(frozen=True)
class Wanted:
    """What a plan wants of a component: keys, the root's digest if it is known, what its needs give.

    In ``needs`` None stands for the output of a need that will be built.
    """

    key: str
    own: str
    root: str | None
    needs: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def pending(self) -> str | None:
        """Return the name of the first need whose output is not known yet."""
        return next((name for name, output in self.needs.items() if output is None), None)

    @property
    def store_key(self) -> str | None:
        """Return the key that the store would have it under; None while a need's output or the root is not known."""
        if self.root is None or self.pending is not None:
            return None
        return fingerprint.store_key(fingerprint.action_key(self.own, self.needs), self.root)


@dataclass(frozen=True)
class Decision:
    """An action and its reason; ``conditional`` is a build that is left out if the needs come out unchanged."""

    action: Action
    reason: str
    conditional: bool = False


def decide(wanted: Wanted, built: Built | None) -> Decision:
    """Return what has to be done about a component that is not provided."""
    if built is None:
        return Decision(Action.BUILD, "not built yet")
    pending = wanted.pending
    if not any(record.fits(wanted.own, wanted.needs) for record in _records(built, wanted)):
        return Decision(Action.BUILD, _reason(wanted, built))
    if wanted.root is not None and built.root != wanted.root:
        return Decision(Action.BUILD, "the build root has other package versions")
    if pending is not None:
        return Decision(Action.BUILD, f"{pending} is built anew; kept if that changes nothing", conditional=True)
    return Decision(Action.KEEP, "up to date")


def _records(built: Built, wanted: Wanted) -> tuple[Record, ...]:
    """Return the records of a stamp; one of an older rocmbuild has none, and only its static key counts."""
    older = not built.records and built.key == wanted.key and wanted.pending is None
    return (Record(wanted.key, wanted.own, wanted.needs),) if older else built.records


def _reason(wanted: Wanted, built: Built) -> str:
    if not built.records:
        anew = wanted.pending is not None and built.key == wanted.key
        return f"{wanted.pending} is built anew" if anew else "its inputs changed"
    last = built.records[0]
    if last.own == wanted.own and last.needs.keys() == wanted.needs.keys():
        return f"{next(_other_outputs(last.needs, wanted.needs), 'a need')} gives something else"
    return "its inputs changed"


def _other_outputs(old: Mapping[str, str | None], new: Mapping[str, str | None]) -> Iterator[str]:
    """Yield the needs whose outputs are known to differ."""
    yield from (name for name, output in new.items() if output is not None and output != old.get(name))


@dataclass(frozen=True)
class Difference:
    """An input that changed, by its name with dots; None is one that is not there."""

    name: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        if self.old is None and self.new is None:
            return self.name
        old, new = ("(nothing)" if text is None else text for text in (self.old, self.new))
        return f"{self.name}: {old} → {new}"


def why(wanted: Wanted, built: Built, inputs: Mapping[str, Any]) -> list[Difference]:
    """Return what changed since a component was built; ``inputs`` are its own ones now."""
    found = [] if built.inputs is None else list(differences(built.inputs, inputs))
    if built.inputs is None and built.key != wanted.key:
        found.append(Difference("its inputs; the rocmbuild that built it did not note which there were", None, None))
    old = built.records[0].needs if built.records else wanted.needs
    for name in sorted({*old, *wanted.needs}):
        found += _need(name, old, wanted.needs)
    if wanted.root is not None and built.root != wanted.root:
        found.append(Difference("root: other package versions", None, None))
    if not found and built.records and built.records[0].own != wanted.own:
        found.append(Difference("rocmbuild: it builds the same inputs differently now", None, None))
    return found


def _need(name: str, old: Mapping[str, str | None], new: Mapping[str, str | None]) -> list[Difference]:
    if name not in old or name not in new:
        said = "new" if name in new else "needed no more"
    elif new[name] is None:
        said = "built anew"
    elif old[name] != new[name]:
        said = "output changed"
    else:
        return []
    return [Difference(f"needs.{name}: {said}", None, None)]


def differences(old: Any, new: Any, name: str = "") -> Iterator[Difference]:
    """Yield what differs between two values of plain data; lists are told by the items that came and went."""
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif isinstance(old, list) and isinstance(new, list):
        gone, come = (_without(*pair) for pair in ((old, new), (new, old)))
        yield Difference(name, _items(gone), _items(come)) if gone or come else Difference(f"{name}: order", None, None)
    else:
        yield Difference(name, _text(old), _text(new))


def _without(items: Iterable[Any], others: list[Any]) -> list[Any]:
    return [item for item in items if item not in others]


def _items(items: list[Any]) -> str | None:
    return ", ".join(_text(item) or "" for item in items) or None


_DIGEST = 64
_SHOWN = 12


def _text(value: Any) -> str | None:
    """Write a value down; sums are cut as git does it."""
    if value is None:
        return None
    if isinstance(value, list):
        return f"[{', '.join(_text(item) or '' for item in value)}]"
    text = str(value)
    hexadecimal = len(text) in (40, _DIGEST) and not set(text) - set("0123456789abcdef")
    return text[:_SHOWN] if hexadecimal else text
