"""A wave of rebuilds ends where an output comes out unchanged: top sees middle and base, middle base."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.integration.conftest import Toy, wait_for

NAMES = ("base", "middle", "top", "apart")
NEEDS = {"middle": "base", "top": "middle"}

MANIFEST = "format: 1\nbranch: chain\nversion: '9.9.1'\ndistribution: debian-12\ngpus: [gfx900]\n"

RECIPE = """\
format: 1
component: {name}
summary: {name} of a chain
license: {{spdx: MIT}}
cost: 1
{needs}packages: [{{name: {name}, summary: "{name} of a chain", files: ["**"]}}]
"""

CMAKE = """\
cmake_minimum_required(VERSION 3.20)
project({name} LANGUAGES NONE)
file(STRINGS words.txt words REGEX "^[^#]")
{read}
file(WRITE ${{CMAKE_BINARY_DIR}}/{name}.txt "{name}: ${{words}} ${{need}}")
if(need MATCHES "slow")
  add_custom_target(wait ALL COMMAND sleep 60)
endif()
install(FILES ${{CMAKE_BINARY_DIR}}/{name}.txt DESTINATION share)
"""


def write(toy: Toy, name: str, words: str) -> None:
    """Write what a component says; lines with # are comments."""
    (toy.directory / "recipes" / name / "source/words.txt").write_text(f"{words}\n")


@pytest.fixture
def chain(new_toy, tmp_path):
    """A user who has built the chain."""
    toy = new_toy(tmp_path / "user", "chain")
    sources = "".join(f"  {name}: {{bundled: source}}\n" for name in NAMES)
    components = "".join(f"  {name}: {{version: '1.0'}}\n" for name in NAMES)
    (toy.directory / "manifests").mkdir()
    (toy.directory / "manifests/chain.yaml").write_text(
        f"{MANIFEST}sources:\n{sources}components:\n{components}", encoding="utf-8"
    )
    for name in NAMES:
        need = NEEDS.get(name)
        directory = toy.directory / "recipes" / name
        (directory / "source").mkdir(parents=True)
        needs = f"needs: {{libs: [{need}]}}\n" if need else ""
        (directory / "recipe.yaml").write_text(RECIPE.format(name=name, needs=needs))
        read = f"file(READ ${{CMAKE_INSTALL_PREFIX}}/share/{need}.txt need)" if need else ""
        (directory / "source/CMakeLists.txt").write_text(CMAKE.format(name=name, read=read))
        write(toy, name, "one")
    toy.build()
    return toy


def told(toy: Toy) -> dict[str, str]:
    """Return what the plan does, with a question mark where outputs decide."""
    return {name: row["action"] + "?" * row["conditional"] for name, row in toy.plan().items()}


def why(toy: Toy, name: str) -> list[str]:
    """Return what changed about a component."""
    done = toy.run("plan", "--why", name)
    assert done.returncode == 0, done.stderr
    return [line.strip() for line in done.stdout.splitlines()]


def ended(toy: Toy) -> dict[str, str]:
    """Return how the components' tasks of the last build ended."""
    return {e["task"]: e["status"] for e in toy.happened() if e["event"] == "TaskEnded" and e["task"] in NAMES}


def worked(toy: Toy) -> set[str]:
    """Return the components that the last build configured, built, installed or packaged."""
    steps = (step.split() for step in toy.steps())
    return {name for name, step, *_ in steps if step in ("configure", "build", "install", "package")}


KEPT = dict.fromkeys(NAMES, "KEEP")


