"""Stage trees with real ELF files, each with one thing wrong."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rocmbuild.model.catalog import make_catalog
from rocmbuild.model.recipe import Waiver
from rocmbuild.run.breach import ERROR, WARNING
from rocmbuild.run.qa import Finding, Stage, apply_waivers, check_stage

PREFIX = "/opt/rocm-6.4.3"
TARGET, SG2042 = (make_catalog().target(name) for name in ("x86_64", "sg2042"))


class Tree:
    """A stage tree to put files into, a dependency's stage tree and a root beside it."""

    def __init__(self, directory: Path) -> None:
        self.stage, self.dependency, self.root = (directory / name for name in ("stage", "dependency", "root"))
        for path in (self.stage, self.dependency, self.root):
            path.mkdir()

    def text(self, name, content, tree=None):
        path = self.path(name, tree)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o644)
        return path

    def path(self, name, tree=None):
        path = (tree or self.stage) / (name if not name.startswith("/") else name[1:])
        if not name.startswith("/"):
            path = (tree or self.stage) / PREFIX[1:] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def library(self, name, *options, code="int f(void) { return 1; }\n", tree=None):
        path = self.path(name, tree)
        argv = ["gcc", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-o", str(path), *options]
        subprocess.run(argv, input=code.encode(), check=True, capture_output=True)
        path.chmod(0o755)
        return path

    def check(self, *waivers, **changes):
        given = {"private": (), "sandbox": (), "target": TARGET, **changes}
        stage = Stage("clr", self.stage, (self.dependency,), self.root, PREFIX, **given)
        return check_stage(stage, waivers)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def rules(findings):
    return [finding.rule for finding in findings]


def only(findings):
    (finding,) = findings
    assert finding.component == "clr"
    return finding


def test_a_good_tree_has_no_findings(tree):
    tree.library("lib/libb.so.1", "-Wl,-soname,libb.so.1", tree=tree.dependency)
    tree.path("lib/libb.so", tree.dependency).symlink_to("libb.so.1")
    needs = f"-L{tree.dependency}{PREFIX}/lib"
    tree.library("lib/liba.so.1", "-Wl,-soname,liba.so.1", needs, "-lb", "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN")
    tree.path("lib/liba.so").symlink_to("liba.so.1")
    tree.text("lib/cmake/a/a.cmake", f"set(dir {PREFIX}/lib)  # not /opt/rocmware\n")
    tree.path("llvm").symlink_to("/usr/lib/llvm-21")
    (tree.root / "usr/lib/llvm-21").mkdir(parents=True)
    assert tree.check(private=("/home/me",), sandbox=("/src", "/build")) == []


def test_a_library_for_another_processor(tree):
    tree.library("lib/liba.so")
    finding = only(tree.check(target=SG2042))
    assert (finding.rule, finding.file) == ("elf-machine", f"{PREFIX}/lib/liba.so")
    assert finding.detail == "is for EM_X86_64; sg2042 is EM_RISCV"
    assert finding.fails


def test_elf_flags_are_compared_where_the_target_has_them(tree):
    tree.library("lib/liba.so")
    assert tree.check() == []
    finding = only(tree.check(target=replace(TARGET, elf_flags=5)))
    assert (finding.rule, finding.detail) == ("elf-machine", "has ELF flags 0x0; x86_64 has 0x5")


def test_device_code_is_exempt_from_rules_about_the_host(tree):
    code = tree.library("lib/kernel.hsaco").read_bytes()
    tree.text("lib/kernel.elf", code[:18] + (224).to_bytes(2, "little") + code[20:])
    assert tree.check(target=SG2042) == []


def test_a_damaged_elf_file_is_named(tree):
    tree.text("lib/liba.so", b"\x7fELF" + b"\xff" * 60)
    finding = only(tree.check())
    assert (finding.rule, finding.file) == ("elf-damaged", f"{PREFIX}/lib/liba.so")


def needing(tree, *options):
    """Put a library that needs libb.so.1 into the stage tree; libb itself is put nowhere."""
    other = tree.stage.parent / "link"
    other.mkdir()
    argv = [
        "gcc",
        "-shared",
        "-nostdlib",
        "-x",
        "c",
        "/dev/null",
        "-Wl,-soname,libb.so.1",
        "-o",
        str(other / "libb.so"),
    ]
    subprocess.run(argv, check=True)
    tree.library("lib/liba.so", "-Wl,--no-as-needed", f"-L{other}", "-lb", *options)


def test_a_needed_library_that_nobody_has(tree):
    needing(tree)
    finding = only(tree.check())
    assert finding.rule == "needed-closure"
    assert finding.detail == "needs libb.so.1, which no declared component and no package has"


@pytest.mark.parametrize("directory", ["/usr/lib/x86_64-linux-gnu", "/lib64"])
def test_a_needed_library_of_the_distribution(tree, directory):
    needing(tree)
    tree.library(f"{directory}/libb.so.1", tree=tree.root)
    assert tree.check() == []


def test_a_needed_library_is_followed_through_links_from_tree_to_tree(tree):
    needing(tree, "-Wl,-rpath,$ORIGIN/../llvm/lib")
    tree.path("llvm").symlink_to("/usr/lib/llvm-21")
    tree.path("/usr/lib/llvm-21/lib", tree.root).symlink_to("/lib/../real")
    tree.path("/real/libb.so.1", tree.root).symlink_to("libb.so.1.2")
    tree.library("/real/libb.so.1.2", tree=tree.root)
    assert tree.check() == []


def test_a_link_never_leads_to_a_library_of_this_machine(tree, tmp_path):
    needing(tree, "-Wl,-rpath,$ORIGIN/../there")
    (tmp_path / "link/libb.so").rename(tmp_path / "link/libb.so.1")
    tree.path("there").symlink_to(tmp_path / "link")
    assert {finding.rule: finding.detail for finding in tree.check()} == {
        "dangling-link": f"links to {tmp_path}/link, which nothing installs",
        "needed-closure": "needs libb.so.1, which no declared component and no package has",
    }


def test_a_needed_library_that_is_a_circle_of_links(tree):
    needing(tree)
    tree.path("/usr/lib/libb.so.1", tree.root).symlink_to("libb.so.1")
    finding = only(tree.check())
    assert finding.rule == "needed-closure"
    assert finding.detail == "needs libb.so.1, but /usr/lib/libb.so.1 is no library"


@pytest.mark.parametrize("content", ["GROUP ( /lib/libb.so.2 )\n", b"\x7fELF", ""])
def test_what_only_has_the_name_of_a_library_does_not_satisfy_a_need(tree, content):
    needing(tree)
    tree.text("/usr/lib/libb.so.1", content, tree.root)
    finding = only(tree.check())
    assert finding.rule == "needed-closure"
    assert finding.detail == "needs libb.so.1, but /usr/lib/libb.so.1 is no library"


def test_a_needed_library_of_the_prefix_must_be_on_the_runpath(tree):
    needing(tree, "-Wl,-rpath,$ORIGIN/../elsewhere")
    tree.library("llvm/lib/libb.so.1", tree=tree.dependency)
    finding = only(tree.check())
    assert finding.rule == "runpath"
    assert f"needs libb.so.1, which lies in {PREFIX}/llvm/lib" in finding.detail
    assert finding.detail.endswith(f"leads to {PREFIX}/elsewhere")


@pytest.mark.parametrize(
    ("entry", "detail"),
    [
        ("/build/lib", "RUNPATH entry /build/lib does not begin with $ORIGIN"),
        (f"{PREFIX}/lib", f"RUNPATH entry {PREFIX}/lib does not begin with $ORIGIN"),
        ("$ORIGIN/../../../lib", f"leads to /lib, outside of {PREFIX}"),
        ("/usr/lib/llvm-21/lib", None),
        ("$ORIGIN:${ORIGIN}/../llvm/lib", None),
    ],
)
@pytest.mark.parametrize("kind", ["--enable-new-dtags", "--disable-new-dtags"])
def test_where_a_runpath_may_lead(tree, entry, detail, kind):
    tree.library("lib/liba.so", f"-Wl,{kind},-rpath,{entry}")
    found = tree.check()
    assert rules(found) == (["runpath"] if detail else [])
    assert detail is None or detail in found[0].detail


def test_a_library_must_be_found_under_its_soname(tree):
    tree.library("lib/liba.so.1.2", "-Wl,-soname,liba.so.1")
    finding = only(tree.check())
    assert (finding.rule, finding.file) == ("soname-link", f"{PREFIX}/lib/liba.so.1.2")
    assert "liba.so.1" in finding.detail


def test_text_relocations_and_executable_stacks(tree):
    tree.library("lib/liba.so", "-Wl,-z,execstack")
    tree.library("lib/libb.so", "-Wl,-z,notext", code='int x; __asm__(".text\\n.quad x\\n");')
    assert [(item.rule, Path(item.file).name) for item in tree.check()] == [
        ("executable-stack", "liba.so"),
        ("text-relocation", "libb.so"),
    ]


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ("one\ntwo /build/clr/x.h\n", "names /build, which exists only while building, in line 2"),
        ("flags = -I/build/include", "in line 1"),
        ('set(x "/build")', "in line 1"),
        ("PATH=/usr/bin:/build", "in line 1"),
        ("cflags = -isystem/build/include", "in line 1"),
        ("--sysroot=/build", "in line 1"),
    ],
)
def test_paths_of_the_sandbox_in_text(tree, content, detail):
    tree.text("lib/a.cmake", content)
    finding = only(tree.check(sandbox=("/build",)))
    assert (finding.rule, finding.severity) == ("build-path-leak", ERROR)
    assert detail in finding.detail


