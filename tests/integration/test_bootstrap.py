"""bootstrap on a small project of its own: real venv and pip, without network; apt-get is a stand-in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "small"
version = "1"
"""

BACKEND = '''\
"""Make the smallest editable wheel: one module's directory and one program."""
import os, zipfile

def build_editable(directory, config_settings=None, metadata_directory=None):
    if os.path.exists("broken"):
        raise SystemExit("the backend is broken")
    name = "small-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        info = "small-1.dist-info/"
        wheel.writestr("small.pth", os.getcwd())
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\nProvides-Extra: test\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        programs = ("rocmbuild", "ruff", "mypy", "pytest")
        lines = "".join(f"{program} = small:main\\n" for program in programs)
        wheel.writestr(info + "entry_points.txt", "[console_scripts]\\n" + lines)
        wheel.writestr(info + "RECORD", "")
    return name
'''

PROGRAM = '''\
"""Stand for every program of the project: write down the call, answer as the files beside say."""
import os, pathlib, sys

HERE = pathlib.Path(__file__).parent

def main():
    name = os.path.basename(sys.argv[0])
    with open(HERE / "calls", "a") as calls:
        calls.write(" ".join([name, *sys.argv[1:]]) + "\\n")
    if sys.argv[1:2] == ["doctor"]:
        print((HERE / "doctor.json").read_text())
        return 1
    print("in", os.getcwd(), os.environ.get("PIP_NO_INDEX"))
    return 3 if (HERE / f"{name}-fails").exists() else 0
'''

APT_GET = """\
#!/bin/sh
echo "apt-get $DEBIAN_FRONTEND $*" >> {directory}/calls
[ "$2" = update ] && touch {directory}/updated && exit 0
[ -e {directory}/updated ] || exit 100
rm -rf {directory}/hidden
echo '[]' > {directory}/doctor.json
"""

LACKING = [
    {"subject": "a", "status": "missing", "detail": "not found", "packages": ["p2", "p1"]},
    {"subject": "b", "status": "warning", "detail": "few", "packages": ["p3"]},
]


class Project:
    """A checkout with a bootstrap of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        programs = path / "programs"
        programs.mkdir(parents=True)
        shutil.copy(CHECKOUT / "bootstrap", path)
        (path / "pyproject.toml").write_text(PYPROJECT)
        (path / "backend.py").write_text(BACKEND)
        (path / "small.py").write_text(PROGRAM)
        (path / "doctor.json").write_text("[]")
        (programs / "apt-get").write_text(APT_GET.format(directory=path))
        (programs / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
        for program in programs.iterdir():
            program.chmod(0o755)

    def run(self, *words: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PATH": f"{self.path}/programs:{os.environ['PATH']}", "PIP_NO_INDEX": "1", **variables}
        argv = [sys.executable, str(self.path / "bootstrap"), *words]
        return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)

    def calls(self) -> list[str]:
        """Return the calls since this was last asked."""
        file = self.path / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Prepare a checkout on a machine that has no python3-venv at first."""
    project = Project(tmp_path_factory.mktemp("checkout"))
    hidden = project.path / "hidden" / "venv"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise SystemExit('ensurepip is not available')\n")
    project.first = project.run("rocmbuild", "list", "x y", PYTHONPATH=str(hidden.parent))
    assert project.first.returncode == 0, project.first.stderr
    project.first_calls = project.calls()
    return project


def test_the_first_run_prepares_and_then_runs_the_command(shared):
    assert shared.first.stderr.splitlines() == [
        "bootstrap: making .venv",
        "bootstrap: installing Debian packages: python3-venv",
        "bootstrap: installing Python packages into .venv",
    ]
    install = "apt-get noninteractive -qq install --yes --no-install-recommends python3-venv"
    prepared = [install, "apt-get noninteractive -qq update", install, "rocmbuild doctor --offline --format json"]
    assert shared.first_calls == [*prepared, "rocmbuild list x y"]


def test_later_runs_only_run_the_command(shared, tmp_path):
    result = shared.run("rocmbuild", "plan", cwd=tmp_path)
    assert result.stderr == ""
    assert result.stdout == f"in {tmp_path} 1\n"
    assert shared.calls() == ["rocmbuild plan"]


