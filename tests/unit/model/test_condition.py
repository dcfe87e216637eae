from __future__ import annotations

import dataclasses

import pytest

from rocmbuild.model.condition import Facts, holds

FACTS = Facts("1.9.0", "5.6.1", "16.0.0", "amd64", frozenset({"hip", "llvm"}))


@pytest.mark.parametrize(
    ("when", "truth"),
    [
        (None, True),
        ({}, True),
        ({"llvm": ">=16"}, True),
        ({"llvm": ">=17"}, False),
        ({"version": "<2"}, True),
        ({"version": ">=2"}, False),
        ({"release": ">=5.6,<6"}, True),
        ({"release": ">=6"}, False),
        ({"arch": ["riscv64", "amd64"]}, True),
        ({"arch": ["riscv64"]}, False),
        ({"not_arch": ["riscv64"]}, True),
        ({"not_arch": ["amd64"]}, False),
        ({"has": ["hip"]}, True),
        ({"has": ["hip", "llvm"]}, True),
        ({"has": ["hip", "rocblas"]}, False),
        ({"lacks": ["rocblas"]}, True),
        ({"lacks": ["rocblas", "hip"]}, False),
        ({"system": False}, True),
        ({"system": True}, False),
        ({"cross": False}, True),
        ({"cross": True}, False),
        ({"llvm": ">=16", "arch": ["amd64"]}, True),
        ({"llvm": ">=16", "arch": ["arm64"]}, False),
    ],
)
def test_clauses(when, truth):
    assert holds(when, FACTS) is truth


def test_a_release_without_llvm_fulfils_no_condition_on_it():
    without = dataclasses.replace(FACTS, llvm="")
    assert not holds({"llvm": ">=1"}, without)
    assert not holds({"llvm": "<99"}, without)


def test_a_component_of_the_system():
    assert holds({"system": True}, dataclasses.replace(FACTS, system=True))


def test_a_component_for_another_machine():
    other = dataclasses.replace(FACTS, cross=True)
    assert holds({"cross": True}, other)
    assert not holds({"cross": False}, other)


def test_a_word_that_the_schema_does_not_admit_is_a_bug():
    with pytest.raises(ValueError, match="unknown condition 'moon'"):
        holds({"moon": "full"}, FACTS)
