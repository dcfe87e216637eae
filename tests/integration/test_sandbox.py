"""What a component sees: what it declared, and nothing of the machine it is built on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import AREA
from tests.integration.forge import server


@pytest.fixture
def spy(new_toy, tmp_path):
    """A user who builds a component that tries to leave its sandbox."""
    return new_toy(tmp_path / "user", "spy")


def attempt(spy, what: str, *options: str):
    """Let the component try something; return how the build ended and what Python said of it."""
    spy.manifest(('version: "1.0.0"', f'version: "1.0.0", variables: {{ATTEMPT: "{what}"}}'))
    done = spy.run("build", "--no-verify", *options)
    log = spy.workspace / "logs/spy" / AREA / "toyspy/configure.log"
    return done, log.read_text() if log.exists() else ""


def refused(spy, what: str, complaint: str) -> None:
    """Let the component try something that must fail, with an error of Python."""
    done, log = attempt(spy, what)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "toyspy could not be configured" in done.stdout
    assert complaint in log
    assert not list(spy.workspace.glob("out/**/*.deb"))
    assert not spy.area("toyspy").joinpath("stage/opt").exists()


def test_what_is_allowed_works(spy):
    done, _ = attempt(spy, "write:/tmp/own")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_undeclared_neighbor_is_not_found(built):
    recipe = built.recipe("toyapp", ("needs:\n  libs: [toybase]\n", ""))
    assert (built.area("toybase") / "stage/opt/rocm-9.9.1/lib/cmake/toybase").is_dir()
    done = built.build("toyapp", "toybase", status=1)
    assert "toyapp could not be configured" in done.stdout
    text = " ".join(done.stdout.split())
    assert "it looks for toybase, which the component toybase provides: add toybase to needs.libs" in text
    assert str(recipe) in text


def test_a_package_that_no_component_has_is_said_to_be_the_distributions(built):
    built.own_forge()
    cmake = "cmake_minimum_required(VERSION 3.20)\nproject(toybase C)\nfind_package(ZLIB REQUIRED)\n"
    built.repository("toybase").commit({"CMakeLists.txt": cmake})
    done = built.build("toybase", status=1)
    assert "it looks for ZLIB: add the distribution's package to needs.system in" in " ".join(done.stdout.split())


def test_a_socket_reaches_nothing_of_the_machine(spy):
    with server(lambda connection: connection.sendall(b"hello\n")) as (address, calls):
        refused(spy, f"connect:{address}", "Connection refused")
    assert calls == []


def test_a_socket_reaches_no_other_machine(spy):
    refused(spy, "connect:192.0.2.1:80", "Network is unreachable")


def test_without_a_sandbox_the_same_socket_is_reached(spy):
    """The attempts are real: what refuses them is the sandbox."""
    with server(lambda connection: connection.sendall(b"hello\n")) as (address, calls):
        done, log = attempt(spy, f"connect:{address}", "--environment", "host")
    assert (done.returncode, calls) == (0, [1]), done.stdout + log


@pytest.mark.parametrize("place", ["/usr/share/toyspy", "/opt/toyspy", "/src/toyspy/new", "/opt/rocm-9.9.1/new"])
def test_nothing_is_written_outside(spy, place):
    refused(spy, f"write:{place}", "Read-only file system")


def test_the_callers_files_are_not_there(spy, tmp_path):
    secret = spy.home / "secret"
    secret.write_text("of the caller")
    refused(spy, f"read:{secret}", "No such file or directory")


def test_the_callers_home_is_not_there(spy):
    refused(spy, f"read:{Path('~').expanduser()}/.profile", "No such file or directory")


def test_another_rocm_of_the_machine_is_not_seen(spy, namespace, tmp_path):
    other = tmp_path / "opt"
    (other / "rocm-9.9.1/lib").mkdir(parents=True)
    (other / "rocm-9.9.1/lib/other.txt").write_text("of the machine\n")
    what = "read:/opt/rocm/lib/other.txt"
    spy.manifest(('version: "1.0.0"', f'version: "1.0.0", variables: {{ATTEMPT: "{what}"}}'))
    argv = spy.argv("build", "--no-verify")
    script = f"mount --bind {other} /opt\nln -sfn rocm-9.9.1 /opt/rocm\ncat /opt/rocm/lib/other.txt"
    done = spy.call(namespace(script, argv))
    assert done.stdout.startswith("of the machine\n")
    assert done.returncode == 1, done.stdout + done.stderr
    log = (spy.workspace / "logs/spy" / AREA / "toyspy/configure.log").read_text()
    assert "FileNotFoundError" in log


def test_processes_of_the_machine_are_not_seen(spy):
    refused(spy, f"signal:{os.getpid()}", "ProcessLookupError")


def test_the_callers_variables_do_not_count(built, first_build, tmp_path):
    shutil.rmtree(built.workspace)
    built.environ |= {
        "CFLAGS": "-DTOYBASE_VERSION=wrong",
        "CC": "/bin/false",
        "CMAKE_PREFIX_PATH": "/nowhere",
        "LD_LIBRARY_PATH": "/nowhere",
        "ROCM_PATH": "/nowhere",
        "SOURCE_DATE_EPOCH": "1",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
    }
    built.build()
    assert built.debs() == first_build.debs()


def test_the_umask_of_the_caller_does_not_count(built, first_build):
    shutil.rmtree(built.workspace)
    argv = ["sh", "-c", 'umask 077; exec "$@"', "sh", *built.argv("build", "--no-verify")]
    done = built.call(argv)
    assert done.returncode == 0, done.stderr
    assert built.debs() == first_build.debs()
