from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Report, machine_facts
from markdown import main


def test_figures_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("toy", {}, {**machine_facts(), "load": [0.5, 0.5, 0.5]})
    report.add("time", [3.0, 1.0, 2.0], "s")
    report.add("most memory", 5 << 20, "bytes")
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"machine": machine_facts(), "results": [report.record()]}))
    assert main([str(file)]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert rows[1].startswith("| `toy.py` | 0.5 to ")
    assert rows[1].endswith("| time | 2.00 s | 3: 1.00 s to 3.00 s |")
    assert rows[2].endswith("| most memory | 5 MiB | 1 |")


def test_a_file_has_to_be_named() -> None:
    assert main([]) == 2
