from __future__ import annotations

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.model.template import placeholders_in, substitute

VALUES = {"prefix": "/opt/rocm-5.6.1", "home:llvm": "/opt/rocm-5.6.1/llvm", "major:llvm": "16"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{prefix}/lib", "/opt/rocm-5.6.1/lib"),
        ("{home:llvm}/bin/clang-{major:llvm}", "/opt/rocm-5.6.1/llvm/bin/clang-16"),
        ("${prefix}", "${prefix}"),
        ("${HOME} {PREFIX} {} { prefix }", "${HOME} {PREFIX} {} { prefix }"),
        ("$<BUILD_INTERFACE:{prefix}>", "$<BUILD_INTERFACE:/opt/rocm-5.6.1>"),
        ("int main() { return 0; }", "int main() { return 0; }"),
        ("{prefix}{prefix}", "/opt/rocm-5.6.1/opt/rocm-5.6.1"),
    ],
)
def test_substitution(text, result):
    assert substitute(text, VALUES) == result


def test_values_are_not_looked_into_again():
    assert substitute("{a}", {"a": "{b}", "b": "x"}) == "{b}"


def test_an_unknown_placeholder_says_where_and_what_it_may_have_been():
    with pytest.raises(UsageError) as caught:
        substitute("{prefx}/lib", VALUES, "recipe.yaml:3:4")
    assert caught.value.message == "unknown placeholder {prefx}"
    assert caught.value.where == "recipe.yaml:3:4"
    assert caught.value.hint == "did you mean prefix?"


def test_the_placeholders_of_a_text():
    assert placeholders_in("{prefix} ${home} {home:llvm} {prefix}") == {"prefix", "home:llvm"}
