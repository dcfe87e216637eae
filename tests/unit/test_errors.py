from __future__ import annotations

import pytest

from rocmbuild import errors
from rocmbuild.errors import DocumentError, Problem, RocmBuildError, UsageError, nearest


def test_an_error_says_where_before_what():
    assert str(RocmBuildError("no such thing", where="a.yaml:3:4")) == "a.yaml:3:4: no such thing"
    assert str(RocmBuildError("no such thing")) == "no such thing"


def test_all_fields_are_kept_for_the_one_place_that_prints():
    error = RocmBuildError("what", where="where", hint="hint", log="log", rerun="rerun")
    assert (error.message, error.where, error.hint, error.log, error.rerun) == ("what", "where", "hint", "log", "rerun")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("UsageError", 2),
        ("DocumentError", 2),
        ("FetchError", 1),
        ("EditError", 1),
        ("RootError", 1),
        ("StepError", 1),
        ("PackageError", 1),
        ("VerifyError", 1),
    ],
)
def test_exit_codes_tell_the_users_mistakes_from_failed_builds(name, code):
    assert getattr(errors, name).exit_code == code


def test_a_document_error_shows_every_problem_with_its_hint():
    error = DocumentError(iter([Problem("a:1:2", "first", "do this"), Problem("a:3:4", "second")]))
    assert str(error) == "a:1:2: first\n    try: do this\na:3:4: second"
    assert [problem.message for problem in error.problems] == ["first", "second"]
    assert isinstance(error, UsageError)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("rocbals", ["rocblas", "rocsparse", "hip"], "did you mean rocblas or rocsparse?"),
        ("clr", ["clr-hip", "clr-opencl"], "did you mean clr-hip?"),
        ("zzz", ["beta", "alpha", "beta"], "known: alpha, beta"),
        ("zzz", [f"name{i}" for i in range(21)], "nothing is named like it"),
        ("zzz", [], "nothing is named like it"),
    ],
)
def test_nearest_names(name, known, hint):
    assert nearest(name, known) == hint
