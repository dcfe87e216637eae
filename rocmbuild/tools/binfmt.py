"""Run a program where the kernel hands foreign programs to an emulator, and nothing else on the machine notices.

A program of its own, started by the path of this file, which imports nothing but the standard library:
``MACHINE INTERPRETER PROGRAM [ARGUMENT…]``. In a new user namespace, with the same ids as outside, it mounts that
namespace's own binfmt_misc (Linux 6.7), registers the interpreter for ELF files of the machine, and becomes the
program. Mount and registration go away with the last process in there.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

FAILED = 125
"""Exit status if the program could not be started; why is on standard error, after ``PREFIX``."""

PREFIX = "binfmt: "

MOUNT_POINT = "/proc/sys/fs/binfmt_misc"
REGISTER = f"{MOUNT_POINT}/register"

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x40000
_LIBC = ctypes.CDLL(None, use_errno=True)

_ELF = struct.Struct("<4sBBBB8xHH")
"""Magic, class, data, version, OS ABI, padding, e_type and e_machine of an ELF header."""
_ET_EXEC, _ELFCLASS64, _ELFDATA2LSB, _EV_CURRENT = 2, 2, 1, 1


def main(arguments: list[str]) -> int:
    """Become the program that the arguments name; return only if that fails."""
    machine, interpreter, *argv = arguments
    try:
        _enter_namespaces()
        _mount("none", "/", _MS_REC | _MS_PRIVATE)
        _mount("binfmt_misc", MOUNT_POINT, _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        _write(REGISTER, rule(int(machine), interpreter))
        _become(argv)
    except OSError as error:
        print(f"{PREFIX}{error.filename}: {error.strerror}", file=sys.stderr)
    return FAILED


def rule(machine: int, interpreter: str) -> str:
    """Return what to register, as Linux's admin-guide/binfmt-misc describes it, for 64-bit little-endian ELF.

    F opens the interpreter now, so that a root needs none in it; P tells it the name that a program was called by.
    """
    magic = _ELF.pack(b"\x7fELF", _ELFCLASS64, _ELFDATA2LSB, _EV_CURRENT, 0, _ET_EXEC, machine)
    # any OS ABI; the last bit of e_type tells programs at a fixed address from those at any
    mask = _ELF.pack(b"\xff" * 4, 0xFF, 0xFF, 0xFF, 0, 0xFFFE, 0xFFFF)
    delimiter = next(character for character in ":|;," if character not in interpreter)
    return delimiter.join(["", f"elf-{machine}", "M", "0", _escaped(magic), _escaped(mask), interpreter, "PF"])


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def identity(ids: str) -> str:
    """Return the map that gives a new namespace all ids of this one, from this one's uid_map or gid_map."""
    rows = (line.split() for line in ids.splitlines())
    return "".join(f"{first} {first} {count}\n" for first, _, count in rows)


def _enter_namespaces() -> None:
    """Enter a user namespace with all ids of this one, and a mount namespace that belongs to it.

    To map more than one id takes rights in the namespace that is left, so a child stays behind to do it.
    """
    maps = {name: identity(Path(f"/proc/self/{name}").read_text()) for name in ("uid_map", "gid_map")}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os._exit(_map(os.getppid(), maps, reading, writing))
    os.close(reading)
    _check(_LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "a user namespace")
    os.write(writing, b"\n")
    os.close(writing)
    _, status = os.waitpid(child, 0)
    number = os.waitstatus_to_exitcode(status)
    if number != 0:
        raise OSError(number, os.strerror(number), "the ids of a user namespace")


def _map(process: int, maps: dict[str, str], reading: int, writing: int) -> int:
    """Map the ids of a process once it says that it has a namespace of its own; return 0 or an errno."""
    os.close(writing)
    if not os.read(reading, 1):
        return 0  # it has failed, and says so itself
    try:
        for name, text in maps.items():
            _write(f"/proc/{process}/{name}", text)
    except OSError as error:
        return error.errno or 1
    return 0


def _become(argv: list[str]) -> None:
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        raise OSError(error.errno, error.strerror, argv[0]) from error


def _mount(kind: str, target: str, flags: int) -> None:
    name = kind.encode()
    _check(_LIBC.mount(name, target.encode(), name, ctypes.c_ulong(flags), None), target)


def _write(path: str, text: str) -> None:
    """Write in one call, as these files of the kernel want it."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, os.fsencode(text))
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(descriptor)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
