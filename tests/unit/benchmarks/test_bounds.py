from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bounds import bound, makespan


def _ended(task: str, step: str, seconds: float, cpu: float) -> dict[str, Any]:
    return {"event": "StepEnded", "time": seconds, "task": task, "step": step, "seconds": seconds, "cpu_seconds": cpu}


def test_a_chain_of_steps_that_each_use_one_cpu(tmp_path: Path) -> None:
    trace = [_ended("a", "configure", 4.0, 4.0), _ended("b", "configure", 3.0, 3.0), _ended("c", "install", 1.0, 1.0)]
    found = bound(trace, {"a": [], "b": ["a"], "c": []}, tmp_path, 2, 2)
    assert found.chain == pytest.approx(7.0)
    assert found.work == pytest.approx(4.0)


def test_ninja_shares_its_work_among_all_jobs(tmp_path: Path) -> None:
    found = bound([_ended("a", "build", 9.0, 8.0), _ended("b", "build", 8.0, 8.0)], {"a": [], "b": []}, tmp_path, 2, 2)
    assert found.seconds == found.work == pytest.approx(8.0)
    assert found.chain == pytest.approx(4.0)


def test_sources_come_before_components_and_the_repository_after_them(tmp_path: Path) -> None:
    trace = [
        _ended("a source", "fetch", 5.0, 1.0),
        _ended("a", "configure", 3.0, 2.0),
        _ended("repository", "write", 1.0, 1.0),
    ]
    assert bound(trace, {"a": []}, tmp_path, 2, 2).chain == pytest.approx(4.0)  # a download is no work


def test_makespan_is_the_last_moment() -> None:
    assert makespan([{"time": 1.0}, {"time": 7.5}, {"time": 2.0}]) == 7.5
