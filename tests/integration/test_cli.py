"""The program as a user starts it: verbs that need no build, pipes, encodings, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rocmbuild.workspace import exclusive, open_workspace

PROGRAM = (sys.executable, "-m", "rocmbuild")


@pytest.fixture
def environ(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "COLUMNS": "80", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def rocmbuild(tmp_path, environ):
    """Run rocmbuild in a directory of its own, with nothing of the caller's environment."""

    def call(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {**environ, **variables}
        return subprocess.run(
            [*PROGRAM, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60
        )

    return call


@pytest.fixture
def workspace(tmp_path):
    """Make what two builds leave behind: trees that share a file, and logs."""
    path = open_workspace(tmp_path / "workspace")
    areas = [path / "build/rel-1/debian-12-amd64", path / "build/rel-2/debian-13-riscv64"]
    for area in areas:
        for component in ("rocr", "hip"):
            tree = area / component
            (tree / "stage").mkdir(parents=True)
            (tree / "stage" / "lib.so").write_bytes(b"x" * 100_000)
            (tree / "stamp.json").write_text("{}")
        (area / "hip" / "prefix").mkdir()
        (area / "hip" / "prefix" / "lib.so").hardlink_to(area / "rocr" / "stage" / "lib.so")
    for number, name in enumerate(("configure", "build", "install", "store")):
        log = path / "logs/rel-1/debian-12-amd64/rocr" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(f"{name} of rel-1: \u00fc\n".encode() + b"\xff\n")
        os.utime(log, (1000 + number, 1000 + number))
    other = path / "logs/rel-2/debian-13-riscv64/rocr/build.log"
    other.parent.mkdir(parents=True)
    other.write_text("build of rel-2\n")
    os.utime(other, (1001.5, 1001.5))
    return path


def test_list_knows_what_ships(rocmbuild):
    targets = json.loads(rocmbuild("list", "targets", "--format", "json").stdout)
    assert {
        "target": "x86_64",
        "architecture": "amd64",
        "triple": "x86_64-linux-gnu",
        "summary": "64-bit PC",
    } in targets
    lines = rocmbuild("list", "distributions").stdout.splitlines()
    assert lines[0].split()[:2] == ["distribution", "suite"]
    assert any(line.split()[:2] == ["debian-12", "bookworm"] for line in lines)


MANIFEST = """\
format: 1
branch: mine
version: "1.2.3"
summary: two parts
distribution: debian-12
remotes: {r: ["https://example.org/"]}
defaults: {remote: r, ref: main}
sources:
  one: {repository: ONE, commit: 0123456789012345678901234567890123456789}
  two: {debian: t/two/two_1.orig.tar.xz, sha256: %s}
components:
  one: {version: "1.0"}
  two: {version: "2.0", source: one, subdir: sub/two}
  three: {version: "3.0", source: two}
""" % ("0" * 64)


def test_list_reads_own_manifests_first(rocmbuild, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine.yaml").write_text(MANIFEST)
    branches = json.loads(rocmbuild("list", "branches", "--manifests", "m", "--format", "json").stdout)
    found = {row["branch"]: row for row in branches}
    assert found["mine"]["version"] == "1.2.3"
    assert found["mine"]["summary"] == "two parts"
    rows = rocmbuild("list", "components", "--branch", "mine", "--format", "json", ROCMBUILD_MANIFESTS="m").stdout
    sources = {row["component"]: row["source"] for row in json.loads(rows)}
    assert sources == {
        "one": "https://example.org/ONE 0123456789012345678901234567890123456789",
        "two": "https://example.org/ONE//sub/two 0123456789012345678901234567890123456789",
        "three": "debian:t/two/two_1.orig.tar.xz",
    }


def test_a_table_is_not_folded_where_a_program_reads_it(rocmbuild, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine.yaml").write_text(MANIFEST.replace("two parts", "word " * 60 + "end"))
    lines = rocmbuild("list", "branches", "--manifests", "m").stdout.splitlines()
    assert any(line.startswith("mine") and line.endswith("end") for line in lines)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("list", "branchs"), "nothing to list is named 'branchs'", "did you mean branches"),
        (("list", "gpus", "--format", "xml"), "--format: 'xml' is neither table nor json", ""),
        (("list", "components", "--branch", "nosuch"), "there is no branch nosuch", ""),
        (("logs", "rocr"), "is not a workspace", "--workspace DIR"),
        (("clean",), "is not a workspace", "--workspace DIR"),
        (("--branch",), "--branch: expected one argument", "rocmbuild --help"),
    ],
)
def test_mistakes_end_with_two(rocmbuild, words, message, hint):
    result = rocmbuild(*words)
    assert result.returncode == 2
    assert message in result.stderr
    assert hint in result.stderr
    assert result.stdout == ""


def test_a_mistake_in_the_configuration_file(rocmbuild, tmp_path):
    (tmp_path / "rocmbuild.yaml").write_text("offline: true\njob: 3\njobs: many\n")
    result = rocmbuild("list", "targets")
    assert result.returncode == 2
    assert "rocmbuild.yaml:2:1: error: job: unknown key" in result.stderr
    assert "did you mean jobs" in result.stderr
    assert "rocmbuild.yaml:3:7:" in result.stderr


def test_the_last_log_is_printed_and_its_path_kept_apart(rocmbuild, workspace):
    result = subprocess.run(
        [*PROGRAM, "logs", "rocr"], cwd=workspace.parent, capture_output=True, check=True, env={"HOME": "/nowhere"}
    )
    assert result.stdout == "install of rel-1: \u00fc\n".encode() + b"\xff\n"
    assert result.stderr.decode() == f"{workspace}/logs/rel-1/debian-12-amd64/rocr/install.log\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("rocr", "configure"), "configure of rel-1"),
        (("rocr", "store"), "store of rel-1"),  # only by name: it says nothing of the component
        (("rocr", "build"), "build of rel-2"),
        (("rocr", "build", "--branch", "rel-1"), "build of rel-1"),
        (("rocr", "--distribution", "debian-13"), "build of rel-2"),
        (("rocr", "--target", "x86_64"), "install of rel-1"),
    ],
)
def test_logs_of_a_step_and_of_an_area(workspace, environ, words, text):
    result = subprocess.run(
        [*PROGRAM, "logs", *words], cwd=workspace.parent, capture_output=True, check=True, env=environ
    )
    assert result.stdout.decode(errors="replace").startswith(text)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("rocm",), "there is no log of rocm", "did you mean rocr"),
        (("rocr", "biuld"), "rocr has no log of a step biuld", "did you mean build"),
        (("hip",), "there is no log of hip", "known: rocr"),
        (("rocr", "--branch", "rel-3"), "there is no log of rocr", "nothing is named like it"),
    ],
)
def test_logs_that_there_are_not(rocmbuild, workspace, words, message, hint):
    result = rocmbuild("logs", *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert hint in result.stderr


def test_clean_removes_one_component_of_one_branch(rocmbuild, workspace):
    result = rocmbuild("clean", "hip", "--branch", "rel-1")
    assert result.returncode == 0
    gone = workspace / "build/rel-1/debian-12-amd64/hip"
    assert result.stdout.splitlines()[0] == f"removing {gone}"
    assert not gone.exists()
    assert sorted(path.name for path in (workspace / "build").glob("*/*/*")) == ["hip", "rocr", "rocr"]
    assert (workspace / "logs").is_dir()


def test_clean_counts_a_linked_file_only_when_its_last_name_goes(rocmbuild, workspace):
    def freed(result):
        return float(result.stdout.splitlines()[-1].split()[0])

    once = freed(rocmbuild("clean", "rocr", "--branch", "rel-1"))
    assert once < 50  # KiB: its library is still in the prefix of hip
    both = freed(rocmbuild("clean", "hip", "--branch", "rel-1"))
    assert 190 < both < 240


def test_clean_removes_all(rocmbuild, workspace):
    result = rocmbuild("clean")
    assert result.stdout.count("removing ") == 4
    assert list((workspace / "build").glob("*/*/*")) == []
    assert rocmbuild("clean").stdout == "nothing to remove\n"


STOPPED_CLEAN = """
import os, signal, sys
from rocmbuild.cli import main

remove, left = os.unlink, [int(sys.argv[1])]

def unlink(*words, **named):
    remove(*words, **named)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))

os.unlink = unlink
sys.exit(main(["clean", "rocr", "--branch", "rel-1"]))
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("files", [1, 3, 5])
def test_nothing_of_a_clean_that_was_stopped_passes_for_a_build(rocmbuild, workspace, environ, files, name):
    area = workspace / "build/rel-1/debian-12-amd64"
    (area / "rocr" / "tree.json").write_text("{}")
    (area / "rocr" / "build").mkdir()
    for file in ("build.ninja", "CMakeCache.txt", "rules.ninja"):
        (area / "rocr" / "build" / file).touch()
    argv = [sys.executable, "-c", STOPPED_CLEAN, str(files), name]
    done = subprocess.run(argv, cwd=workspace.parent, env=environ, check=False, capture_output=True, text=True)
    assert done.returncode == (-signal.SIGKILL if name == "SIGKILL" else 130), done.stderr
    assert not (area / "rocr").exists()
    again = rocmbuild("clean", "rocr", "--branch", "rel-1")
    assert again.returncode == 0, again.stderr
    assert [path.name for path in area.iterdir()] == ["hip"], "neither is it left for ever"


def test_clean_of_what_there_is_not(rocmbuild, workspace):
    result = rocmbuild("clean", "rocrr")
    assert result.returncode == 2
    assert "there is no build tree of rocrr" in result.stderr
    assert "did you mean rocr" in result.stderr


def test_clean_waits_for_nobody(rocmbuild, workspace):
    with exclusive(workspace):
        result = rocmbuild("clean")
    assert result.returncode == 2
    assert f"is in use by rocmbuild, process {os.getpid()}" in result.stderr
    assert (workspace / "build/rel-1/debian-12-amd64/hip").exists()


def test_a_reader_that_leaves_is_no_error(environ):
    argv = [*PROGRAM, "--help"]
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, env=environ, check=False)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")


def test_messages_fit_any_encoding(rocmbuild):
    result = rocmbuild("list", "gr\u00fcn", PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C.UTF-8")
    assert result.returncode == 2
    assert "'gr\\xfcn'" in result.stderr


ENDLESS = """
import asyncio, signal, sys, types
from rocmbuild.process import Runner
from rocmbuild.cli import main

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # who started the tests with nohup has it ignored

def run(settings):
    asyncio.run(Runner(on_line=lambda line: print(line, flush=True)).run(["sh", "-c", "echo $$; exec sleep 60"]))
    return 0

module = types.ModuleType("rocmbuild.commands.list")
module.run = run
sys.modules["rocmbuild.commands.list"] = module
sys.exit(main(["list", "branches"]))
"""


@pytest.mark.parametrize(
    ("number", "ignoring"),
    [
        (signal.SIGINT, False),
        (signal.SIGTERM, False),
        (signal.SIGHUP, False),
        # a shell that runs a script has its background jobs ignore SIGINT
        (signal.SIGTERM, True),
        (signal.SIGHUP, True),
    ],
)
def test_a_signal_ends_the_programs_too(tmp_path, environ, number, ignoring):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignoring else signal.getsignal(signal.SIGINT)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS], cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    finally:
        signal.signal(signal.SIGINT, before)
    child = int(process.stdout.readline())
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == b"rocmbuild: interrupted: the same command goes on from here\n"
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


DISTURBED = """
import atexit, os, signal, sys, types
from rocmbuild import cli, errors  # before, for loading them runs exec() again

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

def disturb(*numbers):
    signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
    for number in numbers:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)

