"""Whether what was built is still wanted, and what people are told about it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from rocmbuild.plan.graph import Node
from rocmbuild.plan.history import Action, Built, Record, Wanted, decide, differences, why
from tests.releases import stamps_of

OWN = {"lib": "1", "tool": "2"}
BUILT = Built("key", "root", None, 1.0, "output", (Record("key", "own", OWN),), {"subdir": "."})


def wanted(own="own", root="root", **needs):
    return Wanted("other key", own, root, {**OWN, **needs})


def test_the_same_inputs_are_kept_whatever_the_static_key_says():
    assert decide(wanted(), BUILT).action is Action.KEEP


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (wanted(own="other"), "its inputs changed"),
        (wanted(own="other", lib=None), "its inputs changed"),
        (wanted(lib="other"), "lib gives something else"),
        (wanted(lib=None, tool="other"), "tool gives something else"),
        (wanted(more="3"), "its inputs changed"),
        (Wanted("key", "own", "root", {"lib": "1"}), "its inputs changed"),
        (wanted(root="other"), "the build root has other package versions"),
        (wanted(root="other", lib=None), "the build root has other package versions"),
    ],
)
def test_other_inputs_are_built_for_certain(asked, reason):
    decision = decide(asked, BUILT)
    assert (decision.action, decision.reason, decision.conditional) == (Action.BUILD, reason, False)


def test_what_waits_for_a_need_is_built_unless_that_comes_out_unchanged():
    decision = decide(wanted(tool=None), BUILT)
    assert (decision.action, decision.conditional) == (Action.BUILD, True)
    assert decision.reason == "tool is built anew; kept if that changes nothing"


def test_inputs_that_gave_the_same_before_are_as_good_as_the_last_ones():
    built = dataclasses.replace(BUILT, records=(Record("k", "new", OWN), *BUILT.records))
    assert decide(wanted(), built).action is Action.KEEP
    assert decide(wanted(own="new"), built).action is Action.KEEP
    mixed = dataclasses.replace(BUILT, records=(Record("k", "new", {**OWN, "lib": "3"}), *BUILT.records))
    assert decide(wanted(own="new"), mixed).action is Action.BUILD, "its own inputs of the one, its needs of the other"


@pytest.mark.parametrize(
    ("key", "needs", "action"),
    [("key", {}, "KEEP"), ("key", {"lib": None}, "BUILD"), ("other", {}, "BUILD")],
)
def test_a_stamp_without_records_counts_by_its_static_key(key, needs, action):
    old = Built("key", "root", None, 1.0, "output")
    decision = decide(Wanted(key, "own", "root", {**OWN, **needs}), old)
    assert (decision.action.value, decision.conditional) == (action, False)


def test_what_is_stored_as_json_is_what_is_compared(release):
    release.manifest(
        "remotes: {forge: [https://one.example/]}\ndefaults: {remote: forge, ref: main}\n"
        f"sources: {{app: {{repository: app, commit: {'b' * 40}}}}}\n"
        "components: {app: {version: '1'}, lib: {version: '1'}}\n"
    )
    text = """\
    needs: {libs: [lib], sources: [lib], python: ['lit==17']}
    cmake: {targets: [all], variables: {A: "1"}}
    edits: [{file: x, find: a, replace: b, why: w}]
    add: [{path: x, text: t, why: w}]
    discard: [{files: [x], why: w}]
    """
    release.recipe("lib", "provided: {testix: {version: '1', home: /x, system: [], links: {a: b}}}\n")
    release.recipe("app", text)
    for job in release.plan(system=frozenset({"lib"})).jobs:
        assert json.loads(json.dumps(job.inputs)) == job.inputs


def changes(release, **replaced):
    """Return what is said about app after a change of texts, all having been built before it."""
    lib, app = "add: [{path: x, text: t, why: w}]\n", "needs: {libs: [lib]}\ncmake: {variables: {A: '1', B: '2'}}\n"
    release.components("lib", "app", "other")
    for name, text in (("lib", lib), ("app", app), ("other", "")):
        release.recipe(name, text)
    before = stamps_of(release.plan())
    for name, text in replaced.items():
        release.recipe(name, text)
    plan = release.plan(before, "R")
    job = plan.job("app")
    return [str(change) for change in why(job.wanted("R"), before[Node("app")], job.inputs)]


@pytest.mark.parametrize(
    ("recipes", "told"),
    [
        ({}, []),
        (
            {"app": "needs: {libs: [lib]}\ncmake: {variables: {A: '3', C: '2'}}\n"},
            ["A: 1 → 3", "B: 2 → (nothing)", "C"],
        ),
        (
            {"app": "needs: {libs: [other]}\ncmake: {variables: {A: '1', B: '2'}}\n"},
            ["lib: needed no more", "other: new"],
        ),
        ({"lib": "add: [{path: x, text: u, why: w}]\n"}, ["needs.lib: built anew"]),
        (
            {"app": "needs: {libs: [lib], system: [zstd]}\ncmake: {variables: {A: '1', B: '2'}}\n"},
            ["root.packages.build root: (nothing) → zstd", "needs.lib: built anew"],
        ),
    ],
)
def test_each_input_that_changed_is_named(release, recipes, told):
    found = changes(release, **recipes)
    assert len(found) == len(told), found
    for line, part in zip(found, told, strict=True):
        assert part in line


def test_outputs_and_roots_that_changed_are_named():
    asked = Wanted("key", "own", "new root", {**OWN, "lib": "other"})
    assert [str(change) for change in why(asked, BUILT, {"subdir": "."})] == [
        "needs.lib: output changed",
        "root: other package versions",
    ]


def test_what_an_older_rocmbuild_built_is_not_explained_in_detail():
    old = Built("key", "root", None, 1.0, "output")
    assert why(Wanted("key", "own", "root", OWN), old, {}) == []
    (change,) = why(Wanted("other", "own", "root", OWN), old, {})
    assert "did not note" in str(change)


def test_an_engine_that_builds_differently_says_so():
    assert "differently" in str(why(wanted(own="other"), BUILT, {"subdir": "."})[0])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 → 2"]),
        ({"a": [1, 2]}, {"a": [2, 3]}, ["a: 1 → 3"]),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["a: order"]),
        ({"a": ["x", None]}, {"a": ["x", None]}, []),
        ({"a": [["f", "g"]]}, {"a": []}, ["a: [f, g] → (nothing)"]),
        ({"a": None}, {"a": "x"}, ["a: (nothing) → x"]),
        ({"a": "ab" * 32}, {"a": "cd" * 20}, ["a: abababababab → cdcdcdcdcdcd"]),
    ],
)
def test_differences(old, new, told):
    assert [str(change) for change in differences(old, new)] == told
