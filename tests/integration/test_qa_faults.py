"""Faults planted into a stage tree for another processor: each is found, and by its own rule."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from rocmbuild.model.catalog import make_catalog
from rocmbuild.model.recipe import Waiver
from rocmbuild.run.breach import ERROR, WARNING
from rocmbuild.run.qa import STAGE_RULES, Finding, Stage, check_stage
from tests.elf_files import AARCH64, AMDGPU, SG2042_ISA, X86_64, archive, bitcode, elf, library

PREFIX = "/opt/rocm-5.6.1"
LIB = f"{PREFIX}/lib"
SYSTEM = "/usr/lib/riscv64-linux-gnu"
WITH_VECTORS = SG2042_ISA.replace("_zicsr", "_v1p0_zicsr") + "_zve32f1p0_zve32x1p0_zve64d1p0_zvl128b1p0_zvl32b1p0"
WITH_THEAD = SG2042_ISA + "_xtheadba1p0_xtheadcondmov1p0"
SANDBOX = ("/src/clr", "/build/", "/stage/", "/sysroot")


@dataclass
class Trees:
    """A stage tree without a fault, made for the SG2042, and the sysroot that it was made with."""

    directory: Path

    def put(self, location: str, content: bytes | str, tree: str = "stage") -> None:
        """Write an installed file."""
        path = self.directory / tree / location.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o644)

    def object(self) -> bytes:
        """Return an object file that the machine's own compiler made."""
        argv = ["gcc", "-c", "-x", "c", "-", "-o", str(self.directory / "host.o")]
        subprocess.run(argv, input=b"int f(void) { return 1; }\n", check=True)
        return (self.directory / "host.o").read_bytes()

    def check(self, *waivers: Waiver, target: str = "sg2042") -> list[Finding]:
        """Return what is wrong."""
        stage = Stage(
            component="clr",
            path=self.directory / "stage",
            dependencies=(self.directory / "dependency",),
            root=self.directory / "sysroot",
            prefix=PREFIX,
            target=make_catalog().target(target),
            private=(str(self.directory),),
            sandbox=SANDBOX,
        )
        return check_stage(stage, waivers)

    def only(self, rule: str, location: str, target: str = "sg2042") -> str:
        """Return the detail of the one finding, which is of a rule and a file."""
        (finding,) = self.check(target=target)
        assert (finding.rule, finding.file, finding.component) == (rule, location, "clr")
        assert rule in STAGE_RULES
        return finding.detail


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    """A tree in which everything is as it should be."""
    made = Trees(tmp_path)
    made.put(f"{SYSTEM}/libc.so.6", library(soname="libc.so.6"), "sysroot")
    made.put(f"{LIB}/libhsa.so.1", library(isa=SG2042_ISA, soname="libhsa.so.1"), "dependency")
    needs = ("libc.so.6", "libhsa.so.1")
    made.put(f"{LIB}/liba.so.1", library(isa=SG2042_ISA, soname="liba.so.1", needed=needs, runpath="$ORIGIN"))
    made.put(f"{LIB}/libs.a", archive(("a.o/", elf(isa=SG2042_ISA)), ("data.o/", elf()), ("notes/", b"words")))
    made.put(f"{LIB}/crt.o", elf(isa=SG2042_ISA + "_ziccif1p0_ziccrse1p0_ziccamoa1p0_zicntr2p0"))
    made.put(f"{LIB}/cmake/a/a.cmake", f"set(libdir {LIB})  # ${{PREFIX}}/sysroot and usr/sysroot are not meant\n")
    made.put(f"{LIB}/amdgcn/ocml.bc", bitcode("amdgcn-amd-amdhsa"))
    made.put(f"{LIB}/libdevice.a", archive(("k.o/", bitcode("amdgcn-amd-amdhsa")), ("k.hsaco/", elf(AMDGPU, 0x36))))
    return made


def test_a_tree_without_a_fault(trees):
    assert trees.check() == []


