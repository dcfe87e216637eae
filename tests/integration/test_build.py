"""A release from its repositories to packages that work, and what a second run does."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.conftest import AREA, PROGRAM, TOY

COMPONENTS = {"toyapp", "toybase", "toydevice", "toymeta", "toytool"}
PREFIX = "opt/rocm-9.9.1"
STEPS = ("configure", "build", "install", "check", "package")


def fields(deb: Path) -> dict[str, str]:
    """Return the control fields of a package."""
    text = subprocess.run(["dpkg-deb", "--field", str(deb)], check=True, capture_output=True, text=True).stdout
    return dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith(" "))


def contents(deb: Path) -> dict[str, str]:
    """Return the files and links of a package, with their modes and owners."""
    argv = ["dpkg-deb", "--contents", str(deb)]
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = [line.split(maxsplit=5) for line in lines]
    return {row[5].removeprefix("./"): f"{row[0]} {row[1]}" for row in rows if not row[5].endswith("/")}


def file_in(deb: Path, name: str) -> bytes:
    """Return the content of a file of a package."""
    archive = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], check=True, capture_output=True).stdout
    argv = ["tar", "--extract", "--to-stdout", "--file=-", f"./{name}"]
    return subprocess.run(argv, input=archive, check=True, capture_output=True).stdout


def snapshot(directory: Path) -> dict[str, tuple[int, int]]:
    """Return number and time of every file below a directory."""
    found = {}
    for place, names, files in os.walk(directory):
        for name in (*names, *files):
            status = Path(place, name).lstat()
            found[f"{place}/{name}"] = (status.st_ino, status.st_mtime_ns)
    return found


def compiled(log: Path) -> list[str]:
    """Return the outputs in a Ninja log, in the order in which they were made."""
    return [line.split("\t")[3] for line in log.read_text().splitlines() if not line.startswith("#")]


# ---- the first build


def test_the_plan_of_an_empty_workspace_builds_everything(first_build):
    before = {row["component"]: row for row in json.loads((first_build.directory / "before.json").read_text()).values()}
    assert {name: row["action"] for name, row in before.items()} == {
        **dict.fromkeys(COMPONENTS, "BUILD"),
        "toytool": "PROVIDED",
    }
    assert before["toyapp"]["needs"] == ["toybase"]
    assert before["toydevice"]["needs"] == ["toytool"]
    assert before["toyapp"]["reason"] == "not built yet"


def test_the_plan_of_a_build_that_is_done_keeps_everything(first_build):
    before = json.loads((first_build.directory / "before.json").read_text())
    after = first_build.plan()
    assert {name: row["action"] for name, row in after.items()} == {
        **dict.fromkeys(COMPONENTS, "KEEP"),
        "toytool": "PROVIDED",
    }
    assert not any(row["package"] for row in after.values())
    assert {name: row["fingerprint"] for name, row in after.items()} == {
        name: row["fingerprint"] for name, row in before.items()
    }


def test_a_library_is_split_and_related_to_what_it_needs(first_build):
    library, headers = first_build.deb("toybase"), first_build.deb("toybase-dev")
    version = "9.9.1.90901-1~debian12"
    assert fields(library).items() >= {"Version": version, "Architecture": "amd64", "Section": "libs"}.items()
    assert re.fullmatch(r"libc6 \(>= 2\.\d+(\.\d+)?\)", fields(library)["Depends"])
    assert fields(headers)["Depends"] == f"toybase (= {version})"
    assert set(contents(library)) == {
        f"{PREFIX}/lib/libtoybase.so.9 -> libtoybase.so.9.9.1",
        f"{PREFIX}/lib/libtoybase.so.9.9.1",
        "usr/share/doc/toybase/changelog.Debian.gz",
        "usr/share/doc/toybase/copyright",
    }
    assert set(contents(library).values()) <= {"-rw-r--r-- root/root", "lrwxrwxrwx root/root"}
    assert f"{PREFIX}/lib/cmake/toybase/toybase-config.cmake" in contents(headers)
    pkgconfig = file_in(headers, f"{PREFIX}/lib/pkgconfig/toybase.pc").decode()
    assert pkgconfig.startswith(f"prefix=/{PREFIX}\n")


def test_a_program_finds_its_library_by_a_relative_path(first_build, tmp_path):
    deb = first_build.deb("toyapp")
    assert "toybase (>= 9.9.1.90901-1~debian12)" in fields(deb)["Depends"]
    assert contents(deb)[f"{PREFIX}/bin/toyapp"] == "-rwxr-xr-x root/root"
    program = tmp_path / "toyapp"
    program.write_bytes(file_in(deb, f"{PREFIX}/bin/toyapp"))
    dynamic = subprocess.run(["readelf", "--dynamic", program], check=True, capture_output=True, text=True).stdout
    assert "Library runpath: [$ORIGIN/../lib]" in dynamic
    assert b"toyapp/src/main.cpp" in program.read_bytes()
    assert b"/src/toyapp" not in program.read_bytes()


def test_the_license_is_in_the_copyright_file(first_build):
    text = file_in(first_build.deb("toyapp"), "usr/share/doc/toyapp/copyright").decode()
    assert "License: MIT" in text
    assert "The Toymakers" in text


def test_the_changelog_names_the_source_and_each_edit(first_build):
    compressed = file_in(first_build.deb("toyapp"), "usr/share/doc/toyapp/changelog.Debian.gz")
    text = subprocess.run(["zcat"], input=compressed, check=True, capture_output=True).stdout.decode()
    assert re.search(r"https://forge\.example/OldToys/toyapp at\s+[0-9a-f]{40}", text)
    assert "the library has another name for it" in re.sub(r"\s+", " ", text)


def test_device_code_is_made_for_each_gpu_by_the_tool_of_the_distribution(first_build):
    deb = first_build.deb("toydevice")
    for gpu in ("gfx900", "gfx1030"):
        assert file_in(deb, f"{PREFIX}/lib/toydevice/kernel-{gpu}.hsaco").startswith(b"\0DEVICE\0%s\0" % gpu.encode())
    assert "perl" not in fields(deb)["Depends"]
    assert not (first_build.workspace / "src/toy/toydevice/other").exists()


def test_a_provided_component_is_links_and_dependencies(first_build):
    deb = first_build.deb("toytool")
    assert fields(deb)["Depends"] == "perl"
    assert f"{PREFIX}/bin/toycc -> /usr/bin/perl" in contents(deb)


def test_a_metapackage_names_exact_versions(first_build):
    assert (
        fields(first_build.deb("toymeta")).items()
        >= {
            "Architecture": "all",
            "Depends": "toyapp (= 2.5.0.90901-1~debian12), toydevice (= 1.0.0.90901-1~debian12)",
        }.items()
    )


def test_the_repository_lists_every_package(first_build):
    text = (first_build.out / "Packages").read_text()
    names = re.findall(r"(?m)^Package: (.*)$", text)
    assert sorted(names) == ["toyapp", "toybase", "toybase-dev", "toydevice", "toymeta", "toytool"]
    for name, digest in re.findall(r"(?m)^Filename: \./(.*)$(?:\n.+)*?\nSHA256: (.*)$", text):
        assert first_build.debs()[name] == digest
    assert "SHA256:" in (first_build.out / "Release").read_text()


def test_events_tell_of_every_step_and_where_its_log_is(first_build):
    happened = first_build.happened()
    assert happened[0]["event"] == "RunStarted"
    assert happened[0]["kept"] == []
    assert {"toyapp", "toyapp source", "toytool", "repository"} <= happened[0]["tasks"].keys()
    assert happened[-1] == {"event": "RunEnded", "time": happened[-1]["time"], "status": "done"} | {
        "seconds": happened[-1]["seconds"]
    }
    assert {f"toyapp {step}" for step in STEPS} <= first_build.steps()
    logs = [Path(event["log"]) for event in happened if event["event"] == "StepStarted"]
    assert all(log.is_file() and log.is_relative_to(first_build.workspace / "logs") for log in logs)
    progress = [event for event in happened if event["event"] == "StepProgress" and event["task"] == "toyapp"]
    assert (progress[-1]["done"], progress[-1]["total"]) == (2, 2)


def test_the_summary_says_where_the_packages_are_and_how_to_install_them(first_build):
    text = (first_build.directory / "stdout").read_text()
    assert f"\n  {first_build.out}\n" in text
    assert f"echo 'deb [trusted=yes] file:{first_build.out} ./'" in text
    assert re.search(r"(?m)^toyapp +built ", text)
    assert re.search(r"(?m)^toytool +provided ", text)


# ---- the second build


def test_the_same_command_again_starts_nothing_and_touches_nothing(built):
    places = [built.workspace / name for name in ("build", "out", "src")]
    before = [snapshot(place) for place in places]
    begun = time.monotonic()
    done = built.build()
    assert time.monotonic() - begun < 15
    assert [snapshot(place) for place in places] == before
    assert "nothing to do, 5 up to date" in done.stdout
    assert [event["event"] for event in built.happened()] == ["RunStarted", "RunEnded"]
    assert re.search(r"(?m)^toyapp +kept ", done.stdout)


def test_a_new_commit_rebuilds_its_component_and_those_that_see_it(built):
    built.own_forge()
    kept = {name: built.deb(name).stat().st_ino for name in ("toydevice", "toytool")}
    source = (TOY / "sources/toybase/src/count.c").read_text()
    built.repository("toybase").commit({"src/count.c": source.replace("42", "43")})
    plan = built.plan()
    assert {name for name, row in plan.items() if row["action"] == "BUILD"} == {"toybase", "toyapp"}
    assert plan["toybase"]["reason"] == "its inputs changed"
    assert plan["toyapp"]["reason"] == "toybase is built anew; kept if that changes nothing"
    built.build()
    assert {step.split()[0] for step in built.steps() if step.endswith(" build")} == {"toybase", "toyapp"}
    assert {name: built.deb(name).stat().st_ino for name in kept} == kept
    assert set(built.actions().values()) == {"KEEP", "PROVIDED"}


def test_a_component_alone_is_built_with_what_it_needs(toy):
    assert toy.actions("toyapp") == {"toybase": "BUILD", "toyapp": "BUILD"}
    toy.build("toyapp")
    assert {path.name.split("_")[0] for path in toy.out.glob("*.deb")} == {"toyapp", "toybase", "toybase-dev"}
    assert toy.actions()["toydevice"] == "BUILD"


def test_a_package_rule_is_applied_without_compiling(built):
    built.recipe("toyapp", ("section: utils", "section: games"))
    row = built.plan()["toyapp"]
    assert (row["action"], row["package"]) == ("KEEP", True)
    done = built.run("package", "--events", str(built.events))
    assert done.returncode == 0, done.stderr
    assert {step for step in built.steps() if step.startswith("toyapp ")} <= {
        *("toyapp check", "toyapp package"),
        *("toyapp source fetch", "toyapp source prepare"),
    }
    assert fields(built.deb("toyapp"))["Section"] == "games"
    assert "Section: games" in (built.out / "Packages").read_text()


def test_a_changed_variable_of_the_manifest_builds_that_component_anew(built):
    built.manifest(("TOYAPP_GREETING: hello", "TOYAPP_GREETING: good morning"))
    assert {name for name, action in built.actions().items() if action == "BUILD"} == {"toyapp"}
    built.build()
    assert b"good morning" in file_in(built.deb("toyapp"), f"{PREFIX}/bin/toyapp")


def test_two_users_in_two_places_make_the_same_bytes(first_build, new_toy, tmp_path):
    other = new_toy(tmp_path / "another place" / "with ü")
    other.build("-j", "1")
    assert other.debs() == first_build.debs()


# ---- a source tree of the user's own


def test_a_checkout_is_compiled_incrementally(built):
    tree = built.checkout("toybase")
    local = ("--source", f"toybase={tree}", "toybase")
    assert built.plan(*local)["toybase"]["action"] == "BUILD"
    built.build(*local)
    log = built.area("toybase") / "build" / ".ninja_log"
    objects = [f"CMakeFiles/toybase.dir/src/{name}.c.o" for name in ("count", "greet", "version")]
    assert sorted(name for name in compiled(log) if name.endswith(".o")) == objects
    assert built.plan(*local)["toybase"]["action"] == "KEEP"

    times = {name: (log.parent / name).stat().st_mtime_ns for name in objects}
    (tree / "src/count.c").write_text((tree / "src/count.c").read_text().replace("42", "43"))
    assert built.plan(*local)["toybase"]["action"] == "BUILD"
    built.build(*local)
    changed = {name for name in objects if (log.parent / name).stat().st_mtime_ns != times[name]}
    assert changed == {"CMakeFiles/toybase.dir/src/count.c.o"}
    text = (built.workspace / "logs/toy" / AREA / "toybase/build.log").read_text()
    assert "Building C object CMakeFiles/toybase.dir/src/count.c.o" in text
    assert "greet.c.o" not in text
    assert not list(tree.glob("build*")), "the checkout is not built in"


def test_a_build_tree_from_the_future_does_not_hide_an_edit(built):
    """The clock was a day ahead when the checkout was built; what is edited now looks older than its object."""
    tree = built.checkout("toybase")
    local = ("--source", f"toybase={tree}", "--no-verify", "toybase")
    built.build(*local)
    build = built.area("toybase") / "build"
    for path in [path for path in build.rglob("*") if path.is_file()]:
        times = path.stat().st_mtime_ns + 86400 * 10**9
        os.utime(path, ns=(times, times))
    (tree / "src/count.c").write_text((tree / "src/count.c").read_text().replace("42", "43"))
    assert "has a build tree from the future" in built.build(*local).stdout
    library = built.area("toybase") / "stage/opt/rocm-9.9.1/lib/libtoybase.so"
    assert ctypes.CDLL(str(library)).count() == 43


def test_an_edit_with_an_old_time_is_compiled_also_if_the_source_tree_is_gone(built):
    """The checkout came with cp -a, rsync -a or out of an archive; the build tree is younger than all in it."""
    tree = built.checkout("toybase")
    local = ("--source", f"toybase={tree}", "toybase")
    built.build(*local)
    shutil.rmtree(built.workspace / "src")
    (tree / "src/count.c").write_text((tree / "src/count.c").read_text().replace("42", "43"))
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (10**9, 10**9))
    built.build(*local)
    library = built.area("toybase") / "stage/opt/rocm-9.9.1/lib/libtoybase.so"
    assert ctypes.CDLL(str(library)).count() == 43


def test_a_need_from_the_future_does_not_keep_ninja_from_its_end(built):
    """The clock was minutes ahead when toybase was built, whose package file CMake reads for toyapp."""
    ahead = time.time() + 600
    for path in (built.area("toybase") / "stage").rglob("*"):
        os.utime(path, (ahead, ahead), follow_symlinks=False)
    tree = built.checkout("toyapp")
    built.build("--source", f"toyapp={tree}", "toyapp")
    assert built.plan("--source", f"toyapp={tree}")["toybase"]["action"] == "KEEP"


def test_a_checkout_that_is_left_again_gives_the_first_packages(built, first_build):
    tree = built.checkout("toybase")
    (tree / "src/count.c").write_text("int count(void) { return 42 + 0; }\n")
    built.build("--source", f"toybase={tree}")
    assert built.debs() != first_build.debs()
    built.build()
    assert built.debs() == first_build.debs()


# ---- where a component is built


def test_a_shell_is_where_the_component_is_built(built):
    built.environ["SECRET"] = "of the caller"
    done = built.run("shell", "toyapp", "--", "env")
    assert done.returncode == 0, done.stderr
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert variables["ROCM_PATH"] == f"/{PREFIX}"
    assert variables["HOME"] == "/home"
    assert variables["SOURCE_DATE_EPOCH"] == "1704067200"
    assert "SECRET" not in variables
    assert str(built.directory) not in done.stdout


def test_a_command_in_the_shell_goes_on_with_the_build(built):
    done = built.run("shell", "toyapp", "--", "ninja", "-n")
    assert (done.returncode, "no work to do" in done.stdout) == (0, True), done.stdout + done.stderr
    failed = built.run("shell", "toyapp", "--", "sh", "-c", "pwd; ls /src; exit 7")
    assert failed.returncode == 7
    assert failed.stdout.split() == ["/build", "toyapp"]


def test_a_shell_in_an_empty_workspace_says_what_is_missing(toy):
    done = toy.run("shell", "toyapp", "--", "true")
    assert done.returncode == 2
    assert "toyapp sees toybase, not built yet" in done.stderr
    assert "rocmbuild build --branch toy" in done.stderr


def test_logs_of_a_step(built):
    done = built.call([*PROGRAM, "logs", "toyapp", "configure", "--workspace", str(built.workspace)])
    assert done.returncode == 0, done.stderr
    assert "The CXX compiler identification is GNU" in done.stdout
    assert done.stderr.strip() == str(built.workspace / "logs/toy" / AREA / "toyapp/configure.log")


def test_without_a_sandbox_it_is_built_and_told(toy):
    if not all(Path(program).exists() for program in ("/usr/bin/c++", "/usr/bin/perl")):
        pytest.skip("this machine has no compiler")
    done = toy.build("--environment", "host")
    assert "no sandbox: components see this machine's compilers" in done.stdout
    assert file_in(toy.deb("toyapp"), f"{PREFIX}/bin/toyapp").count(str(toy.directory).encode()) == 0
    assert toy.plan("--environment", "host")["toyapp"]["action"] == "KEEP"
    assert toy.plan()["toyapp"]["action"] == "BUILD"


# ---- the proof


@pytest.fixture
def verified(built):
    """A user whose packages were verified."""
    done = built.run("verify", timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    return built


def test_packages_are_verified_in_a_fresh_root(verified):
    record = json.loads((verified.out / "verify.json").read_text())
    rows = {(row["check"], row["subject"]): row for row in record["rows"]}
    assert record["status"] == "pass"
    assert rows["toyapp/greets", "toyapp"]["status"] == "pass"
    assert {row["status"] for row in record["rows"]} == {"pass"}
    assert {check for check, _ in rows} >= {"install", "dpkg-verify", "undefined-symbols", "purge", "stage tree"}
    assert record["packages"].keys() == {"toyapp", "toybase", "toybase-dev", "toydevice", "toymeta", "toytool"}
    assert not (verified.workspace / "verify" / AREA / "root").exists()

    # neither all again nor a part of it has anything left to do, and what was proved stays
    for selection in ((), ("toybase",)):
        again = verified.run("build", *selection)
        assert (again.returncode, "nothing to do" in again.stdout) == (0, True)
    assert json.loads((verified.out / "verify.json").read_text()) == record

    # one wrong word in a check, and the packages are tried again and refused
    verified.recipe("toyapp", ("hello from toybase 9", "hello from toybase 10"))
    failed = verified.run("build")
    assert failed.returncode == 1
    assert "1 of" in failed.stdout
    assert "toyapp/greets" in failed.stdout
    assert "hello from toybase 9.9.1" in failed.stdout
    assert json.loads((verified.out / "verify.json").read_text())["status"] == "fail"
    assert verified.actions()["toyapp"] == "KEEP"
