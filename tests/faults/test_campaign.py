"""A short campaign, a run of each kind; the long one is ``python -m tests.faults --runs 100 --seed N``."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from tests.faults.campaign import Campaign
from tests.faults.ground import Ground
from tests.faults.kinds import KINDS

SEED = 4
RUNS = (*range(len(KINDS)), len(KINDS))
"""All kinds once, and the first, which is a SIGKILL, twice."""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory, test_cache):
    ground = Ground(tmp_path_factory.mktemp("faults").resolve(), test_cache)
    return Campaign(ground, SEED, states=("empty", "changed", "stored"))


@pytest.mark.parametrize("number", RUNS, ids=lambda number: f"{list(KINDS)[number % len(KINDS)]}-{number}")
def test_nothing_is_lost(campaign, number, record_property):
    name = list(KINDS)[number % len(KINDS)]
    if KINDS[name].why_not is not None:
        pytest.skip(KINDS[name].why_not)
    result = campaign.one(number, name)
    record_property("fault", asdict(result))
    assert not result.losses, f"{result.kind} in {result.state}: {result.done}"
