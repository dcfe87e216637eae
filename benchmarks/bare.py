"""Run a bubblewrap command line without bubblewrap: same root, same mounts, same environment, entered by chroot.

usage: bare.py RESULT -- bwrap [OPTION...] -- COMMAND [ARGUMENT...]

What is left is a mount namespace (made by unshare), so that the mounts end with the command. There are no user, pid,
ipc, uts, cgroup or network namespaces, no seal on privileges, and nobody between the command and who waits for it.
Wall and CPU seconds of the command alone, without the mounting, go to RESULT as JSON. Without root rights a user
namespace is needed after all, to mount.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from replay import Sandboxed, split

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


def bare_argv(sandboxed: Sandboxed, result: Path) -> list[str]:
    """Return the argv that runs a sandbox's command bare."""
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [
        *("unshare", *rights, "--mount", "--propagation", "private", "--"),
        *(sys.executable, str(Path(__file__).resolve()), str(result), "--", *sandboxed.argv),
    ]


def main(arguments: Sequence[str]) -> int:
    """Mount, run, write the times; return the command's status."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__.strip() if __doc__ else "")
        return 0
    if len(arguments) < 3 or arguments[1] != "--":
        print("usage: bare.py RESULT -- bwrap [OPTION...] -- COMMAND [ARGUMENT...]", file=sys.stderr)
        return 2
    sandboxed = split(arguments[2:])
    result = Path(arguments[0]).resolve()
    with tempfile.TemporaryDirectory(prefix="bare-") as directory:
        root = Path(directory)
        try:
            environment, place = arrange(sandboxed, root)
            status, seconds, cpu = enter(root, sandboxed.command, environment, place)
        finally:
            mount("--lazy", root, program="umount")
    result.write_text(json.dumps({"seconds": seconds, "cpu": cpu}), encoding="utf-8")
    return status


def arrange(sandboxed: Sandboxed, root: Path) -> tuple[dict[str, str], str]:
    """Mount everything below ``root``, in the order of the options; return environment and working directory."""
    environment: dict[str, str] = {}
    place = "/"
    for option in sandboxed.options:
        match option:
            case ("--bind" | "--ro-bind" as kind, source, inside):
                bind(Path(source), _below(root, inside), read_only=kind == "--ro-bind")
            case ("--tmpfs", inside):
                mount("-t", "tmpfs", "tmpfs", _made(_below(root, inside)))
            case ("--proc", inside):
                mount("-t", "proc", "proc", _made(_below(root, inside)))
            case ("--dev", inside):
                make_devices(_below(root, inside))
            case ("--remount-ro", inside):
                mount("-o", "remount,ro", _below(root, inside))
            case ("--symlink", target, inside):
                _made(_below(root, inside).parent)
                _below(root, inside).symlink_to(target)
            case ("--setenv", key, value):
                environment[key] = value
            case ("--chdir", inside):
                place = inside
    return environment, place


def enter(root: Path, command: Sequence[str], environment: dict[str, str], place: str) -> tuple[int, float, float]:
    """Run the command in ``root``; return its status, wall seconds and CPU seconds."""
    before, begun = _cpu(), time.monotonic()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(OSError):
            os.chroot(root)
            os.chdir(place)
            os.execvpe(command[0], list(command), environment)
        os._exit(127)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - begun, _cpu() - before


def bind(source: Path, inside: Path, *, read_only: bool) -> None:
    """Mount a directory or file at another place."""
    if not inside.exists():
        if source.is_dir():
            inside.mkdir(parents=True)
        else:
            _made(inside.parent)
            inside.touch()
    mount("--bind", source, inside)
    if read_only:
        mount("-o", "remount,bind,ro", inside)


def make_devices(directory: Path) -> None:
    """Make a /dev of the devices that every program may use."""
    mount("-t", "tmpfs", "tmpfs", _made(directory))
    for name in DEVICES:
        bind(Path("/dev", name), directory / name, read_only=False)
    for name, target in LINKS.items():
        (directory / name).symlink_to(target)
    (directory / "shm").mkdir()


def mount(*words: str | Path, program: str = "mount") -> None:
    """Run mount or umount; its words on standard error are the reason of a failure."""
    subprocess.run([program, *map(str, words)], check=True)


def _below(root: Path, inside: str) -> Path:
    return root if inside == "/" else root / inside.lstrip("/")


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
