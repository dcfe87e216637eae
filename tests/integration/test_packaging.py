"""A small C project from its source to installed packages: files, relations, documents, bytes."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from debian.deb822 import Deb822

from rocmbuild.errors import PackageError
from rocmbuild.model.condition import Facts
from rocmbuild.model.recipe import Resolved
from rocmbuild.model.recipe_reader import load_recipe
from rocmbuild.process import Runner
from rocmbuild.run.packages import BuiltPackage, check_conflicts, read_packages
from rocmbuild.run.packaging import Packaging, make_packages
from rocmbuild.tools.runpath import relocate_tree

EPOCH = 1_690_000_000
VERSION = "1.9.0.50601-1~debian12"
PREFIX = "/opt/rocm-5.6.1"
PROFILE = Path(__file__).parent / "lintian"
ARCH = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()

LIBRARY = '#include <stdio.h>\n#include "toy.h"\nint toy(void) { return puts("toy"); }\n'
PROGRAM = '#include "toy.h"\nint main(void) { return toy() < 0; }\n'
RECIPE = """\
format: 1
component: toy
summary: Toy runtime
description: |
  A library and a program, as small as they can be, that show how the
  packages of a component are made.
homepage: https://example.org/toy
license: {spdx: MIT, files: [LICENSE]}
edits:
  - {file: toy.c, find: gets, replace: fgets, why: gets is gone from C11}
discard:
  - {files: ["lib/*.la"], why: nobody reads libtool archives}
packages:
  - name: toy
    summary: Runtime library and program for play
    section: libs
    files: ["lib/*.so.*", bin/, "/etc/**"]
    depends: ["pciutils", "{package?:rocm-llvm} | llvm-17"]
    provides: ["toy-runtime (= {release})"]
    scripts: {postinst: postinst}
  - name: toy-dev
    summary: Headers of the toy runtime
    section: libdevel
    files: ["include/**", "lib/*.so"]
    depends: ["{package:toy}"]
  - name: toy-sdk
    summary: Metapackage of everything about toys
    section: metapackages
    architecture: all
    depends: ["{package:toy-dev}", "{package:toy}", "{package?:toy-doc}"]
