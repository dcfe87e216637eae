from __future__ import annotations

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.model.catalog import Catalog, make_catalog

MANIFEST = "format: 1\nbranch: {0}\nversion: '{1}'\ndistribution: debian-12\ncomponents: {{hip: {{version: '1'}}}}\n"


@pytest.fixture
def dirs(tmp_path):
    """Two directories of the user's, the first going before the second."""
    made = []
    for name in ("first", "second"):
        path = tmp_path / name
        path.mkdir()
        made.append(path)
    return made


def catalog(manifests=(), recipes=(), targets=()):
    return Catalog(tuple(manifests), tuple(recipes), tuple(targets))


def test_the_first_directory_that_has_a_name_wins(dirs):
    first, second = dirs
    (first / "a.yaml").write_text(MANIFEST.format("a", "1.0"))
    (second / "a.yaml").write_text(MANIFEST.format("a", "2.0"))
    (second / "b.yaml").write_text(MANIFEST.format("b", "2.0"))
    found = catalog(manifests=dirs)
    assert found.branches() == {"a": first / "a.yaml", "b": second / "b.yaml"}
    assert found.manifest("a").version == "1.0"
    assert found.manifest("b").version == "2.0"


def test_the_same_holds_for_recipes(dirs):
    for directory, summary in zip(dirs, ("mine", "theirs"), strict=True):
        (directory / "hip").mkdir()
        (directory / "hip/recipe.yaml").write_text(f"format: 1\ncomponent: hip\nsummary: {summary}\n")
    (dirs[0] / "notes").mkdir()
    found = catalog(recipes=dirs)
    assert found.recipes() == {"hip": dirs[0] / "hip"}
    assert found.recipe("hip").document.data["summary"] == "mine"


def test_what_ships_comes_last(dirs):
    (dirs[0] / "x86_64.yaml").write_text(
        "format: 1\ntarget: x86_64\ntriple: t\narch: amd64\nmachines: [none]\nelf: {machine: EM_386}\n"
    )
    found = make_catalog(manifests=[dirs[0]], recipes=[dirs[0]], targets=[dirs[0]])
    assert found.manifest_dirs[0] == dirs[0]
    assert len(found.manifest_dirs) == len(found.recipe_dirs) == len(found.target_dirs) == 2
    assert found.target("x86_64").elf_machine == "EM_386"
    assert make_catalog().target("x86_64").elf_machine == "EM_X86_64"


@pytest.mark.parametrize("kind", ["manifests", "recipes", "targets"])
def test_a_directory_that_is_not_there_is_named(tmp_path, kind):
    with pytest.raises(UsageError, match=f"there is no directory {tmp_path}/no"):
        make_catalog(**{kind: [tmp_path / "no"]})


@pytest.mark.parametrize(
    ("kind", "message", "hint"),
    [
        ("manifest", "there is no branch alpah", "did you mean alpha?"),
        ("recipe", "there is no recipe alpah", "did you mean alpha?"),
        ("target", "there is no target alpah", "did you mean alpha?"),
    ],
)
def test_unknown_names_come_with_the_nearest(dirs, kind, message, hint):
    (dirs[0] / "alpha.yaml").write_text("")
    (dirs[0] / "alpha").mkdir()
    (dirs[0] / "alpha/recipe.yaml").write_text("")
    with pytest.raises(UsageError) as caught:
        getattr(catalog(dirs, dirs, dirs), kind)("alpah")
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_unknown_distributions_come_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        make_catalog().distribution("debian-99")
    assert caught.value.message == "there is no distribution debian-99"
    assert "debian-12" in caught.value.hint


def test_a_target_can_be_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("format: 1\ntarget: t\ntriple: t\narch: arm64\nmachines: [aarch64]\nelf: {machine: EM_AARCH64}\n")
    assert make_catalog().target(str(path)).arch == "arm64"
    with pytest.raises(UsageError, match="cannot read it"):
        make_catalog().target(str(tmp_path / "other.yaml"))


def test_the_target_for_a_machine():
    assert make_catalog().target_for("x86_64").name == "x86_64"
    with pytest.raises(UsageError) as caught:
        make_catalog().target_for("pdp11")
    assert caught.value.message == "no target describes this machine (pdp11)"
    assert "--target" in caught.value.hint
