"""What is accepted here is what jsonschema accepts: for the documents that ship, and for every mistake made in them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import rocmbuild
from rocmbuild.model import document
from rocmbuild.model.acceptance import acceptor

PACKAGE = Path(rocmbuild.__file__).parent
TREE = PACKAGE.parent
SHIPPED = {
    "recipe": sorted(TREE.glob("recipes/*/recipe.yaml")),
    "manifest": sorted(TREE.glob("manifests/*.yaml")),
    "target": sorted(PACKAGE.glob("data/targets/*.yaml")),
    "distribution": sorted(PACKAGE.glob("data/distributions/*.yaml")),
    "gpus": [PACKAGE / "data/gpus.yaml"],
}
WRITTEN = {
    "lock": [{"format": 1, "branch": "b", "sources": {"hip": {"ref": "r", "url": "u", "commit": "0" * 40}}}],
    "config": [{"branch": "b", "jobs": 2, "memory": "2G", "source": {"hip": "x"}, "gpu": ["gfx900"]}],
}
"""Of these none ships."""
SCHEMAS = sorted(path.stem for path in PACKAGE.glob("data/schemas/*.json"))
VALUES = (
    None,
    True,
    False,
    0,
    1,
    -1,
    17,
    "",
    "x",
    "../x",
    "/x",
    "any",
    "2G",
    "5.6.1",
    "a" * 40,
    [],
    {},
    ["x"],
    {"x": 1},
)
WORDS = ("x", "X", "name", "why", "version", "")


def schema(name: str) -> Any:
    return json.loads((PACKAGE / "data/schemas" / f"{name}.json").read_text())


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container with every key or index in it."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield data, key
        yield from places(value)


def mistaken(data: Any, chance: random.Random) -> Any:
    """Return a copy in which one place is something else, gone, or given another name."""
    changed = copy.deepcopy(data)
    container, key = chance.choice(list(places(changed)))
    match chance.randrange(4):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[chance.choice(WORDS)] = container.pop(key)
        case 2 if isinstance(container, dict):
            container[chance.choice(WORDS)] = chance.choice(VALUES)
        case _:
            container[key] = chance.choice(VALUES)
    return changed


@pytest.mark.parametrize("kind", SHIPPED)
def test_what_ships_is_accepted_without_jsonschema(kind):
    for path in SHIPPED[kind]:
        assert acceptor(schema(kind))(document.load(path, kind).data), path


@pytest.mark.parametrize("kind", [*SHIPPED, *WRITTEN])
def test_the_verdict_on_a_mistake_is_that_of_jsonschema(kind):
    chance, accept = random.Random(kind), acceptor(schema(kind))
    judge = jsonschema.Draft202012Validator(schema(kind))
    good = WRITTEN.get(kind) or [document.load(path, kind).data for path in SHIPPED[kind]]
    assert all(map(accept, good))
    verdicts = set()
    for _ in range(400):
        data = mistaken(chance.choice(good), chance)
        verdicts.add(accept(data))
        assert accept(data) is judge.is_valid(data), data
    assert verdicts == {True, False}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_keyword_of_the_schemas_is_known(name):
    assert acceptor(schema(name)).__name__ != "_nothing"


CASES: dict[str, Any] = {
    "type": {"type": "integer"},
    "types": {"type": ["string", "null"]},
    "const": {"const": 1},
    "const of truth": {"const": True},
    "enum": {"enum": ["x", 1, None, False]},
    "pattern": {"pattern": "^[0-9]+$"},
    "minimum": {"minimum": 1},
    "minLength": {"minLength": 2},
    "minItems": {"minItems": 1},
    "minProperties": {"minProperties": 1},
    "required": {"required": ["x"]},
    "items": {"items": {"type": "string"}},
    "propertyNames": {"propertyNames": {"minLength": 1}},
    "properties": {"properties": {"x": {"type": "integer"}}},
    "properties and no other": {"properties": {"y": True}, "additionalProperties": False},
    "no properties": {"additionalProperties": False},
    "properties of one kind": {"additionalProperties": {"type": "integer"}},
    "true": True,
    "false": False,
    "reference": {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}},
    "reference and more": {"$ref": "#/$defs/n", "minimum": 5, "$defs": {"n": {"type": "integer"}}},
    "reference to itself": {
        "$ref": "#/$defs/n",
        "$defs": {"n": {"type": ["array", "integer"], "items": {"$ref": "#/$defs/n"}}},
    },
}


@pytest.mark.parametrize("name", CASES)
def test_each_keyword_means_what_it_means_to_jsonschema(name):
    accept, judge = acceptor(CASES[name]), jsonschema.Draft202012Validator(CASES[name])
    for data in (*VALUES, "12", "1\n", [1], [[1], 2], [["x"]], {"y": 1}, {"": 1}, {"x": "x"}, 5):
        assert accept(data) is judge.is_valid(data), data


@pytest.mark.parametrize(
    "unknown",
    [
        {"maxLength": 3},
        {"anyOf": [True]},
        {"type": "number"},
        {"const": [1]},
        {"enum": [1.5]},
        {"$ref": "other.json"},
        {"$ref": "#/properties/x", "properties": {"x": True}},
        {"properties": {"x": {"maxLength": 3}}},
    ],
)
def test_a_schema_that_is_not_understood_accepts_nothing(unknown):
    accept = acceptor(unknown)
    assert not any(accept(data) for data in VALUES)
