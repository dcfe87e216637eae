"""Layout rules: which files go where."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.model.manifest import LayoutRule
from rocmbuild.tools.layout import apply_layout

FILES = (
    "usr/include/hip/hip_runtime.h",
    "usr/include/hip/hip_version.h",
    "usr/include/hip/amd_detail/a.h",
    "usr/share/hip/version",
    "usr/share/doc/README.md",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "tree"


def arrange(tree: Path, *rules: LayoutRule) -> list[str]:
    target = tree.parent / "out"
    apply_layout(tree, rules, target)
    return sorted(str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir())


@pytest.mark.parametrize(
    ("rule", "result"),
    [
        (LayoutRule("usr/share/hip/version", "VERSION"), ["VERSION"]),
        (LayoutRule("usr/share/hip/version", "doc/"), ["doc/version"]),
        (LayoutRule("usr/share/*/version", "VERSION"), ["VERSION"]),
        (LayoutRule("usr/share/hip/*", "doc/"), ["doc/version"]),
        (LayoutRule("usr/include/hip/*.h", "include"), ["include/hip_runtime.h", "include/hip_version.h"]),
        (LayoutRule("usr/include/hip/*.h", "include/", ("hip_version.h",)), ["include/hip_runtime.h"]),
        (LayoutRule("usr/**/*.h", "i/", ("amd_detail", "*_version*")), ["i/include/hip/hip_runtime.h"]),
        (LayoutRule("usr/include/**", "i/", ("hip_*",)), ["i/hip/amd_detail/a.h"]),
        (LayoutRule("usr/include/hip/*", "i/", ("hip_*",)), ["i/amd_detail/a.h"]),
        (LayoutRule("usr/share", "s"), ["s/doc/README.md", "s/hip/version"]),
        (LayoutRule("usr/share", "s/"), ["s/share/doc/README.md", "s/share/hip/version"]),
        (LayoutRule("usr/share", "."), ["doc/README.md", "hip/version"]),
        (LayoutRule(".", "all/", ("include",)), ["all/usr/share/doc/README.md", "all/usr/share/hip/version"]),
    ],
)
def test_where_files_go(tree: Path, rule: LayoutRule, result: list[str]) -> None:
    assert arrange(tree, rule) == result


def test_an_empty_directory_can_be_made(tree: Path) -> None:
    arrange(tree, LayoutRule("", "bin/"), LayoutRule("usr/share/hip/version", "VERSION"))
    assert (tree.parent / "out/bin").is_dir()


def test_every_rule_that_matches_nothing_is_reported(tree: Path) -> None:
    with pytest.raises(UsageError) as caught:
        arrange(tree, LayoutRule("usr/share/hip/versoin", "V"), LayoutRule("opt/*", "o/"))
    assert "nothing matches 'usr/share/hip/versoin'; did you mean usr/share/hip/version" in caught.value.message
    assert "nothing matches 'opt/*'" in caught.value.message


def test_what_is_excluded_does_not_count_as_a_match(tree: Path) -> None:
    with pytest.raises(UsageError, match="nothing matches"):
        arrange(tree, LayoutRule("usr/share/hip/*", "V", ("version",)))


def test_two_files_cannot_become_one(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"both usr/share/hip/version and usr/share/doc/README\.md become V"):
        arrange(tree, LayoutRule("usr/share/hip/version", "V"), LayoutRule("usr/share/doc/README.md", "V"))


def test_times_modes_and_links(tree: Path) -> None:
    import os

    os.utime(tree / FILES[0], (1600000000, 1600000000))
    (tree / FILES[0]).chmod(0o755)
    (tree / "usr/share/inside").symlink_to("hip/version")
    (tree / "usr/share/outside").symlink_to("/etc/hostname")
    arrange(tree, LayoutRule("usr/include", "i"), LayoutRule("usr/share/*side", "l/"))
    out = tree.parent / "out"
    status = (out / "i/hip/hip_runtime.h").stat()
    assert (status.st_mtime, status.st_mode & 0o777) == (1600000000, 0o755)
    assert not (out / "l/inside").is_symlink() and (out / "l/inside").read_text() == "usr/share/hip/version"
    assert (out / "l/outside").is_symlink()  # kept as it is, never read


def test_nothing_is_written_through_a_link_out_of_the_tree(tree: Path) -> None:
    (tree / "usr/out").symlink_to(tree.parent / "elsewhere")
    (tree.parent / "elsewhere").mkdir()
    with pytest.raises(UsageError, match="through a link that leads out"):
        arrange(tree, LayoutRule("usr/out", "dir"), LayoutRule("usr/share/hip/version", "dir/version"))
    assert not list((tree.parent / "elsewhere").iterdir())
