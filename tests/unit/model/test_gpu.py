from __future__ import annotations

import pytest

from rocmbuild.errors import DocumentError, UsageError
from rocmbuild.model.gpu import load_gpus, select

TABLE = """\
format: 1
gpus:
  gfx803: {products: Fiji, family: gcn, since: "1.0", until: "5.7"}
  gfx906: {products: MI50, family: gcn, since: "2.0", features: [sramecc, xnack]}
  gfx90a: {products: MI200, family: cdna, since: "4.3", features: [sramecc, xnack]}
  gfx942: {products: MI300X, family: cdna, since: "6.0.0", features: [sramecc, xnack]}
  gfx1030: {products: RX 6800, family: rdna, since: "4.5"}
"""


@pytest.fixture
def known(tmp_path):
    path = tmp_path / "gpus.yaml"
    path.write_text(TABLE)
    return load_gpus(path)


def test_the_table(known):
    assert list(known) == ["gfx803", "gfx906", "gfx90a", "gfx942", "gfx1030"]
    assert known["gfx90a"].features == ("sramecc", "xnack")
    assert known["gfx1030"].features == ()
    assert (known["gfx803"].until, known["gfx906"].until) == ("5.7", None)


def test_a_table_with_mistakes_is_refused(tmp_path):
    path = tmp_path / "gpus.yaml"
    path.write_text(TABLE.replace('since: "4.5"', "sinze: 4.5"))
    with pytest.raises(DocumentError) as caught:
        load_gpus(path)
    assert [problem.where for problem in caught.value.problems] == [f"{path}:7:12", f"{path}:7:46", f"{path}:7:53"]


@pytest.mark.parametrize(
    ("requested", "release", "selected"),
    [
        (["gfx1030"], "5.6.1", ["gfx1030"]),
        (["gfx1030", "gfx90a", "gfx1030"], "5.6.1", ["gfx1030", "gfx90a"]),
        (["cdna"], "5.6.1", ["gfx90a"]),
        (["cdna"], "6.0", ["gfx90a", "gfx942"]),
        (["gcn"], "5.6.1", ["gfx803", "gfx906"]),
        (["gcn"], "6.2", ["gfx906"]),
        (["gfx90a", "cdna"], "6.0", ["gfx90a", "gfx942"]),
        (["gfx90a:xnack+"], "5.6", ["gfx90a:xnack+"]),
        (
            ["gfx90a:sramecc-:xnack+", "gfx90a:sramecc-:xnack-"],
            "5.6",
            ["gfx90a:sramecc-:xnack+", "gfx90a:sramecc-:xnack-"],
        ),
        (["gfx803"], "5.7", ["gfx803"]),
        (["gfx942"], "6.0.0", ["gfx942"]),
    ],
)
def test_selection(known, requested, release, selected):
    assert select(requested, known, release) == tuple(selected)


@pytest.mark.parametrize(
    ("requested", "release", "message", "hint"),
    [
        (
            "gfx942",
            "5.6.1",
            "gfx942 needs ROCm 6.0 or later; this release is 5.6.1",
            "choose another GPU target, or a branch of that release or later",
        ),
        ("gfx942:xnack+", "5.7", "gfx942 needs ROCm 6.0 or later; this release is 5.7", "choose another GPU target"),
        ("gfx803", "6.0", "gfx803 can be built up to ROCm 5.7; this release is 6.0", None),
        ("gfx103", "5.6", "unknown GPU target gfx103", "gfx1030"),
        ("rnda", "5.6", "unknown GPU target rnda", "rdna"),
        (
            "gfx90a:xnakc+",
            "5.6",
            "gfx90a has no feature 'xnakc+'",
            "features of gfx90a: gfx90a:sramecc+, gfx90a:xnack+",
        ),
        ("gfx90a:xnack", "5.6", "gfx90a has no feature 'xnack'", "gfx90a:xnack+"),
        ("gfx90a:", "5.6", "gfx90a has no feature ''", "gfx90a:xnack+"),
        ("gfx1030:xnack+", "5.6", "gfx1030 has no feature 'xnack+'", "features of gfx1030: none"),
    ],
)
def test_what_does_not_fit_is_explained(known, requested, release, message, hint):
    with pytest.raises(UsageError) as caught:
        select([requested], known, release)
    assert caught.value.message == message
    assert hint is None or hint in caught.value.hint


@pytest.mark.parametrize("requested", [[], ["cdna"]])
def test_nothing_left_to_build_for(known, requested):
    with pytest.raises(UsageError) as caught:
        select(requested, known, "3.0")
    assert caught.value.message == "no GPU target is left to build for"
    assert "--gpu" in caught.value.hint


def test_a_target_and_its_variants_exclude_each_other(known):
    with pytest.raises(UsageError, match=r"gfx90a and gfx90a:xnack\+ cannot both be built"):
        select(["gfx90a", "gfx90a:xnack+"], known, "5.6.1")
