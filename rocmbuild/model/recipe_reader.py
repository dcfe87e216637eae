"""Read ``recipes/<component>/recipe.yaml``: what the schema cannot see is checked here, then values are made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rocmbuild.errors import DocumentError, Problem
from rocmbuild.model.document import Document, in_order, load
from rocmbuild.model.recipe import (
    Addition,
    Check,
    CheckStep,
    Discard,
    Edit,
    Needs,
    PackageRule,
    Part,
    Patch,
    Provided,
    Recipe,
    Waiver,
)
from rocmbuild.model.scalars import cmake_value


def load_recipe(directory: Path) -> Recipe:
    """Read ``directory/recipe.yaml``; raises DocumentError with all its problems."""
    document = load(directory / "recipe.yaml", "recipe")
    data = document.data
    problems: list[Problem] = []
    if data["component"] != directory.name:
        problems.append(
            document.problem(("component",), f"{data['component']} is not the name of its directory, {directory.name}")
        )
    parts = [((), data), *((("variants", i), v) for i, v in enumerate(data.get("variants", ())))]
    for path, part in parts:
        problems += _part_problems(document, directory, path, part)
    if problems:
        raise DocumentError(in_order(problems))
    base, *variants = (_part(document, directory, path, part) for path, part in parts)
    return Recipe(
        name=data["component"],
        document=document,
        directory=directory,
        base=base,
        variants=tuple((raw["when"], part) for raw, part in zip(data.get("variants", ()), variants, strict=True)),
        provided={name: _provided(value) for name, value in data.get("provided", {}).items()},
        cmake_packages=tuple(data.get("exports", {}).get("cmake", ())),
    )


def edit_problems(document: Document, path: tuple[str | int, ...], data: Mapping[str, Any]) -> Iterator[Problem]:
    """Return what the schema cannot see about the edits below ``path``."""
    for index, edit in enumerate(data.get("edits", ())):
        at = (*path, "edits", index)
        if ("write" in edit) == ("find" in edit):
            yield document.problem(at, "an edit has either find (with replace) or write")
        elif "find" in edit and "replace" not in edit:
            yield document.problem(at, "the key replace is missing")
        for key in ("find", "present"):
            try:
                re.compile(edit.get(key, ""), re.MULTILINE)
            except re.error as error:
                yield document.problem((*at, key), f"not a regular expression: {error}")


def _part_problems(
    document: Document, directory: Path, path: tuple[str | int, ...], part: Mapping[str, Any]
) -> list[Problem]:
    problems = list(edit_problems(document, path, part))
    files = [((*path, "patches", i, "file"), p["file"]) for i, p in enumerate(part.get("patches", ()))]
    for index, check in enumerate(part.get("checks", ())):
        files += [((*path, "checks", index, "files", i), f) for i, f in enumerate(check.get("files", ()))]
    for index, package in enumerate(part.get("packages", ())):
        files += [((*path, "packages", index, "scripts", k), f) for k, f in package.get("scripts", {}).items()]
    for at, name in files:
        if not (directory / name).is_file():
            problems.append(document.problem(at, f"there is no file {directory / name}"))
    for index, addition in enumerate(part.get("add", ())):
        if ("text" in addition) == ("link" in addition):
            problems.append(document.problem((*path, "add", index), "give either text or link"))
    return problems


def _part(document: Document, directory: Path, path: tuple[str | int, ...], data: Mapping[str, Any]) -> Part:
    cmake = data.get("cmake", {})
    return Part(
        needs=Needs(**{key: tuple(value) for key, value in data.get("needs", {}).items()}),
        subdir=cmake.get("subdir"),
        targets=tuple(cmake.get("targets", ())),
        variables=tuple((k, cmake_value(v)) for k, v in cmake.get("variables", {}).items()),
        environment=tuple(data.get("environment", {}).items()),
        edits=tuple(
            (
                raw.get("when"),
                Edit(
                    **{key: value for key, value in raw.items() if key != "when"},
                    where=document.where(*path, "edits", index),
                ),
            )
            for index, raw in enumerate(data.get("edits", ()))
        ),
        patches=tuple(
            (
                raw.get("when"),
                Patch(directory / raw["file"], raw["why"], where=document.where(*path, "patches", index)),
            )
            for index, raw in enumerate(data.get("patches", ()))
        ),
        additions=tuple(Addition(**raw) for raw in data.get("add", ())),
        discards=tuple(Discard(tuple(raw["files"]), raw["why"]) for raw in data.get("discard", ())),
        packages=tuple(
            _package(raw, directory, document.where(*path, "packages", index))
            for index, raw in enumerate(data.get("packages", ()))
        ),
        checks=tuple(_check(raw, directory) for raw in data.get("checks", ())),
        notes=tuple(data.get("notes", ())),
        waivers=tuple(Waiver(raw["rule"], tuple(raw["files"]), raw["why"]) for raw in data.get("waivers", ())),
    )


def _package(raw: Mapping[str, Any], directory: Path, where: str) -> PackageRule:
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    scripts = tuple((kind, directory / name) for kind, name in raw.get("scripts", {}).items())
    return PackageRule(**{**plain, "scripts": scripts}, where=where)


def _check(raw: Mapping[str, Any], directory: Path) -> Check:
    return Check(
        name=raw["name"],
        summary=raw["summary"],
        packages=tuple(raw.get("packages", ())),
        files=tuple(directory / name for name in raw.get("files", ())),
        steps=tuple(
            CheckStep(
                run=tuple(step["run"]),
                on=step.get("on", "host"),
                exit=step.get("exit", 0),
                expect=step.get("expect"),
                each_gpu=step.get("each") == "gpu",
                environment=tuple(step.get("environment", {}).items()),
            )
            for step in raw.get("steps", ())
        ),
        fatbin=raw.get("fatbin"),
        device_code=tuple(raw.get("device_code", ())),
    )


def _provided(raw: Mapping[str, Any]) -> Provided:
    return Provided(
        version=raw["version"],
        home=raw["home"],
        system=tuple(raw["system"]),
        runtime=tuple(raw.get("runtime", ())),
        links=tuple(raw.get("links", {}).items()),
    )
