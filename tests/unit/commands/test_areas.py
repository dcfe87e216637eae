"""What earlier runs left, by branch, distribution and target."""

from __future__ import annotations

import pytest

from rocmbuild.commands.areas import components
from rocmbuild.errors import UsageError
from rocmbuild.settings import Settings

AREAS = ("one/debian-12-amd64", "one/debian-13-riscv64", "one/debian-13-riscv64-xthead", "two/debian-13-amd64")


@pytest.fixture
def found(tmp_path):
    """Return a function that tells the areas in which hip was built, of those asked for."""
    for area in AREAS:
        for name in ("hip", ".toolchain", ".repository"):
            (tmp_path / "build" / area / name).mkdir(parents=True)
        (tmp_path / "build" / area / "of-nobody").touch()

    def ask(**wanted):
        trees = components(Settings(workspace=tmp_path, **wanted), "build")
        assert set(trees) <= {"hip"}
        return tuple(path.parent.relative_to(tmp_path / "build").as_posix() for path in trees.get("hip", ()))

    return ask


def test_all_areas_unless_some_are_asked_for(found):
    assert found() == AREAS


@pytest.mark.parametrize(
    ("wanted", "areas"),
    [
        ({"target": "sg2042"}, ("one/debian-13-riscv64",)),
        ({"target": "sg2042-xthead"}, ("one/debian-13-riscv64-xthead",)),
        ({"target": "x86_64"}, ("one/debian-12-amd64", "two/debian-13-amd64")),
        ({"target": "arm64"}, ()),
        ({"target": "x86_64", "branch": "two"}, ("two/debian-13-amd64",)),
        ({"distribution": "debian-13"}, AREAS[1:]),
        ({"distribution": "debian-1"}, ()),
        ({"distribution": "debian-13", "branch": "one"}, AREAS[1:3]),
        ({"distribution": "debian-12", "target": "sg2042"}, ()),
    ],
)
def test_areas_are_told_apart(found, wanted, areas):
    assert found(**wanted) == areas


def test_an_unknown_target_is_an_error(found):
    with pytest.raises(UsageError, match="there is no target sg2041"):
        found(target="sg2041")