@pytest.mark.parametrize("place", [LIB, "/usr/lib/rocm", "/usr/share/x", "/etc"])
def test_an_object_of_the_build_machine(trees, place):
    trees.put(f"{place}/f.o", trees.object())
    assert trees.only("elf-machine", f"{place}/f.o") == "is for EM_X86_64; sg2042 is EM_RISCV"


def test_an_object_of_the_build_machine_in_an_archive(trees):
    trees.put("own.o", elf(isa=SG2042_ISA), "parts")
    trees.put("an_object_of_the_build_machine.o", trees.object(), "parts")
    for kind in ("rcs", "rcS"):
        argv = ["ar", kind, "../libf.a", "own.o", "an_object_of_the_build_machine.o"]
        subprocess.run(argv, cwd=trees.directory / "parts", check=True)
        trees.put(f"{LIB}/libf.a", (trees.directory / "libf.a").read_bytes())
        detail = trees.only("elf-machine", f"{LIB}/libf.a")
        assert detail == "its member an_object_of_the_build_machine.o is for EM_X86_64; sg2042 is EM_RISCV"


def test_a_mistake_in_many_members_is_told_once(trees):
    wrong = elf(X86_64, 0)
    members = [(f"{name}.o/", wrong) for name in "abc"]
    trees.put(f"{LIB}/libf.a", archive(*members, ("d.o/", elf(AARCH64, 0)), ("e.o/", elf(isa=SG2042_ISA))))
    assert [str(finding) for finding in trees.check()] == [
        f"clr: {LIB}/libf.a: its member a.o (and 2 more) is for EM_X86_64; sg2042 is EM_RISCV [elf-machine]",
        f"clr: {LIB}/libf.a: its member d.o is for EM_AARCH64; sg2042 is EM_RISCV [elf-machine]",
    ]


@pytest.mark.parametrize(
    ("name", "content"), [("f.o", elf(isa=WITH_VECTORS)), ("libf.so", library(isa=WITH_VECTORS))], ids=["o", "so"]
)
@pytest.mark.parametrize("target", ["sg2042", "sg2042-xthead"])
def test_vectors(trees, name, content, target):
    trees.put(f"{LIB}/{name}", content)
    detail = trees.only("isa", f"{LIB}/{name}", target)
    assert detail == f"may use v, which {target} does not have (Tag_RISCV_arch)"


def test_vectors_in_an_archive(trees):
    trees.put(f"{LIB}/libf.a", archive(("a.o/", elf()), ("v.o/", elf(isa=WITH_VECTORS))))
    detail = trees.only("isa", f"{LIB}/libf.a")
    assert detail == "its member v.o may use v, which sg2042 does not have (Tag_RISCV_arch)"


def test_extensions_of_t_head_are_for_the_target_that_has_them(trees):
    trees.put(f"{LIB}/f.o", elf(isa=WITH_THEAD))
    detail = trees.only("isa", f"{LIB}/f.o")
    assert detail == "may use xtheadba, xtheadcondmov, which sg2042 does not have (Tag_RISCV_arch)"
    assert trees.check(target="sg2042-xthead") == []
    trees.put(f"{LIB}/f.o", elf(isa=WITH_THEAD + "_xtheadvector1p0"))
    assert trees.only("isa", f"{LIB}/f.o", "sg2042-xthead").startswith("may use xtheadvector, which")


def test_an_instruction_set_that_cannot_be_read(trees):
    trees.put(f"{LIB}/f.o", elf(isa="rv64!"))
    assert trees.only("isa", f"{LIB}/f.o") == "'rv64!' names no RISC-V instruction set (Tag_RISCV_arch)"


@pytest.mark.parametrize("flags", [0x1, 0x3, 0x4, 0xD])
def test_another_float_abi(trees, flags):
    trees.put(f"{LIB}/f.o", elf(flags=flags))
    assert trees.only("elf-machine", f"{LIB}/f.o") == f"has ELF flags {flags:#x}; sg2042 has 0x5"
    trees.put(f"{LIB}/f.o", elf())
    trees.put(f"{LIB}/libf.a", archive(("f.o/", elf(flags=flags))))
    assert trees.only("elf-machine", f"{LIB}/libf.a") == f"its member f.o has ELF flags {flags:#x}; sg2042 has 0x5"