def importing(settings):
    exec("disturb(signal.SIGINT)", globals())

def twice(settings):
    disturb(signal.SIGINT, signal.SIGTERM)

def thrice(settings):
    disturb(*ALL)

def telling(settings):
    tell = cli._print_plain
    def told(*words):
        for number in ALL:
            disturb(number)
        tell(*words)
    cli._print_plain = told
    disturb(signal.SIGINT)

def ending(settings):
    atexit.register(disturb, signal.SIGINT)
    return 0

for number in ALL:  # who started the tests may have it ignored
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
module = types.ModuleType("rocmbuild.commands.list")
module.run = globals()[sys.argv.pop()]
sys.modules["rocmbuild.commands.list"] = module
sys.exit(cli.main())
"""


@pytest.fixture
def disturbed(tmp_path, environ):
    """Run a command that is disturbed at some moment: as a module, as users and Python's exit codes have it."""
    (tmp_path / "disturbed.py").write_text(DISTURBED)

    def call(when: str) -> tuple[int, str]:
        argv = [sys.executable, "-m", "disturbed", "list", "branches", when]
        done = subprocess.run(argv, cwd=tmp_path, env=environ, check=False, capture_output=True, text=True)
        return done.returncode, done.stderr

    return call


@pytest.mark.parametrize("when", ["importing", "twice", "thrice", "telling"])
def test_a_signal_at_a_bad_moment_ends_as_any_other(disturbed, when):
    assert disturbed(when) == (130, "rocmbuild: interrupted: the same command goes on from here\n")


def test_a_signal_after_the_end_changes_nothing(disturbed):
    assert disturbed("ending") == (0, "")
