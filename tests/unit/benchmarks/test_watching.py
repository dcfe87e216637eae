from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from watching import BenchmarkError, Process, Sampler, below, compilers, is_same, processes, read_process, run

BUSY = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"


def _process(pid: int, parent: int, name: str) -> Process:
    return Process(pid, parent, name, "R", 1, 1000)


def test_time_of_a_program_and_of_what_it_started(tmp_path: Path) -> None:
    script = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])"
    usage = run([sys.executable, "-c", script])
    assert usage.seconds >= 0.4
    assert 0.4 <= usage.cpu < 1.5
    assert usage.processes >= 2


def test_cpu_time_of_what_outlives_who_started_it() -> None:
    """As the first process of a pid namespace outlives bubblewrap, by a moment."""
    script = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {BUSY!r}])"
    assert run([sys.executable, "-c", script]).cpu >= 0.4


def test_a_program_that_fails_is_an_error_with_the_end_of_its_output(tmp_path: Path) -> None:
    script = "for number in range(50): print('line', number)\nraise SystemExit(3)"
    with pytest.raises(BenchmarkError, match="exited with status 3") as caught:
        run([sys.executable, "-c", script], log=tmp_path / "log")
    assert "line 49" in str(caught.value)
    assert "line 20" not in str(caught.value)


def test_memory_is_what_a_tree_of_processes_has_at_once() -> None:
    script = "import time; block = bytearray(60 << 20); time.sleep(0.4)"
    both = f"import subprocess, sys\np = [subprocess.Popen([sys.executable, '-c', {script!r}]) for _ in 'ab']\n"
    usage = run([sys.executable, "-c", both + "[it.wait() for it in p]"], interval=0.02)
    assert 120 << 20 <= usage.memory < 400 << 20


def test_a_driver_that_waits_for_its_compiler_is_not_a_second_compiler() -> None:
    tree = [
        _process(1, 0, "ninja"),
        _process(2, 1, "g++-16"),
        _process(3, 2, "cc1plus"),
        _process(4, 1, "clang-21"),
        _process(5, 1, "python3"),
        _process(6, 1, "x86_64-linux-gn"),
        _process(7, 6, "as"),
        _process(8, 1, "assistant"),
    ]
    assert [process.pid for process in compilers(tree)] == [3, 4, 7]


def test_descendants_are_found_over_generations_and_others_are_not() -> None:
    tree = [_process(3, 2, "c"), _process(2, 1, "b"), _process(4, 9, "d"), _process(1, 0, "a")]
    assert sorted(process.pid for process in below(1, tree)) == [2, 3]


def test_a_process_in_the_list_of_processes_is_told_from_its_successor() -> None:
    mine = next(process for process in processes() if process.pid == os.getpid())
    assert is_same(read_process(os.getpid()), mine)
    other = Process(mine.pid, mine.parent, mine.name, mine.state, mine.started + 1, mine.memory)
    assert not is_same(read_process(os.getpid()), other)
    assert read_process(1 << 30) is None


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
def test_compilers_at_one_instant(tmp_path: Path) -> None:
    """Compilers that wait for their input, which comes from a fifo, are alive for as long as the test wants."""
    fifos = [tmp_path / f"{number}.c" for number in range(3)]
    for fifo in fifos:
        os.mkfifo(fifo)
    started = [subprocess.Popen(["gcc", "-c", str(fifo), "-o", "/dev/null"]) for fifo in fifos]
    writers = [fifo.open("w") for fifo in fifos]  # opens when somebody reads
    sampler = Sampler(os.getpid())
    sampler.look()
    for writer in writers:
        writer.write("int x;\n")
        writer.close()
    for program in started:
        program.wait()
    sampler.look()
    assert sampler.counts == [3, 0]
    assert sampler.compilers == 3
