"""Real packages, good ones and bad ones, in a real fresh root; the Debian archive of this machine is needed."""

import asyncio
import hashlib
import os
import subprocess
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from rocmbuild.errors import RocmBuildError, VerifyError
from rocmbuild.model.catalog import make_catalog
from rocmbuild.model.recipe import Check, CheckStep, ComponentChecks, Waiver
from rocmbuild.model.verdict import VerifyRow
from rocmbuild.process import Runner, network_environment
from rocmbuild.run.verify import Verification, verify
from rocmbuild.tools.apt import find_archive
from rocmbuild.tools.testroot import BaseSpec, FreshRoot
from tests.unit.tools.test_fatbin import elf, padded, plain

PREFIX = "/opt/rocm-9.9.9"


class Packages:
    """An apt repository to put small packages into."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository = directory / "my repository"
        self.repository.mkdir()

    def tree(self, name):
        path = self.directory / name
        (path / PREFIX[1:]).mkdir(parents=True, exist_ok=True)
        return path / PREFIX[1:]

    def deb(self, name, depends="", postinst=None):
        tree, control = self.directory / name, self.directory / name / "DEBIAN"
        self.tree(name)
        control.mkdir()
        fields = f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: A B <a@example.org>\nDescription: x\n"
        (control / "control").write_text(fields + (f"Depends: {depends}\n" if depends else ""))
        if postinst:
            (control / "postinst").write_text(f"#!/bin/sh\n{postinst}\n")
            (control / "postinst").chmod(0o755)
        files = [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()]
        own = [path for path in files if control not in path.parents]
        sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in own]
        (control / "md5sums").write_text("".join(sums))
        argv = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(self.repository / f"{name}_1_amd64.deb")]
        subprocess.run(argv, check=True, capture_output=True)
        index = subprocess.run(
            ["apt-ftparchive", "packages", "."], cwd=self.repository, check=True, capture_output=True
        )
        (self.repository / "Packages").write_bytes(index.stdout)


def library(path, code, *options):
    path.parent.mkdir(parents=True, exist_ok=True)
    argv = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path), *options]
    subprocess.run(argv, input=code.encode(), check=True, capture_output=True)


@pytest.fixture(scope="session")
def spec(tmp_path_factory):
    log = tmp_path_factory.mktemp("archive") / "log"
    try:
        environment = network_environment(os.environ)
        archive = asyncio.run(find_archive(Runner(log), environment, mirror=None, allow_stale=True))
        distribution = make_catalog().distribution("debian-12")
        urllib.request.urlopen(f"{archive.main}dists/{distribution.suites[0].name}/InRelease", timeout=20).close()
    except (RocmBuildError, urllib.error.URLError) as error:
        pytest.skip(f"this machine reaches no Debian archive: {error}")
    return BaseSpec(archive, distribution, "amd64")


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    return tmp_path_factory.mktemp("bases")


@pytest.fixture
def packages(tmp_path):
    return Packages(tmp_path)


@pytest.fixture
def run(tmp_path, spec, bases, packages):
    """Return a function that verifies packages and returns the rows; it keeps the notes, progress and device code."""

    def verified(*names, checks=(), waivers=(), gpus=("gfx1030", "gfx90a"), **others):
        root = FreshRoot(spec, tmp_path / "fresh", bases / "archives", packages.repository)
        job = Verification(
            root=root,
            bases=bases,
            packages=names,
            components=(ComponentChecks("clr", tuple(checks), tuple(waivers)),),
            values={"prefix": PREFIX},
            gpus=gpus,
            target=make_catalog().target("x86_64"),
            prefix=PREFIX,
            **others,
        )
        verified.notes, verified.progress = [], []
        progress = lambda *what: verified.progress.append(what)  # noqa: E731
        proof = asyncio.run(verify(job, Runner(tmp_path / "verify.log"), verified.notes.append, progress))
        verified.device_code = proof.device_code
        return proof.rows

    return verified


def failed(rows):
    return [row for row in rows if row.status == "fail"]


def test_good_packages_pass_every_check_and_leave_nothing(run, packages, tmp_path):
    library(packages.tree("good") / "lib/libgood.so.1", '#include <stdio.h>\nint good(void) { return puts("x"); }\n')
    (packages.tree("good") / "lib/libgood.so").symlink_to("libgood.so.1")
    (packages.directory / "good/usr/share/doc/good").mkdir(parents=True)
    (packages.directory / "good/usr/share/doc/good/copyright").write_text("free\n")
    packages.deb("good", depends="hello")
    packages.deb("meta", depends="good")
    program = tmp_path / "program.txt"
    program.write_text("text of the check\n")
    fat = elf(tmp_path, padded(plain("gfx1030")) + plain("gfx90a"))
    check = Check(
        name="all",
        summary="uses everything that a check has",
        packages=("make",),
        files=(program, fat),
        steps=(
            CheckStep(("cat", "program.txt"), expect="^text of"),
            CheckStep(("make", "--version"), expect="^GNU Make"),
            CheckStep(("hello", "--greeting={prefix} {gpus:comma}"), expect="^{prefix} {gpus:comma}$"),
            CheckStep(
                ("sh", "-c", "echo $X; pwd; exit 3"),
                exit=3,
                expect="^gfx[0-9a]+\n{scratch}$",
                each_gpu=True,
                environment=(("X", "{gpu}"),),
            ),
        ),
        fatbin="code.o",
    )
    rows = run("good", "meta", checks=[check])
    assert failed(rows) == []
    assert [(row.check, row.subject) for row in rows] == [
        ("install", "good, meta"),
        ("dpkg-verify", "good"),
        ("dpkg-verify", "meta"),
        ("undefined-symbols", f"{PREFIX}/lib/libgood.so.1"),
        ("clr/all", "cat program.txt"),
        ("clr/all", "make --version"),
        ("clr/all", f"hello '--greeting={PREFIX} gfx1030,gfx90a'"),
        ("clr/all", "sh -c 'echo $X; pwd; exit 3'"),
        ("clr/all", "sh -c 'echo $X; pwd; exit 3'"),
        ("clr/all", "device code of /srv/checks/clr/all/code.o"),
        ("purge", PREFIX),
    ]
    assert run.notes == []
    assert run.progress == [
        (0, 5, "install"),
        (1, 5, "dpkg-verify"),
        (2, 5, "undefined-symbols"),
        (3, 5, "clr/all"),
        (4, 5, "purge"),
    ]
    assert not (tmp_path / "fresh").exists()


def test_what_is_wrong_with_installed_packages_is_named(run, packages, tmp_path):
    tree = packages.tree("bad")
    library(tree / "lib/libundefined.so", "int missing(void); int f(void) { return missing(); }\n")
    library(tmp_path / "libgone.so", "", "-Wl,-soname,libgone.so.7")
    library(tree / "lib/libneeds.so", "", "-Wl,--no-as-needed", f"-L{tmp_path}", "-lgone")
    library(tree / "lib/plugin.so", "int host(void); int f(void) { return host(); }\n")
    (tree / "changed.txt").write_text("as it was packaged\n")
    packages.deb("bad", postinst=f"echo x > {PREFIX}/changed.txt; echo x > {PREFIX}/left")
    waivers = [
        Waiver("undefined-symbols", ("lib/plugin.so",), "its host has them"),
        Waiver("undefined-symbols", ("lib/nothing.so",), "there was once a reason"),
        Waiver("runpath", ("lib/other.so",), "a matter of the stage tree"),
    ]
    rows = run("bad", waivers=waivers)
    rows = [row for row in rows if row.status in ("fail", "waived")]
    changed, *symbols, unused, purge = rows
    assert (changed.check, changed.subject) == ("dpkg-verify", f"bad: {PREFIX}/changed.txt")
    assert "dpkg --verify says ??5??????" in changed.detail
    assert {row.check for row in symbols} == {"undefined-symbols"}
    by_subject = {row.subject: row for row in symbols}
    assert "libgone.so.7 => not found" in by_subject[f"bad: {PREFIX}/lib/libneeds.so"].detail
    assert "undefined symbol: missing" in by_subject[f"bad: {PREFIX}/lib/libundefined.so"].detail
    plugin = by_subject[f"bad: {PREFIX}/lib/plugin.so"]
    assert plugin.status == "waived"
    assert plugin.detail.endswith("(waived: its host has them)")
    assert (unused.status, unused.subject) == ("fail", "clr: lib/nothing.so")
    assert (purge.check, purge.subject) == ("purge", PREFIX)
    assert purge.detail.endswith(f"2 left: {PREFIX} | {PREFIX}/left")
    assert str(tmp_path / "fresh/root") in run.notes[0]
    assert (tmp_path / "fresh/root/usr/bin/dpkg").exists()


def test_packages_that_cannot_be_installed(run, packages):
    packages.deb("wanting", depends="no-such-package (>= 3)")
    check = Check("never", "is not run", steps=(CheckStep(("true",)),))
    install, *others = run("wanting", checks=[check])
    assert (install.check, install.status) == ("install", "fail")
    assert "wanting cannot be resolved and downloaded" in install.detail
    assert "no-such-package" in install.detail
    assert {row.check for row in others} == {"dpkg-verify", "undefined-symbols", "clr/never", "purge"}
    assert {row.status for row in others} == {"skipped"}


def test_a_package_script_that_fails(run, packages):
    packages.deb("sulky", postinst="echo will not; exit 7")
    install = run("sulky")[0]
    assert install.status == "fail"
    assert "sulky cannot be installed" in install.detail
    assert "dpkg: error processing package sulky" in install.detail


def step_failures(tmp_path):
    """Yield a check with one failure each, and what the row must say."""
    fat = elf(tmp_path, plain("gfx1030", "gfx906"))
    plainly = tmp_path / "plain.o"
    plainly.write_text("no object file")
    crash = CheckStep(("sh", "-c", "echo before; kill -SEGV $$"))
    yield (
        Check("exit", "", steps=(CheckStep(("sh", "-c", "echo why; exit 4")),)),
        ("must exit with status 0, exited with status 4; its last lines: why"),
    )
    yield Check("crash", "", steps=(crash,)), "must exit with status 0, was killed by SIGSEGV; its last lines: before"
    yield (
        Check("output", "", steps=(CheckStep(("echo", "a+b"), expect="^ab"),)),
        ("must print something that matches ^ab; its last lines: a+b"),
    )
    yield Check("absent", "", steps=(CheckStep(("./nothing",)),)), "must exit with status 0, exited with status 1"
    yield Check("packages", "", packages=("no-such-package",)), "no-such-package cannot be resolved and downloaded"
    yield (
        Check("gpus", "", files=(fat,), fatbin="code.o"),
        (
            "code for gfx1030, gfx90a was asked for; there is none for gfx90a; "
            "there is some for gfx906, which was not asked for"
        ),
    )
    yield Check("elf", "", files=(plainly,), fatbin="plain.o"), "its device code cannot be read"
    yield Check("file", "", fatbin="{prefix}/nothing"), "No such file"


def test_each_way_a_check_fails(run, packages, tmp_path):
    packages.deb("empty")
    cases = list(step_failures(tmp_path))
    never = CheckStep(("touch", "/never"))
    checks = [replace(check, steps=(*check.steps, never)) if check.steps else check for check, _ in cases]
    rows = failed(run("empty", checks=checks))
    assert [row.check for row in rows] == [f"clr/{check.name}" for check in checks]
    for row, (_, message) in zip(rows, cases, strict=True):
        assert message in row.detail, row
    assert str(tmp_path / "verify.log") in rows[0].detail
    assert not (tmp_path / "fresh/root/never").exists()


def test_a_check_that_hangs_is_ended(run, packages, monkeypatch):
    monkeypatch.setattr("rocmbuild.run.verify.TIME_LIMIT", 0.5)
    packages.deb("empty")
    (row,) = failed(run("empty", checks=[Check("slow", "", steps=(CheckStep(("sleep", "600")),))]))
    assert row == VerifyRow("clr/slow", "sleep 600", "fail", row.detail)
    assert "must end within 0 seconds and did not" in row.detail


class Neighbor:
    """A build machine that uses the packages of another: here this one, outside of the fresh root."""

    @property
    def values(self):
        return {"cross:cc": "gcc"}

    def wrap(self, argv, env, installed, scratch):
        inside = [word.replace("INSTALLED", str(installed)) for word in argv]
        return ["env", f"--chdir={scratch}", *(f"{key}={value}" for key, value in env.items()), *inside]


def test_a_step_on_the_build_machine_uses_what_is_installed_and_the_next_one_what_it_made(run, packages, tmp_path):
    library(packages.tree("good") / "lib/libgood.so.1", "int good(void) { return 42; }\n", "-Wl,-soname,libgood.so.1")
    (packages.tree("good") / "lib/libgood.so").symlink_to("libgood.so.1")
    packages.deb("good", depends="libc6")
    program = tmp_path / "main.c"
    program.write_text("int good(void); int main(void) { return good(); }\n")
    link = ("-LINSTALLED/lib", "-Wl,-rpath,{prefix}/lib", "-lgood", "-o", "main")
    steps = (
        CheckStep(("{cross:cc}", "main.c", *link), on="build"),
        CheckStep(("./main",), exit=42),
        CheckStep(("sh", "-c", "echo $WHERE; exit 1"), on="build", environment=(("WHERE", "outside"),)),
    )
    check = Check("cross", "is used by another machine", files=(program,), steps=steps)
    (row,) = failed(run("good", checks=[check], consumer=Neighbor()))
    assert row.subject == "sh -c 'echo $WHERE; exit 1'"
    assert "must exit with status 0, exited with status 1; its last lines: outside" in row.detail
    assert not (tmp_path / "fresh/root/main").exists()


def test_without_a_build_machine_nothing_can_be_tried_on_one(run, packages):
    packages.deb("empty")
    check = Check("cross", "", steps=(CheckStep(("true",), on="build"),))
    with pytest.raises(VerifyError, match="true is to run on the build machine, which is the target itself"):
        run("empty", checks=[check])


@pytest.fixture
def compiled(packages, tmp_path):
    """A check that makes device code: a fat binary, and a file for each GPU."""
    packages.deb("empty")
    fat = elf(tmp_path, padded(plain("gfx1030")) + plain("gfx90a", code=b"\x7fELFother" * 30))
    make = CheckStep(("sh", "-c", "printf 'code for %s' {gpu} > {gpu}.co"), each_gpu=True)
    return Check("compiled", "", files=(fat,), steps=(make,), fatbin="code.o", device_code=("{gpu}.co",))


def test_device_code_is_compared_with_that_of_other_machines(run, compiled):
    assert failed(run("empty", checks=[compiled])) == []
    sums = dict(run.device_code)
    assert {name: len(digest) for name, digest in sums.items()} == dict.fromkeys(
        [
            "clr/compiled: code.o for gfx1030",
            "clr/compiled: code.o for gfx90a",
            "clr/compiled: gfx1030.co",
            "clr/compiled: gfx90a.co",
        ],
        64,
    )
    assert sums["clr/compiled: gfx1030.co"] == hashlib.sha256(b"code for gfx1030").hexdigest()
    assert sums["clr/compiled: code.o for gfx1030"] != sums["clr/compiled: code.o for gfx90a"]

    known = {"testix-amd64": sums, "testix-arm64": {**sums, "clr/compiled: gfx90a.co": "0" * 64}}
    rows = [row for row in run("empty", checks=[compiled], references=known) if "the same as on" in row.subject]
    assert {row.subject: row.status for row in rows} == {
        f"{file}, the same as on {place}": "fail" if (file, place) == ("gfx90a.co", "testix-arm64") else "pass"
        for file in ("code.o for gfx1030", "code.o for gfx90a", "gfx1030.co", "gfx90a.co")
        for place in known
    }
    (row,) = failed(rows)
    assert row.detail == "the bytes differ from those that testix-arm64 makes"


def test_what_another_machine_has_no_code_of_is_not_compared(run, compiled):
    known = {"testix-amd64": {"clr/another: gfx1030.co": "0" * 64}}
    assert failed(run("empty", checks=[compiled], references=known)) == []


def test_with_nothing_to_compare_a_cross_build_says_so(run, compiled):
    rows = run("empty", checks=[compiled], consumer=Neighbor())
    (row,) = [row for row in rows if row.status == "skipped"]
    assert (row.check, row.subject) == ("clr/compiled", "device code as on other machines")
    assert "to compare with" in row.detail
    assert failed(rows) == []