@pytest.mark.parametrize(
    "content", ["/builder/x", "/usr/build/x", "${PREFIX}/build", "@DIR@/build", "build/x", "/build-x"]
)
def test_what_only_looks_like_a_path_of_the_sandbox(tree, content):
    tree.text("lib/a.cmake", content)
    assert tree.check(sandbox=("/build",)) == []


@pytest.mark.parametrize("name", ["share/doc/hip/README", "share/hip/samples/0_Intro/Makefile", "share/hip/notes.md"])
def test_what_is_only_told_to_people_is_a_warning(tree, name):
    tree.text(name, "as in /opt/rocm-5.4.0\n")
    assert only(tree.check()).severity == WARNING


@pytest.mark.parametrize(("content", "count"), [("at /build/clr", 1), ("at /build", 0), ("at /builder/x", 0)])
def test_a_path_with_a_final_slash_stands_for_what_is_below_it(tree, content, count):
    tree.text("lib/a.cmake", content)
    assert len(tree.check(sandbox=("/build/",))) == count


def test_paths_of_the_sandbox_in_binaries_are_warnings_outside_of_debug_information(tree):
    code = 'const char *f(void) { return "/build/assert.c"; }\n'
    tree.library("lib/liba.so", "-g", "-ffile-prefix-map=/=/build/", code="int f(void) { return 1; }\n")
    assert b"/build/" in tree.path("lib/liba.so").read_bytes()
    tree.library("lib/libb.so", code=code)
    finding = only(tree.check(sandbox=("/build",)))
    assert (finding.file, finding.severity) == (f"{PREFIX}/lib/libb.so", WARNING)
    assert not finding.fails


