"""Strict YAML with source positions: every problem of a file at once, each with line and column."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rocmbuild.errors import DocumentError, Problem, UsageError, nearest
from rocmbuild.model.acceptance import Accept, acceptor

Path_ = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, from 1."""

_SCHEMAS = Path(__file__).parents[1] / "data" / "schemas"
_SCALAR, _MAPPING, _SEQUENCE = yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent
_QUICK: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML has it, is ten times as fast

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(?=\.?[0-9])([0-9][0-9_]*)?\.[0-9]*([eE][-+]?[0-9]+)?\Z|[-+]?[0-9]+[eE][-+]?[0-9]+\Z")
_NUMERIC = frozenset("0123456789+-.")
_LITERALS: Mapping[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True)
class Document:
    """Plain data of one YAML file and the position of each of its values."""

    path: str
    data: dict[str, Any]
    marks: Mapping[Path_, Place] = field(repr=False)
    keys: Mapping[Path_, Place] = field(repr=False)
    """where the key of each value is"""

    def where(self, *path: str | int) -> str:
        """Return ``file:line:column`` of the value at ``path``, or of its nearest parent."""
        while path and path not in self.marks:
            path = path[:-1]
        return _where(self.path, self.marks.get(path, (1, 1)))

    def problem(self, path: Path_, message: str, hint: str | None = None) -> Problem:
        """Return a problem located at ``path``, named by its dotted path."""
        return Problem(self.where(*path), f"{_dotted(path)}: {message}" if path else message, hint)


def load(path: Path, schema: str) -> Document:
    """Read ``path`` and check it against the schema that ships as ``data/schemas/<schema>.json``.

    Raises DocumentError with all problems found, UsageError if the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read it: {error}", where=str(path)) from error
    return parse(text, str(path), schema)


def parse(text: str, name: str, schema: str) -> Document:
    """Parse and check YAML text; ``name`` is the file name used in messages."""
    return _accepted(text, name, schema) or _judged(text, name, schema)


def _accepted(text: str, name: str, schema: str) -> Document | None:
    """Return a document that is right, as nearly all are; None for one that has to be judged."""
    if "\t" in text:
        return None  # libyaml lets tabs pass where Python's parser does not
    builder = _Builder(name, _QUICK(text), quick=True)
    try:
        data = builder.document()
    except yaml.YAMLError:
        return None
    right = isinstance(data, dict) and not builder.problems and _accept(schema)(data)
    return Document(name, data, builder.marks, builder.keys) if right else None


def _judged(text: str, name: str, schema: str) -> Document:
    """Return a document after a thorough look; DocumentError has all its problems, in the words of Python's parser."""
    try:
        builder = _Builder(name, yaml.SafeLoader(text))
        data = builder.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else f"{name}:1:1"
        raise DocumentError([Problem(at, f"not YAML: {error.problem or error.context}")]) from error
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position), error.position - text.rfind("\n", 0, error.position)
        at = f"{name}:{line + 1}:{column}"
        raise DocumentError([Problem(at, f"not YAML: the character #x{error.character:04x} is not allowed")]) from error
    if not isinstance(data, dict):
        raise DocumentError([*builder.problems, Problem(f"{name}:1:1", "a mapping is expected here")])
    document = Document(name, data, builder.marks, builder.keys)
    problems = [*builder.problems, *_schema_problems(document, schema)]
    if problems:
        raise DocumentError(in_order(problems))
    return document


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return the distinct problems of one file in the order of their places."""
    return sorted(set(problems), key=_position)


class _Builder:
    """Turn the events of a parser into plain data, noting positions and what the schema cannot see.

    ``quick`` raises YAMLError for what libyaml reads, but Python's parser does not, or not so: ``?`` in plain words,
    and tags before a comma. A file must mean the same on every machine.
    """

    def __init__(self, name: str, parser: Any, *, quick: bool = False) -> None:
        self.name = name
        self.marks: dict[Path_, Place] = {}
        self.keys: dict[Path_, Place] = {}
        self.problems: list[Problem] = []
        self._next: Callable[[], Any] = parser.get_event
        self._quick = quick

    def document(self) -> Any:
        """Return the data of the only document; raises YAMLError for none that is whole, or for two."""
        self._next()
        first = self._next()
        if isinstance(first, yaml.StreamEndEvent):
            return None
        data = self._value(self._next(), ())
        self._next()
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            expected = "expected a single document in the stream"
            raise yaml.composer.ComposerError(
                expected, first.start_mark, "but found another document", after.start_mark
            )
        return data

    def _value(self, event: Any, path: Path_) -> Any:
        if event.anchor is not None:
            raise _alias(event)
        self.marks[path] = _place(event)
        kind = type(event)
        if kind is _SCALAR and event.tag is None:
            return event.value if event.style else self._plain(event.value, path)
        if event.tag is not None:
            self._tag(event)
        if kind is _MAPPING:
            return self._mapping(path)
        if kind is _SEQUENCE:
            return self._sequence(path)
        return event.value if event.style else self._plain(event.value, path)

    def _sequence(self, path: Path_) -> list[Any]:
        result: list[Any] = []
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            result.append(self._value(event, (*path, len(result))))
        return result

    def _mapping(self, path: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while type(event := self._next()) is not yaml.MappingEndEvent:
            if event.anchor is not None:
                raise _alias(event)
            key = self._key(event, path, result)
            if key is None:
                self._skip(self._next())
                continue
            place = (*path, key)
            self.keys[place] = _place(event)
            result[key] = self._value(self._next(), place)
        return result

    def _key(self, event: Any, path: Path_, known: Mapping[str, Any]) -> str | None:
        """Return a key, None for what cannot be one."""
        if type(event) is not _SCALAR:
            self._complain(_place(event), "a key is a plain word, not a list or a mapping")
            self._skip(event)
            return None
        key = str(event.value)
        if self._quick and (event.tag is not None or "?" in key):
            raise yaml.YAMLError
        if key not in known:
            return key
        first = _where(self.name, self.keys[(*path, key)])
        message = f"{_dotted((*path, key))}: this key was given before, at {first}"
        self._complain(_place(event), message, "keep one of them")
        return None

    def _skip(self, event: Any) -> None:
        """Pass by a value."""
        depth = 0
        while True:
            if getattr(event, "anchor", None) is not None:
                raise _alias(event)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth == 0:
                return
            event = self._next()

    def _tag(self, event: Any) -> None:
        """Refuse a tag of the file's own; those of YAML change nothing."""
        if self._quick:
            raise yaml.YAMLError
        if event.tag.startswith("!") and event.tag != "!":
            self._complain(_place(event), f"the tag {event.tag} means nothing here", "leave it out")

    def _plain(self, text: str, path: Path_) -> Any:
        """Return what a scalar without quotes stands for."""
        if self._quick and "?" in text:
            raise yaml.YAMLError
        if text in _LITERALS:
            return _LITERALS[text]
        if text[:1] not in _NUMERIC:
            return text
        if _INTEGER.match(text):
            return int(text)
        if _FLOAT.match(text):
            message = f"{_dotted(path)}: {text} would be read as a number"
            self._complain(self.marks[path], message, f'quote it: "{text}"')
        return text

    def _complain(self, place: Place, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(_where(self.name, place), message, hint))


