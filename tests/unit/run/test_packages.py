"""Packages that lie there: whether they are what was made, at a glance and byte by byte."""

from __future__ import annotations

import pytest

from rocmbuild.run.packages import BuiltPackage, are_sound, forget_packages, read_key, write_key, write_packages


@pytest.fixture
def out(tmp_path):
    """A directory with two packages."""
    packages = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.deb"
        path.write_text(name)
        packages.append(BuiltPackage(name, "1", "all", path, "core", (), (), 1, "sum"))
    write_packages(tmp_path, packages)
    write_key(tmp_path, "key")
    return tmp_path


def test_packages_have_the_key_they_were_made_under(out):
    assert (read_key(out), are_sound(out)) == ("key", True)
    forget_packages(out)
    forget_packages(out)
    assert read_key(out) is None


@pytest.mark.parametrize("name", ["one.deb", "packages.json", "key.json"])
def test_packages_of_which_something_is_gone_have_no_key(out, name):
    (out / name).unlink()
    assert read_key(out) is None


@pytest.mark.parametrize("name", ["packages.json", "key.json"])
def test_notes_that_were_changed_give_no_key(out, name):
    path = out / name
    path.write_bytes(path.read_bytes().replace(b"1", b"2").replace(b"key", b"kex"))
    assert read_key(out) is None


def test_a_package_that_was_changed_is_seen_by_a_closer_look(out):
    (out / "two.deb").write_text("tow")
    assert (read_key(out), are_sound(out)) == ("key", False)


def test_packages_of_an_older_rocmbuild_are_believed(out):
    (out / "key.json").write_text('{"key": "old"}')
    assert (read_key(out), are_sound(out)) == ("old", True)
    assert (read_key(out / "nothing"), are_sound(out / "nothing")) == (None, True)