def test_paths_of_this_machine_are_errors_everywhere(tree):
    tree.library("lib/liba.so", "-g", "-ffile-prefix-map=/=/home/me/")
    tree.text("etc/a.conf", "see /home/me/w\n")
    found = tree.check(private=("/home/me", "/home/you"))
    assert [(item.rule, item.severity) for item in found] == [("build-path-leak", ERROR)] * 2
    assert "in line 1" in found[0].detail
    assert "at offset" in found[1].detail


@pytest.mark.parametrize(
    ("content", "severity"), [("/opt/rocm-6.3.0/lib", ERROR), ("/opt/rocm/bin", WARNING), ("/opt/rocm-6.4.30", ERROR)]
)
def test_other_installations_of_rocm(tree, content, severity):
    tree.text("bin/hipvars.pm", f'my $path = "{content}";\n')
    finding = only(tree.check())
    assert (finding.rule, finding.severity) == ("foreign-rocm", severity)
    assert finding.detail.startswith("names /opt/rocm")
    assert finding.detail.endswith(PREFIX)


@pytest.mark.parametrize(
    ("target", "rule", "detail"),
    [
        ("libgone.so", "dangling-link", "links to libgone.so, which nothing installs"),
        ("/usr/lib/llvm-21", "dangling-link", "which nothing installs"),
        ("../../../../../x", "escaping-link", "which is no installed place"),
        ("/build/clr/liba.so", "escaping-link", "links to /build/clr/liba.so"),
    ],
)
def test_links_must_lead_to_something_installed(tree, target, rule, detail):
    tree.path("lib/liba.so").symlink_to(target)
    finding = only(tree.check(sandbox=("/build",)))
    assert (finding.rule, finding.file) == (rule, f"{PREFIX}/lib/liba.so")
    assert detail in finding.detail


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o666])
def test_modes(tree, mode):
    os.chmod(tree.text("bin/tool", "#!/bin/sh\n"), mode)
    finding = only(tree.check())
    assert (finding.rule, finding.detail) == ("file-mode", f"has mode {mode:04o}")


