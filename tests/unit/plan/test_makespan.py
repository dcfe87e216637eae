"""What tasks take together: the bound of any schedule, and the schedule that is simulated."""

from __future__ import annotations

import random
import statistics

import pytest

from rocmbuild.plan.makespan import Work, bound, ordered, remaining, simulate


def rigid(name, seconds, *needs, memory=0):
    """Return a task of one slot."""
    return Work(name, seconds, seconds, frozenset(needs), memory)


def malleable(name, cpu, *needs):
    """Return a task that all slots can share."""
    return Work(name, cpu, 0.0, frozenset(needs))


def test_the_work_or_the_critical_path_is_the_bound():
    wide = [rigid(name, 10.0) for name in "abcd"]
    assert (bound(wide, 2).seconds, bound(wide, 2).by_work) == (20.0, True)
    chain = [rigid("a", 10.0), rigid("b", 5.0, "a"), rigid("c", 1.0, "a"), rigid("d", 1.0, "b", "c")]
    assert (bound(chain, 2).seconds, bound(chain, 2).by_work) == (16.0, False)
    assert bound([], 2).seconds == 0.0


def test_a_malleable_task_is_as_long_in_a_chain_as_on_all_slots():
    chain = [malleable("llvm", 100.0), rigid("comgr", 10.0, "llvm")]
    assert (bound(chain, 2).chain, bound(chain, 10).chain) == (60.0, 20.0)
    large = Work("llvm", 100.0, 40.0)
    assert (large.least(2), large.least(10)) == (50.0, 40.0)


def test_needs_that_are_not_among_the_tasks_are_there_already():
    works = [rigid("a", 3.0, "kept")]
    assert bound(works, 2).chain == 3.0
    assert simulate(works, 2).seconds == 3.0


def test_the_rest_of_the_path_counts_to_the_end():
    chain = [rigid("a", 1.0), rigid("b", 5.0, "a"), rigid("c", 2.0, "a"), rigid("d", 1.0, "b", "c"), rigid("e", 9.0)]
    seconds = {work.name: work.cpu for work in chain}
    assert remaining({work.name: work.needs for work in chain}, seconds) == {
        "a": 7.0,
        "b": 6.0,
        "c": 3.0,
        "d": 1.0,
        "e": 9.0,
    }


def test_tasks_out_of_order_are_refused_and_can_be_ordered():
    needs = {"top": ["middle"], "middle": ["base", "kept"], "base": []}
    with pytest.raises(ValueError, match="middle comes before base, which it needs"):
        remaining(needs, dict.fromkeys(needs, 1.0))
    assert ordered(needs) == ["base", "middle", "top"]
    assert remaining(needs, dict.fromkeys(ordered(needs), 1.0)) == {"top": 1.0, "middle": 2.0, "base": 3.0}


def test_the_longest_path_goes_first():
    works = [rigid("x", 4.0), rigid("y", 4.0), rigid("head", 1.0), rigid("tail", 7.0, "head")]
    assert simulate(works, 2).seconds == 8.0
    assert simulate(works, 2, priority={"x": 9.0, "y": 8.0, "head": 1.0, "tail": 1.0}).seconds == 12.0


def test_slots_that_are_left_go_to_who_can_use_them():
    assert simulate([malleable("a", 10.0)], 2).seconds == 5.0
    assert simulate([malleable("a", 10.0), rigid("b", 5.0)], 2).seconds == 7.5
    assert simulate([Work("a", 12.0, 8.0)], 4).seconds == 8.0, "no more than it can use"


def test_what_holds_no_slot_waits_for_none():
    works = [rigid("a", 10.0), Work("fetch", 0.0, 4.0), rigid("b", 2.0, "fetch")]
    assert simulate(works, 1).seconds == 12.0
    assert simulate([Work("fetch", 0.0, 4.0), Work("other", 0.0, 3.0)], 1).seconds == 4.0


def test_memory_is_reserved_and_the_peak_is_told():
    works = [rigid("a", 10.0, memory=6), rigid("b", 9.0, memory=6), rigid("c", 8.0, memory=3)]
    assert (simulate(works, 3).seconds, simulate(works, 3).memory) == (10.0, 15)
    tight = simulate(works, 3, budget=10)
    assert (tight.seconds, tight.memory) == (19.0, 9)
    assert simulate(works, 3, budget=1).seconds == 27.0, "more than the budget runs alone"


def random_tasks(generator, count, *, shared=False):
    """Return tasks with needs as those of a stack have them: a few near ones, durations over three decades."""
    works = []
    for number in range(count):
        near = range(max(0, number - 12), number)
        needs = generator.sample(near, min(len(near), generator.choice((0, 1, 1, 2, 3))))
        seconds = 10 ** generator.uniform(0, 2.5)
        span = seconds * generator.uniform(0.1, 1.0) if shared else seconds
        works.append(Work(f"t{number}", seconds, span, frozenset(f"t{need}" for need in needs)))
    return works


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("slots", [1, 2, 3, 4, 16])
def test_no_schedule_is_shorter_than_the_bound(slots, shared):
    generator = random.Random(slots)
    for _ in range(60):
        works = random_tasks(generator, generator.randint(1, 60), shared=shared)
        least = bound(works, slots).seconds
        at_random = {work.name: generator.random() for work in works}
        assert simulate(works, slots).seconds >= least - 1e-6
        assert simulate(works, slots, priority=at_random).seconds >= least - 1e-6
        assert simulate(works, slots).seconds <= bound(works, slots).work + bound(works, slots).chain + 1e-6


@pytest.mark.parametrize("slots", [2, 4])
def test_the_longest_path_first_is_near_the_bound_and_better_than_any_order(slots):
    """Graphs of 30 tasks; noisy durations are those of a history, half to twice the truth."""
    generator = random.Random(7)
    ratios = {"exact": [], "noisy": [], "topological": []}
    for _ in range(150):
        works = random_tasks(generator, 30)
        least = bound(works, slots).seconds
        noisy = {work.name: work.cpu * 2 ** generator.uniform(-1, 1) for work in works}
        orders = {
            "exact": None,
            "noisy": remaining({work.name: work.needs for work in works}, noisy),
            "topological": {work.name: -number for number, work in enumerate(works)},
        }
        for name, priority in orders.items():
            ratios[name].append(simulate(works, slots, priority=priority).seconds / least)
    mean = {name: statistics.mean(found) for name, found in ratios.items()}
    print(f"{slots} slots: " + ", ".join(f"{name} {value:.3f}" for name, value in mean.items()))
    assert mean["exact"] < 1.1
    assert mean["noisy"] < mean["exact"] + 0.05
    assert mean["noisy"] < mean["topological"]


def test_a_thousand_tasks_are_simulated_at_once():
    works = random_tasks(random.Random(1), 1000)
    assert simulate(works, 8).seconds >= bound(works, 8).seconds
