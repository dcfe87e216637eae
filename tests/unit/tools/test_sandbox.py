"""What a build step can see and change, tried by real commands in a real sandbox over a real root."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from dataclasses import replace

import pytest

from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.sandbox import Host, Mounts, Sandbox

FINAL = "/opt/rocm-5.6.1"
ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "A": "one two", "B": "$HOME 'x' \"y\""}


@pytest.fixture
def mounts(tmp_path):
    names = ("source", "build", "stage", "prefix", "hip", "cmake")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of-{name}").write_text(name)
    (tmp_path / "ninja").write_text("#!/bin/sh\necho ninja\n")
    (tmp_path / "ninja").chmod(0o755)
    os.mkfifo(tmp_path / "fifo")
    return Mounts(
        component="rocr",
        source=tmp_path / "source",
        build=tmp_path / "build",
        stage=tmp_path / "stage",
        prefix=tmp_path / "prefix",
        final_prefix=FINAL,
        sources={"hip": tmp_path / "hip"},
        tools={"cmake": tmp_path / "cmake", "ninja": tmp_path / "ninja"},
        jobserver=tmp_path / "fifo",
    )


@pytest.fixture
def sandbox(mounts, tiny_root):
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    return Sandbox(tiny_root.root.path, mounts)


@pytest.fixture
def sh(sandbox):
    """Return a function that runs a script in the sandbox and returns what it prints."""

    def run(script, box=sandbox, env=ENV, cwd="/build"):
        argv = box.wrap(["/bin/sh", "-c", script], env, cwd=cwd)
        return asyncio.run(Runner().capture(argv)).decode()

    return run


def fails(sh, script):
    """Return whether a script fails in the sandbox while its shell itself runs."""
    assert sh("echo fine") == "fine\n"
    with pytest.raises(ProcessError):
        sh(script)
    return True


def test_places_are_the_same_on_every_machine(mounts):
    box = Sandbox(mounts.source, mounts)
    assert {kind: box.path(kind) for kind in ("source", "build", "stage", "prefix", "jobserver")} == {
        "source": "/src/rocr",
        "build": "/build",
        "stage": "/stage",
        "prefix": FINAL,
        "jobserver": "/run/jobserver",
    }
    assert box.path("source", "hip") == "/src/hip"
    assert box.path("tool", "cmake") == "/usr/lib/rocmbuild/cmake"


def test_the_command_line_gives_away_nothing_that_was_not_asked_for(mounts):
    argv = Sandbox(mounts.source, mounts).wrap(["true"], ENV, cwd="/build")
    assert argv[0] == "bwrap"
    assert {"--unshare-user", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--die-with-parent"} <= set(argv)
    assert {"--clearenv", "--new-session"} <= set(argv)
    writable = [argv[index + 2] for index, word in enumerate(argv) if word == "--bind"]
    assert writable == ["/build", "/stage", "/run/jobserver"]
    assert argv[-2:] == ["--", "true"]
    assert "--bind-try" not in argv
    assert "--dev-bind" not in argv


def test_a_shell_keeps_the_session_of_its_terminal(mounts):
    assert "--new-session" not in Sandbox(mounts.source, mounts, interactive=True).wrap(["sh"], {}, cwd="/build")


def test_the_order_of_mappings_does_not_change_the_command(mounts):
    turned = replace(mounts, tools=dict(reversed(mounts.tools.items())))
    one, two = (Sandbox(mounts.source, item).wrap(["true"], ENV, cwd="/") for item in (mounts, turned))
    assert one == two


def test_the_environment_is_exactly_the_computed_one(sh, monkeypatch):
    monkeypatch.setenv("ROCM_PATH", "/opt/rocm")
    monkeypatch.setenv("HOME", "/home/somebody")
    found = dict(line.split("=", 1) for line in sh("exec /usr/bin/env").splitlines())
    assert found == {**ENV, "PWD": "/build"}


def test_the_directory_is_the_given_one(sh):
    assert sh("pwd -P", cwd="/src/rocr") == "/src/rocr\n"


def test_the_user_is_not_root_and_has_no_rights(sh):
    assert sh("id -u; id -g") == "1000\n1000\n"
    assert "CapEff:\t0000000000000000" in sh("cat /proc/self/status")


def test_the_machine_has_another_name(sh):
    assert sh("uname -n") == "rocmbuild\n"


def test_new_files_are_readable_by_all(sh, mounts):
    old = os.umask(0o077)
    try:
        assert sh("umask") == "0022\n"
        sh("echo > /build/new")
    finally:
        os.umask(old)
    assert (mounts.build / "new").stat().st_mode & 0o777 == 0o644


def test_there_is_no_network(sh):
    lines = sh("cat /proc/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]
    assert sh("cat /proc/net/route").count("\n") <= 1


CONNECT = (
    "use IO::Socket::INET; IO::Socket::INET->new(PeerAddr => $ARGV[0]) or die qq(failed: $@\\n); print qq(connected\\n)"
)


def test_a_server_of_the_machine_cannot_be_reached(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server:
        argv = ["perl", "-e", CONNECT, f"127.0.0.1:{server.getsockname()[1]}"]
        assert asyncio.run(Runner().capture(argv)) == b"connected\n"
        with pytest.raises(ProcessError) as caught:
            asyncio.run(Runner().capture(sandbox.wrap(argv, ENV, cwd="/build")))
    assert "failed: " in caught.value.hint
    assert "refused" in caught.value.hint or "unreachable" in caught.value.hint


def test_there_is_no_home(sh):
    assert sh("ls -A /home") == ""
    assert fails(sh, "ls /root/.ssh || ls /home/*")
    assert fails(sh, "echo > /home/x")


def test_nothing_of_the_machine_is_seen(sh, tmp_path):
    assert fails(sh, f"ls {tmp_path}")
    found = sh("ls -A / /opt /run /src /tmp /usr/lib/rocmbuild /opt/rocm-5.6.1").split()
    assert {"rocr", "hip", "rocm", "rocm-5.6.1", "jobserver", "cmake", "ninja", "of-prefix"} <= set(found)
    assert sh("ls -A /tmp") == ""
    assert sorted(sh("ls -A /src").split()) == ["hip", "rocr"]
    assert sorted(sh("ls -A /run").split()) == ["jobserver"]


def test_no_process_of_the_machine_is_seen(sh):
    pids = [int(name) for name in sh("ls /proc").split() if name.isdigit()]
    assert len(pids) <= 4
    assert str(os.getpid()) not in map(str, pids) or max(pids) < 10


@pytest.mark.parametrize(
    "place",
    [
        "/x",
        "/usr/x",
        "/etc/x",
        "/opt/x",
        "/opt/rocm-5.6.1/x",
        "/src/x",
        "/src/rocr/x",
        "/src/hip/x",
        "/run/x",
        "/home/x",
    ],
)
def test_nothing_can_be_written_but_the_own_trees(sh, place):
    assert fails(sh, f"echo > {place}")


def test_files_that_are_only_read_cannot_be_changed(sh, mounts):
    for path in ("/src/rocr/of-source", "/src/hip/of-hip", f"{FINAL}/of-prefix", "/usr/lib/rocmbuild/cmake/of-cmake"):
        assert fails(sh, f"echo changed > {path}")
        assert fails(sh, f"rm -f {path}")
    assert (mounts.source / "of-source").read_text() == "source"


def test_build_stage_and_tmp_can_be_written(sh, mounts):
    assert sh("cat of-build > /stage/copy; echo > /tmp/x; ls /tmp") == "x\n"
    assert (mounts.stage / "copy").read_text() == "build"


def test_tmp_begins_empty_each_time(sh):
    sh("echo > /tmp/x")
    assert sh("ls -A /tmp") == ""


def test_a_writable_source_is_writable_and_others_are_not(sh, sandbox, mounts):
    box = replace(sandbox, mounts=replace(mounts, writable_source=True))
    sh("echo > /src/rocr/generated", box)
    assert (mounts.source / "generated").exists()
    with pytest.raises(ProcessError):
        sh("echo > /src/hip/x", box)


def test_the_declared_sources_are_there(sh):
    assert sh("cat /src/rocr/of-source /src/hip/of-hip") == "sourcehip"


def test_the_tools_are_there(sh):
    assert sh("/usr/lib/rocmbuild/ninja; cat /usr/lib/rocmbuild/cmake/of-cmake") == "ninja\ncmake"


def test_the_prefix_has_its_final_place_and_the_usual_link(sh):
    assert (
        sh("cat /opt/rocm-5.6.1/of-prefix; readlink /opt/rocm; cat /opt/rocm/of-prefix") == "prefixrocm-5.6.1\nprefix"
    )


def test_the_jobserver_can_be_read_and_written(sh, mounts):
    descriptor = os.open(mounts.jobserver, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(descriptor, b"++")
        assert sh("head -c 1 /run/jobserver; printf x > /run/jobserver") == "+"
        assert os.read(descriptor, 10) == b"+x"
    finally:
        os.close(descriptor)


def test_devices_are_few_and_harmless(sh):
    assert sh("echo x > /dev/null; head -c 3 /dev/zero | wc -c") == "3\n"
    assert not {"sda", "kfd", "dri", "kvm", "mem"} & set(sh("ls /dev").split())


def test_the_status_of_the_command_is_ours(sandbox):
    argv = sandbox.wrap(["/bin/sh", "-c", "exit 7"], ENV, cwd="/build")
    assert asyncio.run(Runner().run(argv, check=False)) == 7


def test_cancelling_ends_everything_inside(sandbox, mounts, processes):
    word = f"51{os.getpid()}.5"
    script = f"trap '' TERM; sleep {word} & echo > /build/ready; while :; do sleep {word}; done"

    async def body():
        argv = sandbox.wrap(["/bin/sh", "-c", script], ENV, cwd="/build")
        task = asyncio.create_task(Runner().run(argv))
        while not (mounts.build / "ready").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert processes(word)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(100):
            if not processes(word):
                return
            await asyncio.sleep(0.02)
        pytest.fail("something goes on inside")

    asyncio.run(body())


@pytest.fixture
def cross(mounts, tmp_path):
    """What a cross build mounts besides: a sysroot, a prefix in it, programs of this machine in the midst of both."""
    for name in ("sysroot/usr/lib/llvm-17/bin", "sysroot/opt", "sysroot/tmp", "inside/llvm/bin", "tools/bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "sysroot/usr/lib/llvm-17/bin/clang").write_text("of the board")
    (tmp_path / "sysroot/usr/lib/llvm-17/libLLVM.so").write_text("of the board")
    (tmp_path / "inside/of-inside").write_text("inside")
    (tmp_path / "inside/llvm/bin/clang").write_text("of the board")
    (tmp_path / "tools/bin/clang").write_text("of this machine")
    native = dict.fromkeys(("/usr/lib/llvm-17/bin", f"{FINAL}/llvm/bin"), tmp_path / "tools/bin")
    return replace(mounts, sysroot=tmp_path / "sysroot", sysroot_prefix=tmp_path / "inside", native=native)


def test_a_cross_build_has_all_of_the_host_machine_below_the_sysroot(cross):
    argv = Sandbox(cross.source, cross).wrap(["true"], ENV, cwd="/build")
    readable = [argv[index + 2] for index, word in enumerate(argv) if word == "--ro-bind"]
    ours = [place for place in readable if place.startswith("/sysroot")]
    assert ours == [
        "/sysroot",
        f"/sysroot{FINAL}",
        f"/sysroot{FINAL}/llvm/bin",
        "/sysroot/usr/lib/llvm-17/bin",
    ], "what lies in another comes after it"
    writable = [argv[index + 2] for index, word in enumerate(argv) if word == "--bind"]
    assert writable == ["/build", "/stage", "/run/jobserver"]
    assert argv.index("/sysroot/opt") < argv.index(f"/sysroot{FINAL}")


@pytest.mark.parametrize("missing", ["sysroot", "sysroot_prefix"])
def test_a_native_build_has_no_sysroot(cross, missing):
    argv = Sandbox(cross.source, replace(cross, **{missing: None})).wrap(["true"], ENV, cwd="/build")
    assert not [word for word in argv if word.startswith("/sysroot")]


def test_libraries_of_the_host_machine_have_programs_of_this_one_beside(sh, sandbox, cross):
    box = replace(sandbox, mounts=cross)
    assert sh("cat /sysroot/usr/lib/llvm-17/bin/clang", box) == "of this machine"
    assert sh("cat /sysroot/usr/lib/llvm-17/libLLVM.so", box) == "of the board"
    assert sh(f"cat /sysroot{FINAL}/of-inside /sysroot{FINAL}/llvm/bin/clang", box) == "insideof this machine"
    assert sh("cat /sysroot/opt/rocm/of-inside", box) == "inside"
    assert sh(f"cat {FINAL}/of-prefix", box) == "prefix", "the other prefix is where it was"
    assert sorted(sh("ls -A /sysroot/opt", box).split()) == ["rocm", "rocm-5.6.1"]


@pytest.mark.parametrize("place", ["x", "tmp/x", "opt/x", "opt/rocm-5.6.1/x", "usr/lib/llvm-17/bin/x"])
def test_nothing_below_the_sysroot_can_be_written(sh, sandbox, cross, place):
    box = replace(sandbox, mounts=cross)
    assert sh("echo fine", box) == "fine\n"
    with pytest.raises(ProcessError):
        sh(f"echo > /sysroot/{place}", box)


def test_on_the_host_places_are_where_they_are(mounts, tmp_path):
    host = Host(mounts)
    assert host.path("source") == host.path("source", "rocr") == str(tmp_path / "source")
    assert host.path("source", "hip") == str(tmp_path / "hip")
    assert host.path("tool", "ninja") == str(tmp_path / "ninja")
    assert {kind: host.path(kind) for kind in ("build", "stage", "prefix", "jobserver")} == {
        "build": str(tmp_path / "build"),
        "stage": str(tmp_path / "stage"),
        "prefix": str(tmp_path / "prefix"),
        "jobserver": str(tmp_path / "fifo"),
    }


def test_on_the_host_the_environment_is_exactly_the_computed_one_too(mounts):
    argv = Host(mounts).wrap(["/usr/bin/env"], ENV, cwd=str(mounts.build))
    output = asyncio.run(Runner().capture(argv)).decode()
    assert dict(line.split("=", 1) for line in output.splitlines()) == ENV


def test_on_the_host_the_directory_is_the_given_one(mounts):
    argv = Host(mounts).wrap(["/bin/pwd"], ENV, cwd=str(mounts.build))
    assert asyncio.run(Runner().capture(argv)).decode() == f"{mounts.build}\n"


def test_on_the_host_paths_of_the_prefix_lead_to_the_merged_tree(mounts):
    host = Host(mounts)
    text = f"-I{FINAL}/of-prefix;{FINAL}/missing {FINAL} /opt/rocm-5.6.10/of-prefix"
    assert host.relocated(text) == f"-I{mounts.prefix}/of-prefix;{FINAL}/missing {FINAL} /opt/rocm-5.6.10/of-prefix"
