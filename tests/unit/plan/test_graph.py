from __future__ import annotations

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.plan.graph import Machine, Node, make_graph, order, visible
from rocmbuild.plan.plan import resolve


@pytest.fixture
def recipes(release):
    """Return a function that makes resolved recipes of ``name: needs`` pairs."""

    def make(**needs):
        for name, text in needs.items():
            release.recipe(name, f"needs: {{{text}}}\n")
        release.components(*needs)
        return resolve(release.selection())

    return make


def names(nodes):
    return [str(node) for node in nodes]


def test_needs_come_first_and_ties_are_broken_by_name(recipes):
    found = recipes(zlib="", apple="libs: [zlib]", core="", beta="libs: [core]", alpha="libs: [core]")
    graph = make_graph(found, found, cross=False)
    assert names(order(graph)) == ["core", "alpha", "beta", "zlib", "apple"]


def test_the_order_does_not_depend_on_that_of_the_selection(recipes):
    found = recipes(a="libs: [c]", b="", c="", d="tools: [b]")
    orders = {tuple(order(make_graph(found, selection, cross=False))) for selection in (list("abcd"), list("dcba"))}
    assert [names(nodes) for nodes in orders] == [["b", "c", "a", "d"]]


def test_a_selection_brings_all_it_needs_and_nothing_else(recipes):
    found = recipes(
        a="libs: [b], run: [r]", b="tools: [c]", c="sources: [s]", s="", r="libs: [q]", q="", other="libs: [a]"
    )
    graph = make_graph(found, ["a"], cross=False)
    assert {node.component for node in graph} == {"a", "b", "c", "s", "r", "q"}


def test_edges_that_are_needed_only_at_run_time_do_not_order_the_build(recipes):
    found = recipes(a="run: [z]", z="libs: [b]", b="")
    assert names(order(make_graph(found, ["a"], cross=False))) == ["a", "b", "z"]


def test_a_circle_of_run_time_needs_is_fine(recipes):
    found = recipes(a="run: [b]", b="run: [a]")
    assert names(order(make_graph(found, ["a"], cross=False))) == ["a", "b"]


def test_one_need_of_two_kinds_is_one_edge(recipes):
    found = recipes(a="run: [b], libs: [b]", b="")
    graph = make_graph(found, ["a"], cross=False)
    assert graph.edges[Node("b"), Node("a")]["kinds"] == {"run", "libs"}
    assert names(order(graph)) == ["b", "a"]


@pytest.mark.parametrize("selection", [["a"], ["b"], ["c"], ["a", "b", "c"], ["c", "b", "a"]])
def test_a_circle_is_printed_as_a_path_of_needs(recipes, selection):
    found = recipes(a="libs: [b]", b="tools: [c]", c="sources: [a]")
    with pytest.raises(UsageError) as caught:
        make_graph(found, selection, cross=False)
    assert caught.value.message == "components need each other in a circle: a → b → c → a"
    assert "needs.tools, needs.libs or needs.sources" in caught.value.hint


def test_a_component_that_needs_itself(recipes):
    with pytest.raises(UsageError, match=r"in a circle: a → a$"):
        make_graph(recipes(a="libs: [a]"), ["a"], cross=False)


def test_an_unknown_component_comes_with_the_nearest(recipes):
    with pytest.raises(UsageError) as caught:
        make_graph(recipes(rocblas="", hip=""), ["rocbals"], cross=False)
    assert caught.value.message == "there is no component rocbals"
    assert caught.value.hint == "did you mean rocblas?"


def test_an_unknown_need_names_its_user_and_the_users_recipe(recipes, release):
    with pytest.raises(UsageError) as caught:
        make_graph(recipes(rocblas="libs: [hpi]", hip=""), ["rocblas"], cross=False)
    assert caught.value.message == "rocblas needs hpi, but this release has no such component"
    assert caught.value.where == f"{release.directory}/recipes/rocblas/recipe.yaml:1:1"
    assert caught.value.hint == "did you mean hip?"


def test_only_what_is_declared_is_visible_transitively(recipes):
    found = recipes(a="libs: [b]", b="tools: [c]", c="libs: [d]", d="", s="libs: [x]", x="", r="", other="")
    graph = make_graph(found, found, cross=False)
    assert names(visible(graph, Node("a"))) == ["b", "c", "d"]
    assert names(visible(graph, Node("d"))) == []


def test_sources_and_run_time_needs_are_not_visible(recipes):
    found = recipes(a="sources: [s], run: [r]", s="libs: [x]", x="", r="libs: [y]", y="")
    assert visible(make_graph(found, ["a"], cross=False), Node("a")) == []


def test_a_run_time_need_that_is_a_need_by_another_way_is_visible(recipes):
    found = recipes(a="run: [c], libs: [b]", b="libs: [c]", c="")
    assert names(visible(make_graph(found, ["a"], cross=False), Node("a"))) == ["b", "c"]


def test_natively_everything_is_for_one_machine(recipes):
    graph = make_graph(recipes(a="tools: [llvm]", llvm=""), ["a"], cross=False)
    assert {node.machine for node in graph} == {Machine.HOST}


def test_a_cross_build_has_its_tools_on_the_build_machine(recipes):
    found = recipes(app="tools: [llvm], libs: [rt]", rt="tools: [llvm]", llvm="libs: [z], tools: [gen]", gen="", z="")
    graph = make_graph(found, ["app"], cross=True)
    assert names(order(graph)) == ["gen (build)", "z (build)", "llvm (build)", "rt", "app"]
    assert names(visible(graph, Node("app"))) == ["gen (build)", "llvm (build)", "rt", "z (build)"]


def test_a_cross_build_has_two_of_what_it_needs_on_both_machines(recipes):
    found = recipes(app="tools: [llvm], libs: [llvm]", llvm="")
    graph = make_graph(found, ["app"], cross=True)
    assert names(order(graph)) == ["llvm (build)", "llvm", "app"]
