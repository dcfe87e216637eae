"""What is removed to make room, and what is not."""

import pytest

from rocmbuild.run.store import Entry
from rocmbuild.run.upkeep import DAY, Kept, disk_size, effective_use, superfluous

NOW = 1_000 * DAY


def entry(component, *requires):
    names = tuple(f"{name}/1" for name in requires)
    return Entry(component, "1", "0" * 64, f"{component}/1#1:2#3", "f" * 64, None, None, names)


def removed(kept, days=None, size=None):
    return [item.entry.component for item in superfluous(kept, NOW, days, size)]


KEPT = [Kept(entry(name), NOW - age * DAY, 100) for name, age in (("old", 40), ("new", 1), ("middle", 10))]


def test_nothing_is_removed_unless_something_is_asked():
    assert removed(KEPT) == []


def test_days_count_from_the_last_use():
    assert removed(KEPT, days=30) == ["old"]
    assert removed(KEPT, days=5) == ["old", "middle"]
    assert removed(KEPT, days=41) == []


def test_beyond_a_size_the_least_used_go_first():
    assert removed(KEPT, size=300) == []
    assert removed(KEPT, size=299) == ["old"]
    assert removed(KEPT, size=150) == ["old", "middle"]
    assert removed(KEPT, size=0) == ["old", "middle", "new"]


@pytest.mark.parametrize("names", [("app", "needed"), ("needed", "app")], ids=["named after it", "named before it"])
def test_what_stays_keeps_what_it_requires_whatever_they_are_called(names):
    user, need = names
    kept = [Kept(entry(user, need), NOW, 100), Kept(entry(need), NOW, 100), Kept(entry("old"), NOW - DAY, 100)]
    assert removed(kept, size=299) == ["old"]
    assert removed(kept, size=199) == ["old", user]
    assert removed(kept, size=99) == ["old", user, need]


def test_what_is_required_long_ago_stays_with_what_requires_it():
    kept = [Kept(entry("app", "needed"), NOW, 100), Kept(entry("needed"), NOW - 90 * DAY, 100), *KEPT[:1]]
    assert removed(kept, days=30) == ["old"]
    assert removed(kept, size=200) == ["old"]


def test_what_is_required_is_used_with_what_requires_it():
    entries = {item.name: item for item in (entry("hip", "rocr"), entry("rocr", "roct"), entry("roct"), entry("smi"))}
    used = {"hip/1": 9.0, "rocr/1": 1.0, "roct/1": 2.0, "smi/1": 3.0}
    assert effective_use(entries, used) == {"hip/1": 9.0, "rocr/1": 9.0, "roct/1": 9.0, "smi/1": 3.0}
    assert effective_use({"hip/1": entry("hip", "gone")}, {"hip/1": 1.0}) == {"hip/1": 1.0}


def test_size_is_that_on_disk(tmp_path):
    (tmp_path / "a").write_bytes(bytes([1]) * 100_000)
    (tmp_path / "hole").open("w").truncate(1 << 30)
    assert 100_000 <= disk_size(tmp_path) < 1 << 20
