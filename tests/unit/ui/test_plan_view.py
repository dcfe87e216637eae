"""Plans as tables and graphs."""

from __future__ import annotations

import io

import pytest

from rocmbuild.ui.console import make_console, show
from rocmbuild.ui.format import clean
from rocmbuild.ui.plan_view import forecast, render_dot, render_table, sums

from .script import plan_rows

OUTLOOK = {
    "seconds": 3900.0,
    "bound": 3800.0,
    "cpu_seconds": 7684.0,
    "jobs": 2,
    "memory": 3 << 30,
    "disk": 13 << 30,
    "basis": {"measured": 1, "recipe, scaled": 1},
}


def printed(rows, *, width=None, reasons=False, outlook=None):
    stream = io.StringIO()
    console = make_console(stream, force_terminal=width is not None)
    if width is not None:
        console.size = (width, 24)
    show(console, render_table(rows, reasons=reasons, outlook=outlook))
    return [clean(row) for row in stream.getvalue().splitlines()]


def test_a_plan_as_a_table():
    assert printed(plan_rows()) == [
        "component  machine  action  version  key       needs"
        "                                                      estimate",
        "llvm       build    build   16.0     01234567"
        "                                                               2h 03m",
        "rocr       host     keep    5.6.1    fedcba98  llvm",
        "clr        host     build   5.6.1    aaaaaaaa  llvm rocr rocm-device-libs rocm-comgr rocm-cmake rocminfo"
        "    5m 00s",
        "2 build, 1 keep; about 2h 08m of work",
    ]


def test_reasons_are_told_when_asked():
    assert "reason" not in printed(plan_rows())[0]
    lines = printed(plan_rows(), reasons=True)
    assert lines[0].endswith("estimate  reason")
    assert lines[1].endswith("its recipe changed")


@pytest.mark.parametrize("width", [44, 60, 80, 100, 140])
def test_no_word_is_broken_at_any_width(width):
    words = set(" ".join(printed(plan_rows())).split())
    assert set(" ".join(printed(plan_rows(), width=width)).split()) <= words


def test_narrow_terminals_do_without_needs():
    assert "needs" in printed(plan_rows(), width=80)[0]
    assert "needs" not in printed(plan_rows(), width=60)[0]
    assert {"component", "action", "estimate"} <= set(printed(plan_rows(), width=40)[0].split())


def measured_rows():
    sizes = {"build": {"memory": 3 << 30, "disk": 13 << 30}, "keep": {"memory": 0, "disk": 0}}
    return [{**row, **sizes[str(row["action"])]} for row in plan_rows()]


def test_memory_and_disk_have_columns_if_they_are_estimated():
    lines = printed(measured_rows(), outlook=OUTLOOK)
    assert lines[0].endswith("estimate   memory      disk")
    assert lines[1].endswith("2h 03m  3.0 GiB  13.0 GiB")
    assert lines[2].endswith("llvm")
    assert lines[-3:] == [
        "2 build, 1 keep; about 2h 08m of work",
        "about 1h 05m on 2 jobs, 3.0 GiB of memory, 13.0 GiB of disk",
        "basis: 1 measured; 1 recipe, scaled",
    ]


def test_no_figure_is_cut_at_any_width():
    rows = measured_rows()
    rows[0]["disk"] = 1015 << 20
    words = set(" ".join(printed(rows, outlook=OUTLOOK)).split())
    for width in range(44, 160):
        lines = printed(rows, width=width, outlook=OUTLOOK)
        assert set(" ".join(lines).split()) <= words, width
        assert max(len(row.rstrip()) for row in lines) <= width
        assert ("disk" in lines[0]) is ("1015.0 MiB" in lines[1])
    assert "disk" in lines[0]
    assert "disk" not in printed(rows, width=60, outlook=OUTLOOK)[0]


def test_nothing_is_foretold_of_a_plan_that_builds_nothing():
    assert forecast(None) == []
    assert forecast({**OUTLOOK, "seconds": 5.0, "basis": {}}) == []
    assert forecast({**OUTLOOK, "jobs": 1})[0].startswith("about 1h 05m on 1 job, ")


def test_square_brackets_are_only_text():
    rows = [{"component": "a[bold]", "action": "build", "reason": "[red]changed[/red]"}]
    text = "\n".join(printed(rows, reasons=True))
    assert "a[bold]" in text
    assert "[red]changed[/red]" in text


def test_sums():
    assert sums([]) == "the plan is empty"
    assert sums([{"component": "a", "action": "keep"}]) == "1 keep"
    assert sums(plan_rows()) == "2 build, 1 keep; about 2h 08m of work"


def test_what_may_be_kept_after_all_has_a_question_mark():
    rows = [{**row, "conditional": row["component"] == "clr"} for row in plan_rows()]
    assert (
        sums(rows) == "1 build, 1 build unless what it needs comes out unchanged, 1 keep; at most about 2h 08m of work"
    )
    assert "build?" in printed(rows)[3]
    assert "build?" in render_dot(rows)


def test_a_plan_as_a_graph():
    lines = render_dot(plan_rows()).splitlines()
    assert lines[0] == "digraph plan {"
    assert lines[-1] == "}"
    assert '  "llvm:build" [label="llvm\\n16.0\\nbuild", fillcolor="#ffe4b3"];' in lines
    assert '  "rocr:host" [label="rocr\\n5.6.1\\nkeep", fillcolor="#d5f0d0"];' in lines
    assert '  "clr:host" -> "rocr:host";' in lines
    assert '  "clr:host" -> "llvm:build";' in lines


def test_the_graph_does_not_depend_on_the_order_of_rows():
    assert render_dot(plan_rows()) == render_dot(plan_rows()[::-1])


def test_a_need_is_looked_for_on_the_same_machine_first():
    rows = [
        {"component": "llvm", "machine": "build", "action": "build"},
        {"component": "llvm", "machine": "host", "action": "build"},
        {"component": "clr", "machine": "host", "action": "build", "needs": ["llvm", "llvm:build"]},
    ]
    text = render_dot(rows)
    assert '"clr:host" -> "llvm:host";' in text
    assert '"clr:host" -> "llvm:build";' in text


def test_names_cannot_break_out_of_the_graph():
    rows = [{"component": 'a"];\nb\\', "action": "build"}]
    assert '  "a\\"];\\nb\\\\" [label="a\\"];\\nb\\\\\\nbuild", fillcolor="#ffe4b3"];' in render_dot(rows)


def test_an_unknown_action_is_white():
    assert 'fillcolor="#ffffff"];' in render_dot([{"component": "a", "action": "dream"}])
