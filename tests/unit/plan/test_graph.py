from __future__ import annotations

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.plan.graph import Machine, Node, make_graph, order, twin, visible
from rocmbuild.plan.selection import resolve
from tests.releases import BOARD, TARGET

LLVM_TOOL = Node("llvm", "build")


@pytest.fixture
def recipes(release):
    """Return a function that makes resolved recipes of ``name: needs`` pairs; in a cross build for two machines.

    After a semicolon come other keys of a recipe.
    """

    def make(*, cross=False, **needs):
        for name, text in needs.items():
            own, _, others = text.partition(";")
            release.recipe(name, f"needs: {{{own}}}\n{others.strip()}\n")
        release.components(*needs)
        return resolve(release.selection(**({"target": BOARD, "build": TARGET} if cross else {})))

    return make


def names(nodes):
    return [str(node) for node in nodes]


def test_needs_come_first_and_ties_are_broken_by_name(recipes):
    found = recipes(zlib="", apple="libs: [zlib]", core="", beta="libs: [core]", alpha="libs: [core]")
    graph = make_graph(found, found[Machine.HOST])
    assert names(order(graph)) == ["core", "alpha", "beta", "zlib", "apple"]


def test_the_order_does_not_depend_on_that_of_the_selection(recipes):
    found = recipes(a="libs: [c]", b="", c="", d="tools: [b]")
    orders = {tuple(order(make_graph(found, selection))) for selection in (list("abcd"), list("dcba"))}
    assert [names(nodes) for nodes in orders] == [["b", "c", "a", "d"]]


def test_a_selection_brings_all_it_needs_and_nothing_else(recipes):
    found = recipes(
        a="libs: [b], run: [r]", b="tools: [c]", c="sources: [s]", s="", r="libs: [q]", q="", other="libs: [a]"
    )
    graph = make_graph(found, ["a"])
    assert {node.component for node in graph} == {"a", "b", "c", "s", "r", "q"}


def test_edges_that_are_needed_only_at_run_time_do_not_order_the_build(recipes):
    found = recipes(a="run: [z]", z="libs: [b]", b="")
    assert names(order(make_graph(found, ["a"]))) == ["a", "b", "z"]


def test_a_circle_of_run_time_needs_is_fine(recipes):
    found = recipes(a="run: [b]", b="run: [a]")
    assert names(order(make_graph(found, ["a"]))) == ["a", "b"]


def test_one_need_of_two_kinds_is_one_edge(recipes):
    found = recipes(a="run: [b], libs: [b]", b="")
    graph = make_graph(found, ["a"])
    assert graph.needs[Node("a")][Node("b")] == {"run", "libs"}
    assert names(order(graph)) == ["b", "a"]


@pytest.mark.parametrize("selection", [["a"], ["b"], ["c"], ["a", "b", "c"], ["c", "b", "a"]])
def test_a_circle_is_printed_as_a_path_of_needs(recipes, selection):
    found = recipes(a="libs: [b]", b="tools: [c]", c="sources: [a]")
    with pytest.raises(UsageError) as caught:
        make_graph(found, selection)
    assert caught.value.message == "components need each other in a circle: a → b → c → a"
    assert "needs.tools, needs.libs or needs.sources" in caught.value.hint


def test_a_component_that_needs_itself(recipes):
    with pytest.raises(UsageError, match=r"in a circle: a → a$"):
        make_graph(recipes(a="libs: [a]"), ["a"])


def test_an_unknown_component_comes_with_the_nearest(recipes):
    with pytest.raises(UsageError) as caught:
        make_graph(recipes(rocblas="", hip=""), ["rocbals"])
    assert caught.value.message == "there is no component rocbals"
    assert caught.value.hint == "did you mean rocblas?"


def test_an_unknown_need_names_its_user_and_the_users_recipe(recipes, release):
    with pytest.raises(UsageError) as caught:
        make_graph(recipes(rocblas="libs: [hpi]", hip=""), ["rocblas"])
    assert caught.value.message == "rocblas needs hpi, but this release has no such component"
    assert caught.value.where == f"{release.directory}/recipes/rocblas/recipe.yaml:1:1"
    assert caught.value.hint == "did you mean hip?"


def test_only_what_is_declared_is_visible_transitively(recipes):
    found = recipes(a="libs: [b]", b="tools: [c]", c="libs: [d]", d="", s="libs: [x]", x="", r="", other="")
    graph = make_graph(found, found[Machine.HOST])
    assert names(visible(graph, Node("a"))) == ["b", "c", "d"]
    assert names(visible(graph, Node("d"))) == []


