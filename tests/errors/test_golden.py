"""Golden error messages: each directory is a mistake, ``expected.txt`` what the user sees of it.

After a wanted change, ``ROCMBUILD_UPDATE_GOLDEN=1 pytest tests/errors`` writes the files anew; read the difference.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import rocmbuild
from rocmbuild.model.catalog import make_catalog

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/command"))
UPDATE = "ROCMBUILD_UPDATE_GOLDEN"

ALL_OF_THEM = """
import contextlib, io, json, os, sys
from rocmbuild.cli import main
found = {}
for name, (directory, words) in json.load(sys.stdin).items():
    os.chdir(directory)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(words)
    found[name] = f"{output.getvalue()}exit code {code}\\n"
print(json.dumps(found))
"""
"""The command line many times in one process, for most of its time goes into its start."""


def words(name: str, home: Path) -> list[str]:
    places = ["--workspace", str(home / "workspace"), "--cache", str(home / "cache")]
    return [*(HERE / name / "command").read_text().split(), *places]


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "COLUMNS": "160",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(rocmbuild.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def portable(name: str, text: str) -> str:
    machine = make_catalog().target_for(platform.machine()).name
    return text.replace(f"{HERE / name}/", "").replace(f"({machine})", "(this machine)")


@pytest.fixture(scope="session")
def printed(tmp_path_factory) -> dict[str, str]:
    """All that is printed for each case, and the exit code."""
    home = tmp_path_factory.mktemp("home")
    cases = json.dumps({name: (str(HERE / name), words(name, home)) for name in CASES})
    argv = [sys.executable, "-c", ALL_OF_THEM]
    done = subprocess.run(argv, input=cases, env=environment(home), check=True, capture_output=True, text=True)
    assert list(home.iterdir()) == [], "a mistake leaves nothing behind"
    return {name: portable(name, text) for name, text in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", CASES)
def test_message(name, printed):
    expected = HERE / name / "expected.txt"
    if os.environ.get(UPDATE):
        expected.write_text(printed[name], encoding="utf-8")
    assert printed[name] == expected.read_text(encoding="utf-8"), f"if this is wanted: {UPDATE}=1 pytest {HERE}"


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_of_the_user_is_no_bug(name, printed):
    assert printed[name].endswith("exit code 2\n")
    assert "Traceback" not in printed[name]
    assert "rocmbuild: bug" not in printed[name]


@pytest.mark.parametrize("name", ["manifest-many-mistakes", "plan-circle"])
def test_a_process_of_its_own_says_the_same_on_standard_error(name, printed, tmp_path):
    argv = [sys.executable, "-m", "rocmbuild", *words(name, tmp_path)]
    done = subprocess.run(argv, cwd=HERE / name, env=environment(tmp_path), check=False, capture_output=True, text=True)
    assert done.stdout == ""
    assert portable(name, f"{done.stderr}exit code {done.returncode}\n") == printed[name]
