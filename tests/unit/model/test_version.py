from __future__ import annotations

import pytest

from rocmbuild.model.version import VersionRange, compact, compare, numbers


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("6.4.3", (6, 4, 3)),
        ("6.4.3-5", (6, 4, 3)),
        ("17", (17,)),
        ("5.6.1~rc2", (5, 6, 1)),
        ("1.9.x", (1, 9)),
        ("x", ()),
    ],
)
def test_numbers_are_the_leading_fields(version, fields):
    assert numbers(version) == fields


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        ("5.6", "5.6.0", 0),
        ("6", "6.0.0", 0),
        ("5.10", "5.9", 1),
        ("5.9", "5.10", -1),
        ("6.4.43484", "6.4.43483", 1),
        ("5.6.1", "5.6", 1),
    ],
)
def test_fields_are_compared_as_numbers(left, right, order):
    assert compare(left, right) == order
    assert compare(right, left) == -order


@pytest.mark.parametrize(
    ("version", "text"), [("5.6.1", "50601"), ("6.4", "60400"), ("7", "70000"), ("6.10.12", "61012")]
)
def test_compact_is_amds_form(version, text):
    assert compact(version) == text


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=17", ["17", "17.0.1", "18"], ["16.9", "5"]),
        (">17", ["17.0.1", "18"], ["17", "17.0"]),
        ("<6", ["5.7.1", "5"], ["6", "6.0.0"]),
        ("<=5.6", ["5.6", "5.6.0", "5"], ["5.6.1", "5.7"]),
        ("==5.6", ["5.6", "5.6.0"], ["5.6.1"]),
        (">=5.6,<6", ["5.6", "5.7.1"], ["5.5", "6.0"]),
        (">= 5.6 , < 6", ["5.6"], ["6"]),
    ],
)
def test_ranges(text, inside, outside):
    found = VersionRange.parse(text)
    assert [version for version in (*inside, *outside) if version in found] == inside


@pytest.mark.parametrize("text", ["17", "=17", ">=", "~=5.6", ">=5.6,", "", ">=x"])
def test_what_is_no_comparison_is_named(text):
    with pytest.raises(ValueError, match="is not a comparison such as '>=17'"):
        VersionRange.parse(text)
