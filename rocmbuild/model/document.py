"""Strict YAML with source positions: every problem of a file at once, each with line and column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from rocmbuild.errors import DocumentError, Problem, UsageError, nearest

Path_ = tuple[str | int, ...]

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(?=\.?[0-9])([0-9][0-9_]*)?\.[0-9]*([eE][-+]?[0-9]+)?\Z|[-+]?[0-9]+[eE][-+]?[0-9]+\Z")
_LITERALS: Mapping[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True)
class Document:
    """Plain data of one YAML file and the position of each of its values."""

    path: str
    data: dict[str, Any]
    marks: Mapping[Path_, str] = field(repr=False)

    def where(self, *path: str | int) -> str:
        """Return ``file:line:column`` of the value at ``path``, or of its nearest parent."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, f"{self.path}:1:1")

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
    builder = _Builder(name)
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else f"{name}:1:1"
        raise DocumentError([Problem(at, f"not YAML: {error.problem or error.context}")]) from error
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position), error.position - text.rfind("\n", 0, error.position)
        at = f"{name}:{line + 1}:{column}"
        raise DocumentError([Problem(at, f"not YAML: the character #x{error.character:04x} is not allowed")]) from error
    data = builder.build(node, ()) if node is not None else None
    if not isinstance(data, dict):
        raise DocumentError([*builder.problems, Problem(f"{name}:1:1", "a mapping is expected here")])
    document = Document(name, data, builder.marks)
    problems = [*builder.problems, *_schema_problems(document, schema)]
    if problems:
        raise DocumentError(in_order(problems))
    return document


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return the distinct problems of one file in the order of their places."""
    return sorted(set(problems), key=_position)


class _Loader(yaml.SafeLoader):
    """Compose nodes, refusing aliases (they hide facts and can explode)."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.composer.ComposerError(
                None, None, "anchors and aliases are not allowed; write the value out", event.start_mark
            )
        return super().compose_node(parent, index)


class _Builder:
    """Turn YAML nodes into plain data, noting positions and what the schema cannot see."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.marks: dict[Path_, str] = {}
        self.problems: list[Problem] = []

    def build(self, node: yaml.Node, path: Path_) -> Any:
        self.marks.setdefault(path, self._at(node))
        if node.tag.startswith("!"):
            self.problems.append(Problem(self._at(node), f"the tag {node.tag} means nothing here", "leave it out"))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(self._at(key_node), "a key is a plain word, not a list or a mapping"))
                continue
            key = str(key_node.value)
            if key in result:
                dotted, first = _dotted((*path, key)), self.marks[(*path, f"{key}:")]
                message = f"{dotted}: this key was given before, at {first}"
                self.problems.append(Problem(self._at(key_node), message, "keep one of them"))
                continue
            self.marks[(*path, key)] = self._at(key_node)
            value = self.build(value_node, (*path, key))
            self.marks[(*path, key)] = self._at(value_node)
            self.marks[(*path, f"{key}:")] = self._at(key_node)
            result[key] = value
        return result

    def _scalar(self, node: yaml.Node, path: Path_) -> Any:
        text = str(node.value)
        if getattr(node, "style", None) is not None:
            return text
        if text.lower() in _LITERALS and text in (text.lower(), ""):
            return _LITERALS[text]
        if _INTEGER.match(text):
            return int(text)
        if _FLOAT.match(text):
            message = f"{_dotted(path)}: {text} would be read as a number"
            self.problems.append(Problem(self._at(node), message, f'quote it: "{text}"'))
        return text

    def _at(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


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
            at = document.where(*path, f"{key}:")
            yield Problem(at, f"{_dotted((*path, key))}: unknown key", nearest(key, known))


@cache
def _validator(schema: str) -> Any:
    import jsonschema  # imported late: it costs a tenth of a second

    text = files("rocmbuild").joinpath(f"data/schemas/{schema}.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def _dotted(path: Path_) -> str:
    return ".".join(str(part) for part in path)


def _position(problem: Problem) -> tuple[int, int, str]:
    _, line, column = problem.where.rsplit(":", 2)
    return int(line), int(column), problem.message
