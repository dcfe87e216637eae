"""Bring what was written to the disk: a stamp must not be there without what it speaks of when the power fails."""

from __future__ import annotations

import os
from pathlib import Path

from rocmbuild.tools.waiting import in_thread


async def flush(path: Path) -> None:
    """Write what is cached of the file system of ``path`` to its disk; OSError if that fails.

    Stamps are synchronized one by one, but the trees they speak of stay in memory for half a minute (ext4, XFS, Btrfs)
    and would be full of empty files. One call for a file system costs less than one for each file of a tree.
    """
    await in_thread(_flush, path)


def _flush(path: Path) -> None:
    import ctypes  # slow to load, and a run with nothing to do needs it not

    descriptor = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
