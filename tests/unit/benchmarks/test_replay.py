from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from replay import Recorded, Sandboxed, closed, nested, parse, read_log, recorded, serial
from watching import BenchmarkError

from rocmbuild.tools.sandbox import Mounts, Sandbox


def _logged(command: list[str], **environment: str) -> str:
    return "$ " + " ".join(
        [*(f"{key}={shlex.quote(value)}" for key, value in environment.items()), shlex.join(command)]
    )


def _sandbox(place: Path, jobserver: Path | None = None) -> Sandbox:
    mounts = Mounts(
        component="toy",
        source=place / "source",
        build=place / "build",
        stage=place / "stage",
        prefix=place / "prefix",
        final_prefix="/opt/rocm-1",
        tools={"ninja": place / "ninja"},
        jobserver=jobserver,
    )
    return Sandbox(place / "root", mounts)


def _ninja(place: Path) -> str:
    """Return the line of a log of a step, as the sandbox makes it."""
    environment = {
        "MAKEFLAGS": " -j4 --jobserver-auth=fifo:/run/jobserver",
        "CFLAGS": "-O2 -DX='a b'",
        "DESTDIR": "/stage",
    }
    argv = _sandbox(place, place / "jobserver").wrap(
        ["/tools/ninja", "-C", "/build", "$ORIGIN"], environment, cwd="/build"
    )
    return _logged(argv)


def _write_logs(logs: Path, component: str, place: Path) -> None:
    directory = logs / component
    directory.mkdir(parents=True)
    for step in ("configure", "build", "install"):
        (directory / f"{step}.log").write_text(f"{_ninja(place)}\nsome output\n")


def test_a_command_of_the_sandbox_is_read_as_it_was_written(tmp_path: Path) -> None:
    sandboxed = parse(_ninja(tmp_path))
    assert sandboxed is not None
    assert sandboxed.argv == shlex.split(_ninja(tmp_path))[1:]
    assert sandboxed.command == ("/tools/ninja", "-C", "/build", "$ORIGIN")
    assert sandboxed.place("/build") == tmp_path / "build"
    assert sandboxed.place("/src/toy") == tmp_path / "source"
    assert sandboxed.place("/elsewhere") is None


def test_directory_and_variables_before_a_command_are_left_out(tmp_path: Path) -> None:
    argv = _sandbox(tmp_path).wrap(["true"], {}, cwd="/")
    sandboxed = parse(f"$ cd '/a b' && {_logged(argv, LANG='C', X='1 2')[2:]}")
    assert sandboxed is not None
    assert sandboxed.argv == argv


@pytest.mark.parametrize(
    "line", ["$ git fetch", "output $ bwrap -- x", "$ cd x && echo 'open", "$ bwrap --unshare-net"]
)
def test_other_lines_are_no_commands_of_the_sandbox(line: str) -> None:
    assert parse(line) is None


def test_an_option_that_is_not_known_here_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="not as expected here: /two"):
        parse("$ bwrap --new-option one /two -- true".replace("one ", ""))


def test_other_trees_and_jobs_in_place_of_the_jobserver(tmp_path: Path) -> None:
    sandboxed = parse(_ninja(tmp_path))
    assert sandboxed is not None
    there = Recorded("toy", {"build": sandboxed}).elsewhere(tmp_path / "new", 3).steps["build"]
    assert there.place("/build") == tmp_path / "new/toy/build"
    assert there.place("/stage") == tmp_path / "new/toy/stage"
    assert there.place("/run/jobserver") is None
    assert there.command == ("/tools/ninja", "-j3", "-C", "/build", "$ORIGIN")
    assert ("--setenv", "DESTDIR", "/stage") in there.options  # a variable, not a mount
    assert "MAKEFLAGS" not in " ".join(there.argv)
    same = {option for option in there.options if option[0] == "--ro-bind"}
    assert same == {option for option in sandboxed.options if option[0] == "--ro-bind"}


def test_only_ninja_gets_a_number_of_jobs() -> None:
    assert Sandboxed((), ("cmake", "--install", "/build")).without_jobserver(3).command == (
        "cmake",
        "--install",
        "/build",
    )


