"""What a user is told when something fails: what, where, how to repeat just that, what to try."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import AREA, PROGRAM, TOY, Toy
from tests.integration.test_workspace import refused


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return what was printed, whatever the line breaks."""
    return " ".join((done.stdout + done.stderr).split())


def rerun(toy: Toy, done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """Run the command that a failure names for repeating just that, as it is printed."""
    line = re.search(r"to run just this again:\n +(rocmbuild .*)\n", done.stdout)
    assert line, done.stdout
    first, *words = shlex.split(line[1])
    program = Path(sys.executable).parent / first
    return toy.call([str(program), *words] if program.exists() else [*PROGRAM, *words])


def broken(toy: Toy, component: str, name: str, content: str) -> None:
    """Commit a file that breaks a component."""
    if toy.forge != toy.directory / "forge":
        toy.own_forge()
    toy.repository(component).commit({name: content})


SYNTAX = "int count(void)\n{\n    return forty_two;\n}\n"


def test_a_file_that_does_not_compile(toy):
    broken(toy, "toybase", "src/count.c", SYNTAX)
    done = toy.build(status=1)
    log = toy.workspace / "logs/toy" / AREA / "toybase/build.log"
    assert "toybase failed in build" in done.stdout
    assert re.search(r"toybase could not be built: /src/toybase/src/count\.c:3:12: error: .*forty_two", said(done))
    assert f"log   {log}\n" in done.stdout
    assert "forty_two" in log.read_text()
    assert f"rocmbuild shell toybase --workspace {toy.workspace}" in said(done)
    assert "to install them" not in done.stdout
    assert re.search(r"(?m)^toybase +failed ", done.stdout)
    assert "Traceback" not in said(done)

    again = rerun(toy, done)
    assert again.returncode == 1
    assert "count.c:3:12: error:" in again.stdout
    assert "toydevice" not in again.stdout

    broken(toy, "toybase", "src/count.c", "int count(void) { return 42; }\n")
    mended = rerun(toy, done)
    assert mended.returncode == 0, mended.stdout
    assert (toy.actions()["toybase"], toy.actions()["toyapp"]) == ("KEEP", "BUILD")


def test_the_hint_of_a_failed_build_works(toy):
    broken(toy, "toybase", "src/count.c", SYNTAX)
    failed = toy.build(status=1)
    hinted = re.search(r"rocmbuild (shell toybase --workspace \S+)", said(failed))
    argv = [sys.executable, "-m", "rocmbuild", *hinted[1].split(), "--", "ninja"]
    done = subprocess.run(
        argv, env={"PATH": os.defpath, "HOME": "/nowhere"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "forty_two" in done.stdout


def test_what_cannot_be_configured(toy):
    broken(toy, "toybase", "CMakeLists.txt", 'project(toybase C)\nmessage(FATAL_ERROR "no flux capacitor")\n')
    done = toy.build("toybase", status=1)
    assert "toybase could not be configured: CMakeLists.txt:2 (message): no flux capacitor" in said(done)
    assert f"the recipe is {TOY / 'recipes/toybase/recipe.yaml'}" in said(done)
    assert rerun(toy, done).returncode == 1


def test_a_test_of_the_stage_tree(toy):
    cmake = (TOY / "sources/toybase/CMakeLists.txt").read_text()
    leak = 'install(CODE [[file(WRITE $ENV{DESTDIR}/opt/rocm-9.9.1/x.txt "/build/CMakeCache.txt")]])'
    broken(toy, "toybase", "CMakeLists.txt", f"{cmake}{leak}\n")
    done = toy.build("toybase", status=1)
    assert "toybase failed in check" in done.stdout
    assert "names /build/, which exists only while building, in line 1 [build-path-leak]" in said(done)
    assert "waive the rule for these files in the recipe" in said(done)


def test_files_that_belong_to_no_package(toy):
    recipe = toy.recipe("toybase", ('files: ["**"]', 'files: ["lib/**"]'))
    done = toy.build("toybase", status=1)
    assert "toybase failed in package" in done.stdout
    assert "1 file of the stage tree belongs to no package: include/toybase/toybase.h" in said(done)
    assert str(recipe) in said(done)
    assert "add a pattern for them to files of a package, or to discard with the reason" in said(done)


def test_an_edit_that_does_not_fit(toy):
    recipe = toy.recipe("toyapp", ("find: old_name_of_greet", "find: older_name"), ("    present: '\\bgreet\\('\n", ""))
    done = toy.build("toyapp", status=1)
    assert "toyapp source failed in prepare" in done.stdout
    assert "src/main.cpp" in said(done)
    assert f"{recipe}:12:" in said(done)
    assert not (toy.workspace / "src/toy/toyapp").exists()


def test_two_components_that_install_one_file(toy):
    cmake = (TOY / "sources/toyapp/CMakeLists.txt").read_text()
    broken(
        toy, "toyapp", "CMakeLists.txt", cmake + "install(FILES src/main.cpp DESTINATION lib RENAME libtoybase.so)\n"
    )
    done = toy.build(status=1)
    assert "libtoybase.so" in said(done)
    assert "toybase" in said(done)
    assert "discard it in the recipe of" in said(done)


def test_others_go_on_if_told_to(toy):
    broken(toy, "toybase", "src/count.c", SYNTAX)
    done = toy.build("--keep-going", status=1)
    outcome = {event["task"]: event["event"] for event in toy.happened() if "task" in event}
    assert outcome["toybase"] == "TaskFailed"
    assert outcome["toyapp"] == "TaskSkipped"
    assert outcome["toydevice"] == "TaskEnded"
    assert "toyapp: skipped: toybase failed" in done.stdout
    assert re.search(r"(?m)^toyapp +skipped", done.stdout)
    assert toy.actions() == {
        "toybase": "BUILD",
        "toyapp": "BUILD",
        "toydevice": "KEEP",
        "toytool": "PROVIDED",
        "toymeta": "KEEP",
    }


def test_a_failure_stops_what_runs_beside_it(slow):
    """The slow component would take seconds; the failure of the other one ends it."""
    cmake = slow.recipe("toyslow").parent / "source/CMakeLists.txt"
    cmake.write_text(cmake.read_text().replace("sleep 0.2", "sleep 60"))
    broken(slow, "toybase", "src/count.c", SYNTAX)
    done = slow.build("-j", "16", status=1)  # more than the slow one can take
    assert "toybase could not be built" in said(done)
    assert re.search(r"(?m)^toyslow +stopped ", done.stdout)
    slow.no_orphans()


# ---- sources


def test_a_misspelt_ref(toy):
    path = toy.manifest(("{repository: toyapp}", "{repository: toyapp, ref: toy-9.9.y}"))
    done = toy.run("build")
    refused(done, 2, "no branch or tag 'toy-9.9.y'", "did you mean toy-9.9.x?", f"{path}:20:")
    assert not (toy.workspace / "build").exists()


def test_an_organization_that_moved(first_build):
    """The first address of the manifest answers no more; the second one does."""
    log = (first_build.workspace / "logs/plan.log").read_text()
    assert "/OldToys/toybase" in log
    assert "does not appear to be a git repository" in log


def test_an_organization_that_is_gone(toy):
    toy.manifest((', "https://forge.example/Toys/"', ""))
    done = toy.run("build", "toybase")
    refused(done, 1, "no such repository, or it is private", "a repository that moved gets its new address")


def test_a_mirror_that_is_not_there(toy):
    done = toy.run("build", "--mirror", "https://forge.example/Toys/=file:///nowhere/", "toybase")
    refused(done, 1, "file:///nowhere/toybase", "toy.yaml:")


def test_a_local_source_that_is_not_there(toy):
    done = toy.run("build", "--source", "toybase=nowhere")
    refused(done, 2, f"there is no directory {toy.directory / 'nowhere'}")
    done = toy.run("build", "--source", f"toybass={toy.home}")
    refused(done, 2, "toy has no component toybass", "did you mean toybase or")


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (("toyap",), ("toy has no component toyap", "did you mean toyapp or")),
        (("--distribution", "debian-13"), ("toy is not made for debian-13", "one of debian-12")),
        (("--system", "toybase"), ("debian-12 does not provide toybase", "recipe.yaml:")),
        (("--gpu", "gfx9000"), ("unknown GPU target gfx9000", "did you mean gfx900")),
        (("--target", "x86"), ("there is no target x86", "did you mean x86_64?")),
    ],
)
def test_a_selection_that_is_wrong(toy, words, texts):
    done = toy.run("build", *words)
    refused(done, 2, *texts)
    assert not (toy.workspace / "build").exists()


def test_all_problems_of_all_documents_at_once(toy):
    toy.recipe("toybase", ("license: {spdx: MIT, files: [LICENSE]}", "licence: {spdx: MIT}"), ("cost: 2", "cost: two"))
    toy.recipe("toyapp", ("section: utils", "sektion: utils"))
    done = toy.run("build")
    refused(done, 2, "licence: unknown key", 'cost: "two" is not of type', "sektion: unknown key", "3 problems found")


def test_packages_that_must_be_built_first(toy):
    done = toy.run("package")
    refused(done, 2, "cannot package yet", "run rocmbuild build with the same options")
    done = toy.run("verify")
    refused(done, 2, "cannot verify yet", "run rocmbuild build with the same options")


# ---- lock files


def test_a_lock_file_pins_what_a_branch_is_today(built):
    built.own_forge()
    path = built.manifest().parent
    done = built.call(_lock(built))
    assert (done.returncode, done.stdout) == (0, f"{path / 'toy.lock'}: 3 commits\n"), done.stderr
    text = (path / "toy.lock").read_text()
    assert "url: https://forge.example/Toys/toybase" in text
    locked = built.actions()
    built.repository("toybase").commit({"src/count.c": "int count(void) { return 43; }\n"})
    assert built.actions() == locked, "a branch that has moved is not followed"
    (path / "toy.lock").unlink()
    assert built.actions()["toybase"] == "BUILD"


def test_a_lock_is_not_written_unless_all_refs_are_known(toy):
    path = toy.manifest(("{repository: toyapp}", "{repository: toyapp, ref: toy-9.8}")).parent
    done = toy.call(_lock(toy))
    refused(done, 2, "no branch or tag 'toy-9.8'", "did you mean toy-9.9.x?")
    assert [file.name for file in path.iterdir()] == ["toy.yaml"]


def _lock(toy) -> list[str]:
    argv = toy.argv("lock")
    workspace = argv.index("--workspace")
    return [*argv[:workspace], *argv[workspace + 2 :]]