def _alias(event: Any) -> yaml.MarkedYAMLError:
    """Return the error for an anchor or an alias: they hide facts and can explode."""
    message = "anchors and aliases are not allowed; write the value out"
    return yaml.composer.ComposerError(None, None, message, event.start_mark)


def _place(event: Any) -> Place:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _where(name: str, place: Place) -> str:
    return f"{name}:{place[0]}:{place[1]}"


def _schema_problems(document: Document, schema: str) -> Iterator[Problem]:
    for error in _validator(schema).iter_errors(document.data):
        path = tuple(error.absolute_path)
        if error.validator == "additionalProperties" and isinstance(error.instance, dict):
            yield from _unknown_keys(document, error, path)
        elif error.validator == "required":
            yield from (
                document.problem(path, f"the key {key} is missing")
                for key in error.validator_value
                if key not in error.instance
            )
        else:
            yield document.problem(path, _plain(error), error.schema.get("$comment"))


def _plain(error: Any) -> str:
    value = json.dumps(error.instance, default=str)
    if error.validator == "type":
        return f"{value[:60]} is not of type {error.validator_value!r}"
    if error.validator == "const":
        return f"{value[:60]} is not {json.dumps(error.validator_value)}, the only value that is understood"
    if error.validator == "pattern":
        return f"{value[:80]} is not {error.schema.get('title', f'of the form {error.validator_value}')}"
    return str(error.message)[:200]


def _unknown_keys(document: Document, error: Any, path: Path_) -> Iterator[Problem]:
    known = error.schema.get("properties", {})
    for key in error.instance:
        if key not in known:
            yield Problem(
                _where(document.path, document.keys[(*path, key)]),
                f"{_dotted((*path, key))}: unknown key",
                nearest(key, known),
            )


@cache
def _accept(schema: str) -> Accept:
    return acceptor(_schema(schema))


@cache
def _validator(schema: str) -> Any:
    import jsonschema  # imported late: it costs a tenth of a second, and is asked only about what is not right

    return jsonschema.Draft202012Validator(_schema(schema))


def _schema(name: str) -> Any:
    return json.loads((_SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


def _dotted(path: Path_) -> str:
    return ".".join(str(part) for part in path)


def _position(problem: Problem) -> tuple[int, int, str]:
    _, line, column = problem.where.rsplit(":", 2)
    return int(line), int(column), problem.message
