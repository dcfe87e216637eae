"""Relations between packages: parsed, filled in and without what is implied."""

from __future__ import annotations

import pytest

from rocmbuild.errors import PackageError
from rocmbuild.tools.relations import Relation, fill, parse, simplify

VERSIONS = {"hip-dev": "5.6.1-1", "comgr": "2.5.0-1"}


def test_a_relation_has_alternatives():
    assert parse("libc6:any (>=2.38)|musl") == (Relation("libc6:any", ">=", "2.38"), Relation("musl"))


@pytest.mark.parametrize("text", ["", "Foo", "foo (2.0)", "foo >= 2", "foo | ", "a, b"])
def test_what_is_no_relation_is_an_error_with_its_place(text):
    with pytest.raises(PackageError, match="is not a relation") as caught:
        parse(text, "recipe.yaml:3:5")
    assert caught.value.where == "recipe.yaml:3:5"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["bb", "aa", "bb"], ("aa", "bb")),
        (["libc6", "libc6 (>= 2.4)", "libc6 (>= 2.38)"], ("libc6 (>= 2.38)",)),
        (["zlib1g (>= 1:1.2)", "zlib1g (>= 9)"], ("zlib1g (>= 1:1.2)",)),
        (["hip (= 5-1)", "hip (>= 4)"], ("hip (= 5-1)",)),
        (["hip (= 5-1)", "hip (>= 6)"], ("hip (= 5-1)", "hip (>= 6)")),
        (["xx (>> 2.36)", "xx (<< 2.37)"], ("xx (<< 2.37)", "xx (>> 2.36)")),
        (["aa | bb", "aa"], ("aa", "aa | bb")),
        (["xx (>= 1.0~rc1)", "xx (>= 1.0)"], ("xx (>= 1.0)",)),
        (["xx (>= 1.0)", "xx (>= 1.00)"], ("xx (>= 1.0)",)),
    ],
)
def test_implied_relations_go_away(given, expected):
    assert simplify(given) == expected
    assert simplify(reversed(given)) == expected


def test_packages_of_this_release_are_filled_in_with_their_version():
    assert fill("{package:hip-dev}", VERSIONS, "r") == "hip-dev (= 5.6.1-1)"
    assert fill("{package:hip-dev} | hip", VERSIONS, "r") == "hip-dev (= 5.6.1-1) | hip"
    assert fill("libc6 (>= {x})", VERSIONS, "r") == "libc6 (>= {x})"


def test_optional_packages_are_left_out_when_missing():
    assert fill("{package?:comgr}", VERSIONS, "r") == "comgr (= 2.5.0-1)"
    assert fill("{package?:rocm-llvm}", VERSIONS, "r") is None
    assert fill("{package?:rocm-llvm} | llvm-17", VERSIONS, "r") == "llvm-17"


def test_a_missing_package_is_an_error_that_names_the_nearest():
    with pytest.raises(PackageError, match="related to hip-devel") as caught:
        fill("{package:hip-devel}", VERSIONS, "recipe.yaml:9:1")
    assert caught.value.where == "recipe.yaml:9:1"
    assert "hip-dev?" in str(caught.value.hint)