"""
POSTINST = '#!/bin/sh\nset -e\nif [ "$1" = configure ]; then\n  : "${HOME:=/}" "{prefix}/bin/toy"\nfi\nexit 0\n'
MIT = (
    "Copyright (c) 2023 Toy Makers\n\nPermission is hereby granted, free of charge, to any person to play.\n"
    "The above copyright notice shall be included in all copies.\n"
)
HARDENED = ("-O2", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-Wl,-z,relro,-z,now", "-s")


def gcc(*argv: object) -> None:
    subprocess.run(["gcc", *HARDENED, *(str(part) for part in argv)], check=True)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def install_toy(directory: Path) -> Path:
    """Compile the project and install it as ``cmake --install`` with DESTDIR does; return the stage tree."""
    source, stage = directory / "source", directory / "stage"
    prefix = stage / PREFIX[1:]
    header = write(source / "toy.h", "int toy(void);\n")
    write(source / "LICENSE", MIT)
    for name in ("bin", "lib", "include/toy"):
        (prefix / name).mkdir(parents=True)
    library = prefix / "lib/libtoy.so.1"
    code = write(source / "toy.c", LIBRARY)
    gcc("-shared", "-fPIC", "-Wl,-soname,libtoy.so.1", "-o", library, code)
    (prefix / "lib/libtoy.so").symlink_to("libtoy.so.1")
    gcc("-o", prefix / "bin/toy", write(source / "main.c", PROGRAM), library, f"-Wl,-rpath,{PREFIX}/lib")
    shutil.copy(header, prefix / "include/toy/toy.h")
    write(prefix / "lib/libtoy.la", "# libtool")
    write(stage / "etc/toy/toy.conf", "size = small\n")
    (prefix / "share/empty").mkdir(parents=True)
    relocate_tree(stage, PREFIX)
    return stage


def resolved(directory: Path, text: str = RECIPE) -> Resolved:
    write(directory / "toy/recipe.yaml", text)
    write(directory / "toy/postinst", POSTINST)
    facts = Facts(version="1.9.0", release="5.6.1", llvm="16.0.6", arch=ARCH, components=frozenset({"toy"}))
    return load_recipe(directory / "toy").resolve(facts)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Packaging:
    directory = tmp_path_factory.mktemp("toy")
    return Packaging(
        component="toy",
        stage=install_toy(directory),
        prefix=PREFIX,
        recipe=resolved(directory / "recipes"),
        source=directory / "source",
        deb_version=VERSION,
        arch=ARCH,
        admin=Path("/"),
        epoch=EPOCH,
        siblings={},
        values={"prefix": PREFIX, "release": "5.6.1"},
        out=directory / "debs",
        maintainer="ROCm builders <rocm@example.org>",
        origin="https://example.org/toy at 0123abcd",
    )


@pytest.fixture(scope="module")
def built(toy) -> dict[str, BuiltPackage]:
    return {package.name: package for package in make(toy)}


def make(job: Packaging) -> list[BuiltPackage]:
    return asyncio.run(make_packages(job, Runner()))


def run(*argv: object, **options: Any) -> str:
    argv_ = [str(part) for part in argv]
    return subprocess.run(argv_, check=True, capture_output=True, text=True, **options).stdout


def control(package: BuiltPackage) -> Deb822:
    return Deb822(run("dpkg-deb", "--field", package.path))


def contents(package: BuiltPackage) -> set[str]:
    rows = run("dpkg-deb", "--contents", package.path).splitlines()
    return {row.split(None, 5)[5].removeprefix("./") for row in rows if not row.startswith("d")}


def sibling(**fields: Any) -> BuiltPackage:
    base = BuiltPackage("other", "2.0-1", ARCH, Path("other.deb"), "others", (), (), 1, "0" * 64)
    return replace(base, **fields)


def test_every_file_is_in_one_package_and_directories_come_with_them(built):
    root = PREFIX[1:]
    documents = ("copyright", "changelog.Debian.gz")
    assert contents(built["toy"]) == {
        f"{root}/lib/libtoy.so.1",
        f"{root}/bin/toy",
        "etc/toy/toy.conf",
        *(f"usr/share/doc/toy/{name}" for name in documents),
    }
    assert contents(built["toy-dev"]) == {
        f"{root}/lib/libtoy.so -> libtoy.so.1",
        f"{root}/include/toy/toy.h",
        *(f"usr/share/doc/toy-dev/{name}" for name in documents),
    }
    assert contents(built["toy-sdk"]) == {f"usr/share/doc/toy-sdk/{name}" for name in documents}
    assert "share/empty" not in run("dpkg-deb", "--contents", built["toy"].path)


def test_relations_are_computed_declared_and_filled_in(built):
    depends = control(built["toy"])["Depends"].split(", ")
    assert [relation.split(" (")[0] for relation in depends] == ["libc6", "llvm-17", "pciutils"]
    assert depends[0].startswith("libc6 (>= 2.")
    assert control(built["toy"])["Provides"] == "toy-runtime (= 5.6.1)"
    assert control(built["toy-dev"])["Depends"] == f"toy (= {VERSION})"
    assert control(built["toy-sdk"])["Depends"] == f"toy (= {VERSION}), toy-dev (= {VERSION})"


def test_control_fields(built):
    fields = control(built["toy-dev"])
    assert (fields["Source"], fields["Version"], fields["Architecture"]) == ("toy", VERSION, ARCH)
    assert (fields["Section"], fields["Priority"], fields["Homepage"]) == (
        *("libdevel", "optional"),
        "https://example.org/toy",
    )
    assert fields["Description"].splitlines()[0] == "Headers of the toy runtime"
    assert "A library and a program, as small as they can be" in fields["Description"]
    assert "Source" not in control(built["toy"])
    assert control(built["toy-sdk"])["Architecture"] == "all"


def test_records_survive_a_second_run(toy, built):
    assert read_packages(toy.out) == list(built.values())
    assert built["toy"].sonames == ("libtoy.so.1",)
    assert built["toy-dev"].sonames == ()
    assert built["toy"].path == toy.out / f"toy_{VERSION}_{ARCH}.deb"
    assert int(control(built["toy"])["Installed-Size"]) == built["toy"].installed_size
    assert built["toy"].sha256 == run("sha256sum", built["toy"].path).split()[0]


def test_records_without_their_debs_do_not_count(toy, built, tmp_path):
    assert read_packages(tmp_path / "nowhere") is None
    copy = tmp_path / "debs"
    shutil.copytree(toy.out, copy)
    assert [package.path.parent for package in read_packages(copy) or ()] == [copy] * 3
    next(copy.glob("*.deb")).unlink()
    assert read_packages(copy) is None
    (copy / "packages.json").write_text(json.dumps({"format": 0, "packages": []}))
    assert read_packages(copy) is None


def test_documents_say_what_was_built_and_how_it_was_changed(built, tmp_path):
    run("dpkg-deb", "--extract", built["toy"].path, tmp_path)
    documents = tmp_path / "usr/share/doc/toy"
    changelog = gzip.decompress((documents / "changelog.Debian.gz").read_bytes()).decode()
    assert changelog.startswith(f"toy ({VERSION}) ")
    assert "  * Built from https://example.org/toy at 0123abcd by rocmbuild.\n" in changelog
    assert "  * toy.c: gets is gone from C11\n" in changelog
    copyright_ = (documents / "copyright").read_text()
    assert "License: MIT\n" in copyright_
    assert "Copyright: 2023 Toy Makers\n" in copyright_


def test_scripts_have_their_placeholders_filled_and_shell_variables_kept(built, tmp_path):
    run("dpkg-deb", "--control", built["toy"].path, tmp_path / "control")
    assert f': "${{HOME:=/}}" "{PREFIX}/bin/toy"' in (tmp_path / "control/postinst").read_text()


def test_the_same_stage_tree_gives_the_same_bytes(toy, built, tmp_path):
    stage = tmp_path / "elsewhere/stage"
    old = os.umask(0o027)
    try:
        shutil.copytree(toy.stage, stage, symlinks=True)
        time.sleep(1.1)
        again = make(replace(toy, stage=stage, out=tmp_path / "debs"))
    finally:
        os.umask(old)
    assert [package.sha256 for package in again] == [package.sha256 for package in built.values()]


@pytest.mark.skipif(os.geteuid() != 0, reason="dpkg sets owners, which only root may")
def test_dpkg_installs_them_and_the_program_runs(built, tmp_path):
    root = tmp_path / "root"
    for name in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "var/lib/dpkg/triggers", "var/log"):
        (root / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text("")
    debs = [built[name].path for name in ("toy", "toy-dev", "toy-sdk")]
    run("dpkg", f"--root={root}", "--force-depends", "--force-script-chrootless", "--unpack", *debs)
    run("dpkg", f"--root={root}", "--verify")
    assert run(root / PREFIX[1:] / "bin/toy", env={}) == "toy\n"
    owner = run("dpkg", f"--root={root}", "--search", f"{PREFIX}/include/toy/toy.h")
    assert owner == f"toy-dev: {PREFIX}/include/toy/toy.h\n"


@pytest.mark.skipif(not shutil.which("lintian"), reason="lintian is not installed")
def test_lintian_has_nothing_to_say(built):
    options = ("--no-cfg", "--include-dir", PROFILE, "--profile", "rocmbuild/main", "--allow-root", "--info")
    argv = ["lintian", *options, "--fail-on", "error,warning", *(package.path for package in built.values())]
    result = subprocess.run([str(part) for part in argv], check=False, capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("", 0), result.stdout + result.stderr


def test_libraries_of_other_components_are_needed_in_this_version_or_newer(toy, tmp_path):
    """The same files, but the library comes from another component."""
    stage = tmp_path / "stage"
    shutil.copytree(toy.stage, stage, symlinks=True)
    for name in ("lib/libtoy.so.1", "lib/libtoy.so", "lib/libtoy.la"):
        (stage / PREFIX[1:] / name).unlink()
    text = (
        RECIPE[: RECIPE.index("discard:")] + "packages:\n  - {name: toy-bin, summary: Program, files: ['**', '/**']}\n"
    )
    recipe = resolved(tmp_path / "recipes", text)
    library = sibling(name="libtoy1", sonames=("libtoy.so.1",))
    job = replace(toy, stage=stage, recipe=recipe, siblings={"libtoy1": library}, out=tmp_path / "debs")
    (package,) = make(job)
    assert "libtoy1 (>= 2.0-1)" in control(package)["Depends"].split(", ")
    with pytest.raises(PackageError, match=r"needs libtoy\.so\.1, which is neither in the root"):
        make(replace(job, siblings={}))


def test_libraries_of_the_same_component_are_needed_in_exactly_this_version(toy, tmp_path):
    rules = toy.recipe.packages
    library = replace(rules[0], files=("lib/*.so.*", "/etc/**"), scripts=())
    program = replace(rules[0], name="toy-bin", files=("bin/",), scripts=(), depends=())
    recipe = replace(toy.recipe, packages=(library, program, rules[1]))
    made = make(replace(toy, recipe=recipe, out=tmp_path / "debs"))
    assert f"toy (= {VERSION})" in control(made[1])["Depends"].split(", ")


def test_run_time_packages_of_a_provided_component_are_dependencies(toy, tmp_path):
    rule = replace(toy.recipe.packages[2], depends=())
    recipe = replace(toy.recipe, packages=(rule,), discards=())
    job = replace(toy, recipe=recipe, stage=tmp_path / "none", runtime=("llvm-17", "lld-17"), out=tmp_path / "debs")
    (package,) = make(job)
    assert control(package)["Depends"] == "lld-17, llvm-17"


def test_packages_that_are_not_made_yet_are_known_by_the_versions_of_the_release(toy, tmp_path):
    versions = {"rocm-llvm": "16.0.0.50601-1", "toy": "0-stale"}
    (runtime, headers, _) = make(replace(toy, versions=versions, out=tmp_path / "debs"))
    assert "rocm-llvm (= 16.0.0.50601-1) | llvm-17" in control(runtime)["Depends"].split(", ")
    assert control(headers)["Depends"] == f"toy (= {VERSION})"


def test_a_failure_leaves_the_packages_of_the_last_run(toy, tmp_path):
    out = tmp_path / "debs"
    make(replace(toy, out=out))
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    rules = (toy.recipe.packages[0], replace(toy.recipe.packages[1], depends=("{package:toyy}",)))
    with pytest.raises(PackageError, match="related to toyy") as caught:
        make(replace(toy, out=out, recipe=replace(toy.recipe, packages=rules)))
    assert str(caught.value.hint).startswith("did you mean toy")
    assert str(caught.value.where).endswith("toy/recipe.yaml:21:5")
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["debs"]


def test_a_file_without_a_package_is_an_error(toy, tmp_path):
    rules = (toy.recipe.packages[0],)
    with pytest.raises(PackageError, match=r"2 files of the stage tree belong to no package:\n  include/toy/toy\.h"):
        make(replace(toy, out=tmp_path / "debs", recipe=replace(toy.recipe, packages=rules)))
    assert not (tmp_path / "debs").exists()


def test_binaries_in_a_package_for_all_architectures_are_an_error(toy, tmp_path):
    rules = (replace(toy.recipe.packages[0], architecture="all"), toy.recipe.packages[1])
    with pytest.raises(PackageError, match=r"toy is for all architectures but has opt/rocm-5\.6\.1/bin/toy"):
        make(replace(toy, out=tmp_path / "debs", recipe=replace(toy.recipe, packages=rules)))


def test_a_file_of_another_component_is_a_conflict(toy, tmp_path):
    other = sibling(files=(f"{PREFIX[1:]}/bin/toy",))
    with pytest.raises(PackageError) as caught:
        make(replace(toy, siblings={"other": other}, out=tmp_path / "debs"))
    assert str(caught.value) == f"/{PREFIX[1:]}/bin/toy is in other (of others) and in toy (of toy)"
    assert "discard it in the recipe" in str(caught.value.hint)


def test_one_name_for_packages_of_two_components_is_a_conflict(built):
    with pytest.raises(PackageError, match="package toy is made by toy and by others"):
        check_conflicts([*built.values(), sibling(name="toy")])
    check_conflicts([*built.values(), sibling()])