def test_the_exit_status_is_the_commands(shared):
    (shared.path / "rocmbuild-fails").touch()
    assert shared.run("rocmbuild").returncode == 3
    (shared.path / "rocmbuild-fails").unlink()
    shared.calls()


def test_a_changed_pyproject_is_installed_again(shared):
    (shared.path / "pyproject.toml").write_text(PYPROJECT + "# changed\n")
    result = shared.run("rocmbuild")
    assert result.stderr == "bootstrap: installing Python packages into .venv\n"
    assert shared.run("rocmbuild").stderr == ""
    shared.calls()


def test_a_failed_installation_is_tried_again(shared):
    (shared.path / "pyproject.toml").write_text(PYPROJECT + "# changed again\n")
    (shared.path / "broken").touch()
    failed = shared.run("rocmbuild")
    assert failed.returncode == 1
    assert "the backend is broken" in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("bootstrap: pip failed")
    assert shared.calls() == []
    (shared.path / "broken").unlink()
    assert shared.run("rocmbuild").returncode == 0
    shared.calls()


def test_missing_debian_packages_are_installed(shared):
    (shared.path / "doctor.json").write_text(json.dumps(LACKING))
    (shared.path / ".venv/bootstrap.json").unlink()
    result = shared.run("rocmbuild")
    install = "apt-get noninteractive -qq install --yes --no-install-recommends p1 p2"
    doctor = "rocmbuild doctor --offline --format json"
    assert shared.calls() == [doctor, install, doctor, "rocmbuild"]
    assert "bootstrap: making .venv" not in result.stderr  # one that works is kept
    assert shared.run("rocmbuild").stderr == ""
    shared.calls()


def test_a_failure_of_apt_does_not_stop_a_command_that_may_not_need_it(shared):
    (shared.path / "doctor.json").write_text(json.dumps(LACKING))
    (shared.path / ".venv/bootstrap.json").unlink()
    (shared.path / "updated").rename(shared.path / "kept")
    (shared.path / "programs/apt-get").rename(shared.path / "apt-get")
    (shared.path / "programs/apt-get").symlink_to("/bin/false")
    result = shared.run("rocmbuild")
    (shared.path / "apt-get").rename(shared.path / "programs/apt-get")
    (shared.path / "kept").rename(shared.path / "updated")
    assert result.returncode == 0
    assert "apt-get failed; its own message is above; by hand: apt-get install p1 p2" in result.stderr
    assert shared.calls()[-1] == "rocmbuild"


def test_what_cannot_be_installed_is_said_each_time(shared):
    (shared.path / "doctor.json").write_text(json.dumps([{**LACKING[0], "packages": []}]))
    (shared.path / ".venv/bootstrap.json").unlink()
    for _ in range(2):
        result = shared.run("rocmbuild")
        assert result.returncode == 0
        assert result.stderr.endswith(
            "bootstrap: a: not found\nbootstrap: rocmbuild doctor says what mends it; going on\n"
        )
    (shared.path / "doctor.json").write_text("[]")
    shared.run("rocmbuild")
    shared.calls()


def test_all_checks_run_and_any_failure_counts(shared, tmp_path):
    result = shared.run("test", "-k", "foo", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout == f"in {shared.path} 1\n" * 4
    assert shared.calls() == ["ruff check . bootstrap", "ruff format --check . bootstrap", "mypy", "pytest -k foo"]
    (shared.path / "mypy-fails").touch()
    result = shared.run("test")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "bootstrap: failed: mypy"
    assert len(shared.calls()) == 4
    (shared.path / "mypy-fails").unlink()


@pytest.mark.parametrize("word", ["nosuch", "../bin/python"])
def test_an_unknown_command(shared, word):
    result = shared.run(word)
    assert result.returncode == 2
    assert result.stderr.startswith(f"bootstrap: there is no command {word}; there are test, rocmbuild")


def test_without_a_command_it_explains_itself(shared):
    assert shared.run().returncode == 2
    result = shared.run("--help")
    assert result.returncode == 0
    assert "usage: ./bootstrap COMMAND" in result.stdout
    assert shared.calls() == []


def test_a_checkout_that_moved_is_prepared_anew(shared, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(shared.path, moved, symlinks=True)
    project = object.__new__(Project)
    project.path = moved
    result = project.run("rocmbuild")
    assert "bootstrap: making .venv" in result.stderr
    assert project.calls()[-1] == "rocmbuild"
    assert shared.calls() == []
