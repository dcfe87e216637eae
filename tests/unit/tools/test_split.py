"""Files of a stage tree go to exactly one package."""

from __future__ import annotations

import pytest

from rocmbuild.errors import PackageError
from rocmbuild.model.recipe import Discard, PackageRule
from rocmbuild.tools.split import discarded, entries, matcher, split

PREFIX = "/opt/rocm-5.6.1"
P = PREFIX[1:]
TREE = [
    f"{P}/bin/tool",
    f"{P}/include/hsa/hsa.h",
    f"{P}/include/hsa/ext/amd.h",
    f"{P}/lib/libhsa.so",
    f"{P}/lib/libhsa.so.1",
    "etc/OpenCL/vendors/amd.icd",
]
RUNTIME = PackageRule("hsa", "runtime", files=("lib/*.so.*", "bin/", "/etc/**"), where="recipe.yaml:10:3")
DEV = PackageRule("hsa-dev", "headers", files=("include/**", "lib/*.so"), where="recipe.yaml:20:3")


def test_each_file_has_the_owner_that_its_pattern_says():
    result = split(TREE, PREFIX, [RUNTIME, DEV], [], "recipe.yaml")
    assert result.packages == {
        "hsa": ("etc/OpenCL/vendors/amd.icd", f"{P}/bin/tool", f"{P}/lib/libhsa.so.1"),
        "hsa-dev": (f"{P}/include/hsa/ext/amd.h", f"{P}/include/hsa/hsa.h", f"{P}/lib/libhsa.so"),
    }
    assert result.discarded == ()


def test_the_earlier_rule_wins():
    rest = PackageRule("rest", "everything else", files=("**", "/**"))
    assert split(TREE, PREFIX, [DEV, rest], [], "r").packages["rest"] == (
        "etc/OpenCL/vendors/amd.icd",
        f"{P}/bin/tool",
        f"{P}/lib/libhsa.so.1",
    )


def test_discards_go_before_every_rule():
    result = split(TREE, PREFIX, [RUNTIME, DEV], [Discard(("include/hsa/ext/",), "internal")], "r")
    assert result.discarded == (f"{P}/include/hsa/ext/amd.h",)
    assert result.packages["hsa-dev"] == (f"{P}/include/hsa/hsa.h", f"{P}/lib/libhsa.so")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("lib/*", "lib/a", True),
        ("lib/*", "lib/a/b", False),
        ("lib/**", "lib/a/b", True),
        ("lib/**", "lib", False),
        ("lib/", "lib/a/b", True),
        ("lib/**/x", "lib/x", True),
        ("lib/**/x", "lib/a/b/x", True),
        ("lib/**/x", "lib/ax", False),
        ("lib/libstdc++.so", "lib/libstdc++.so", True),
        ("lib/lib.so", "lib/libxso", False),
        ("share/[a]", "share/a", False),
        ("share/[a]", "share/[a]", True),
    ],
)
def test_patterns(pattern, path, expected):
    assert bool(matcher(pattern, PREFIX)(f"{P}/{path}")) is expected


def test_files_of_no_package_are_listed_with_what_to_do():
    with pytest.raises(PackageError) as caught:
        split(TREE, PREFIX, [DEV], [], "recipe.yaml:1:1")
    text = str(caught.value)
    assert "3 files of the stage tree belong to no package" in text
    assert "\n  bin/tool" in text and "\n  /etc/OpenCL/vendors/amd.icd" in text
    assert caught.value.where == "recipe.yaml:1:1"
    assert "discard" in str(caught.value.hint)


def test_a_long_list_of_files_is_cut():
    tree = [f"{P}/lib/file{number:03}" for number in range(30)]
    with pytest.raises(PackageError, match="and 10 more"):
        split(tree, PREFIX, [], [], "r")


def test_a_pattern_without_files_is_an_error_at_its_rule():
    rule = PackageRule("x", "x", files=("**", "/**", "lib/libgone.so"), where="recipe.yaml:7:3")
    with pytest.raises(PackageError, match=r"the pattern lib/libgone\.so matches no file") as caught:
        split(TREE, PREFIX, [rule], [], "recipe.yaml")
    assert caught.value.where == "recipe.yaml:7:3"
    assert "?lib/libgone.so" in str(caught.value.hint)


def test_a_pattern_that_names_a_directory_gets_the_right_hint():
    rule = PackageRule("x", "x", files=("include/hsa",))
    with pytest.raises(PackageError) as caught:
        split(TREE, PREFIX, [rule], [], "r")
    assert caught.value.hint == "it is a directory: write include/hsa/ for everything below it"


def test_what_is_discarded_is_known_before_there_are_packages(tmp_path):
    for name in (f"{P}/include/hsa/hsa.h", f"{P}/lib/libhsa.so.1"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / P / "hsa/lib").mkdir(parents=True)
    (tmp_path / P / "hsa/lib/libhsa.so").symlink_to("nowhere")
    found = sorted(entries(tmp_path))
    assert found == [f"{P}/hsa/lib/libhsa.so", f"{P}/include/hsa/hsa.h", f"{P}/lib/libhsa.so.1"]
    assert discarded(found, PREFIX, [Discard(("hsa/", "?hip/"), "old places")], "r") == {f"{P}/hsa/lib/libhsa.so"}


def test_a_discard_without_files_is_an_error():
    with pytest.raises(PackageError, match=r"recipe.yaml: discard: the pattern lib/\*\.la"):
        split(TREE, PREFIX, [RUNTIME, DEV], [Discard(("lib/*.la",), "libtool")], "recipe.yaml")


def test_optional_patterns_may_match_nothing_and_then_there_is_no_package():
    static = PackageRule("static", "archives", files=("?lib/*.a",))
    assert "static" not in split(TREE, PREFIX, [RUNTIME, DEV, static], [], "r").packages
    with_archive = split([*TREE, f"{P}/lib/libhsa.a"], PREFIX, [RUNTIME, DEV, static], [], "r")
    assert with_archive.packages["static"] == (f"{P}/lib/libhsa.a",)


def test_a_metapackage_has_no_files():
    assert split([], PREFIX, [PackageRule("meta", "meta")], [], "r").packages == {"meta": ()}


def test_a_package_that_others_left_empty_is_an_error():
    late = PackageRule("late", "late", files=("lib/*.so",), where="recipe.yaml:30:3")
    with pytest.raises(PackageError, match="package late is empty") as caught:
        split(TREE, PREFIX, [RUNTIME, DEV, late], [], "r")
    assert caught.value.where == "recipe.yaml:30:3"


def test_a_package_defined_twice_is_an_error_that_names_both_places():
    again = PackageRule("hsa", "again", where="recipe.yaml:40:3")
    with pytest.raises(PackageError, match=r"hsa is defined twice, first at recipe.yaml:10:3") as caught:
        split(TREE, PREFIX, [RUNTIME, again], [], "r")
    assert caught.value.where == "recipe.yaml:40:3"
