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