def test_a_comment_rebuilds_its_component_and_nothing_else(chain):
    before = chain.debs()
    write(chain, "base", "# a comment\none")
    assert told(chain) == {"base": "BUILD", "middle": "BUILD?", "top": "BUILD?", "apart": "KEEP"}
    first, *rest = why(chain, "base")
    assert first == "base: BUILD, its inputs changed"
    assert [line.split(":")[0] for line in rest] == ["source.source.pin"]
    assert why(chain, "middle") == [
        *("middle: BUILD, base is built anew; kept if that changes nothing", "needs.base: built anew")
    ]
    output = chain.build().stdout
    assert "middle: kept: its needs came out unchanged" in output
    assert ended(chain) == {"base": "done", "middle": "kept", "top": "kept"}
    assert worked(chain) == {"base"}
    assert chain.debs() == before
    assert told(chain) == KEPT
    assert why(chain, "middle") == ["middle: KEEP, up to date", "nothing changed"]
    assert "nothing to do, 4 up to date" in chain.build().stdout

    # back to what was built first: it gave the same, so nothing is compiled
    write(chain, "base", "one")
    assert told(chain) == KEPT
    chain.build()
    assert "base build" not in chain.steps()
    assert chain.debs() == before


def test_a_real_change_goes_as_far_as_it_changes_something(chain):
    write(chain, "middle", "two")
    assert told(chain) == {"base": "KEEP", "middle": "BUILD", "top": "BUILD?", "apart": "KEEP"}
    chain.build()
    assert ended(chain) == {"middle": "done", "top": "done"}
    text = (chain.area("top") / "stage/opt/rocm-9.9.1/share/top.txt").read_text()
    assert text == "top: one middle: two base: one "
    assert told(chain) == KEPT

    # what a need gives did not change, but the component's own inputs did
    write(chain, "base", "# a comment\none")
    write(chain, "top", "three")
    assert told(chain) == {"base": "BUILD", "middle": "BUILD?", "top": "BUILD", "apart": "KEEP"}
    chain.build()
    assert ended(chain) == {"base": "done", "middle": "kept", "top": "done"}
    assert told(chain) == KEPT


@pytest.mark.parametrize("words", ["slow", "# a comment\none"])
def test_killed_in_between_the_rest_is_as_it_has_to_be(chain, running, words):
    chain.options += ["--no-reuse"]
    before = chain.debs()
    stamp = chain.area("base") / "stamp.json"
    key = json.loads(stamp.read_text())["key"]
    write(chain, "base", words)
    process = chain.start("build", "--no-verify")
    running.append(process)
    wait_for(lambda: stamp.is_file() and json.loads(stamp.read_text())["key"] != key, 120, lambda: "base was not built")
    process.kill()
    process.communicate(timeout=30)
    chain.no_orphans()
    if words == "slow":
        assert told(chain) == {"base": "KEEP", "middle": "BUILD", "top": "BUILD", "apart": "KEEP"}
        assert why(chain, "middle") == ["middle: BUILD, base gives something else", "needs.base: output changed"]
        write(chain, "base", "one")
        assert told(chain) == {"base": "BUILD", "middle": "BUILD?", "top": "BUILD?", "apart": "KEEP"}
        chain.build()
        assert ended(chain) == {"base": "done", "middle": "kept", "top": "kept"}
    else:
        assert told(chain) == KEPT
        chain.build()
        assert worked(chain) <= {"base"}
    assert told(chain) == KEPT
    assert chain.debs() == before


def test_why_says_what_changed_and_what_did_not(chain):
    recipe = chain.directory / "recipes/top/recipe.yaml"
    recipe.write_text(recipe.read_text() + "cmake: {variables: {COLOR: red}}\n")
    assert why(chain, "top") == ["top: BUILD, its inputs changed", "variables.COLOR: (nothing) → red"]
    assert why(chain, "apart") == ["apart: KEEP, up to date", "nothing changed"]
    done = chain.run("plan", "--why", "tpo")
    assert (done.returncode, "this plan has no component tpo" in done.stderr) == (2, True)
    assert "did you mean top?" in done.stderr
    shutil.rmtree(chain.area("apart") / "stage")
    gone = "never built, or what was built is gone"
    assert why(chain, "apart") == ["apart: RESTORE, not built yet; the store has it", gone]
    chain.options += ["--no-reuse"]
    assert why(chain, "apart") == ["apart: BUILD, not built yet", gone]
