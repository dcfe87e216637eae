"""The description of the formats is held to the schemas, and its example is built."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.forge import Forge

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/formats.md").read_text()
SCHEMAS = ("manifest", "recipe", "target", "distribution", "lock")

LIBRARY = {
    "LICENSE": "MIT License\n\nCopyright (c) 2023 The Greeters\n",
    "include/greet.h": "void greet(void);\n",
    "greet.c": '#include <stdio.h>\n\nvoid greet(void)\n{\n    puts("hello");\n}\n',
    "CMakeLists.txt": "\n".join(
        (
            "cmake_minimum_required(VERSION 3.20)",
            "project(greet VERSION 1.2.0 LANGUAGES C)",
            "add_library(greet greet.c)",
            "set_target_properties(greet PROPERTIES VERSION 1.2.0 SOVERSION 1)",
            "install(TARGETS greet)",
            "install(FILES include/greet.h TYPE INCLUDE)",
        )
    ),
}


def keys(schema: dict[str, Any]) -> Iterator[str]:
    """Return every key that a schema admits, at any depth."""
    for name, value in schema.get("properties", {}).items():
        yield name
        yield from keys(value)
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            yield from keys(schema[part])
    for value in schema.get("$defs", {}).values():
        yield from keys(value)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_of_a_schema_is_described(name):
    schema = json.loads((ROOT / f"rocmbuild/data/schemas/{name}.json").read_text())
    words = set(re.findall(r"`([^`\n]+)`", TEXT)) | {"format", "branch", "sources"}
    words |= {word for phrase in words for word in re.findall(r"[\w-]+", phrase)}
    assert set(keys(schema)) - words == set()


def test_nothing_is_described_that_no_schema_admits():
    known = {"fatbin", "format"}
    for name in SCHEMAS:
        known |= set(keys(json.loads((ROOT / f"rocmbuild/data/schemas/{name}.json").read_text())))
    described = {word for row in re.findall(r"(?m)^\| (`.*?`) \|", TEXT) for word in re.findall(r"`(\w+)`", row)}
    assert described - known == set()


def test_every_placeholder_is_described(release):
    release.components("hip")
    release.recipe("hip")
    job = release.plan().job("hip")
    names = {re.sub(r":hip$", ":NAME", name) for name in job.values}
    described = {name for row in re.findall(r"(?m)^\| (`\{.*?`) \|", TEXT) for name in re.findall(r"\{([^}]+)\}", row)}
    assert names - described == set()
    of_checks = {"gpu", "gpus:comma", "gpus:each", "scratch", "cross:cc", "cross:cxx", "toolchain"}
    assert described == names | of_checks


def test_the_example_is_built(toy):
    documents = re.findall(r"`((?:manifests|recipes)/[\w./]+)`:\n\n```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert [name for name, _ in documents] == ["manifests/mine.yaml", "recipes/greet/recipe.yaml"]
    for name, text in documents:
        path = toy.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    check = toy.directory / "recipes/greet/checks/main.c"
    check.parent.mkdir()
    check.write_text("#include <greet.h>\n\nint main(void)\n{\n    greet();\n    return 0;\n}\n")
    Forge(toy.directory / "forge").create("rocm/greet", LIBRARY, branch="main")
    toy.branch = "mine"
    toy.build("--mirror", f"https://git.example.org/={(toy.directory / 'forge').as_uri()}/")
    assert sorted(path.name for path in toy.out.glob("*.deb")) == [
        "greet-dev_1.2.0.50601-1~debian12_amd64.deb",
        "greet_1.2.0.50601-1~debian12_amd64.deb",
    ]
