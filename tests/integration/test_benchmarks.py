"""The benchmarks as programs: each prints its help, and the cheap ones measure something small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROGRAMS = ("startup", "planning", "tokens", "core", "nested", "sandbox", "noop", "restore", "run")


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_has_help(name: str) -> None:
    done = _run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout


def test_one_command_runs_those_that_are_named_and_gathers_their_figures(tmp_path: Path) -> None:
    done = _run("run", "planning", "--quick", "--json", str(tmp_path / "all.json"))
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "all.json").read_text())
    assert [result["benchmark"] for result in data["results"]] == ["planning"]
    assert all(figure["value"] > 0 for result in data["results"] for figure in result["figures"])


def test_a_name_that_does_not_exist_is_an_error() -> None:
    done = _run("run", "speed")
    assert done.returncode == 2
    assert "there is no speed; there are startup, planning" in done.stderr


def test_tokens_are_counted_with_real_ninjas(tmp_path: Path) -> None:
    """What stands for a compiler sleeps, as a test should; its name is one that is counted."""
    compiler = tmp_path / "g++"
    compiler.write_text('#!/bin/sh\nsleep 0.15\nfor last; do :; done\ntouch "$last"\n')
    compiler.chmod(0o755)
    words = ("--sizes", "2", "--ninjas", "2", "--files", "4", "--kills", "1", "--compiler", str(compiler))
    done = _run("tokens", *words, "--json", str(tmp_path / "figures"))
    assert done.returncode == 0, done.stderr
    figures = {it["name"]: it["value"] for it in json.loads((tmp_path / "figures").read_text())["figures"]}
    assert 1 <= figures["2 tokens, 2 Ninjas: most compilers at once"] <= 2
    assert figures["2 tokens, 2 Ninjas: tokens afterwards"] == 2
    assert figures["4 tokens, 2 Ninjas: tokens afterwards"] == 4
    assert figures["Ninja killed, 4 tokens: there afterwards"] == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts without bubblewrap, as root")
def test_a_command_of_the_sandbox_runs_bare_in_the_same_places(tmp_path: Path) -> None:
    build, file = tmp_path / "build", tmp_path / "file"
    build.mkdir()
    file.write_text("of the host\n")
    sandbox = ["bwrap", "--unshare-user", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run"]
    sandbox += [
        "--bind",
        str(build),
        "/run/build",
        "--ro-bind",
        str(file),
        "/run/tool",
        "--symlink",
        "tool",
        "/run/link",
    ]
    sandbox += ["--remount-ro", "/run", "--setenv", "PATH", "/usr/bin:/bin", "--chdir", "/run/build", "--"]
    script = "cat /run/link >out; echo $HOME >>out; pwd >>out; echo x >/dev/null; touch /run/other; exit 3"
    done = _run("bare", str(tmp_path / "result"), "--", *sandbox, "sh", "-c", script)
    assert done.returncode == 3, done.stderr
    assert "Read-only file system" in done.stderr
    assert (build / "out").read_text() == "of the host\n\n/run/build\n"
    assert json.loads((tmp_path / "result").read_text())["seconds"] > 0
