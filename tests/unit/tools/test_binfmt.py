"""The launcher on its own, with ``echo`` in the place of QEMU: it says what it is to run."""

import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from rocmbuild.tools import binfmt

RISCV, AARCH64 = 243, 183
LAUNCHER = [sys.executable, "-I", "-S", binfmt.__file__]
NAMESPACE = ["unshare", "--user", "--mount", "--map-root-user"]
"""What anyone may make: one id, that of the user."""


def header(machine, elf_type=3, bits=2, order=1, abi=0):
    """Return the first bytes of a program; 3 is one that can lie at any address."""
    return b"\x7fELF" + bytes([bits, order, 1, abi]) + bytes(8) + struct.pack("<HH", elf_type, machine)


def matches(data, machine=RISCV):
    """Decide as the kernel does."""
    magic, mask = (bytes.fromhex(text.replace("\\x", "")) for text in binfmt.rule(machine, "/q").split(":")[4:6])
    return len(magic) == len(mask) and all((a ^ b) & c == 0 for a, b, c in zip(data, magic, mask, strict=True))


@pytest.mark.parametrize(
    ("data", "taken"),
    [
        (header(RISCV), True),
        (header(RISCV, elf_type=2), True),
        (header(RISCV, abi=3), True),
        (header(RISCV, elf_type=1), False),
        (header(RISCV, bits=1), False),
        (header(RISCV, order=2), False),
        (header(AARCH64), False),
        (header(62), False),
        (b"#!/bin/sh\n\0\0\0\0\0\0\0\0\0\0", False),
    ],
)
def test_programs_of_the_machine_are_taken_and_no_others(data, taken):
    assert matches(data) == taken


def test_the_rule_has_another_separator_if_the_path_has_a_colon():
    rule = binfmt.rule(RISCV, "/a:b/qemu")
    assert rule.split("|")[-2:] == ["/a:b/qemu", "PF"]


def test_all_ids_of_a_namespace_are_mapped_to_themselves():
    assert binfmt.identity("         0          0 4294967295\n") == "0 0 4294967295\n"
    assert binfmt.identity("0 1000 1\n1 100000 65536\n") == "0 0 1\n1 1 65536\n"


@pytest.fixture(scope="module")
def allowed():
    argv = [*NAMESPACE, "mount", "-t", "binfmt_misc", "none", binfmt.MOUNT_POINT]
    if subprocess.run(argv, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine has no binfmt_misc for user namespaces")


@pytest.fixture
def foreign(tmp_path):
    """A program of another architecture."""
    path = tmp_path / "foreign"
    path.write_bytes(header(RISCV) + bytes(200))
    path.chmod(0o755)
    return path


def launch(*argv, interpreter="/bin/echo", around=()):
    """Run something as root of a namespace, wherever the tests run."""
    command = [*(around or NAMESPACE), *LAUNCHER, str(RISCV), str(interpreter), *map(str, argv)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_a_foreign_program_is_handed_to_the_interpreter(allowed, foreign):
    done = launch(foreign, "one", "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{foreign} {foreign} one two\n"  # its path, its own name, its arguments


def test_programs_of_the_machine_run_as_ever(allowed):
    done = launch("sh", "-c", "echo $0 here; exit 7", "name")
    assert (done.returncode, done.stdout) == (7, "name here\n")


def test_the_interpreter_is_found_in_a_root_that_has_none(allowed, foreign, tmp_path):
    interpreter = tmp_path / "with: colon"
    source = 'int main(int n, char **v) { __builtin_printf("ran %s", v[2]); return n; }'
    argv = ["gcc", "-static", "-x", "c", "-", "-o", str(interpreter)]
    subprocess.run(argv, input=source, text=True, check=True)
    root = tmp_path / "root"
    root.mkdir()
    foreign.rename(root / "foreign")
    done = launch("chroot", root, "/foreign", interpreter=interpreter)
    assert (done.returncode, done.stdout) == (3, "ran /foreign"), done.stderr


def state():
    """Return what the machine's kernel knows of interpreters, and where its binfmt_misc is mounted."""
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if "binfmt" in line]
    return mounts, sorted(path.name for path in Path(binfmt.MOUNT_POINT).iterdir())


def test_nothing_is_registered_outside_or_left_behind(allowed, foreign):
    before = state()
    argv = [*NAMESPACE, *LAUNCHER, str(RISCV), "/bin/echo", "sh", "-c", f"{foreign}; read wait"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == f"{foreign} {foreign}\n"
        assert state() == before
        assert subprocess.run([*NAMESPACE, str(foreign)], check=False, capture_output=True).returncode != 0
        running.communicate("\n")
    assert state() == before


def test_the_program_takes_the_place_of_the_launcher(allowed):
    argv = [*NAMESPACE, *LAUNCHER, str(RISCV), "/bin/echo", "sh", "-c", "echo $$; exec sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
        assert int(running.stdout.readline()) == running.pid
        running.terminate()
    assert running.returncode == -signal.SIGTERM


def failure(done):
    assert done.returncode == binfmt.FAILED
    assert done.stderr.startswith(binfmt.PREFIX)
    return done.stderr.removeprefix(binfmt.PREFIX).rstrip()


def test_an_interpreter_that_is_missing(allowed, tmp_path):
    done = launch("true", interpreter=tmp_path / "none")
    assert failure(done) == f"{binfmt.REGISTER}: No such file or directory"


def test_a_program_that_is_missing(allowed):
    assert failure(launch("no-such-program-anywhere")) == "no-such-program-anywhere: No such file or directory"


def test_a_machine_that_allows_no_user_namespace(allowed):
    # the limit holds in the namespace that sets it
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    done = launch("true", around=[*NAMESPACE, "sh", "-c", forbid, "sh"])
    assert failure(done) == "a user namespace: No space left on device"


def test_it_imports_nothing_that_takes_time():
    code = f"import sys, runpy; runpy.run_path({binfmt.__file__!r}); print('rocmbuild' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
