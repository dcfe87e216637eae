"""Real programs: what they get, what is noted, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rocmbuild import process, procfs
from rocmbuild.errors import RocmBuildError
from rocmbuild.process import BASE_ENVIRONMENT, ProcessError, Runner, describe_exit, network_environment


def run(*argv, runner=None, **options):
    return asyncio.run((runner or Runner()).run(argv, **options))


def capture(*argv, runner=None, **options):
    return asyncio.run((runner or Runner()).capture(argv, **options))


def python(code):
    return (sys.executable, "-c", code)


@pytest.fixture
def lines():
    """A runner and the list of the lines it delivers."""
    found = []
    return Runner(on_line=found.append), found


def test_nothing_is_inherited(monkeypatch):
    monkeypatch.setenv("ROCM_PATH", "/opt/rocm")
    monkeypatch.setenv("CFLAGS", "-march=native")
    found = dict(line.split("=", 1) for line in capture("env").decode().splitlines())
    assert found == dict(BASE_ENVIRONMENT)


def test_the_given_environment_is_the_whole_environment():
    assert capture("/usr/bin/env", env={"ONLY": "this"}).decode() == "ONLY=this\n"


def test_programs_have_no_input_a_session_and_a_common_umask():
    assert capture("cat") == b""
    assert capture(*python("import os; print(os.getsid(0) == os.getpid())")) == b"True\n"
    old = os.umask(0o077)
    try:
        assert capture("sh", "-c", "umask").strip() == b"0022"
    finally:
        os.umask(old)


def test_no_descriptor_but_the_given_ones_gets_in(tmp_path):
    with (tmp_path / "file").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        code = f"import os\ntry: os.fstat({file.fileno()}); print('open')\nexcept OSError: print('closed')"
        assert capture(*python(code)) == b"closed\n"
        runner = Runner()
        asyncio.run(runner.run(python(code), fds=[file.fileno()]))
        assert list(runner.tail) == ["open"]


def test_the_directory_is_the_given_one(tmp_path):
    assert capture("pwd", "-P", cwd=tmp_path).decode().strip() == str(tmp_path.resolve())


def test_lines_of_both_outputs_are_delivered_in_order(lines):
    runner, found = lines
    run("sh", "-c", "echo one; echo two >&2; printf 'three  \\r\\nfour'", runner=runner)
    assert found == ["one", "two", "three", "four"]


def test_captured_output_is_apart_from_messages(lines, tmp_path):
    runner, found = lines
    runner.log = tmp_path / "log"
    assert capture("sh", "-c", "echo data; echo message >&2", runner=runner) == b"data\n"
    assert found == ["message"]
    assert runner.log.read_text().splitlines()[1:] == ["message"]


def test_captured_output_is_bytes_of_any_size():
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4096)"
    assert capture(*python(code)) == bytes(range(256)) * 4096


def test_very_long_lines_arrive_whole_in_the_log(tmp_path, lines):
    runner, found = lines
    runner.log = tmp_path / "log"
    size = (1 << 22) + 12345
    run(*python(f"print('x' * {size}); print('end')"), runner=runner)
    assert "".join(found[:-1]) == "x" * size
    assert found[-1] == "end"
    assert runner.log.read_bytes().split(b"\n", 1)[1] == b"x" * size + b"\nend\n"


def test_lines_that_are_not_utf8_are_shown_and_kept(tmp_path, lines):
    runner, found = lines
    runner.log = tmp_path / "log"
    run("printf", "caf\\351\\n", runner=runner)
    assert found == ["caf\ufffd"]
    assert runner.log.read_bytes().endswith(b"caf\xe9\n")


def test_the_log_says_how_to_repeat_the_command(tmp_path):
    place = tmp_path / "a place"
    place.mkdir()
    runner = Runner(log=tmp_path / "deep/log")
    argv = ["sh", "-c", 'echo "$A, $B, $TZ" > out', "it's"]
    run(*argv, runner=runner, cwd=place, env={**BASE_ENVIRONMENT, "A": "x y", "B": "$HOME", "TZ": "UTC"})
    first = runner.log.read_text().splitlines()[0]
    assert first.startswith("$ cd ")
    assert "TZ=" not in first
    (place / "out").unlink()
    subprocess.run(["sh", "-c", first.removeprefix("$ ")], check=True, env=dict(BASE_ENVIRONMENT))
    assert (place / "out").read_text() == "x y, $HOME, UTC\n"


def test_passwords_of_proxies_do_not_get_into_the_log(tmp_path):
    log = tmp_path / "log"
    environment = {**BASE_ENVIRONMENT, "https_proxy": "http://user:secret@proxy.invalid:3128/"}
    asyncio.run(Runner(log=log).run(["true"], env=environment))
    assert "https_proxy=http://***@proxy.invalid:3128/" in log.read_text().replace("'", "")
    assert "secret" not in log.read_text()


def test_a_log_is_appended_to(tmp_path):
    runner = Runner(log=tmp_path / "log")
    run("echo", "one", runner=runner)
    run("echo", "two", runner=runner)
    assert runner.log.read_text() == "$ echo one\none\n$ echo two\ntwo\n"


def test_a_place_that_is_not_utf8_can_be_logged(tmp_path):
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    place.mkdir()
    runner = Runner(log=tmp_path / "log")
    run("true", runner=runner, cwd=place)
    assert b"caf\xe9" in runner.log.read_bytes()


@pytest.mark.parametrize("size", [0, 10, 1 << 20])
def test_a_program_is_fed(size):
    assert capture("cat", stdin=b"x" * size) == b"x" * size


def test_a_program_need_not_read_what_it_is_fed():
    assert run("true", stdin=b"x" * (1 << 20)) == 0


def test_a_failure_has_status_words_tail_and_log(tmp_path):
    runner = Runner(log=tmp_path / "log")
    with pytest.raises(ProcessError) as caught:
        run("sh", "-c", "for i in 1 2 3 4 5 6 7; do echo line $i; done; exit 3", runner=runner)
    error = caught.value
    assert isinstance(error, RocmBuildError)
    assert error.returncode == 3
    assert error.message.startswith("sh exited with status 3: sh -c ")
    assert error.tail == tuple(f"line {i}" for i in range(1, 8))
    assert error.hint == "\n".join(f"line {i}" for i in range(3, 8))
    assert error.log == str(tmp_path / "log")


def test_a_failure_can_be_looked_at(tmp_path):
    assert run("sh", "-c", "exit 3", check=False) == 3
    assert capture("sh", "-c", "echo x; exit 3", check=False) == b"x\n"


@pytest.mark.parametrize(("name", "words"), [("KILL", "was killed by SIGKILL"), ("SEGV", "was killed by SIGSEGV")])
def test_a_signal_is_named(name, words):
    with pytest.raises(ProcessError, match=f"^sh {words}: "):
        run("sh", "-c", f"kill -{name} $$")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "could not be started"),
        (0, "exited with status 0"),
        (-15, "was killed by SIGTERM"),
        (-40, "was killed by signal 40"),
    ],
)
def test_how_a_program_ended_in_words(status, words):
    assert describe_exit(status) == words


def test_a_missing_program_is_named(tmp_path):
    with pytest.raises(ProcessError) as caught:
        run("/no/such/program", "x", runner=Runner(log=tmp_path / "log"))
    assert caught.value.message == "program could not be started: /no/such/program x"
    assert caught.value.hint == "/no/such/program: No such file or directory"
    assert caught.value.returncode is None


def test_a_missing_directory_is_not_taken_for_a_missing_program(tmp_path):
    with pytest.raises(ProcessError) as caught:
        run("true", cwd=tmp_path / "no")
    assert caught.value.hint == f"{tmp_path}/no: No such file or directory"


def test_a_program_that_may_not_be_run(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(ProcessError) as caught:
        run(str(tmp_path / "x"))
    assert caught.value.hint == f"{tmp_path}/x: Permission denied"


def test_a_long_command_is_cut_in_the_message():
    with pytest.raises(ProcessError) as caught:
        run("false", *["argument"] * 1000)
    assert len(caught.value.message) < 400


async def cancelled(argv, ready, runner=None):
    """Run a program, cancel it once ``ready`` says so; return the seconds that took."""
    task = asyncio.create_task((runner or Runner()).run(argv))
    while not ready():
        assert not task.done()
        await asyncio.sleep(0.01)
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.monotonic() - begun


def test_cancelling_ends_a_program_and_its_children(tmp_path, processes):
    word = f"31{os.getpid()}.5"
    script = f"sleep {word} & sleep {word} & echo > {tmp_path}/ready; wait"
    seconds = asyncio.run(cancelled(["sh", "-c", script], (tmp_path / "ready").exists))
    assert processes(word) == []
    assert seconds < 4


def test_a_program_is_asked_before_it_is_killed(tmp_path):
    code = f"""
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path({str(tmp_path / "asked")!r}).write_text("")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pathlib.Path({str(tmp_path / "ready")!r}).write_text("")
time.sleep(60)
"""
    asyncio.run(cancelled(python(code), (tmp_path / "ready").exists))
    assert (tmp_path / "asked").exists()


def test_a_program_that_does_not_listen_is_killed(tmp_path, processes, monkeypatch):
    monkeypatch.setattr(process, "GRACE", 0.3)
    word = f"32{os.getpid()}.5"
    script = f"trap '' TERM; sleep {word} & echo > {tmp_path}/ready; while :; do sleep {word}; done"
    seconds = asyncio.run(cancelled(["sh", "-c", script], (tmp_path / "ready").exists))
    assert processes(word) == []
    assert 0.3 <= seconds < 4


def test_what_a_program_leaves_behind_is_ended_when_cancelled(tmp_path, processes):
    word = f"33{os.getpid()}.5"
    script = f"sleep {word} & echo > {tmp_path}/ready"  # the shell ends at once, its child holds the output open
    asyncio.run(cancelled(["sh", "-c", script], (tmp_path / "ready").exists))
    assert processes(word) == []


def test_a_program_is_ended_that_is_cancelled_while_it_starts(processes):
    word = f"36{os.getpid()}.5"

    async def start(delay):
        task = asyncio.create_task(Runner().run(["sh", "-c", f"sleep {word} & sleep {word}"]))
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for milliseconds in range(8):
        asyncio.run(start(milliseconds / 1000))
    assert processes(word) == []


def test_what_a_program_leaves_behind_in_a_session_of_its_own_does_not_hold_the_run_up(monkeypatch, processes):
    monkeypatch.setattr(process, "LINGER", 0.2)
    word = f"37{os.getpid()}.5"
    begun = time.monotonic()
    try:
        assert run("sh", "-c", f"setsid sleep {word} & exit 0") == 0
        assert time.monotonic() - begun < 4
    finally:
        for pid in processes(word):
            os.kill(pid, signal.SIGKILL)


def test_what_a_program_leaves_behind_does_not_hold_the_run_up(processes, monkeypatch):
    monkeypatch.setattr(process, "LINGER", 0.2)
    word = f"34{os.getpid()}.5"
    begun = time.monotonic()
    assert run("sh", "-c", f"sleep {word} & exit 0") == 0
    assert time.monotonic() - begun < 4
    assert processes(word) == []


def test_what_a_program_leaves_behind_may_write_for_a_moment(lines):
    runner, found = lines
    run("sh", "-c", "(sleep 0.3; echo late) & exit 0", runner=runner)
    assert found == ["late"]


def test_an_error_of_an_observer_ends_the_program(processes):
    word = f"35{os.getpid()}.5"

    def refuse(line):
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="hello"):
        run("sh", "-c", f"echo hello; sleep {word}", runner=Runner(on_line=refuse))
    assert processes(word) == []


def test_programs_run_side_by_side():
    async def both():
        await asyncio.gather(*(Runner().run(["sleep", "0.4"]) for _ in range(4)))

    begun = time.monotonic()
    asyncio.run(both())
    assert time.monotonic() - begun < 1.5


def test_what_programs_on_the_network_need_is_kept():
    environ = {
        "HOME": "/home/me",
        "http_proxy": "p1",
        "HTTPS_PROXY": "p2",
        "no_proxy": "n",
        "SSL_CERT_FILE": "c",
        "SSH_AUTH_SOCK": "s",
        "GIT_SSL_CAINFO": "g",
        "PIP_INDEX_URL": "i",
        "PATH": "/mine",
        "LD_LIBRARY_PATH": "/opt/rocm/lib",
        "ROCM_PATH": "/opt/rocm",
        "LANG": "de_DE.UTF-8",
    }
    left_out = {"PATH", "LD_LIBRARY_PATH", "ROCM_PATH", "LANG"}
    found = network_environment(environ)
    assert found == {**BASE_ENVIRONMENT, **{key: value for key, value in environ.items() if key not in left_out}}


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_a_program_in_a_sandbox_is_asked_before_the_kernel_ends_it(tmp_path, processes):
    """Bubblewrap itself would end at once, and take all with it before a Ninja could give its tokens back."""
    code = f"""
