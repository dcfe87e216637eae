"""Each field of everything a plan is made from, changed alone: which keys it moves, and as which input.

The table is complete: a field that somebody adds has to be given a row, and so has every input that keys are sums of.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

import rocmbuild
from rocmbuild.model.manifest import Component, LayoutRule, Manifest, Source
from rocmbuild.model.recipe import (
    Addition,
    Check,
    Discard,
    Edit,
    Needs,
    PackageRule,
    Patch,
    Provided,
    Recipe,
    Resolved,
    Waiver,
)
from rocmbuild.model.target import CrossTools, Distribution, Emulator, Suite, Target
from rocmbuild.options import OPTIONS
from rocmbuild.plan import fingerprint
from rocmbuild.plan import inputs as plan_inputs
from rocmbuild.plan.inputs import Inputs
from rocmbuild.plan.plan import Job
from rocmbuild.plan.planner import make_plan
from rocmbuild.plan.selection import Selection
from tests.releases import BOARD, TARGET

A, B = "a" * 40, "b" * 40

EDIT = "{file: f, write: w, why: w}"

MANIFEST = f"""\
remotes: {{forge: [https://one.example/]}}
defaults: {{remote: forge, ref: main}}
sources:
  lib: {{repository: lib, commit: {A}}}
  app: {{repository: app, commit: {A}, layout: [{{from: x, to: y, except: [z]}}], edits: [{EDIT}]}}
  text: {{url: "https://one.example/text.tar.xz", sha256: {"ab" * 32}}}
components:
  lib: {{version: "2.0"}}
  app: {{version: "1.0"}}
  tool: {{version: "5.0"}}
  text: {{version: "3.0"}}
  far: {{version: "4.0"}}
"""

TOOL = """\
home: "{prefix}"
build_programs: bin
packages: [{name: tool, summary: s}]
provided: {testix: {version: '5', home: /usr, system: [tool-dev], runtime: [tool], links: {bin/t: "{home}/bin/t"}}}
"""

APP = """\
description: Words.
homepage: https://one.example/
license: {spdx: MIT, files: [LICENSE]}
home: "{prefix}/app"
needs: {tools: [tool], libs: [lib], sources: [text], run: [far], system: [libelf-dev], python: [lit==17.0.6]}
cmake: {subdir: src, targets: [all], variables: {A: "{prefix}", HOME_OF: "{home:app}", G: "{gpus}"}}
environment: {E: one}
edits: [{file: x, find: a, replace: b, count: 1, present: p, why: w}]
patches: [{file: fix.patch, why: w}]
add: [{path: bin/x, text: t, why: w}]
discard: [{files: [x], why: w}]
waivers: [{rule: r, files: [x], why: w}]
checks: [{name: c, summary: s}]
packages: [{name: app, summary: s, files: ["*"], depends: ["lib (= {version:lib})"], scripts: {postinst: post.sh}}]
"""

STATIC = frozenset({"static"})
"""The static key alone: of an input of a need, for whose users only what comes of it counts."""
OWN = STATIC | {"own", "tree", "action"}
"""What a stage tree is made from."""
PACKAGE = frozenset({"package"})
NEED = STATIC | PACKAGE | {"action"}
"""Which components it sees; relations of packages are looked for in theirs."""
SOURCE = OWN | PACKAGE | {"source"}
"""The source tree: the changelog of packages names it, and licenses are in it."""
NOTHING: frozenset[str] = frozenset()

Change = Callable[[Selection], Selection]


@dataclass(frozen=True)
class Flip:
    """A change of one field: keys of ``job`` that it moves, and which of its inputs, as people read them.

    None: it has other inputs altogether.
    """

    change: Change
    moves: frozenset[str]
    inputs: tuple[str, ...] | None = ()
    job: str = "app"
    cross: bool = False
    given: Change = lambda before: before
    """what is changed before, for both of the plans that are compared"""


# ---- changes of one field


def selection(**changes: Any) -> Change:
    return lambda before: replace(before, **changes)


def manifest(**changes: Any) -> Change:
    return lambda before: replace(before, manifest=replace(before.manifest, **changes))


def target(**changes: Any) -> Change:
    return lambda before: replace(before, target=replace(before.target, **changes))


def distribution(**changes: Any) -> Change:
    return lambda before: replace(before, distribution=replace(before.distribution, **changes))


def cross_tools(**changes: Any) -> Change:
    return lambda before: distribution(cross=replace(before.distribution.cross, **changes))(before)


def component(name: str = "app", /, **changes: Any) -> Change:
    def change(before: Selection) -> Selection:
        components = before.manifest.components
        return manifest(components={**components, name: replace(components[name], **changes)})(before)

    return change


def source(name: str = "app", /, **changes: Any) -> Change:
    return lambda before: component(name, source=replace(before.manifest.components[name].source, **changes))(before)


def recipe(name: str = "app", /, **changes: Any) -> Change:
    """Return a change of a recipe after its conditions are decided; a function gets the field's value."""

    def change(before: Selection) -> Selection:
        original = before.recipes[name]

        class Changed(Recipe):
            def resolve(self, facts: Any) -> Resolved:
                found = original.resolve(facts)
                called = {key: new(getattr(found, key)) if callable(new) else new for key, new in changes.items()}
                return replace(found, **called)

        return replace(before, recipes={**before.recipes, name: Changed(**vars(original))})

    return change


def first(**changes: Any) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return a change of the first of several values."""
    return lambda items: (replace(items[0], **changes), *items[1:])


def needs(**changes: Any) -> Change:
    return recipe(needs=lambda value: replace(value, **changes))


def edits(**changes: Any) -> Change:
    return recipe(edits=first(**changes))


def package(**changes: Any) -> Change:
    return recipe(packages=first(**changes))


def by_system(**changes: Any) -> Change:
    """Return a change of how the distribution provides the tool."""

    def change(before: Selection) -> Selection:
        known = before.recipes["tool"].provided["testix"]
        tool = replace(before.recipes["tool"], provided={"testix": replace(known, **changes)})
        return replace(before, recipes={**before.recipes, "tool": tool})

    return change


SYSTEM = selection(system=frozenset({"tool"}))
ARCHIVED = source("text", kind="debian", path="pool/a.tar.xz")


def new_name(before: Selection) -> Selection:
    """Give the component, and nothing else, another name."""
    known, recipes = before.manifest.components, before.recipes
    return replace(
        before,
        manifest=replace(before.manifest, components={**known, "app2": replace(known["app"], name="app2")}),
        recipes={**recipes, "app2": replace(recipes["app"], name="app2")},
    )


BUILT_THERE = ("compilers", "needs", "programs", "root", "variables")
FIX = Patch(Path(__file__), "w")
RULE = LayoutRule("x", "y", ("z",))

TABLE: Mapping[type, Mapping[str, Flip]] = {
    Selection: {
        "manifest": Flip(manifest(version="5.6.2"), OWN | PACKAGE, ("prefix", "variables")),
        "recipes": Flip(recipe(targets=("doc",)), OWN, ("targets",)),
        "target": Flip(target(triple="other-linux-gnu"), OWN, ("target",)),
        "distribution": Flip(distribution(name="other"), OWN, ("root",)),
        "gpus": Flip(selection(gpus=("gfx90a",)), OWN, ("variables",)),
        "system": Flip(SYSTEM, OWN, ("root",)),
        "components": Flip(selection(components=("app",)), NOTHING),
        "sources": Flip(selection(sources={"app": Source("app", "local", path="/", sha256="1")}), SOURCE, ("source",)),
        "environment": Flip(selection(environment="host"), OWN, ("where",)),
        "tools": Flip(selection(tools={"cmake": "3.31", "ninja": "1.14"}), OWN, ("tools",)),
        "build": Flip(selection(build=None), OWN | PACKAGE, BUILT_THERE, cross=True),
    },
    Manifest: {
        "branch": Flip(manifest(branch="other"), NOTHING),
        "version": Flip(manifest(version="5.6.2"), OWN | PACKAGE, ("prefix", "variables")),
        "summary": Flip(manifest(summary="x"), NOTHING),
        "distribution": Flip(manifest(distribution="x"), NOTHING),
        "distributions": Flip(manifest(distributions=("x",)), NOTHING),
        "gpus": Flip(manifest(gpus=("gfx1",)), NOTHING),
        "system": Flip(manifest(system=("x",)), NOTHING),
        "components": Flip(component(variables={"N": "1"}), OWN, ("variables",)),
        "path": Flip(manifest(path=Path("/x")), NOTHING),
    },
    Component: {
        "name": Flip(new_name, OWN, ("component",), job="app2"),
        "source": Flip(source(commit=B), SOURCE, ("source",)),
        "subdir": Flip(component(subdir="deep"), SOURCE, ("source",)),
        "version": Flip(component(version="1.1"), PACKAGE),
        "variables": Flip(component(variables={"N": "1"}), OWN, ("variables",)),
        "environment": Flip(component(environment={"N": "1"}), OWN, ("environment",)),
        "where": Flip(component(where="x:1:1"), NOTHING),
    },
    Source: {
        "name": Flip(source(name="x"), NOTHING),
        "kind": Flip(source(kind="url", sha256="ab" * 32), SOURCE, ("source",)),
        "urls": Flip(source(urls=("https://two.example/app",)), PACKAGE),  # the changelog names the first of them
        "ref": Flip(source(ref="other"), NOTHING),
        "commit": Flip(source(commit=B), SOURCE, ("source",)),
        "submodules": Flip(source(submodules=True), SOURCE, ("source",)),
        "path": Flip(source(path="x"), NOTHING),
        "sha256": Flip(source("text", sha256="cd" * 32), OWN, ("sources",)),
        "layout": Flip(source(layout=()), SOURCE, ("source",)),
        "edits": Flip(source(edits=()), SOURCE, ("source",)),
        "where": Flip(source(where="x:1:1"), NOTHING),
    },
    LayoutRule: {
        "source": Flip(source(layout=(replace(RULE, source="other"),)), SOURCE, ("source",)),
        "target": Flip(source(layout=(replace(RULE, target="other"),)), SOURCE, ("source",)),
        "exclude": Flip(source(layout=(replace(RULE, exclude=()),)), SOURCE, ("source",)),
    },
    Edit: {
        "file": Flip(edits(file="y"), SOURCE, ("source",)),
        "why": Flip(edits(why="v"), PACKAGE),
        "find": Flip(edits(find="c"), SOURCE, ("source",)),
        "replace": Flip(edits(replace="c"), SOURCE, ("source",)),
        "count": Flip(edits(count="any"), SOURCE, ("source",)),
        "present": Flip(edits(present="q"), SOURCE, ("source",)),
        "write": Flip(edits(write="z"), SOURCE, ("source",)),
        "optional": Flip(edits(optional=True), SOURCE, ("source",)),
        "where": Flip(edits(where="x:1:1"), NOTHING),
    },
    Patch: {
        "path": Flip(recipe(patches=first(path=FIX.path)), SOURCE, ("source",)),
        "why": Flip(recipe(patches=first(why="v")), PACKAGE),
        "where": Flip(recipe(patches=first(where="x:1:1")), NOTHING),
    },
    Resolved: {
        "name": Flip(new_name, OWN, ("component",), job="app2"),
        "summary": Flip(recipe(summary="x"), NOTHING),
        "description": Flip(recipe(description="x"), PACKAGE),
        "homepage": Flip(recipe(homepage="https://two.example/"), PACKAGE),
        "spdx": Flip(recipe(spdx="NCSA"), PACKAGE),
        "license_files": Flip(recipe(license_files=("COPYING",)), PACKAGE),
        "builds": Flip(recipe(builds=False), OWN, ("builds",)),
        "machine_independent": Flip(recipe(machine_independent=True), OWN | PACKAGE, None, cross=True),
        "build_programs": Flip(recipe("tool", build_programs="sbin"), OWN - STATIC, ("programs",), cross=True),
        "writable_source": Flip(recipe(writable_source=True), OWN, ("writable_source",)),
        "memory": Flip(recipe(memory=1), NOTHING),
        "memory_per_link": Flip(recipe(memory_per_link=1), NOTHING),
        "cost": Flip(recipe(cost=1.0), NOTHING),
        "home": Flip(recipe(home="{prefix}/lib/app"), OWN, ("variables",)),
        "needs": Flip(needs(libs=()), NEED, ("needs",)),
        "subdir": Flip(recipe(subdir="other"), OWN, ("subdir",)),
        "targets": Flip(recipe(targets=("all", "doc")), OWN, ("targets",)),
        "variables": Flip(recipe(variables={"A": "2"}), OWN, ("variables",)),
        "environment": Flip(recipe(environment={"E": "2"}), OWN, ("environment",)),
        "edits": Flip(recipe(edits=()), SOURCE, ("source",)),
        "patches": Flip(recipe(patches=()), SOURCE, ("source",)),
        "additions": Flip(recipe(additions=()), OWN, ("additions",)),
        "discards": Flip(recipe(discards=()), OWN, ("discards",)),
        "packages": Flip(package(section="libs"), PACKAGE),
        "checks": Flip(recipe(checks=()), NOTHING),
        "waivers": Flip(recipe(waivers=()), PACKAGE),
        "notes": Flip(recipe(notes=("n",)), PACKAGE),
        "where": Flip(recipe(where="x:1:1"), NOTHING),
        "directory": Flip(recipe(directory=Path("/x")), NOTHING),
    },
    Needs: {
        "tools": Flip(needs(tools=()), NEED, ("needs",)),
        "libs": Flip(needs(libs=()), NEED, ("needs",)),
        "sources": Flip(needs(sources=()), OWN, ("sources",)),
        "run": Flip(needs(run=()), NOTHING),
        "system": Flip(needs(system=("libdw-dev",)), OWN, ("root",)),
        "python": Flip(needs(python=("lit==18.0.0",)), OWN, ("root",)),
    },
    Addition: {
        "path": Flip(recipe(additions=first(path="bin/y")), OWN, ("additions",)),
        "why": Flip(recipe(additions=first(why="v")), NOTHING),
        "text": Flip(recipe(additions=first(text="u")), OWN, ("additions",)),
        "link": Flip(recipe(additions=first(link="u")), OWN, ("additions",)),
    },
    Discard: {
        "files": Flip(recipe(discards=first(files=("y",))), OWN, ("discards",)),
        "why": Flip(recipe(discards=first(why="v")), NOTHING),
    },
    PackageRule: {
        "name": Flip(package(name="other"), PACKAGE),
        "summary": Flip(package(summary="t"), PACKAGE),
        "description": Flip(package(description="d"), PACKAGE),
        "section": Flip(package(section="libs"), PACKAGE),
        "architecture": Flip(package(architecture="all"), PACKAGE),
        "files": Flip(package(files=("**",)), PACKAGE),
        **{
            name: Flip(package(**{name: ("x",)}), PACKAGE)
            for name in ("depends", "recommends", "suggests", "provides", "conflicts", "breaks", "replaces")
        },
        "scripts": Flip(package(scripts=()), PACKAGE),
        "where": Flip(package(where="x:1:1"), NOTHING),
    },
    Check: {
        field.name: Flip(recipe(checks=()), NOTHING)
        for field in fields(Check)  # they prove packages, and make none
    },
    Waiver: {
        "rule": Flip(recipe(waivers=first(rule="other")), PACKAGE),
        "files": Flip(recipe(waivers=first(files=("y",))), PACKAGE),
        "why": Flip(recipe(waivers=first(why="v")), PACKAGE),  # the table of verification says it
    },
    Provided: {
        # the place of a tool is in what names it; natively its users see the root, whose packages are compared
        "version": Flip(by_system(version="6"), OWN, ("provided",), job="tool", given=SYSTEM),
        "home": Flip(by_system(home="/opt/t"), OWN, ("provided",), job="tool", given=SYSTEM),
        "system": Flip(by_system(system=("other-dev",)), OWN, ("root",), given=SYSTEM),
        "runtime": Flip(by_system(runtime=("other",)), PACKAGE, job="tool", given=SYSTEM),
        "links": Flip(by_system(links=(("bin/u", "{home}/bin/u"),)), OWN, ("provided",), job="tool", given=SYSTEM),
    },
    Target: {
        "name": Flip(target(name="x"), NOTHING),
        "summary": Flip(target(summary="x"), NOTHING),
        "triple": Flip(target(triple="other-linux-gnu"), OWN, ("target",)),
        "arch": Flip(target(arch="riscv64"), PACKAGE),
        "variant": Flip(target(variant="v"), NOTHING),
        "machines": Flip(target(machines=("riscv",)), OWN, ("compilers",), cross=True),
        "distribution": Flip(target(distribution="d"), NOTHING),
        "elf_machine": Flip(target(elf_machine="EM_VAX"), PACKAGE),  # stage trees are checked for it
        "elf_flags": Flip(target(elf_flags=1), PACKAGE),
        "isa": Flip(target(isa="rv64g"), PACKAGE),
        "flags": Flip(target(flags=("-O3",)), OWN, ("target",)),
        "gcc_flags": Flip(target(gcc_flags=("-mtune=native",)), OWN, ("compilers",)),
        "assembler": Flip(target(assembler=("-mattr=+x",)), NOTHING),  # but for those who mention {assembler}
        "emulator": Flip(target(emulator=None), OWN, ("compilers",), cross=True),
    },
    Emulator: {
        "program": Flip(target(emulator=replace(BOARD.emulator, program="q")), OWN, ("compilers",), cross=True),
        "cpu": Flip(target(emulator=replace(BOARD.emulator, cpu="max")), OWN, ("compilers",), cross=True),
    },
    Distribution: {
        "name": Flip(distribution(name="other"), OWN, ("root",)),
        "summary": Flip(distribution(summary="x"), NOTHING),
        "tag": Flip(distribution(tag="testix2"), PACKAGE),
        "release_id": Flip(distribution(release_id=("x", "1")), NOTHING),
        "architectures": Flip(distribution(architectures=("amd64",)), NOTHING),
        "suites": Flip(distribution(suites=()), NOTHING),  # the versions in the root tell, and its digest is compared
        "cc": Flip(distribution(cc="/usr/bin/gcc-99"), OWN, ("compilers",)),
        "cxx": Flip(distribution(cxx="/usr/bin/g++-99"), OWN, ("compilers",)),
        "system": Flip(distribution(system=("dash", "perl")), OWN, ("root",)),
        "cross": Flip(cross_tools(gcc="99"), OWN, ("compilers",), cross=True),
    },
    Suite: {field.name: Flip(distribution(suites=()), NOTHING) for field in fields(Suite)},
    CrossTools: {
        **{
            name: Flip(cross_tools(**{name: "other"}), OWN, ("compilers",), cross=True)
            for name in ("cc", "cxx", "linker", "binutils", "gcc")
        },
        "packages": Flip(cross_tools(packages=("clang-18",)), OWN, ("root",), cross=True),
        "emulators": Flip(cross_tools(emulators="other"), OWN, ("root",), cross=True),
    },
}

ROWS = {f"{owner.__name__}.{name}": flip for owner, flips in TABLE.items() for name, flip in flips.items()}

NOT_OF_FIELDS = {
    "cross compilers that nobody needs": Flip(distribution(cross=None), NOTHING),
    "memory, of a need": Flip(recipe("lib", memory=1), NOTHING),
    "a need's source": Flip(source("lib", commit=B), STATIC),
    "a need's recipe": Flip(recipe("lib", targets=("doc",)), STATIC),
    "a need's packages, which own the libraries": Flip(recipe("lib", packages=(PackageRule("lib", "s"),)), PACKAGE),
    "another address to try": Flip(source(urls=("https://one.example/app", "https://two.example/app")), NOTHING),
    "a file of the archive": Flip(source("text", path="pool/b.tar.xz"), PACKAGE, job="text", given=ARCHIVED),
    "its place": Flip(source("text", path="other/a.tar.xz"), NOTHING, job="text", given=ARCHIVED),
    "a run-time need": Flip(component("far", version="4.1"), NOTHING),
    "what the distribution provides": Flip(SYSTEM, OWN | PACKAGE, ("builds", "provided", "root"), job="tool"),
}
"""Changes that are none of a single field of the component."""


@pytest.fixture
def base(release) -> Selection:
    release.manifest(MANIFEST)
    release.recipe("lib")
    release.recipe("app", APP, fix_patch="diff", post_sh="true")
    release.recipe("tool", TOOL)
    release.recipe("text")
    release.recipe("far")
    return release.selection()


def job_of(chosen: Selection, name: str) -> Job:
    return make_plan(chosen, {}, None).job(name)


def keys(job: Job) -> dict[str, str]:
    """Return all keys of a job; its needs give always the same."""
    return {
        "static": job.key,
        "own": job.own_key,
        "tree": job.tree_key,
        "action": job.record(dict.fromkeys(job.consumed, "output")).action,
        "source": job.source_key,
        "package": job.package_key,
    }


def moved(before: Job, after: Job) -> set[str]:
    return {name for name, key in keys(before).items() if keys(after)[name] != key}


def inputs(job: Job) -> dict[str, Any]:
    """Return what the action key is a sum of, before it is summed up."""
    return {**job.inputs, "needs": sorted(job.consumed)}


@pytest.mark.parametrize("name", [*ROWS, *NOT_OF_FIELDS])
def test_a_change_moves_the_keys_that_it_has_to_and_no_other(base, name):
    flip = {**ROWS, **NOT_OF_FIELDS}[name]
    chosen = replace(base, target=BOARD, build=TARGET) if flip.cross else base
    chosen = flip.given(chosen)
    before = job_of(chosen, "app" if flip.job == "app2" else flip.job)
    after = job_of(flip.change(chosen), flip.job)
    assert moved(before, after) == flip.moves
    old, new = inputs(before), inputs(after)
    if flip.inputs is not None:
        assert tuple(sorted(key for key in {*old, *new} if old.get(key) != new.get(key))) == flip.inputs


@pytest.mark.parametrize("owner", TABLE, ids=lambda owner: owner.__name__)
def test_the_table_names_every_field(owner):
    assert TABLE[owner].keys() == {field.name for field in fields(owner)}


def test_the_table_has_everything_that_a_selection_consists_of():
    """Follow the types of fields: whatever of the model can be reached is in the table."""
    model = {name: value for owner in TABLE for name, value in vars(sys.modules[owner.__module__]).items()}
    known = {name: value for name, value in model.items() if dataclasses.is_dataclass(value)}
    waiting, found = [Selection, Resolved], set()
    while waiting:
        owner = waiting.pop()
        found.add(owner)
        words = {word for field in fields(owner) for word in _words(field.type)}
        waiting += [known[word] for word in words & known.keys() if known[word] not in found]
    assert {owner.__name__ for owner in found} - {owner.__name__ for owner in TABLE} == {
        "CheckStep",  # of a Check
        "Document",  # what a recipe was read from
        "Part",  # of a Recipe, whose conditions are decided in Resolved
        "Recipe",
    }


def _words(annotation: str) -> set[str]:
    return {word for word in "".join(c if c.isalnum() else " " for c in annotation).split() if word[0].isupper()}


def test_every_input_is_moved_by_a_row(base):
    job = job_of(base, "app")
    own = job_inputs(base, job)
    assert {*own} <= {*job.inputs}, "people are shown all that keys are sums of"
    named = {name for flip in ROWS.values() for name in flip.inputs or ()}
    assert {*own, "needs", "programs"} <= named
    assert named - {*own} == {"needs", "programs", "writable_source"}, "rows of inputs that there are no more"


def job_inputs(chosen: Selection, job: Job) -> dict[str, Any]:
    """Return a component's own inputs as they are summed up."""
    from rocmbuild.plan.selection import root_packages

    shared = Inputs(chosen, root_packages(chosen), (), dict.fromkeys(chosen.manifest.components), {})
    return shared.own(job.node, job.recipe, job.source_key, ())


def test_the_format_moves_every_key_but_that_of_the_source(base, monkeypatch):
    before = job_of(base, "app")
    monkeypatch.setattr(fingerprint, "FORMAT", fingerprint.FORMAT + 1)
    assert moved(before, job_of(base, "app")) == OWN | PACKAGE


def test_the_rules_for_stage_trees_move_the_key_of_packages(base, monkeypatch):
    before = job_of(base, "app")
    monkeypatch.setattr(plan_inputs, "QA_FORMAT", plan_inputs.QA_FORMAT + 1)
    assert moved(before, job_of(base, "app")) == PACKAGE


def test_the_output_of_a_need_moves_the_action_key_alone(base):
    job = job_of(base, "app")
    outputs = dict.fromkeys(job.consumed, "output")
    for need in outputs:
        assert job.record({**outputs, need: "other"}).action != job.record(outputs).action
    assert job.record(outputs).action == job.record(dict(reversed(outputs.items()))).action


# ---- what a user says, through the program


RECIPE = """\
format: 1
component: core
summary: the core
license: {spdx: MIT}
cmake: {variables: {GPUS: "{gpus}"}}
environment: {A: "{prefix}"}
packages: [{name: core, summary: s, files: ["**"]}]
provided: {debian-12: {version: "1", home: /usr, system: [dash]}}
"""

RELEASE = """\
format: 1
branch: small
version: '5.6.1'
distribution: debian-12
distributions: [debian-12, debian-13]
gpus: [gfx900]
sources: {core: {bundled: source}}
components: {core: {version: '1.0'}}
"""


@dataclass(frozen=True)
class User:
    """Somebody with a directory of recipes and manifests, who asks for a plan as the program prints it."""

    directory: Path
    manifests: Path | None = None
    recipes: Path | None = None

    def make(self) -> User:
        (self.directory / "recipes/core/source").mkdir(parents=True)
        (self.directory / "recipes/core/recipe.yaml").write_text(RECIPE)
        (self.directory / "recipes/core/source/CMakeLists.txt").write_text("project(core)\n")
        (self.directory / "manifests").mkdir()
        (self.directory / "manifests/small.yaml").write_text(RELEASE)
        return self

    def row(self, *words: str, environ: Mapping[str, str] = {}) -> dict[str, Any]:
        """Return the core's row of the plan without what depends on the machine's state."""
        options = ["--branch", "small", "--format", "json"]
        for name in ("manifests", "recipes"):
            options += [f"--{name}", str(getattr(self, name) or self.directory / name)]
        done = subprocess.run(
            [sys.executable, "-m", "rocmbuild", "plan", *options, *words],
            env={"PYTHONPATH": CODE, "HOME": str(self.directory), "PATH": os.defpath, **environ},
            cwd=self.directory,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        (row,) = (row for row in json.loads(done.stdout)["jobs"] if row["machine"] == "host")
        return {key: row[key] for key in ("component", "version", "fingerprint", "action_key")}


CODE = str(Path(rocmbuild.__file__).parents[1])

INPUT_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "target": ("arm64",),
    "distribution": ("debian-13",),
    "gpu": ("gfx1030",),
    "system": ("core",),
    "source": ("core={directory}/checkout",),
    "environment": ("host",),
    "manifests": ("{directory}/other/manifests",),
    "recipes": ("{directory}/other/recipes",),
}

OTHER_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "mirror": ("https://a.example/=https://b.example/",),
    "apt-mirror": ("http://b.example/debian",),
    "allow-stale-archive": (),
    "offline": (),
    "jobs": ("7",),
    "memory": ("3G",),
    "ccache": (),
    "keep-going": (),
    "workspace": ("{directory}/elsewhere",),
    "cache": ("{directory}/cache",),
    "store": ("{directory}/store",),
    "reuse": (),
    "targets": ("{directory}/other",),
    "config": ("{directory}/config.yaml",),
    "events": ("{directory}/events",),
}

NOT_OF_A_PLAN = {"branch", "format", "why", "verify", "fix", "host", "verbosity", "keep-size", "keep-days"}
"""Options that name the release, say what is printed of the plan, or are those of other verbs."""


def test_every_option_is_an_input_or_none():
    assert {*INPUT_OPTIONS, *OTHER_OPTIONS, *NOT_OF_A_PLAN} == {*OPTIONS}


@pytest.fixture(scope="module")
def user(tmp_path_factory) -> User:
    """A user with another manifest, another recipe and a checkout of the source, as far as options name them."""
    made = User(tmp_path_factory.mktemp("user")).make()
    other = User(made.directory / "other").make()
    (other.directory / "manifests/small.yaml").write_text(RELEASE.replace("5.6.1", "5.6.2"))
    (other.directory / "recipes/core/recipe.yaml").write_text(RECIPE.replace("GPUS", "TARGETS"))
    (made.directory / "checkout").mkdir()
    (made.directory / "checkout/CMakeLists.txt").write_text("project(mine)\n")
    (made.directory / "config.yaml").write_text("jobs: 3\n")
    return made


def spoken(user: User, options: Mapping[str, tuple[str, ...]], *names: str) -> list[str]:
    """Return options as words; own directories that come first win."""
    return [word.format(directory=user.directory) for name in names for word in (f"--{name}", *options[name])]


@pytest.mark.parametrize("name", sorted(INPUT_OPTIONS))
def test_an_option_that_says_what_is_built_moves_the_keys(user, name):
    words = spoken(user, INPUT_OPTIONS, name)
    plain = user.row()
    if name in ("manifests", "recipes"):
        assert user.row(*words) == plain, "the first directory that has it wins"
        other = replace(user, **{name: user.directory / "other" / name})
        assert other.row()["fingerprint"] != plain["fingerprint"]
    else:
        assert user.row(*words)["fingerprint"] != plain["fingerprint"]


def test_no_other_option_moves_a_key(user):
    assert user.row(*spoken(user, OTHER_OPTIONS, *OTHER_OPTIONS), "-vv") == user.row()
    assert user.row("--jobs", "1", "--memory", "1G", "--no-reuse", "-q") == user.row()


def test_neither_user_nor_home_nor_place_nor_time_nor_chance_moves_a_key(user, tmp_path):
    other = User(tmp_path / "far away").make()
    for place, names, files in os.walk(other.directory):
        for name in (*names, *files):
            os.utime(Path(place, name), (2_000_000_000, 2_000_000_000))
    environ = {"HOME": "/nowhere", "USER": "nobody", "LOGNAME": "nobody", "LANG": "tr_TR.UTF-8", "TZ": "Asia/Tokyo"}
    rows = [other.row(environ={**environ, "PYTHONHASHSEED": str(seed)}) for seed in (1, 2, 3)]
    assert rows == [user.row()] * 3
