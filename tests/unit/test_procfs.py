"""Real processes as they are read from /proc, and who belongs to whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rocmbuild import procfs


@pytest.fixture
def start():
    """A function that starts a Python program in a session of its own and waits until it says something."""
    started = []

    def run(code, *words):
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", code, *words], stdout=subprocess.PIPE, start_new_session=True, text=True
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield run
    for process in started:
        for one in procfs.family(process.pid):
            procfs.send([one.pid], signal.SIGKILL)
        process.kill()
        process.communicate()


def test_a_process_has_its_place_its_time_and_its_memory(start):
    code = (
        "import time; x = bytearray(50 << 20); [i for i in range(3000000)]; print('ready', flush=True); time.sleep(60)"
    )
    process, _ = start(code)
    found = procfs.read(process.pid)
    assert (found.pid, found.parent, found.group, found.session) == (process.pid, os.getpid(), process.pid, process.pid)
    assert 50 << 20 <= found.memory < 100 << 20
    assert 0.02 < found.cpu < 10
    assert found.state in "SR"
    assert found.start == procfs.read(process.pid).start > procfs.read(os.getpid()).start


def test_a_name_with_brackets_and_spaces_is_read(start, tmp_path):
    Path(tmp_path / "a) R 1 (b").symlink_to("/bin/sleep")
    process = subprocess.Popen([str(tmp_path / "a) R 1 (b"), "60"])
    try:
        found = procfs.read(process.pid)
        while found.name != "a) R 1 (b":
            time.sleep(0.01)
            found = procfs.read(process.pid)
        assert found.parent == os.getpid()
    finally:
        process.kill()
        process.wait()


def test_who_is_gone_is_not_there():
    process = subprocess.Popen(["true"])
    process.wait()
    assert procfs.read(process.pid) is None
    assert process.pid not in procfs.pids()
    assert os.getpid() in procfs.pids()


def test_a_family_has_children_and_those_that_their_parents_left(start):
    code = """
import os, subprocess, sys, time
child = "import time; print('ready', flush=True); time.sleep(60)"
one = subprocess.Popen([sys.executable, "-S", "-c", child], start_new_session=True, stdout=subprocess.PIPE)
one.stdout.readline()
shell = f"{sys.executable} -S -c 'import time; time.sleep(60)' >/dev/null & echo $!"
left = subprocess.run(["sh", "-c", shell], capture_output=True, text=True).stdout.strip()
print(one.pid, left, flush=True)
time.sleep(60)
"""
    process, said = start(code)
    own, left = map(int, said.split())
    assert {one.pid for one in procfs.family(process.pid)} == {process.pid, own, left}
    assert procfs.read(left).parent != process.pid
    assert {one.pid for one in procfs.family(own)} == {own}


def test_signals_go_to_who_is_there(start):
    process, _ = start("import time; print('ready', flush=True); time.sleep(60)")
    gone = subprocess.Popen(["true"])
    gone.wait()
    procfs.send([gone.pid, process.pid], signal.SIGSTOP)
    until = time.monotonic() + 5
    while procfs.read(process.pid).state != "T" and time.monotonic() < until:
        time.sleep(0.01)
    assert procfs.read(process.pid).state == "T"
    assert procfs.send_group(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not procfs.send_group(process.pid, signal.SIGKILL)
