from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from harness import Report, alternate, machine_facts, program, shown, table
from watching import BenchmarkError, Usage


def _report() -> Report:
    return Report("toy", {}, machine_facts())


def test_variants_take_turns_in_being_first() -> None:
    order: list[str] = []
    found = alternate({name: lambda name=name: order.append(name) for name in "abc"}, 3)
    assert "".join(order) == "abcbcacab"
    assert {name: len(values) for name, values in found.items()} == {"a": 3, "b": 3, "c": 3}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(3 << 20, "bytes", "3 MiB"), (0.0123, "s", "12.30 ms"), (75.4, "s", "75.40 s"), (1.0821, "x", "1.08 x"),
     (2345.6, "x", "2,346 x"), (4.44, "%", "4.4 %"), (4, "", "4")],
)  # fmt: skip
def test_values_for_people(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_the_median_counts_and_all_runs_are_kept() -> None:
    report = _report()
    assert report.add("time", [3.0, 1.0, 2.0], "s") == 2.0
    assert report.record()["figures"] == [{"name": "time", "value": 2.0, "unit": "s", "runs": [3.0, 1.0, 2.0]}]
    assert "2.00 s   3 runs: 1.00 s to 3.00 s" in table(report)


def test_ratios_are_of_runs_that_belong_together() -> None:
    report = _report()
    report.add_ratio("ratio", [2.0, 9.0], [1.0, 3.0])
    assert report.figures[0].values == (2.0, 3.0)
    report.add_ratio("of nothing", [1.0], [0.0])
    assert len(report.figures) == 1


def test_usage_is_four_figures() -> None:
    report = _report()
    report.add_usage("it", [Usage(1.0, 2.0, 3, 4)])
    assert [figure.value for figure in report.figures] == [1.0, 2.0, 3, 4]


def test_facts_of_the_machine_have_no_name_of_it() -> None:
    facts = machine_facts()
    assert facts["cpus"] >= 1
    assert facts["memory"] > 1 << 20
    assert {"cpu", "kernel", "date", "load"} <= facts.keys()
    assert not {"host", "hostname", "node"} & facts.keys()


def test_a_program_prints_its_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(options: argparse.Namespace, report: Report) -> None:
        report.add("answer", 42, "")

    assert program("toy", "What it measures.", measure, arguments=["--json", str(tmp_path / "out.json")]) == 0
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["benchmark"] == "toy"
    assert data["figures"][0]["value"] == 42
    assert "load_after" in data["machine"]
    assert "answer" in capsys.readouterr().out


def test_what_cannot_be_measured_is_said_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def measure(options: argparse.Namespace, report: Report) -> None:
        raise BenchmarkError("there is no compiler")

    assert program("toy", "", measure, arguments=[]) == 1
    assert capsys.readouterr().err == "toy.py: there is no compiler\n"
