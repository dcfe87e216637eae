"""Whether what was written is on the disk: a stamp must not be there without what it speaks of."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from rocmbuild.tools.waiting import in_thread

ROOM, NAMES = 1 << 20, 16
"""Bytes and files; where there is less, nothing is built."""


async def flush(path: Path) -> None:
    """Write what is cached of the file system of ``path`` to its disk, for the power may fail; OSError if that fails.

    Stamps are synchronized one by one, but the trees they speak of stay in memory for half a minute (ext4, XFS, Btrfs)
    and would be full of empty files. One call for a file system costs less than one for each file of a tree.
    """
    await in_thread(_flush, path)


def refuse_full(path: Path) -> None:
    """Raise OSError if the file system of ``path`` has no room: what a program has just written may not be whole.

    CMake does not look whether the last bytes of a file could be written, and ends well. File systems that do not say
    what they have are believed.
    """
    status = os.statvfs(path)
    free = status.f_bfree if os.geteuid() == 0 else status.f_bavail  # some is reserved for root
    no_bytes = status.f_blocks > 0 and free * status.f_frsize < ROOM
    no_names = status.f_files > 0 and status.f_favail < NAMES
    if no_bytes or no_names:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _flush(path: Path) -> None:
    import ctypes  # slow to load, and a run with nothing to do needs it not

    descriptor = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
