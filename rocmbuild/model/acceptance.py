"""Accept documents that fit their schema, quickly; what is not accepted is jsonschema's to judge and to explain.

Nearly every document that is read is right. To find that out with jsonschema takes ten times as long as to read the
file, and loading it a tenth of a second; so a schema is turned into functions here, one for each keyword that our
schemas use. A schema with any other keyword accepts nothing, which costs time and changes no verdict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sized
from typing import Any

Accept = Callable[[Any], bool]

_TYPES: Mapping[str, type] = {
    **{"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "null": type(None)},
}
_ANNOTATIONS = frozenset({"$schema", "$comment", "$defs", "title", "description"})


class _UnknownError(Exception):
    """Report a keyword, or a use of one, that only jsonschema knows."""


def acceptor(schema: Any) -> Accept:
    """Return a function that is true only of plain data (without floats) that ``schema`` accepts."""
    try:
        return _Compiler(schema).compile(schema)
    except _UnknownError:
        return _nothing


class _Compiler:
    """Turn the parts of one schema into functions; a ``$ref`` to a part leads to the function made of it."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._definitions: dict[str, list[Accept]] = {}

    def compile(self, schema: Any) -> Accept:
        if isinstance(schema, bool):
            return _anything if schema else _nothing
        checks = [self._keyword(key, value, schema) for key, value in schema.items() if key not in _ANNOTATIONS]
        return _all([check for check in checks if check is not _anything])

    def _keyword(self, key: str, value: Any, schema: Mapping[str, Any]) -> Accept:
        if key in _SIMPLE:
            return _SIMPLE[key](value)
        match key:
            case "items":
                return _items(self.compile(value))
            case "propertyNames":
                return _names(self.compile(value))
            case "properties":
                return self._properties(value, schema.get("additionalProperties", True))
            case "additionalProperties":  # with properties, these see to it
                return _anything if "properties" in schema else self._properties({}, value)
            case "$ref":
                return self._reference(value)
        raise _UnknownError(key)

    def _properties(self, properties: Mapping[str, Any], additional: Any) -> Accept:
        known = {name: self.compile(schema) for name, schema in properties.items()}
        other = self.compile(additional)

        def accept(data: Any) -> bool:
            if isinstance(data, dict):
                for name, value in data.items():
                    if not known.get(name, other)(value):
                        return False
            return True

        return accept

    def _reference(self, name: str) -> Accept:
        """Return the function of a part; it may be asked for while it is being made, so it is looked up late."""
        prefix, _, key = name.rpartition("/")
        if prefix != "#/$defs" or key not in self._root.get("$defs", {}):
            raise _UnknownError(name)
        if name not in self._definitions:
            made = self._definitions[name] = []
            made.append(self.compile(self._root["$defs"][key]))
        parts = self._definitions[name]

        def accept(data: Any) -> bool:
            return parts[0](data)

        return accept


def _anything(_data: Any) -> bool:
    return True


def _nothing(_data: Any) -> bool:
    return False


def _all(checks: list[Accept]) -> Accept:
    if len(checks) <= 1:
        return checks[0] if checks else _anything

    def accept(data: Any) -> bool:
        for check in checks:  # noqa: SIM110  # all() takes twice as long, and this is called most of all
            if not check(data):
                return False
        return True

    return accept


def _type(names: list[str]) -> Accept:
    if not set(names) <= _TYPES.keys():
        raise _UnknownError("type")
    types = frozenset(_TYPES[name] for name in names)
    return lambda data: type(data) in types  # exactly: a truth value is no integer


def _one_of(values: list[Any]) -> Accept:
    if not all(isinstance(value, str | bool | int | None) for value in values):
        raise _UnknownError("enum")
    return lambda data: any(type(data) is type(value) and data == value for value in values)


def _pattern(pattern: str) -> Accept:
    search = re.compile(pattern).search
    return lambda data: not isinstance(data, str) or search(data) is not None


def _minimum(least: int) -> Accept:
    return lambda data: type(data) is not int or data >= least


def _at_least(kind: type[Sized]) -> Callable[[int], Accept]:
    return lambda least: lambda data: not isinstance(data, kind) or len(data) >= least


def _required(names: list[str]) -> Accept:
    return lambda data: not isinstance(data, dict) or all(name in data for name in names)


def _items(item: Accept) -> Accept:
    return lambda data: not isinstance(data, list) or all(map(item, data))


def _names(name: Accept) -> Accept:
    return lambda data: not isinstance(data, dict) or all(map(name, data))


_SIMPLE: Mapping[str, Callable[[Any], Accept]] = {
    "type": lambda value: _type([value] if isinstance(value, str) else value),
    "const": lambda value: _one_of([value]),
    "enum": _one_of,
    "pattern": _pattern,
    "minimum": _minimum,
    "minLength": _at_least(str),
    "minItems": _at_least(list),
    "minProperties": _at_least(dict),
    "required": _required,
}
"""Keywords whose values are no schemas."""
