"""Events as JSON lines."""

from __future__ import annotations

import json

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.events import OutputLine, TaskStarted
from rocmbuild.ui.jsonl import JsonLines

from .script import failing_run


def test_every_event_is_a_line_with_its_record(tmp_path):
    path = tmp_path / "events.jsonl"
    lines = JsonLines(path)
    for event in failing_run():
        lines(event)
    lines.close()
    records = [json.loads(text) for text in path.read_text().splitlines()]
    assert records == json.loads(json.dumps([event.record() for event in failing_run()]))
    assert records[0]["event"] == "RunStarted"


def test_a_line_can_be_read_as_soon_as_it_happened(tmp_path):
    path = tmp_path / "events.jsonl"
    lines = JsonLines(path)
    lines(TaskStarted(1.5, "rocr"))
    assert json.loads(path.read_text()) == {"event": "TaskStarted", "time": 1.5, "task": "rocr"}
    lines.close()


def test_any_output_can_be_written(tmp_path):
    path = tmp_path / "events.jsonl"
    lines = JsonLines(path)
    lines(OutputLine(0.0, "rocr", "build", "a\u2028b\udcff\x00\n"))
    lines.close()
    (text,) = path.read_text().splitlines()
    assert json.loads(text)["line"] == "a\u2028b\udcff\x00\n"


def test_a_file_that_cannot_be_written_is_the_users_mistake(tmp_path):
    with pytest.raises(UsageError) as caught:
        JsonLines(tmp_path / "missing" / "events.jsonl")
    assert str(tmp_path / "missing" / "events.jsonl") in caught.value.message
    assert "No such file or directory" in caught.value.message
    assert "--events" in caught.value.hint
