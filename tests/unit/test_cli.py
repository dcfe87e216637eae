"""From words to a verb and its options; from an error to an exit code."""

from __future__ import annotations

import asyncio
import errno
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from rocmbuild import cli
from rocmbuild.arguments import parse
from rocmbuild.errors import DocumentError, Problem, RocmBuildError, UsageError, refusal
from rocmbuild.options import OPTIONS, VERBS


@pytest.mark.parametrize(
    ("line", "verb", "explicit", "words"),
    [
        ("", "build", False, ()),
        ("--branch x", "build", False, ()),
        ("rocr --branch x hip", "build", False, ("rocr", "hip")),
        ("build rocr", "build", True, ("rocr",)),
        ("--branch plan", "build", False, ()),
        ("--branch=x plan", "plan", True, ()),
        ("--branch x plan rocr", "plan", True, ("rocr",)),
        ("-j 4 plan", "plan", True, ()),
        ("-j4 plan", "plan", True, ()),
        ("-vj 4 plan", "plan", True, ()),
        ("-v plan -q", "plan", True, ()),
        ("--offline plan rocr -j 2 hip", "plan", True, ("rocr", "hip")),
        ("rocr plan", "build", False, ("rocr", "plan")),
        ("-- plan", "build", False, ("plan",)),
    ],
)
def test_the_verb_is_the_first_word_that_is_no_value(line, verb, explicit, words):
    found = parse(line.split())
    assert (found.verb, found.explicit, found.words) == (verb, explicit, words)