import pathlib, signal, sys, time
def end(*_):
    time.sleep(0.3)
    pathlib.Path({str(tmp_path / "asked")!r}).write_text("")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pathlib.Path({str(tmp_path / "ready")!r}).write_text("")
time.sleep(60)
"""
    sandbox = ("bwrap", "--unshare-user", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--new-session")
    seconds = asyncio.run(cancelled([*sandbox, "--die-with-parent", "--", *python(code)], (tmp_path / "ready").exists))
    assert (tmp_path / "asked").exists()
    assert seconds < 7
    assert processes(str(tmp_path)) == []


def test_a_stopped_program_can_be_asked_too(tmp_path):
    script = f"trap 'touch {tmp_path}/asked; exit' TERM; touch {tmp_path}/ready; kill -STOP $$; sleep 60 & wait"

    def stopped():
        return (tmp_path / "ready").exists() and any(one.state == "T" for one in procfs.family(os.getpid()))

    assert asyncio.run(cancelled(["sh", "-c", script], stopped)) < 7
    assert (tmp_path / "asked").exists()


def test_jobs_in_groups_of_their_own_do_not_outlive_a_program_that_is_killed(tmp_path, processes):
    """Ninja gives each job a group of its own; if the kernel ends Ninja, nobody else ends them."""
    word = f"38{os.getpid()}.5"
    code = f"""
import os, signal, subprocess
subprocess.Popen(["sleep", "{word}"], process_group=0, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with pytest.raises(ProcessError, match="SIGKILL"):
        run(*python(code))
    assert processes(word) == []


def test_what_has_ended_is_not_waited_for_until_somebody_asks_for_it():
    """In a container nobody may ever ask for an orphan: it stays in its group, dead."""
    child = subprocess.Popen(["false"], start_new_session=True)
    while Path(f"/proc/{child.pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)
    os.killpg(child.pid, 0)  # there is such a group
    assert process._kill(SimpleNamespace(pid=child.pid, returncode=1), {child.pid}) is False
    child.wait()
