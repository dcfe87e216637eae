"""What is expected of components, and what says so."""

from __future__ import annotations

import dataclasses
import json

import pytest

from rocmbuild.plan.estimate import (
    BRIEF,
    DISK,
    NOTHING,
    Cost,
    Estimate,
    Known,
    Measurement,
    estimates,
    of_measurement,
    of_recipe,
    outlook,
)
from rocmbuild.plan.makespan import Work

WHOLE = Measurement(
    seconds=130.0, cpu_seconds=215.0, serial=10.0, shared=200.0, memory=900 << 20, disk=214 << 20, jobs=2, longest=30.0
)
PEAK = (900 << 20) * 9 // 8
PART = dataclasses.replace(WHOLE, cpu_seconds=5.0, shared=4.0, serial=1.0, longest=0.0, whole=False)
COSTS = {"comgr": Cost(100.0, 2 << 30), "clr": Cost(300.0, 3 << 30)}


def test_without_measurements_the_recipe_is_believed():
    found = estimates(COSTS, NOTHING, 2)["clr"]
    assert found == Estimate(seconds=155.0, cpu=300.0, memory=3 << 30, disk=300 * DISK, basis="recipe")
    assert of_recipe(Cost(4.0, 1), 8).seconds == 4.0, "configuring is not divided"


def test_what_was_measured_is_believed_for_any_number_of_slots():
    known = Known({"comgr": WHOLE}, {})
    found = estimates(COSTS, known, 2)["comgr"]
    assert found == Estimate(110.0, 210.0, PEAK, 214 << 20, "measured")
    assert [of_measurement(WHOLE, slots).seconds for slots in (1, 4, 50)] == [210.0, 60.0, 40.0]


def test_more_slots_than_were_measured_take_more_memory_and_fewer_no_less():
    assert [of_measurement(WHOLE, slots).memory >> 20 for slots in (1, 2, 8)] == [1012, 1012, 4050]


def test_what_others_took_scales_the_recipe():
    found = estimates(COSTS, Known({"comgr": WHOLE}, {}), 1)["clr"]
    assert (found.basis, found.cpu, found.memory) == ("recipe, scaled", 645.0, 3 << 30)


def test_a_recipe_that_costs_nothing_says_nothing_about_the_machine():
    costs = {**COSTS, "tiny": Cost(1.0, 1)}
    assert estimates(costs, Known({"tiny": WHOLE}, {}), 1)["clr"].basis == "recipe"


def test_another_area_is_better_than_the_recipe_and_worse_than_this_one():
    other = Known({}, {"comgr": ("rocm-5.6.x/debian-12-amd64", WHOLE)})
    found = estimates(COSTS, other, 2)
    assert found["comgr"] == Estimate(110.0, 210.0, PEAK, 214 << 20, "measured for rocm-5.6.x/debian-12-amd64")
    assert found["clr"].basis == "recipe, scaled"
    here = dataclasses.replace(WHOLE, memory=1 << 30)
    both = dataclasses.replace(other, here={"comgr": here})
    assert (estimates(COSTS, both, 2)["comgr"].basis, estimates(COSTS, both, 2)["comgr"].memory) == (
        "measured",
        9 << 27,
    )


def test_a_part_of_a_build_says_what_it_takes_at_least():
    outgrown = dataclasses.replace(PART, memory=4 << 30)
    found = estimates(COSTS, Known({"comgr": outgrown}, {}), 2)
    assert found["comgr"] == Estimate(55.0, 100.0, 9 << 29, 214 << 20, "recipe")
    assert found["clr"].basis == "recipe", "and nothing about the machine"
    longer = dataclasses.replace(PART, shared=500.0)
    assert estimates(COSTS, Known({"comgr": longer}, {}), 2)["comgr"].basis == "measured"
    both = Known({"comgr": PART}, {"comgr": ("other", WHOLE)})
    assert estimates(COSTS, both, 2)["comgr"].basis == "measured for other"


def test_a_part_never_makes_a_whole_smaller():
    assert PART.after(WHOLE) == WHOLE
    large = dataclasses.replace(PART, memory=3 << 30, disk=1 << 30)
    assert large.after(WHOLE) == dataclasses.replace(WHOLE, memory=3 << 30, disk=1 << 30)
    longer = dataclasses.replace(PART, cpu_seconds=999.0, memory=1, disk=1)
    assert longer.after(WHOLE) == dataclasses.replace(longer, memory=WHOLE.memory, disk=WHOLE.disk, whole=True)


def test_a_whole_replaces_what_was_known_also_by_less():
    smaller = dataclasses.replace(WHOLE, cpu_seconds=1.0, memory=1)
    assert smaller.after(WHOLE) == smaller
    assert WHOLE.after(PART) == WHOLE
    assert PART.after(None) == PART


def test_a_measurement_is_what_it_was_written_as():
    assert Measurement.parse(json.loads(json.dumps(WHOLE.record()))) == WHOLE


@pytest.mark.parametrize(
    "change",
    [{"jobs": 0}, {"memory": -1}, {"seconds": None}, {"cpu_seconds": "9"}, {"shared": float("nan")}, {"whole": 1}],
)
def test_what_is_no_measurement_is_none(change):
    assert Measurement.parse({**WHOLE.record(), **change}) is None
    assert Measurement.parse(["x"]) is None
    assert Measurement.parse({}) is None


def test_the_outlook_of_a_plan():
    building = estimates(COSTS, Known({"comgr": WHOLE}, {}), 2)
    works = [
        Work("fetch", 0.0, 5.0),
        building["comgr"].work("comgr", ["fetch"]),
        building["clr"].work("clr", ["comgr"]),
    ]
    found = outlook(works, [*building.values(), BRIEF], 2, 8 << 30)
    assert found.seconds == pytest.approx(5.0 + 110.0 + building["clr"].seconds)
    assert found.bound.seconds == pytest.approx(found.seconds)
    row = json.loads(json.dumps(found.row()))
    assert row["basis"] == {"measured": 1, "recipe, scaled": 1}
    assert (row["jobs"], row["memory"], row["cpu_seconds"]) == (2, 3 << 30, 855.0)
    assert row["disk"] == (214 << 20) + 645 * DISK
