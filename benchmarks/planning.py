"""Measure how planning grows with the number of components, on synthetic releases of 100, 300 and 1000 of them.

For each size a manifest and recipes are written as files, like those of ROCm: a few components that nearly all need,
layers of libraries above them, leaves. Then a plan is made of them as a process (``rocmbuild plan``), by libraries
that are loaded already (read the files, then plan), and from what has been read (plan alone).
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness import Report, program
from watching import Usage, run

from rocmbuild.model.catalog import Catalog, make_catalog
from rocmbuild.plan.planner import make_plan
from rocmbuild.plan.selection import Selection

SIZES = (100, 300, 1000)
BRANCH = "synthetic"
BASES = 12
"""Components that others need most: a compiler, a runtime, headers."""

RECIPE = """\
format: 1
component: {name}
summary: synthetic component number {number}
homepage: https://forge.example/{name}
license: {{spdx: MIT, files: [LICENSE]}}
memory: 1500M
cost: {cost}
exports:
  cmake: [{name}]

needs:
  tools: [{tools}]
  libs: [{libs}]
  run: [{run}]
  system: [libnuma-dev, "pkg-config:native"]

cmake:
  variables:
    BUILD_SHARED_LIBS: true
    CMAKE_PREFIX_PATH: "{{prefix}}"
    NUMBER: "{number}"
    VERSION_STRING: "{{version}}.{{release:number}}"

edits:
  - file: CMakeLists.txt
    find: '^find_package\\(Package{number}\\b[^)]*\\)$'
    replace: 'find_package(Package{number} REQUIRED)'
    why: a package that is needed is looked for

packages:
  - name: {name}
    summary: run-time files of {name}
    section: libs
    files: ["lib/lib{name}.so.*"]
  - name: {name}-dev
    summary: development files of {name}
    files: ["include/**", "lib/cmake/**", "lib/lib{name}.so"]
    depends: [{name}]

checks:
  - name: headers
    summary: a program that includes its header is compiled
    packages: [gcc, libc6-dev]
    steps:
      - run: [gcc, "-I{{prefix}}/include", -fsyntax-only, "{{prefix}}/include/{name}.h"]

variants:
  - when: {{arch: [riscv64]}}
    cmake:
      variables: {{ATOMIC: true}}
"""


def write_release(directory: Path, size: int) -> None:
    """Write the manifest and the recipes of ``size`` components; the same ones each time."""
    chance = random.Random(size)
    lines = [f"format: 1\nbranch: {BRANCH}\nversion: '6.4.3'\ndistribution: debian-13\ngpus: [gfx1030]\nsources:"]
    names = [f"part-{number:04d}" for number in range(size)]
    for number, name in enumerate(names):
        lines.append(f"  {name}: {{url: 'https://forge.example/{name}.tar.gz', sha256: '{number:064x}'}}")
        recipe = directory / "recipes" / name / "recipe.yaml"
        recipe.parent.mkdir(parents=True)
        recipe.write_text(_recipe(names, number, chance), encoding="utf-8")
    lines += ["components:", *(f"  {name}: {{version: '1.{number}'}}" for number, name in enumerate(names))]
    manifest = directory / "manifests" / f"{BRANCH}.yaml"
    manifest.parent.mkdir()
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _recipe(names: list[str], number: int, chance: random.Random) -> str:
    """Return a recipe whose needs are bases, and libraries near it; every fourth is a leaf that nothing needs."""
    bases = names[: min(BASES, number)]
    near = [name for index, name in enumerate(names[:number]) if index % 4 and number - index <= len(names) // 4]
    needs = {
        "tools": chance.sample(bases, min(2, len(bases))),
        "libs": chance.sample(near, min(chance.choice((1, 2, 2, 3)), len(near))) if number >= BASES else bases[-1:],
        "run": names[number - 1 : number] if number % 10 == 0 else [],
    }
    texts = {kind: ", ".join(sorted(set(found))) for kind, found in needs.items()}
    return RECIPE.format(name=names[number], number=number, cost=chance.randrange(5, 900), **texts)


def process(directory: Path) -> Usage:
    """Run ``rocmbuild plan`` as a process."""
    argv = [str(Path(sys.executable).with_name("rocmbuild")), "plan", "--branch", BRANCH, "--format", "json"]
    for name in ("manifests", "recipes", "workspace", "cache"):
        argv += [f"--{name}", str(directory / name)]
    return run(argv, env={**os.environ, "HOME": str(directory)}, interval=None)


def read(catalog: Catalog) -> Selection:
    """Return what a plan is made for, read from files."""
    manifest = catalog.manifest(BRANCH)
    return Selection(
        manifest=manifest,
        recipes={name: catalog.recipe(name) for name in manifest.components},
        target=catalog.target("x86_64"),
        distribution=catalog.distribution(manifest.distribution),
        gpus=manifest.gpus,
        system=frozenset(),
    )


def cpu_seconds(action: Callable[[], object]) -> float:
    """Return the CPU seconds that something takes in this process."""
    begun = time.process_time()
    action()
    return time.process_time() - begun


def measure(options: argparse.Namespace, report: Report) -> None:
    """Measure every size; tell how much more the largest takes than the one before, for each component."""
    each: dict[int, float] = {}
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="rocmbuild-planning-") as name:
            directory = Path(name)
            write_release(directory, size)
            runs = [process(directory) for _ in range(options.runs)]
            catalog = make_catalog((directory / "manifests",), (directory / "recipes",))
            selection = read(catalog)
            plan = make_plan(selection, {})
            alone = [cpu_seconds(partial(make_plan, selection, {})) for _ in range(options.runs)]
            report.add(f"{size}: needs seen, mean", sum(len(job.needs) for job in plan.jobs) / size, "")
            report.add_usage(f"{size}: rocmbuild plan", runs, watched=False)
            report.add(f"{size}: files read: CPU time", [cpu_seconds(partial(read, catalog)) for _ in runs], "s")
            each[size] = report.add(f"{size}: make_plan: CPU time", alone, "s") / size
    for small, large in zip(options.sizes, options.sizes[1:], strict=False):
        report.add(f"make_plan, each component: {large} over {small}", each[large] / each[small], "x")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="components")
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured; the median counts")


if __name__ == "__main__":
    sys.exit(program("planning", __doc__ or "", measure, _options))