@pytest.mark.parametrize("wrapped", [False, True])
def test_bitcode_of_the_build_machine(trees, wrapped):
    content = bitcode("x86_64-pc-linux-gnu", wrapped=wrapped)
    trees.put(f"{LIB}/libf.a", archive(("f.o/", content), ("g.o/", bitcode("riscv64-unknown-linux-gnu"))))
    wanted = "is LLVM bitcode for x86_64-pc-linux-gnu; sg2042 is riscv64-linux-gnu"
    assert trees.only("elf-machine", f"{LIB}/libf.a") == f"its member f.o {wanted}"
    trees.put(f"{LIB}/libf.a", archive())
    trees.put(f"{LIB}/f.bc", content)
    assert trees.only("elf-machine", f"{LIB}/f.bc") == wanted


def test_a_damaged_object_in_an_archive(trees):
    trees.put(f"{LIB}/libf.a", archive(("f.o/", elf()[:40])))
    assert trees.only("elf-damaged", f"{LIB}/libf.a") == "its member f.o begins like ELF but cannot be read"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "is empty"),
        (archive(("f.o/", elf()))[:-2], "begins like an archive but cannot be read: the member at offset 8 is cut off"),
        (b"!<arc", "begins like no archive"),
        (bytes(100), "begins like no archive"),
        (archive(("f.o/", b""), magic=b"!<thin>\n"), "is a thin archive: it only names its 1 members, the first f.o"),
    ],
    ids=["empty", "cut", "short", "zeros", "thin"],
)
def test_damaged_archives(trees, content, detail):
    trees.put(f"{LIB}/libf.a", content)
    assert trees.only("archive-damaged", f"{LIB}/libf.a").endswith(detail)


def test_a_thin_archive_of_ar(trees):
    trees.put("own.o", elf(isa=SG2042_ISA), "parts")
    subprocess.run(["ar", "rcsT", "libf.a", "own.o"], cwd=trees.directory / "parts", check=True)
    trees.put(f"{LIB}/libf.a", (trees.directory / "parts/libf.a").read_bytes())
    assert trees.only("archive-damaged", f"{LIB}/libf.a").endswith("names its 1 members, the first own.o")


def test_a_linker_script_may_take_the_place_of_an_archive(trees):
    trees.put(f"{LIB}/libf.a", f"/* GNU ld script */\nGROUP ( {LIB}/libs.a )\n")
    assert trees.check() == []


@pytest.mark.parametrize("name", ["cmake/f/f.cmake", "pkgconfig/f.pc", "perl/f.pm"])
@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("set(lib /sysroot/usr/lib/riscv64-linux-gnu/libelf.so)", "/sysroot"),
        ('INTERFACE_INCLUDE_DIRECTORIES "/opt;/sysroot/usr/include"', "/sysroot"),
        ("Libs: -L/sysroot/opt/rocm-5.6.1/lib -lf", "/sysroot"),
        ("Cflags: -isystem/sysroot/usr/include", "/sysroot"),
        ("CMAKE_SYSROOT=/sysroot", "/sysroot"),
        ("include(/build/clr/f.cmake)", "/build/"),
        ("include(/src/clr/f.cmake)", "/src/clr"),
    ],
)
def test_a_path_of_the_sandbox_in_text(trees, name, line, path):
    trees.put(f"{LIB}/{name}", f"# first\n{line}\n")
    (finding,) = trees.check()
    assert (finding.rule, finding.file, finding.severity) == ("build-path-leak", f"{LIB}/{name}", ERROR)
    assert finding.detail == f"names {path}, which exists only while building, in line 2"


