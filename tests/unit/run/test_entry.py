"""Entries: which packages are ours, whether their files are what they say, what Conan is told of them."""

import json
import re

import pytest

from rocmbuild.errors import StoreError
from rocmbuild.model.catalog import make_catalog
from rocmbuild.run.entry import Entry, clean_version, describe, fault_of, fill, prefixes, to_entry
from rocmbuild.tools.conan import Package
from rocmbuild.workspace import tree_digest

KEY = "0123456789abcdef" * 4
DIGEST = "f" * 64
FACTS = {"output": DIGEST, "packages": "", "debs": "", "requires": ""}


def package(version=f"6.4.3+{KEY}", **options):
    return Package("rocr", version, f"rocr/{version}#1:2#3", {**FACTS, **options})


def test_facts_are_options():
    assert to_entry(package(packages="a" * 64, debs="b" * 64, requires="llvm/1+x roct/2+y")) == Entry(
        "rocr", "6.4.3", KEY, f"rocr/6.4.3+{KEY}#1:2#3", DIGEST, "a" * 64, "b" * 64, ("llvm/1+x", "roct/2+y")
    )
    plain = to_entry(package())
    assert (plain.packages, plain.debs, plain.requires) == (None, None, ())
    assert plain.name == f"rocr/6.4.3+{KEY}"
    assert str(plain) == "rocr 6.4.3"


@pytest.mark.parametrize(
    "foreign",
    [
        package("1.3.1"),
        package("1.3.1+abc"),
        package(f"1+{KEY}0"),
        package(output=""),
        package(output="x" * 64),
        package(debs="no digest"),
        Package("zlib", f"1+{KEY}", "zlib", {"shared": "True"}),
        Package("zlib", f"1+{KEY}", "zlib", {}),
    ],
)
def test_what_is_not_ours_is_no_entry(foreign):
    assert to_entry(foreign) is None


@pytest.mark.parametrize(
    ("version", "clean"),
    [("6.4.3", "6.4.3"), ("6.4.3~rc1", "6.4.3_rc1"), ("5.6.X+Git", "5.6.x_git"), ("-", "0"), ("1" * 90, "1" * 36)],
)
def test_versions_are_written_as_conan_allows(version, clean):
    assert clean_version(version) == clean
    assert re.fullmatch(r"[a-z0-9_][a-z0-9_+.-]{1,100}", f"{clean_version(version)}+{KEY}")


@pytest.fixture
def place(tmp_path):
    """The directory of an entry, and the entry."""
    root = tmp_path / "place"
    (root / "stage" / "opt").mkdir(parents=True)
    (root / "stage" / "opt" / "file").write_text("content")
    (root / "debs").mkdir()
    (root / "debs" / "x.deb").write_text("deb")
    return root


def entry_of(root, **changes):
    facts = {"output": tree_digest(root / "stage"), "packages": "a" * 64, "debs": tree_digest(root / "debs"), **changes}
    return Entry("rocr", "6.4.3", KEY, f"rocr/6.4.3+{KEY}#1:2#3", **facts)


def test_a_whole_entry_has_no_fault(place):
    assert fault_of(place, entry_of(place)) is None
    assert fault_of(place, entry_of(place, debs=None, packages=None)) is None


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda root: (root / "stage/opt/file").write_text("c0ntent"), "its directory stage is not what was stored"),
        (lambda root: (root / "stage/opt/file").write_text("cont"), "its directory stage is not what was stored"),
        (lambda root: (root / "stage/opt/file").unlink(), "its directory stage is not what was stored"),
        (lambda root: (root / "stage/more").write_text(""), "its directory stage is not what was stored"),
        (lambda root: (root / "stage/opt/file").chmod(0o755), "its directory stage is not what was stored"),
        (lambda root: (root / "debs/x.deb").write_text(""), "its directory debs is not what was stored"),
        (lambda root: (root / "debs").rename(root / "gone"), "it has no directory debs"),
        (lambda root: (root / "stage").rename(root / "gone"), "it has no directory stage"),
    ],
)
def test_damage_is_found(place, damage, fault):
    entry = entry_of(place)
    damage(place)
    assert fault_of(place, entry) == fault


def test_a_link_to_somewhere_else_is_no_tree(place, tmp_path):
    entry = entry_of(place)
    (place / "stage").rename(tmp_path / "elsewhere")
    (place / "stage").symlink_to(tmp_path / "elsewhere")
    assert fault_of(place, entry) == "it has no directory stage"


def test_a_draft_has_all_that_conan_is_told(place, tmp_path):
    (tmp_path / "draft").mkdir()
    (place / "stage/opt/rocm-6.4.3/include").mkdir(parents=True)
    entry = entry_of(place, requires=("llvm/1+x", "roct/2+y"))
    fill(tmp_path / "draft", entry, place / "stage", place / "debs", links=False)
    describe(tmp_path / "draft", entry)
    assert sorted(path.name for path in (tmp_path / "draft").iterdir()) == [
        "conandata.yml",
        "conanfile.py",
        "debs",
        "stage",
    ]
    assert json.loads((tmp_path / "draft" / "conandata.yml").read_text()) == {
        "facts": {
            "output": entry.output,
            "packages": "a" * 64,
            "debs": entry.debs,
            "requires": "llvm/1+x roct/2+y",
        },
        "trees": ["stage", "debs"],
        "prefixes": ["opt/rocm-6.4.3"],
    }


def test_a_tree_that_is_not_what_it_should_be_is_not_kept(place, tmp_path):
    (tmp_path / "draft").mkdir()
    with pytest.raises(StoreError, match=r"/stage changed while it was stored"):
        fill(tmp_path / "draft", entry_of(place, output=DIGEST), place / "stage", None, links=False)


@pytest.mark.parametrize(
    ("directories", "found"),
    [
        (["opt/rocm-6.4.3/lib", "etc/ld.so.conf.d", "usr/lib/udev"], ["opt/rocm-6.4.3", "usr"]),
        (["usr/bin"], ["usr"]),
        (["usr/local/include", "opt/rocm/share"], ["usr/local"]),
        (["etc"], []),
    ],
)
def test_prefixes_are_where_headers_libraries_and_programs_lie(tmp_path, directories, found):
    for directory in directories:
        (tmp_path / directory).mkdir(parents=True)
    assert prefixes(tmp_path) == found


def test_an_entry_serves_where_it_has_as_much():
    whole = Entry("rocr", "1", KEY, "r", DIGEST, "a" * 64, "b" * 64)
    bare = Entry("rocr", "1", KEY, "", DIGEST, None, None)
    assert whole.serves(bare)
    assert whole.serves(whole)
    assert not bare.serves(whole)
    assert not whole.serves(Entry("rocr", "1", KEY, "", "e" * 64, None, None))
    assert not whole.serves(Entry("rocr", "1", KEY, "", DIGEST, "c" * 64, "b" * 64))


def test_what_conan_is_given_is_no_recipe_of_a_component():
    assert "conan" not in make_catalog().recipes()