def test_what_follows_two_dashes_is_the_command_of_a_shell():
    found = parse(["shell", "rocr", "--branch", "x", "--", "ls", "--", "--branch"])
    assert found.command == ("ls", "--", "--branch")
    assert found.given == {"branch": "x"}


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("--brnch x", "unknown option --brnch", "--branch"),
        ("plan --ofline=1", "unknown option --ofline", "--offline"),
        ("plan --zzzzzz", "unknown option --zzzzzz", "rocmbuild plan --help"),
        ("plan --bran x", "unknown option --bran", "--branch"),
        ("plan --fix", "plan has no option --fix", "it belongs to doctor"),
        ("clean --jobs 3", "clean has no option --jobs", "build, plan"),
        ("plan -j", "-j/--jobs: expected one argument", "rocmbuild plan --help"),
        ("logs", "logs needs COMPONENT [STEP]", "rocmbuild logs rocr configure"),
        ("logs a b c", "logs does not take 'c'", "rocmbuild logs COMPONENT [STEP]"),
        ("list", "list needs branches|components|targets", "rocmbuild list branches"),
        ("lock rocr", "lock does not take 'rocr'", "rocmbuild lock"),
        ("shell -- env", "shell needs COMPONENT", "rocmbuild shell rocr"),
    ],
)
def test_a_mistake_names_what_was_meant(line, message, hint):
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    assert caught.value.message.startswith(message)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_shows_its_options_and_an_example(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: rocmbuild {verb}")
    assert f"  rocmbuild {verb}" in text[text.index("example") :] or verb == "build"
    shown = [name for name in VERBS[verb].options if name not in ("verbosity", "verify", "reuse")]
    assert all(f"--{name}" in text for name in shown)
    assert max(map(len, text.splitlines())) <= 80


def test_help_without_a_verb_lists_them_all(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +{re.escape(verb.summary)}$", text, re.MULTILINE) for name, verb in VERBS.items())


def test_examples_in_help_can_be_parsed():
    for verb in VERBS.values():
        for command, _ in verb.examples:
            assert parse(command.split()[1:]).verb == verb.name


def test_every_option_is_of_some_verb_and_every_name_known():
    used = {name for verb in VERBS.values() for name in verb.options}
    assert used == set(OPTIONS)


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"rocmbuild [0-9.]+\n", capsys.readouterr().out)


@pytest.fixture
def listing(monkeypatch, tmp_path):
    """Let ``list`` do what a test says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def put(run):
        module = types.ModuleType("rocmbuild.commands.list")
        module.run = run
        monkeypatch.setitem(sys.modules, "rocmbuild.commands.list", module)
        return cli.main(["list", "branches"])

    return put


def failing(error: BaseException):
    def run(_settings):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (UsageError("no", where="a.yaml:1:2", hint="this\nor that"), 2, "rocmbuild: error: a.yaml:1:2: no"),
        (RocmBuildError("it broke", hint="another"), 1, "it broke"),
        (DocumentError([Problem("a.yaml:1:2", "p"), Problem("a.yaml:3:4", "q")]), 2, "a.yaml:3:4"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (asyncio.CancelledError(), 130, "interrupted"),
        (ExceptionGroup("", [RocmBuildError("one"), RocmBuildError("two")]), 1, "two"),
        (BaseExceptionGroup("", [RocmBuildError("one"), KeyboardInterrupt()]), 130, "interrupted"),
        (ExceptionGroup("", [RocmBuildError("one"), ValueError("two")]), 3, "bug: ValueError: two"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 1, "No space left on device"),
        (OSError(errno.EBADF, "Bad file descriptor"), 3, "bug: OSError"),
        (ValueError("secret\nlines"), 3, "rocmbuild: bug: ValueError: secret\n"),
    ],
)
def test_an_error_becomes_an_exit_code_and_no_traceback(listing, capsys, error, status, printed):
    assert listing(failing(error)) == status
    text = capsys.readouterr().err
    assert printed in text
    assert "Traceback" not in text


def test_hints_line_up(listing, capsys):
    listing(failing(UsageError("no", hint="this\nor that")))
    assert capsys.readouterr().err == "rocmbuild: error: no\n  try: this\n       or that\n"


def test_the_traceback_of_a_bug_is_kept(listing, capsys):
    listing(failing(KeyError("x")))
    file = re.search(r"the file (\S+)", capsys.readouterr().err)
    text = Path(file[1]).read_text()
    assert text.startswith("rocmbuild 0")
    assert "command: rocmbuild list branches" in text
    assert text.rstrip().endswith("KeyError: 'x'")


def test_the_status_of_a_verb_is_the_exit_code(listing):
    assert listing(lambda settings: 7) == 7


def test_a_variable_that_sets_nothing_is_warned_of(listing, capsys, monkeypatch):
    monkeypatch.setenv("ROCMBUILD_OFLINE", "1")
    assert listing(lambda settings: 0) == 0
    expected = "rocmbuild: warning: ROCMBUILD_OFLINE is not a setting\n  try: did you mean ROCMBUILD_OFFLINE"
    assert capsys.readouterr().err.startswith(expected)


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r" / "zzprobe").mkdir(parents=True)
    (tmp_path / "r" / "zzprobe" / "recipe.yaml").touch()
    return ["--recipes", "r"]


@pytest.mark.parametrize(
    ("word", "hint"), [("biuld", "build"), ("docter", "doctor"), ("zzprobee", "zzprobe"), ("qqqqqq", "verbs: build")]
)
def test_a_word_that_is_neither_verb_nor_component(recipes, capsys, word, hint):
    assert cli.main([word, *recipes]) == 2
    text = capsys.readouterr().err
    assert text.startswith(f"rocmbuild: error: {word} is neither a verb nor a component\n")
    assert hint in text


def test_words_are_not_checked_after_a_verb(recipes, capsys):
    assert cli.main(["clean", "biuld", *recipes]) == 2
    assert "neither a verb" not in capsys.readouterr().err


@pytest.mark.parametrize("told", [True, False])
def test_an_output_that_is_a_file_on_a_full_disk(told):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rocmbuild", "list", "branches"],
            stdout=full,
            stderr=subprocess.PIPE if told else full,
            check=False,
            text=True,
        )
    assert done.returncode == 1
    assert not told or "error: No space left on device" in done.stderr
    assert not told or "Traceback" not in done.stderr


def test_an_output_that_may_not_grow(tmp_path):
    with (tmp_path / "output").open("w") as file:
        argv = ["prlimit", "--fsize=20", "--", sys.executable, "-m", "rocmbuild", "list", "nothing"]
        done = subprocess.run(argv, stdout=file, stderr=file, check=False)
    assert (done.returncode, (tmp_path / "output").read_text()) == (1, "rocmbuild: error: no")


def test_files_that_may_not_grow_are_no_bug_of_ours():
    found = refusal(OSError(errno.EFBIG, "File too large"))
    assert found is not None
    assert (found.message, found.hint.startswith("allow larger files")) == ("File too large", True)
