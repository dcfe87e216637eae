"""No more linkers run at once than there is memory for, and another budget changes no more than that."""

from __future__ import annotations

import re


def depth(toy) -> str:
    """Return how many linkers Ninja may run in a component's build tree."""
    text = (toy.area("toybase") / "build/CMakeFiles/rules.ninja").read_text()
    (found,) = re.findall(r"^pool link\n  depth = (\d+)", text, re.MULTILINE)
    assert "pool = link" in (toy.area("toybase") / "build/build.ninja").read_text()
    return found


def test_the_pool_follows_the_budget_and_nothing_is_compiled_again(toy):
    toy.options += ["--no-reuse"]
    toy.build("--memory", "2G", "-j", "4", "toybase")
    assert depth(toy) == "2", "a linker takes 1G unless its recipe says otherwise"
    before = toy.debs()
    objects = {path: path.stat().st_mtime_ns for path in (toy.area("toybase") / "build").rglob("*.o")}
    (toy.area("toybase") / "stamp.json").unlink()
    toy.build("--memory", "16G", "-j", "4", "toybase")
    assert depth(toy) == "4"
    assert {path: path.stat().st_mtime_ns for path in objects} == objects
    assert toy.debs() == before
    assert toy.actions("--memory", "1G", "toybase") == {"toybase": "KEEP"}, "a budget is no input"


def test_a_recipe_says_what_a_linker_takes(toy):
    toy.recipe("toybase", ("cost: 2", "cost: 2\nmemory_per_link: 3G"))
    toy.build("--no-reuse", "--memory", "8G", "-j", "4", "toybase")
    assert depth(toy) == "2"