def test_the_last_command_of_a_log_counts(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_text(f"{_ninja(tmp_path / 'old')}\nfailed\n{_ninja(tmp_path / 'new')}\n$ sync\n")
    found = read_log(log)
    assert found is not None
    assert found.place("/build") == tmp_path / "new/build"
    assert read_log(tmp_path / "none.log") is None


def test_components_that_compile_nothing_are_left_out_and_the_order_is_kept(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _write_logs(tmp_path / "logs", name, tmp_path / name)
    (tmp_path / "logs/headers").mkdir()
    (tmp_path / "logs/headers/install.log").write_text("nothing\n")
    found = recorded(tmp_path / "logs", ["two", "headers", "one"])
    assert [component.component for component in found] == ["two", "one"]


def test_a_build_that_was_not_cold_is_an_error(tmp_path: Path) -> None:
    _write_logs(tmp_path, "one", tmp_path)
    (tmp_path / "one/configure.log").write_text("goes on in the build tree of an earlier run\n")
    with pytest.raises(BenchmarkError, match=r"the logs of one in .* do not have all of configure"):
        recorded(tmp_path, ["one"])


def test_no_logs_of_a_sandbox_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"no log in .* has commands of a sandbox"):
        recorded(tmp_path, ["one"])


def test_needs_by_way_of_others() -> None:
    needs = {"c": ["headers"], "headers": ["b"], "b": ["a"], "a": []}
    assert closed(needs, ["a", "b", "c"]) == {"a": [], "b": ["a"], "c": ["a", "b"]}


def _echoing(tmp_path: Path, name: str, seconds: float = 0.0) -> Recorded:
    """Return a component whose sandbox is a script that says what was run, and takes its time."""
    program = tmp_path / "bwrap"
    if not program.exists():
        program.write_text('#!/bin/sh\nfor last; do :; done\necho "$last" >>"$2"; sleep "$5"\n')
        program.chmod(0o755)
    options = (
        ("--bind", str(tmp_path / "said"), "/said"),
        ("--chdir", str(seconds)),
        ("--bind", "old", "/build"),
        ("--bind", "old", "/stage"),
    )
    steps = {
        step: Sandboxed(options, (f"{name} {step} $HOME",), str(program)) for step in ("configure", "build", "install")
    }
    return Recorded(name, steps).elsewhere(tmp_path / "trees", 2)


def test_the_serial_driver_takes_one_component_after_another(tmp_path: Path) -> None:
    components = [_echoing(tmp_path, name) for name in ("one", "two")]
    subprocess.run(serial(components, tmp_path / "trees"), check=True)
    said = (tmp_path / "said").read_text().splitlines()
    assert said == [f"{name} {step} $HOME" for name in ("one", "two") for step in ("configure", "build", "install")]


def test_a_driver_stops_at_what_fails(tmp_path: Path) -> None:
    components = [_echoing(tmp_path, name) for name in ("one", "two")]
    broken = Recorded(
        "one", {**components[0].steps, "build": Sandboxed(components[0].steps["build"].options, ("x",), "false")}
    )
    assert subprocess.run(serial([broken, components[1]], tmp_path / "trees"), check=False).returncode != 0
    assert (tmp_path / "said").read_text().splitlines() == ["one configure $HOME"]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_runs_components_side_by_side_but_after_their_needs(tmp_path: Path) -> None:
    components = [_echoing(tmp_path, name, seconds=0.3) for name in ("one", "two", "three")]
    argv = nested(components, {"three": ["headers"], "headers": ["one"]}, tmp_path / "trees", 2)
    assert "-j2" in argv
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    said = (tmp_path / "said").read_text().splitlines()
    assert said.index("two configure $HOME") < said.index("one install $HOME")
    assert said.index("one install $HOME") < said.index("three configure $HOME")


def test_trees_that_are_not_empty_are_refused(tmp_path: Path) -> None:
    component = _echoing(tmp_path, "one")
    (tmp_path / "trees/one/build").mkdir(parents=True)
    (tmp_path / "trees/one/build/CMakeCache.txt").touch()
    with pytest.raises(BenchmarkError, match="is not empty"):
        serial([component], tmp_path / "trees")