def test_a_path_of_the_sandbox_in_a_binary(trees):
    trees.put(f"{LIB}/f.o", elf(code=b"\0/sysroot/usr/include/x.h\0"))
    trees.put(f"{LIB}/libf.a", archive(("f.o/", elf(code=b"\0/sysroot/usr/include/x.h\0"))))
    found = trees.check()
    assert [(item.rule, item.file, item.severity) for item in found] == [
        ("build-path-leak", f"{LIB}/f.o", WARNING),
        ("build-path-leak", f"{LIB}/libf.a", WARNING),
    ]
    assert "names /sysroot, which exists only while building, at offset" in found[0].detail


@pytest.mark.parametrize("name", ["libf.so", "libf.a", "f.cmake"])
def test_a_path_of_the_machine(trees, name):
    path = f"{trees.directory}/build/x.h".encode()
    content = {"libf.so": elf(code=path), "libf.a": archive(("f.o/", elf(code=path))), "f.cmake": path}[name]
    trees.put(f"{LIB}/{name}", content)
    assert trees.only("build-path-leak", f"{LIB}/{name}").startswith(f"names {trees.directory}, a path of this machine")


def test_a_runpath_into_the_sysroot(trees):
    trees.put(f"{LIB}/libf.so", library(runpath="/sysroot/usr/lib"))
    rules = {finding.rule: finding.detail for finding in trees.check()}
    assert rules["runpath"] == "RUNPATH entry /sysroot/usr/lib does not begin with $ORIGIN"


def test_a_needed_library_that_nobody_has(trees):
    trees.put(f"{LIB}/libf.so", library(needed=("libc.so.6", "libgone.so.2")))
    detail = trees.only("needed-closure", f"{LIB}/libf.so")
    assert detail == "needs libgone.so.2, which no declared component and no package has"


@pytest.mark.parametrize("place", [SYSTEM, "/lib", "/usr/lib"])
def test_a_library_of_another_machine_that_has_the_name_only(trees, place):
    trees.put(f"{LIB}/libf.so", library(needed=("libz.so.1",)))
    trees.put(f"{place}/libz.so.1", library(X86_64, 0, soname="libz.so.1"), "sysroot")
    detail = trees.only("needed-closure", f"{LIB}/libf.so")
    assert detail == f"needs libz.so.1, but {place}/libz.so.1 is for EM_X86_64 (64 bits)"


def test_a_library_of_another_machine_is_passed_over_for_one_that_fits(trees):
    trees.put(f"{LIB}/libf.so", library(needed=("libz.so.1",)))
    trees.put(f"{SYSTEM}/libz.so.1", library(X86_64, 0), "sysroot")
    trees.put("/usr/lib/libz.so.1", library(), "sysroot")
    assert trees.check() == []


def test_a_library_of_another_machine_among_the_dependencies(trees):
    trees.put(f"{LIB}/libf.so", library(needed=("libt.so.1",), runpath="$ORIGIN"))
    trees.put(f"{PREFIX}/llvm/lib/libt.so.1", library(X86_64, 0), "dependency")
    detail = trees.only("needed-closure", f"{LIB}/libf.so")
    assert detail == f"needs libt.so.1, but {PREFIX}/llvm/lib/libt.so.1 is for EM_X86_64 (64 bits)"


def test_a_fault_in_an_archive_can_be_waived(trees):
    trees.put(f"{LIB}/libf.a", archive(("f.o/", elf(X86_64, 0))))
    (finding,) = trees.check(Waiver("elf-machine", ("lib/libf.a",), "a sample for the disassembler"))
    assert not finding.fails


def test_targets_without_an_instruction_set_are_asked_for_none(trees):
    target = make_catalog().target("arm64")
    assert (target.isa, target.elf_flags) == (None, None)
    made = Trees(trees.directory / "arm")
    made.put(f"{LIB}/f.o", elf(AARCH64, 0x7))
    assert made.check(target="arm64") == []


def test_large_archives_are_read_quickly(trees):
    member = elf(isa=SG2042_ISA, code=bytes(200_000))
    trees.put(f"{LIB}/libf.a", archive(*((f"{number}.o/", member) for number in range(300))))
    begun = time.process_time()
    assert trees.check() == []
    assert time.process_time() - begun < 10
