"""The choice of observers, and a whole run on a real terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.events import Note, OutputLine
from rocmbuild.ui import make_observer
from rocmbuild.ui.stream import can_draw, is_terminal

from .script import failing_run, good_run

SCRIPT = Path(__file__).with_name("script.py")


def on_terminal(*arguments, **environ):
    """Play the scripted run on a pseudo terminal; return what it was sent."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **environ}
    command = [sys.executable, str(SCRIPT), *arguments]
    with subprocess.Popen(command, stdout=follower, stderr=follower, stdin=follower, env=environment) as process:
        os.close(follower)
        received = b""
        while chunk := _read(leader):
            received += chunk
    os.close(leader)
    assert process.returncode == 0, received
    return received.decode()


def _read(leader):
    try:
        return os.read(leader, 1 << 16)
    except OSError:  # the other side is closed
        return b""


def test_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    with make_observer("auto", 0, None, stream) as emit:
        for event in good_run():
            emit(event)
    assert stream.getvalue().endswith("[ 178s] + done: 2 tasks in 2m 58s\n")
    assert "\x1b" not in stream.getvalue()


def test_a_board_where_it_is_asked_for():
    stream = io.StringIO()
    with make_observer("board", 0, None, stream) as emit:
        for event in failing_run():
            emit(event)
    assert "\x1b[?25l" in stream.getvalue()


def test_json_lines_beside_the_rest(tmp_path):
    path = tmp_path / "events.jsonl"
    stream = io.StringIO()
    with make_observer("plain", 0, path, stream) as emit:
        emit(Note(1.0, "rocr", "hello"))
    assert json.loads(path.read_text())["text"] == "hello"
    assert "hello" in stream.getvalue()


def test_json_lines_alone(tmp_path, capsys):
    with make_observer("auto", 0, tmp_path / "events.jsonl", None) as emit:
        emit(Note(1.0, "rocr", "hello"))
    assert capsys.readouterr() == ("", "")


def test_an_events_file_that_cannot_be_written_ends_the_run_before_it_begins(tmp_path):
    with pytest.raises(UsageError, match="cannot write events"):
        make_observer("plain", 0, tmp_path, io.StringIO())


def test_lines_survive_what_an_encoding_cannot_write():
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="ascii")
    with make_observer("auto", 1, None, stream) as emit:
        emit(OutputLine(1.0, "rocr", "build", "größer \udcff"))
    assert buffer.getvalue() == b"[   1s] rocr: | gr\\xf6\\xdfer \\udcff\n"


def test_a_closed_stream_is_no_terminal():
    stream = io.StringIO()
    stream.close()
    assert not is_terminal(stream)


@pytest.mark.parametrize(("term", "drawn"), [("xterm", True), ("dumb", False), ("", False), ("unknown", False)])
def test_only_a_terminal_that_moves_its_cursor_gets_a_board(term, drawn):
    leader, follower = pty.openpty()
    with os.fdopen(leader), os.fdopen(follower, "w") as stream:
        assert can_draw(stream, {"TERM": term}) is drawn
        assert not can_draw(stream, {})
    assert not can_draw(io.StringIO(), {"TERM": "xterm"})


def test_a_real_terminal_gets_the_board_and_its_cursor_back():
    text = on_terminal("300")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "✘ failed" in text
    assert "tasks" in text


def test_a_dumb_terminal_gets_lines():
    text = on_terminal("300", TERM="dumb")
    assert "\x1b" not in text
    assert "[   0s] root: started" in text


def test_no_color_on_a_real_terminal():
    text = on_terminal("300", NO_COLOR="1")
    assert "\x1b[?25l" in text
    assert "\x1b[31" not in text
    assert "\x1b[32m" not in text


def test_rich_is_not_loaded_for_lines():
    code = (
        "import io, sys\n"
        "from rocmbuild.ui import make_observer\n"
        "make_observer('auto', 0, None, io.StringIO())\n"
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
