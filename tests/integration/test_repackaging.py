"""What shapes packages, and no stage tree: they are made and checked again, and nothing is built."""

from __future__ import annotations

import shutil

from tests.integration.conftest import Toy


def made(toy: Toy) -> set[str]:
    """Return the steps that the last run took to make something, but for what the distribution provides."""
    kinds = ("configure", "build", "install", "check", "package")
    return {step for step in toy.steps() if step.split()[-1] in kinds and not step.startswith("toytool")}


def test_packages_name_the_address_of_this_release_and_not_that_of_who_built_them(built, new_toy, tmp_path):
    user = new_toy(tmp_path / "other")
    user.options += ["--store", str(built.cache / "store")]
    user.manifest(
        ('["https://forge.example/OldToys/", "https://forge.example/Toys/"]', '["https://forge.example/Toys/"]')
    )
    assert user.actions()["toybase"] == "RESTORE"
    user.build()
    assert not {step for step in made(user) if step.split()[-1] in ("configure", "build", "install")}
    restored = user.debs()
    assert restored != built.debs()
    shutil.rmtree(user.workspace)
    user.build("--no-reuse")
    assert user.debs() == restored


def test_a_waiver_is_seen_wherever_the_stage_tree_is_from(built, new_toy, tmp_path):
    """One that waives nothing is a mistake; a workspace and a store that passed before do not hide it."""
    wanted, other = built.debs(), new_toy(tmp_path / "other")
    other.options += ["--store", str(built.cache / "store")]
    for user, action in ((built, "KEEP"), (other, "RESTORE")):
        recipe = user.recipe("toybase")
        before = recipe.read_text()
        recipe.write_text(f"{before}\nwaivers:\n  - {{rule: no-such-rule, files: ['**'], why: nothing}}\n")
        assert user.actions()["toybase"] == action
        done = user.build(status=1)
        assert "no-such-rule" in done.stdout + done.stderr
        assert made(user) == {"toybase check"}
        recipe.write_text(before)
        user.build()
        assert user.debs() == wanted
