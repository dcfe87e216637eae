"""What is written to the disk; what is lost without it, campaigns with a disk that loses its power show."""

from __future__ import annotations

import asyncio
import errno

import pytest

from rocmbuild.tools import flush as module
from rocmbuild.tools.flush import flush, refuse_full


def test_a_file_system_is_written_by_way_of_a_file_or_a_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    asyncio.run(flush(tmp_path))
    asyncio.run(flush(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "x"


def test_what_is_not_there_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError):
        asyncio.run(flush(tmp_path / "nothing"))


@pytest.mark.parametrize("limit", ["ROOM", "NAMES"])
def test_a_full_file_system_is_refused(tmp_path, monkeypatch, limit):
    refuse_full(tmp_path)
    monkeypatch.setattr(module, limit, 1 << 60)
    with pytest.raises(OSError, match="No space left") as caught:
        refuse_full(tmp_path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
