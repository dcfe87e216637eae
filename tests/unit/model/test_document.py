"""Strictness: what YAML lets pass silently is a problem here, at its exact place."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

import rocmbuild
from rocmbuild.errors import DocumentError, UsageError
from rocmbuild.model import document as module
from rocmbuild.model.document import load, parse

GOOD = """\
format: 1
branch: small
version: "5.6"
distribution: debian-12
components:
  hip: {version: "5.6.1"}
"""


def problems(text, schema="manifest"):
    with pytest.raises(DocumentError) as caught:
        parse(textwrap.dedent(text), "f.yaml", schema)
    return [(problem.where, problem.message, problem.hint) for problem in caught.value.problems]


def only(text, schema="manifest"):
    found = problems(text, schema)
    assert len(found) == 1, found
    return found[0]


def test_a_good_document_has_plain_data_and_positions():
    document = parse(GOOD, "f.yaml", "manifest")
    assert document.data["components"] == {"hip": {"version": "5.6.1"}}
    assert document.where("components", "hip", "version") == "f.yaml:6:18"
    assert document.where("components", "hip") == "f.yaml:6:8"
    assert document.where("distribution") == "f.yaml:4:15"


def test_what_is_not_there_is_located_at_its_nearest_parent():
    document = parse(GOOD, "f.yaml", "manifest")
    assert document.where("components", "hip", "subdir") == document.where("components", "hip")
    assert document.where("sources", "x", 3) == "f.yaml:1:1"
    problem = document.problem(("components", "hip"), "is bad", "make it good")
    assert str(problem) == "f.yaml:6:8: components.hip: is bad\n    try: make it good"


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("true", True),
        ("false", False),
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("True", "True"),
        ("17", 17),
        ("-1", -1),
        ("0", 0),
        ("010", "010"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("'17'", "17"),
        ('"true"', "true"),
        ("5.6.1", "5.6.1"),
        (".", "."),
        ("..", ".."),
        ("./x", "./x"),
        ("2024-01-01", "2024-01-01"),
        ("12:30", "12:30"),
    ],
)
def test_only_what_looks_like_an_integer_or_a_truth_value_is_one(value, data):
    text = GOOD.replace('{version: "5.6.1"}', f'{{version: "5.6.1", variables: {{A: {value}}}}}')
    found = parse(text, "f.yaml", "manifest").data["components"]["hip"]["variables"]["A"]
    assert found == data
    assert type(found) is type(data)


@pytest.mark.parametrize("value", ["5.10", "5.", ".5", "-1.5", "1e5", "1.5e3", "+2.0"])
def test_numbers_with_a_point_must_be_quoted(value):
    text = GOOD.replace('{version: "5.6.1"}', f'{{version: "5.6.1", variables: {{A: {value}}}}}')
    message = f"components.hip.variables.A: {value} would be read as a number"
    assert only(text) == ("f.yaml:6:42", message, f'quote it: "{value}"')


def test_an_integer_is_not_a_version():
    assert only(GOOD.replace('"5.6"', "6")) == (
        "f.yaml:3:10",
        "version: 6 is not of type 'string'",
        "write a version in quotes, starting with a digit",
    )


def test_a_key_given_twice_names_both_places():
    text = GOOD + '  hip: {version: "5.7"}\n'
    assert only(text) == (
        "f.yaml:7:3",
        "components.hip: this key was given before, at f.yaml:6:3",
        "keep one of them",
    )


def test_unknown_keys_are_found_at_the_key_with_the_nearest_name():
    text = GOOD.replace('{version: "5.6.1"}', '{version: "5.6.1", vairables: {}}')
    assert only(text) == ("f.yaml:6:27", "components.hip.vairables: unknown key", "did you mean variables?")


def test_missing_keys_are_each_named_once():
    found = problems("format: 1\nsummary: x\n")
    assert [message for _, message, _ in found] == [
        "the key branch is missing",
        "the key components is missing",
        "the key distribution is missing",
        "the key version is missing",
    ]
    assert {where for where, _, _ in found} == {"f.yaml:1:1"}


def test_all_problems_are_told_at_once_in_the_order_of_the_file():
    found = problems(
        """\
        format: 1
        branch: small
        version: 5.10
        distribution: Debian 12
        color: red
        components:
          hip:
            version: "1"
            subdir: ../up
            variables: {A: [1]}
        """
    )
    assert [(where, message.split(":")[0]) for where, message, _ in found] == [
        ("f.yaml:3:10", "version"),
        ("f.yaml:4:15", "distribution"),
        ("f.yaml:5:1", "color"),
        ("f.yaml:9:13", "components.hip.subdir"),
        ("f.yaml:10:20", "components.hip.variables.A"),
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: &x 1\n", "f.yaml:1:4"),
        ("a: 1\nb: *x\n", "f.yaml:2:4"),
        ("a:\n  - &x {b: 1}\n  - *x\n", "f.yaml:2:5"),
        ("<<: *base\n", "f.yaml:1:5"),
    ],
)
def test_anchors_and_aliases_are_refused(text, where):
    assert only(text) == (where, "not YAML: anchors and aliases are not allowed; write the value out", None)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("a: [1, 2\n", "f.yaml:2:1", "not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c\n", "f.yaml:1:5", "not YAML: mapping values are not allowed here"),
        ("a:\n\t- b\n", "f.yaml:2:1", "not YAML: found character '\\t' that cannot start any token"),
        ("a: 1\n---\nb: 1\n", "f.yaml:2:1", "not YAML: but found another document"),
        ("a: 1\nb: x\x01y\n", "f.yaml:2:5", "not YAML: the character #x0001 is not allowed"),
        ("a: 'b\n", "f.yaml:2:1", "not YAML: found unexpected end of stream"),
    ],
)
def test_broken_yaml_says_where(text, where, message):
    assert only(text) == (where, message, None)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- a\n- b\n", "word\n", "17\n", "null\n"])
def test_the_top_level_is_a_mapping(text):
    assert only(text) == ("f.yaml:1:1", "a mapping is expected here", None)


def test_tags_are_refused():
    assert only(GOOD.replace('"5.6.1"', '!include "5.6.1"')) == (
        "f.yaml:6:18",
        "the tag !include means nothing here",
        "leave it out",
    )


def test_keys_that_are_lists_are_refused():
    assert only(GOOD + "? [a, b]\n: 1\n") == ("f.yaml:7:3", "a key is a plain word, not a list or a mapping", None)


def test_values_in_messages_are_shortened():
    where, message, _ = only(GOOD.replace("branch: small", f"branch: [{'x' * 500}]"))
    assert where == "f.yaml:2:9"
    assert len(message) < 120
    assert message.endswith("is not of type 'string'")


def test_a_pattern_is_told_in_words():
    _, message, hint = only(GOOD.replace('"5.6"', '"v5.6"'))
    assert message == 'version: "v5.6" is not a version such as "5.6.1"'
    assert hint == "write a version in quotes, starting with a digit"


def test_files_are_read_strictly_as_utf8(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"summary: caf\xe9\n")
    with pytest.raises(UsageError) as caught:
        load(path, "manifest")
    assert caught.value.where == str(path)
    assert "utf-8" in caught.value.message


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text("\ufeff" + GOOD)
    assert load(path, "manifest").data["branch"] == "small"


def test_a_file_that_is_not_there_is_the_users_mistake(tmp_path):
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "no.yaml", "manifest")
    assert caught.value.where == str(tmp_path / "no.yaml")
    assert "No such file" in caught.value.message


PACKAGE = Path(rocmbuild.__file__).parent
SHIPPED = [
    (kind, path)
    for kind, found in {
        "recipe": PACKAGE.parent.glob("recipes/*/recipe.yaml"),
        "manifest": PACKAGE.parent.glob("manifests/*.yaml"),
        "target": PACKAGE.glob("data/targets/*.yaml"),
        "distribution": PACKAGE.glob("data/distributions/*.yaml"),
        "gpus": PACKAGE.glob("data/gpus.yaml"),
    }.items()
    for path in sorted(found)
]
ODD = [
    "",
    "# nothing\n",
    "a:\nb: \n",
    "a: {b: , c: [ , x]}\n",
    "- a\n-\n- - b\n  - {c: d}\n",
    "? {x: y}\n: z\n? [a]\n: {b: c}\nd: e\n",
    "? a\n: b\n? c\n",
    "a: |\n  text\n  more\n\nb: >-\n  folded\n  line\n",
    "a: 'it''s'\nb: \"\\u00e9\\n\"\nc: pl\u00e4in\n\u00fcber: \u4e2d\u6587 \u2192\n",
    "a: !own x\nb: !!str 1\nc: ! 2\nd: !own {e: f}\n!k g: h\n",
    "%YAML 1.1\n---\na: 1\n...\n",
    "a: 1\n---\nb: 2\n",
    "a: &x 1\nb: *x\n",
    "a: *nowhere\n",
    "? *x\n: 1\n",
    "a: 1\na: {b: {c: 2}}\nb: 3\n",
    "a: 1\na: &x 2\n",
    "a: [1, 2\nb: 3\n",
    "a: 'open\n",
    "a: b: c\n",
    "\ta: 1\n",
    "a: @x\n",
    "a: 1\n  b: 2\n",
    "a: {b: 1}}\n",
    "a: \x07\n",
    "a: \U0001f600 \x85b\n",
    'a: "\\q"\n',
    "text\n",
    "[1, 2]\n",
    "a: 1.5\nb: .5\n",
    "a: x#y\nb: x #y\n",
    "a: b\tc\n",
    "a: [b?c, d]\ne: f?g\n",
    "{a?b: c}\n",
    "a: [!b, c]\n",
    "{a: !b, c: d}\n",
]


@pytest.mark.parametrize("text", [*ODD, *(path.read_text(encoding="utf-8") for _, path in SHIPPED)])
def test_what_is_read_quickly_is_read_the_same_by_the_thorough_parser(text, monkeypatch):
    monkeypatch.setattr(module, "_accept", lambda _schema: lambda _data: True)
    monkeypatch.setattr(module, "_schema_problems", lambda _document, _schema: ())
    quick = module._accepted(text, "f.yaml", "manifest")
    try:
        thorough = module._judged(text, "f.yaml", "manifest")
    except DocumentError:
        thorough = None
    assert quick == thorough or (quick is None and any(hint in text for hint in ("\t", "?", "!")))


def test_what_is_right_is_read_quickly(monkeypatch):
    monkeypatch.setattr(module, "_judged", None)
    for kind, path in SHIPPED:
        load(path, kind)


def test_a_second_document_is_refused_at_its_place():
    assert only(GOOD + "---\na: 1\n")[:2] == ("f.yaml:7:1", "not YAML: but found another document")
