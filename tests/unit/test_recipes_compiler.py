"""What the recipes of compilers and of HIP change for hosts that are not x86, on small sources like the real ones."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from rocmbuild.errors import EditError
from rocmbuild.model.recipe import Edit
from rocmbuild.model.template import placeholders_in
from rocmbuild.tools.edits import apply_edits
from tests.changes import change
from tests.compilers import MACHINES, RECIPES, VERSIONS, edits, resolved


def only(recipe: str, file: str, word: str, arch: str = "riscv64", release: str = "5.6") -> list[Edit]:
    """Return the one edit of a file whose pattern or reason has a word."""
    of_file = [edit for edit in edits(recipe, arch, release) if edit.file == file]
    found = [edit for edit in of_file if word in edit.find] or [edit for edit in of_file if word in edit.why]
    assert len(found) == 1, [(edit.find, edit.why) for edit in found]
    return found


# ---- one edit at a time: where it fits, where the source has no need of it, where neither is so


@dataclass(frozen=True)
class Case:
    """A source before and after an edit, and sources that need none: changed already, or without what is changed."""

    recipe: str
    file: str
    word: str
    before: str
    after: str
    already: tuple[str, ...]
    arch: str = "riscv64"
    release: str = "5.6"
    lenient: bool = False

    def __str__(self) -> str:
        return f"{self.recipe}-{self.release}-{self.arch}-{self.file}-{self.word}"

    @property
    def chosen(self) -> list[Edit]:
        return only(self.recipe, self.file, self.word, self.arch, self.release)


COMGR = """\
  case AMD_COMGR_LANGUAGE_HIP:
    Args.push_back("-target");
    Args.push_back({triple});
    Args.push_back("--cuda-device-only");
"""

HIPCC = """\
    // To support __fp16 and _Float16, explicitly link with compiler-rt
    toolArgs += " -L" + hipClangPath + "/../lib/clang/" +
                hipClangVersion + "/lib/linux -lclang_rt.builtins-{cpu} ";
"""
HIPCC_PL = """\
        $toolArgs .= " -L$HIP_CLANG_PATH/../lib/clang/$HIP_CLANG_VERSION/lib/linux -lclang_rt.builtins-{cpu} "
"""
HIPCC_LATER = '      HIPLDFLAGS += "  --rtlib=compiler-rt -unwindlib=libgcc";\n'

TOP = """\
#if defined(__arm__) || defined(__aarch64__)
#define ATI_ARCH_ARM
#elif defined(__x86_64__)
#define ATI_ARCH_X86
{arch}#endif

#if defined(ATI_ARCH_X86)
#include <xmmintrin.h>
#endif /*ATI_ARCH_X86*/
"""
TOP_RISCV = "#elif defined(__riscv)\n#define ATI_ARCH_RISCV\n"

STACK = """\
  __asm__ __volatile__(
#if defined(ATI_ARCH_X86)
      LP64_SWITCH("movl %%esp", "movq %%rsp") ",%0"
      : "=r"(value)
#elif defined(ATI_ARCH_ARM)
      "mov %0,sp"
      : "=r"(value)
{arm}#else
      ""
#endif
          );
"""
STACK_RISCV = '#elif defined(ATI_ARCH_RISCV)\n      "mv %0,sp"\n      : "=r"(value)\n'

PAUSE = """\
void Os::spinPause() {{
#if defined(ATI_ARCH_X86)
  _mm_pause();
#elif defined(ATI_ARCH_ARM)
  __asm__ __volatile__("yield");
{arm}#endif
}}
"""
PAUSE_RISCV = """\
#elif defined(ATI_ARCH_RISCV)
  // the hint pause of Zihintpause, by its number: to older processors it is a fence of nothing
  __asm__ __volatile__(".insn i 0x0F, 0, x0, x0, 0x010");
"""
PAUSE_UPSTREAM = '#elif defined(ATI_ARCH_RISCV)\n  __asm__ __volatile__("pause");\n'

DIVISION = """\
  address insn;

#if defined(ATI_ARCH_X86)
  insn = (address)uc->uc_mcontext.gregs[LP64_SWITCH(REG_EIP, REG_RIP)];
#else
  {otherwise}