def test_sources_and_run_time_needs_are_not_visible(recipes):
    found = recipes(a="sources: [s], run: [r]", s="libs: [x]", x="", r="libs: [y]", y="")
    assert visible(make_graph(found, ["a"]), Node("a")) == []


def test_a_run_time_need_that_is_a_need_by_another_way_is_visible(recipes):
    found = recipes(a="run: [c], libs: [b]", b="libs: [c]", c="")
    assert names(visible(make_graph(found, ["a"]), Node("a"))) == ["b", "c"]


def test_natively_everything_is_for_one_machine(recipes):
    graph = make_graph(recipes(a="tools: [llvm]", llvm=""), ["a"])
    assert {node.machine for node in graph} == {Machine.HOST}


def test_a_cross_build_has_its_tools_on_the_build_machine(recipes):
    found = recipes(
        cross=True, app="tools: [llvm], libs: [rt]", rt="tools: [llvm]", llvm="libs: [z], tools: [gen]", gen="", z=""
    )
    graph = make_graph(found, ["app"])
    assert names(order(graph)) == ["gen (build)", "z (build)", "llvm (build)", "rt", "app"]
    assert names(visible(graph, Node("app"))) == ["gen (build)", "llvm (build)", "rt", "z (build)"]


def test_a_cross_build_has_two_of_what_it_needs_on_both_machines(recipes):
    graph = make_graph(recipes(cross=True, app="tools: [llvm], libs: [llvm]", llvm=""), ["app"])
    assert names(order(graph)) == ["llvm (build)", "llvm", "app"]
    assert graph.needs[Node("app")][Node("llvm")] == {"libs"}
    assert graph.needs[Node("app")][LLVM_TOOL] == {"tools"}


def test_what_a_tool_links_and_reads_is_for_the_build_machine_too(recipes):
    found = recipes(cross=True, app="tools: [gen]", gen="libs: [z], sources: [s], run: [r]", z="", s="", r="")
    graph = make_graph(found, ["app"])
    assert {str(node) for node in graph} == {"app", "gen (build)", "z (build)", "s (build)", "r (build)"}


def test_what_is_only_read_or_run_in_a_cross_build_is_the_host_machines(recipes):
    graph = make_graph(recipes(cross=True, app="sources: [s], run: [r]", s="", r=""), ["app"])
    assert {str(node) for node in graph} == {"app", "s", "r"}


def test_a_circle_on_the_build_machine_says_so(recipes):
    found = recipes(cross=True, app="tools: [gen]", gen="libs: [z]", z="libs: [gen]")
    with pytest.raises(UsageError) as caught:
        make_graph(found, ["app"])
    assert caught.value.message == "components need each other in a circle: gen (build) → z (build) → gen (build)"


INDEPENDENT = "tools: [llvm], libs: [z], sources: [s], run: [r]; machine_independent: true"


def test_what_is_the_same_on_every_machine_is_built_by_the_build_machine(recipes):
    found = recipes(cross=True, app="libs: [device]", device=INDEPENDENT, llvm="", z="", s="", r="")
    graph = make_graph(found, ["app"])
    assert {str(node) for node in graph} - {"app"} == {
        *("device", "r", "device (build)", "llvm (build)", "z (build)", "s (build)", "r (build)"),
    }
    assert {str(need): kinds for need, kinds in graph.needs[Node("device")].items()} == {
        "device (build)": {"twin"},
        "r": {"run"},
    }
    ordered = names(order(graph))
    assert ordered.index("device (build)") < ordered.index("device") < ordered.index("app")
    assert twin(Node("device"), found) == Node("device", "build")
    assert twin(Node("device", "build"), found) is None
    assert twin(Node("app"), found) is None


def test_a_twin_is_taken_over_and_not_seen(recipes):
    found = recipes(cross=True, app="libs: [device]", device=INDEPENDENT, llvm="", z="", s="", r="")
    graph = make_graph(found, ["app"])
    assert names(visible(graph, Node("device"))) == []
    assert names(visible(graph, Node("app"))) == ["device"]


def test_natively_there_is_no_twin(recipes):
    found = recipes(device=INDEPENDENT, llvm="", z="", s="", r="")
    assert twin(Node("device"), found) is None
    assert names(visible(make_graph(found, ["device"]), Node("device"))) == ["llvm", "z"]


@pytest.mark.parametrize("text", ["build: none", "provided: {testix: {version: '1', home: /usr, system: []}}"])
def test_what_is_not_built_has_no_twin(recipes, release, text):
    release.changes = {"system": frozenset({"device"})} if "provided" in text else {}
    found = recipes(cross=True, device=f"; machine_independent: true\n{text}")
    assert twin(Node("device"), found) is None
    assert names(make_graph(found, ["device"])) == ["device"]
