"""What a recipe discards is gone from the stage tree, with the directories that only it was in."""

from __future__ import annotations

import os

import pytest

from rocmbuild.errors import PackageError
from rocmbuild.model.recipe import Discard
from rocmbuild.run.component import discard_files

PREFIX = "/opt/rocm-5.6.1"


@pytest.fixture
def stage(tmp_path):
    for name in ("lib/libapp.so", "hip/bin/app", "share/app/doc/README"):
        path = tmp_path / PREFIX[1:] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / PREFIX[1:] / "hip/bin/link").symlink_to("../../bin/nothing")
    return tmp_path


def left(stage):
    return sorted(path.relative_to(stage / PREFIX[1:]).as_posix() for path in stage.rglob("*") if path.is_file())


def test_directories_that_are_empty_then_go_too(stage):
    discard_files(stage, PREFIX, [Discard(("hip/", "?nothing/", "share/app/doc/"), "old places")], "r")
    assert left(stage) == ["lib/libapp.so"]
    assert sorted(path.name for path in (stage / PREFIX[1:]).iterdir()) == ["lib"]


def test_a_directory_that_holds_something_else_stays(stage):
    discard_files(stage, PREFIX, [Discard(("hip/bin/link",), "it leads nowhere")], "r")
    assert left(stage) == ["hip/bin/app", "lib/libapp.so", "share/app/doc/README"]
    assert not os.path.lexists(stage / PREFIX[1:] / "hip/bin/link")


def test_a_pattern_without_a_file_is_an_error_before_anything_is_removed(stage):
    rule = Discard(("hip/", "lib/*.la"), "libtool")
    with pytest.raises(PackageError, match=r"r: discard: the pattern lib/\*\.la"):
        discard_files(stage, PREFIX, [rule], "r")
    assert "hip/bin/app" in left(stage)