#endif

  if (Thread::current()->isWorkerThread()) {{
    if ({condition}) {{
#if defined(ATI_ARCH_X86)
      uc->uc_mcontext.gregs[LP64_SWITCH(REG_EIP, REG_RIP)] = (greg_t)insn;
#else
      assert(!"Unimplemented");
#endif
"""
UNIMPLEMENTED, UNSET = 'assert(!"Unimplemented");', "insn = nullptr;  // integer division does not trap"
SKIP, GUARDED_SKIP = "Os::skipIDIV(insn)", "insn != nullptr && Os::skipIDIV(insn)"

INCLUDES_6 = """\
#if defined(__AVX__)
#if defined(__MINGW64__)
#include <intrin.h>
#else
#include <immintrin.h>
#endif
#endif
"""
COPY_57 = """\
static inline void nontemporalMemcpy(void* __restrict dst, const void* __restrict src,
                              uint16_t size) {{
{start}  #if defined(__AVX512F__)
    for (auto i = 0u; i != size / sizeof(__m512i); ++i) {{
    }}
  #endif
  for (auto i = 0u; i != size / sizeof(int); ++i) {{
    _mm_stream_si32(dst, src);
  }}
{end}}}

void other() {{
}}
"""
COPY_6 = """\
static inline void nontemporalMemcpy(
    void* __restrict dst, const void* __restrict src, size_t size) {{
#if defined(ATI_ARCH_X86)
#if defined(__AVX512F__)
#endif
  // Add memory fence
  _mm_sfence();
#else
  std::memcpy(dst, src, size);
{fence}#endif
}}
"""
FLUSH = """\
        if (kernArgImpl == KernelArgImpl::DeviceKernelArgsHDP) {{
          *dev().info().hdpMemFlushCntl = 1u;
          auto kSentinel = *reinterpret_cast<volatile int*>(dev().info().hdpMemFlushCntl);
{flushed}        }} else if (kernArgImpl == KernelArgImpl::DeviceKernelArgsReadback &&
                   argSize != 0) {{
          _mm_sfence();
          *(argBuffer + argSize - 1) = *(parameters + argSize - 1);
          _mm_mfence();
          auto kSentinel = *reinterpret_cast<volatile unsigned char*>(
              argBuffer + argSize - 1);
{read}        }}
"""
GRAPH = """\
    if (kernArgImpl == KernelArgImpl::DeviceKernelArgsHDP) {{
      *device_->info().hdpMemFlushCntl = 1u;
      auto kSentinel = *reinterpret_cast<volatile int*>(device_->info().hdpMemFlushCntl);
{flushed}    }} else if (kernArgImpl == KernelArgImpl::DeviceKernelArgsReadback) {{
      auto kSentinel = *reinterpret_cast<volatile unsigned char*>(dev_ptr - 1);
      _mm_sfence();
      *(dev_ptr - 1) = kSentinel;
      _mm_mfence();
      kSentinel = *reinterpret_cast<volatile unsigned char*>(dev_ptr - 1);
{read}    }}
"""
FENCE = "_mm_mfence();\n"

PCH = """\
  $LLVM_DIR/bin/clang{flags} -O3 --rocm-path=$HIP_INC_DIR/.. -x hip $tmp/hip_pch.h -E >$tmp/pch_wave32.cui &&
  $LLVM_DIR/bin/clang -cc1 -O3 -emit-pch -aux-triple {aux} -fcuda-is-device -x hip-cpp-output - <$tmp/pch_wave32.cui &&
  $LLVM_DIR/bin/clang{flags} -O3 --rocm-path=$HIP_INC_DIR/.. -x hip $tmp/hip_pch.h -E >$tmp/pch_wave64.cui &&
  $LLVM_DIR/bin/clang -cc1 -O3 -emit-pch -aux-triple {aux} -fcuda-is-device -x hip-cpp-output - <$tmp/pch_wave64.cui &&
  $LLVM_DIR/bin/llvm-mc{assembler} -o hip_pch.o $tmp/hip_pch.mcin --filetype=obj &&
  $LLVM_DIR/bin/clang{flags} -O3 --rocm-path=$HIP_INC_DIR/.. -x hip $tmp/hipRTC_header.h -E -o $tmp/hiprtc &&
  $LLVM_DIR/bin/llvm-mc{assembler} -o $tmp/hiprtc_header.o $tmp/hipRTC_header.mcin --filetype=obj &&
  $LLVM_DIR/bin/clang{link} $tmp/hiprtc_header.o -o $rtc_shared_lib_out -shared &&
  $LLVM_DIR/bin/clang{flags} -O3 -emit-llvm -c -o $tmp/tmp.bc -x hip-cpp-output $tmp/hiprtc &&
"""
PLATFORM = """\
  if(NOT DEFINED ENV{{HIP_PLATFORM}})
{begin}execute_process(COMMAND ${{hip_HIPCONFIG_EXECUTABLE}} --platform
      OUTPUT_VARIABLE HIP_PLATFORM
      OUTPUT_STRIP_TRAILING_WHITESPACE){end}
  else()
"""
ASKED = PLATFORM.format(begin="    ", end="")
KNOWN = PLATFORM.format(
    begin="    if(CMAKE_CROSSCOMPILING)\n      set(HIP_PLATFORM amd)\n    else()\n      ", end="\n    endif()"
)

X86 = "x86_64-unknown-linux-gnu"
RISCV = MACHINES["riscv64"]

RTC = """\
add_custom_command(
  OUTPUT ${{HIPRTC_GEN_PREPROCESSED}}
  COMMAND {clang}{flags} -O3 --rocm-path=${{PROJECT_SOURCE_DIR}}/include/.. -E -o ${{HIPRTC_GEN_PREPROCESSED}}
  DEPENDS clang ${{HIPRTC_GEN_HEADER}})
add_custom_command(
  OUTPUT ${{HIPRTC_GEN_OBJ}}
  COMMAND {mc}{assembler} -o ${{HIPRTC_GEN_OBJ}} ${{HIPRTC_GEN_MCIN}} --filetype=obj
  DEPENDS llvm-mc ${{HIPRTC_GEN_PREPROCESSED}} ${{HIPRTC_GEN_MCIN}})
add_custom_command(
  OUTPUT ${{HIPRTC_GEN_DIR}}/tmp.bc
  COMMAND {clang}{flags} -O3 -emit-llvm -c ${{HIPRTC_GEN_PREPROCESSED}} -o ${{HIPRTC_GEN_DIR}}/tmp.bc
  DEPENDS clang ${{HIPRTC_GEN_PREPROCESSED}})
"""
CALLS = {
    "5.6": {"clang": "$<TARGET_FILE:clang>", "mc": "$<TARGET_FILE:llvm-mc>"},
    "6.4": {"clang": "${clang}", "mc": "${llvm-mc}"},
}


def _pch(**given: str) -> str:
    return PCH.format(**{"flags": "", "aux": X86, "assembler": "", "link": "", **given})


def _pch_case(word: str, **after: str) -> Case:
    return Case("clr-hip", "hipamd/src/hip_embed_pch.sh", word, _pch(), _pch(**after), (_pch(**after),))


def _rtc_cases(release: str) -> list[Case]:
    def text(**given: str) -> str:
        return RTC.format(**CALLS[release], **{"flags": "", "assembler": "", **given})

    flags, assembler = text(flags=" --config=/clang.cfg"), text(assembler=f" {RISCV['assembler']}")
    file = "hipamd/src/hiprtc/CMakeLists.txt"
    return [
        Case("clr-hip", file, "<TARGET_FILE:clang>", text(), flags, (flags,), release=release),
        Case("clr-hip", file, "<TARGET_FILE:llvm-mc>", text(), assembler, (assembler,), release=release),
    ]


def _hipcc_cases(arch: str, cpu: str) -> list[Case]:
    program, script = (text.format(cpu="x86_64") for text in (HIPCC, HIPCC_PL))
    changed, changed_script = (text.format(cpu=cpu) for text in (HIPCC, HIPCC_PL))
    return [
        Case("hipcc", "src/hipBin_amd.h", "builtins", program, changed, (changed, HIPCC_LATER), arch),
        Case("hipcc", "src/hipBin_amd.h", "builtins", program, changed, (changed, HIPCC_LATER), arch, "6.4"),
        Case("hipcc", "bin/hipcc.pl", "builtins", script, changed_script, (changed_script, HIPCC_LATER), arch),
    ]


def _rocclr_cases(recipe: str) -> list[Case]:
    division = DIVISION.format(otherwise=UNIMPLEMENTED, condition=SKIP)
    unset = DIVISION.format(otherwise=UNSET, condition=SKIP)
    guarded = DIVISION.format(otherwise=UNIMPLEMENTED, condition=GUARDED_SKIP)
    posix, virtual, later = "rocclr/os/os_posix.cpp", "rocclr/device/rocm/rocvirtual.cpp", "6.4"
    memory, x86 = "#include <memory>\n", "#if defined(ATI_ARCH_X86)\n#include <immintrin.h>\n#endif\n"
    copied = COPY_57.format(start="#if defined(ATI_ARCH_X86)\n", end="#else\n  std::memcpy(dst, src, size);\n#endif\n")
    flushed, read = (FLUSH.format(**{"flushed": "", "read": "", key: " " * 10 + FENCE}) for key in ("flushed", "read"))
    return [
        Case(
            recipe,
            "rocclr/include/top.hpp",
            "define ATI_ARCH_X86",
            TOP.format(arch=""),
            TOP.format(arch=TOP_RISCV),
            (TOP.format(arch=TOP_RISCV),),
        ),
        Case(recipe, "rocclr/os/os.hpp", "mov", STACK.format(arm=""), STACK.format(arm=STACK_RISCV), ()),
        Case(
            recipe,
            "rocclr/os/os.cpp",
            "yield",
            PAUSE.format(arm=""),
            PAUSE.format(arm=PAUSE_RISCV),
            (PAUSE.format(arm=PAUSE_UPSTREAM),),
        ),
        Case(recipe, posix, "Unimplemented", division, unset, (unset,), lenient=True),
        Case(recipe, posix, "skipIDIV", division, guarded, (guarded,), lenient=True),
        Case(
            recipe,
            virtual,
            "immintrin",
            f"{memory}#include <immintrin.h>\n",
            memory + x86,
            (memory, memory + x86, memory + INCLUDES_6),
            release="5.7",
        ),
        Case(
            recipe,
            virtual,
            "nontemporalMemcpy",
            COPY_57.format(start="", end=""),
            copied,
            (memory, copied, COPY_6.format(fence="")),
            release="5.7",
        ),
        Case(
            recipe,
            virtual,
            "memcpy\\(dst",
            COPY_6.format(fence=""),
            COPY_6.format(fence="  _mm_sfence();\n"),
            (memory, COPY_57.format(start="", end="")),
            release=later,
            lenient=True,
        ),
        Case(
            recipe,
            virtual,
            "volatile int",
            FLUSH.format(flushed="", read=""),
            flushed,
            (memory, flushed),
            release=later,
            lenient=True,
        ),
        Case(
            recipe,
            virtual,
            "volatile unsigned char",
            FLUSH.format(flushed="", read=""),
            read,
            (memory, read),
            release=later,
            lenient=True,
        ),
    ]


def _graph_cases() -> list[Case]:
    file = "hipamd/src/hip_graph_internal.cpp"
    before = GRAPH.format(flushed="", read="")
    flushed, read = (GRAPH.format(**{"flushed": "", "read": "", key: " " * 6 + FENCE}) for key in ("flushed", "read"))
    return [
        Case("clr-hip", file, "volatile int", before, flushed, ("", flushed), release="6.4", lenient=True),
        Case("clr-hip", file, "volatile unsigned char", before, read, ("", read), release="6.4", lenient=True),
    ]


TRIPLES = {arch: f'"{values["triple"]}"' for arch, values in MACHINES.items()}
CASES = [
    *(
        Case(
            "comgr",
            "src/comgr-compiler.cpp",
            "x86_64",
            COMGR.format(triple=f'"{X86}"'),
            COMGR.format(triple=TRIPLES[arch]),
            (COMGR.format(triple=TRIPLES[arch]), ""),
            arch,
        )
        for arch in ("riscv64", "arm64")
    ),
    *_hipcc_cases("riscv64", "riscv64"),
    *_hipcc_cases("arm64", "aarch64"),
    *_rocclr_cases("clr-hip"),
    *_rocclr_cases("clr-opencl"),
    *_graph_cases(),
    Case(
        "clr-hip",
        "hipamd/hip-config.cmake.in",
        "HIPCONFIG",
        ASKED,
        KNOWN,
        (KNOWN, "set(HIP_PLATFORM nvidia)\n"),
        release="6.4",
    ),
    _pch_case("-aux-triple", aux="riscv64-linux-gnu -fno-signed-char"),
    _pch_case("(?= -O3 )", flags=" --config=/clang.cfg"),
    _pch_case("(?= \\$tmp/hiprtc_header", link=" --config=/clang.cfg -fuse-ld=lld"),
    _pch_case("llvm-mc", assembler=f" {RISCV['assembler']}"),
    *_rtc_cases("5.6"),
    *_rtc_cases("6.4"),
]
"""Of the release that an edit is made for; conditions and patterns have to spare the others."""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_edit_changes_what_it_is_for(tmp_path: Path, case: Case) -> None:
    outcomes = change(tmp_path, case.chosen, {case.file: case.before})
    assert [outcome.kind for outcome in outcomes] == ["applied"]
    assert (tmp_path / case.file).read_text() == case.after
    assert [outcome.kind for outcome in apply_edits(tmp_path, case.chosen)] == ["present"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_edit_leaves_alone_what_has_no_need_of_it(tmp_path: Path, case: Case) -> None:
    for text in case.already:
        outcomes = change(tmp_path, case.chosen, {case.file: text})
        assert [outcome.kind for outcome in outcomes] == ["present"], text
        assert (tmp_path / case.file).read_text() == text


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_edit_that_does_not_fit_is_an_error_or_said_to_be_left_out(tmp_path: Path, case: Case) -> None:
    twice = case.before + case.before
    if any(edit.count == "any" for edit in case.chosen):
        assert [outcome.times for outcome in change(tmp_path, case.chosen, {case.file: twice})] == [2]
        return
    if case.lenient:
        assert [outcome.kind for outcome in change(tmp_path, case.chosen, {case.file: twice})] == ["left out"]
    else:
        with pytest.raises(EditError, match=re.escape(case.file)):
            change(tmp_path, case.chosen, {case.file: twice})
    assert (tmp_path / case.file).read_text() == twice


# ---- which machines they are for


@pytest.mark.parametrize("release", VERSIONS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_x86_is_built_as_if_there_were_no_other_machines(recipe: str, release: str) -> None:
    theirs = {edit for arch in ("arm64", "riscv64") for edit in resolved(recipe, arch, release).edits}
    ours = set(resolved(recipe, "amd64", release, cross=False).edits)
    assert ours <= theirs
    for edit in ours:
        assert not placeholders_in(edit.replace) & {"triple", "assembler", "host:flags", "sysroot"}, edit.where
    assert resolved(recipe, "amd64", release, cross=False).patches == ()
    for edit in theirs - ours:
        assert edit.why and edit.file.startswith(("rocclr/", "hipamd/", "src/", "bin/", "hip-lang")), edit.where


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_edit_for_another_machine_is_made_on_x86(case: Case) -> None:
    (edit,) = case.chosen
    found = [other for other in edits(case.recipe, "amd64", case.release) if other.file == case.file]
    assert edit.find not in [other.find for other in found]


def test_processors_have_their_own_edits_and_share_the_rest() -> None:
    riscv, arm = ({(e.file, e.find) for e in resolved("clr-hip", arch, "6.4").edits} for arch in ("riscv64", "arm64"))
    assert arm < riscv
    assert {file for file, _ in riscv - arm} == {"rocclr/include/top.hpp", "rocclr/os/os.hpp", "rocclr/os/os.cpp"}


# ---- order between memory and devices

TOP_PROGRAM = """\
#include "top.hpp"
extern "C" void store() { _mm_sfence(); }
extern "C" void both() { _mm_mfence(); }
"""
RISCV_FENCES = {"store": "fence ow, ow", "both": "fence iorw, iorw"}
ARM_FENCES = {"store": "dmb oshst", "both": "dsb sy"}


@pytest.mark.parametrize(
    ("arch", "macro", "expected"), [("riscv64", "__riscv", RISCV_FENCES), ("arm64", "__aarch64__", ARM_FENCES)]
)
def test_fences_reach_devices(tmp_path: Path, arch: str, macro: str, expected: dict[str, str]) -> None:
    file = "rocclr/include/top.hpp"
    chosen = only("clr-hip", file, "x86's own words", arch, "6.4")
    for kind in ("applied", "present"):
        text = (tmp_path / file).read_text() if kind == "present" else TOP.format(arch="")
        assert [outcome.kind for outcome in change(tmp_path, chosen, {file: text})] == [kind]
    header = tmp_path / file
    # the assembler is not run, so any compiler shows what it would be given; only the header is not for x86
    header.write_text(header.read_text().replace("__x86_64__", "SAMPLE").replace(f"elif defined({macro})", "elif 1"))
    program = header.with_name("program.cpp")
    program.write_text(TOP_PROGRAM)
    argv = ["g++", "-O1", "-S", "-o", "-", str(program)]
    assembly = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    for function, instruction in expected.items():
        body = assembly.split(f"\n{function}:")[1].split(f".size\t{function}")[0]
        assert re.findall(r"^\s*((?:fence|dmb|dsb)\b.*)$", body, re.MULTILINE) == [instruction]


# ---- LLVM of a cross build


def test_llvm_for_another_machine_runs_the_generators_of_this_one() -> None:
    native, cross = (resolved("llvm", "riscv64", cross=cross) for cross in (False, True))
    assert "llvm" in cross.needs.tools and "llvm" not in native.needs.tools
    assert cross.variables["LLVM_NATIVE_TOOL_DIR"] == "{prefix}/llvm/bin"
    assert "LLVM_NATIVE_TOOL_DIR" not in native.variables
    assert cross.build_programs == "bin"


def test_llvm_of_the_distribution_needs_no_llvm_to_be_built() -> None:
    assert "llvm" not in resolved("llvm", "riscv64", system=True).needs.tools