def test_a_waiver_keeps_the_finding_but_it_does_not_fail(tree):
    tree.text("bin/tool", "see /opt/rocm-5.0.0\n")
    finding = only(tree.check(Waiver("foreign-rocm", ("bin/*",), "an example in a comment")))
    assert (finding.rule, finding.waived, finding.fails) == ("foreign-rocm", "an example in a comment", False)


def test_a_waiver_that_waives_nothing_fails(tree):
    tree.text("bin/tool", "see /opt/rocm-5.0.0\n")
    found = tree.check(Waiver("foreign-rocm", ("bin/tool", "lib/**"), "an example in a comment"))
    assert [(item.rule, item.fails) for item in found] == [("foreign-rocm", False), ("unused-waiver", True)]
    assert "nothing breaks foreign-rocm at lib/**" in found[1].detail


def test_a_waiver_of_an_unknown_rule_names_the_nearest(tree):
    finding = only(tree.check(Waiver("build-path-leaks", ("lib/x",), "why")))
    assert finding.rule == "unused-waiver"
    assert "no rule is named build-path-leaks (did you mean build-path-leak?)" in finding.detail


def test_waivers_for_installed_packages_are_left_to_verification(tree):
    assert tree.check(Waiver("undefined-symbols", ("lib/plugin.so",), "resolved by its host")) == []
    found = [Finding("undefined-symbols", "clr", f"{PREFIX}/lib/plugin.so", "undefined symbol: x")]
    waiver = Waiver("undefined-symbols", ("lib/plugin.so",), "resolved by its host")
    (finding,) = apply_waivers(found, [waiver], "clr", PREFIX, {"undefined-symbols": ""})
    assert not finding.fails


def test_a_finding_reads_as_one_line(tree):
    tree.library("lib/liba.so", "-Wl,-z,execstack")
    text = f"clr: {PREFIX}/lib/liba.so: asks for an executable stack (PT_GNU_STACK) [executable-stack]"
    assert str(only(tree.check())) == text
