"""Imports go strictly downwards, without cycles, and one module alone starts programs."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import rocmbuild

PACKAGE = Path(rocmbuild.__file__).parent

LAYERS = {
    "errors": 0,
    "events": 0,
    "process": 0,
    "procfs": 0,
    "workspace": 0,
    "machine": 0,
    "options": 0,
    "arguments": 0,
    "model": 1,
    "plan": 2,
    "tools": 3,
    "run": 4,
    "ui": 5,
    "settings": 6,
    "commands": 7,
    "cli": 8,
    "__main__": 9,
}
"""The layer of each module or package directly in rocmbuild."""

SETTINGS_MAY_USE = {"errors", "events", "process", "workspace", "machine", "options", "arguments", "model"}

PURE = {"model", "plan"}

STARTERS = {
    "process": {"asyncio.create_subprocess_exec"},
    "commands.shell": {"os.execve", "os.execvpe"},
    "tools.binfmt": {"os.execvp"},
}
"""Who may call which function that starts a program or becomes one."""

STARTING = {"create_subprocess_exec", "create_subprocess_shell", "system", "popen", "posix_spawn", "posix_spawnp"}


def modules(package: Path) -> dict[str, ast.Module]:
    """Return the syntax tree of each module, by its name below the package."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """Return everything a module imports, inside functions too; ``from a import b`` is ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def uses(found: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Return which modules of ours each module imports."""
    graph = {}
    for name, tree in found.items():
        own = (item.removeprefix("rocmbuild.") for item in imported(tree) if item.startswith("rocmbuild."))
        graph[name] = {item if item in found else item.rpartition(".")[0] for item in own}
    return graph


def layer_problems(package: Path) -> list[str]:
    graph = uses(modules(package))
    problems = []
    for name, others in graph.items():
        top = name.split(".")[0]
        for other in sorted(others):
            below = other.split(".")[0]
            if not top or not below:  # rocmbuild itself holds the version only
                continue
            if top not in LAYERS:
                problems.append(f"{name} has no layer")
            elif top != below and LAYERS[below] > LAYERS[top]:
                problems.append(f"{name} imports {other}, which lies above it")
            elif top == "settings" and below not in SETTINGS_MAY_USE:
                problems.append(f"settings imports {other}")
    return problems


def cycle(package: Path) -> list[str]:
    try:
        tuple(graphlib.TopologicalSorter(uses(modules(package))).static_order())
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def starting_problems(package: Path) -> list[str]:
    problems = []
    for name, tree in modules(package).items():
        problems += [f"{name} imports {item}" for item in imported(tree) if item.split(".")[0] in ("subprocess", "pty")]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                call = f"{node.value.id}.{node.attr}"
                starts = node.attr in STARTING or node.attr.startswith(("exec", "spawn"))
                if starts and node.value.id in ("os", "asyncio") and call not in STARTERS.get(name, ()):
                    problems.append(f"{name}:{node.lineno} uses {call}")
    return problems


def purity_problems(package: Path) -> list[str]:
    return [
        f"{name} imports {item}"
        for name, tree in modules(package).items()
        if name.split(".")[0] in PURE
        for item in imported(tree)
        if item.split(".")[0] in ("asyncio", "subprocess", "socket", "urllib") or item.startswith("rocmbuild.process")
    ]


@pytest.mark.parametrize("check", [layer_problems, cycle, starting_problems, purity_problems])
def test_the_package_keeps_its_layers(check):
    assert check(PACKAGE) == []


def make(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        path = directory / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


@pytest.mark.parametrize(
    ("check", "files", "problem"),
    [
        (
            layer_problems,
            {"model__a": "def f():\n    from rocmbuild.plan.b import c\n", "plan__b": "c = 1\n"},
            "model.a",
        ),
        (layer_problems, {"model__a": "from rocmbuild import cli\n", "cli": ""}, "model.a imports cli"),
        (layer_problems, {"settings": "import rocmbuild.tools.x\n", "tools__x": ""}, "settings imports tools.x"),
        (layer_problems, {"other": "import rocmbuild.errors\n", "errors": ""}, "other has no layer"),
        (cycle, {"ui__a": "import rocmbuild.ui.b\n", "ui__b": "from rocmbuild.ui.a import x\n"}, "ui.a"),
        (starting_problems, {"tools__a": "import subprocess\n"}, "tools.a imports subprocess"),
        (starting_problems, {"run__a": "import os\nos.execvp('a', [])\n"}, "run.a:2 uses os.execvp"),
        (starting_problems, {"process": "import asyncio\nasyncio.create_subprocess_shell('a')\n"}, "process:2 uses"),
        (purity_problems, {"plan__a": "from asyncio import run\n"}, "plan.a imports asyncio.run"),
        (purity_problems, {"model__a": "from rocmbuild.process import Runner\n"}, "model.a imports rocmbuild.process"),
    ],
)
def test_a_breach_is_found(tmp_path, check, files, problem):
    assert any(text.startswith(problem) for text in check(make(tmp_path, **files)))
