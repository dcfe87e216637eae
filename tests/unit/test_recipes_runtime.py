"""What the recipes of the runtimes change for machines that are not x86, on small sources like the real ones."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest

from rocmbuild.errors import EditError
from rocmbuild.model.condition import Facts
from tests.changes import change
from tests.shipped import CATALOG

RUNTIMES = ("device-libs", "rocm-cmake", "rocm-core", "rocm-smi-lib", "rocminfo", "rocr", "roct")
OLD, NEW = "1.9.0", "1.15.0"
X86 = "#if defined(__i386__) || defined(__x86_64__)\n"


def edits(recipe, arch="riscv64", *, version=OLD, cross=True):
    """Return the edits of a recipe as they are for one machine."""
    others = {"roct"} if version == OLD else set()  # the thunk moved into the sources of the runtime
    facts = Facts(version, "5.6.1", "17.0.6", arch, frozenset({"llvm", "rocr"} | others), cross=cross)
    return CATALOG.recipe(recipe).resolve(facts).edits


def only(recipe, file, word, **facts):
    """Return the one edit of a file whose pattern has a word."""
    found = [edit for edit in edits(recipe, **facts) if edit.file == file and word in edit.find]
    assert len(found) == 1, [edit.find for edit in found]
    return found


# ---- one edit at a time: where it fits, where the source has the change already, where neither is so


@dataclass(frozen=True)
class Case:
    """A source before and after one edit, and one that has the change already in upstream's own words."""

    recipe: str
    file: str
    word: str
    before: str
    after: str
    already: str
    version: str = OLD

    def __str__(self) -> str:
        return f"{self.recipe}-{self.version}-{self.file}-{self.word}"


MWAITX = """\
#include "core/inc/{name}.h"
{include}
#define MWAITX_ECX_TIMER_ENABLE 0x2
void wait() {{ if (g_use_mwaitx) _mm_monitorx(&value, 0, 0); }}
"""
MACROS = "#define _mm_monitorx(address, extensions, hints)\n#define _mm_mwaitx(extensions, hints, clock)\n"

CPUID = """\
bool ParseCpuID(cpuid_t* cpuinfo) {{
{top}  uint32_t eax;
  memset(cpuinfo, 0, sizeof(*cpuinfo));
  if (!__get_cpuid_max(0x80000004, NULL)) {{
    return false;
  }}
  return true;
{bottom}}}

}}   //  namespace os
"""
CLEARED = "#else\n  memset(cpuinfo, 0, sizeof(*cpuinfo));\n  return true;\n#endif\n"
REFUSED = "#else\n  return false;\n#endif\n"

IMAGE = """\
#if defined(__GNUC__)
{allocator}#if defined(__i386__) || defined(__x86_64__)
#include <x86intrin.h>
{rest}#endif

namespace rocr {{
#endif
"""
ERROR = '#else\n#error  \\\n    "Processor not identified.  " \\\n            "clock"\n'

ENDIAN = """\
#if !defined(LITTLEENDIAN_CPU) && !defined(BIGENDIAN_CPU)
{first}defined(__i386__) || defined(__x86_64__) || defined(_M_IX86) || \\
    defined(_M_X64)
#define LITTLEENDIAN_CPU
#endif
#endif
"""
BYTES = "(defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)"
UPSTREAM_BYTES = f"#if {BYTES[1:-1]}\n#define LITTLEENDIAN_CPU\n#elif "

SDMA = """\
      std::atomic_thread_fence(std::memory_order_release);
      *other = 1;
      {fence}(std::memory_order_release);

      *reinterpret_cast<RingIndexTy*>(queue_resource_.Queue_DoorBell) =
"""

INFO = """\
set(ROCMINFO_CXX_FLAGS ${{ROCMINFO_CXX_FLAGS}} -Wall)
{plain}if((${{{processor}}} STREQUAL "x86_64") OR
   (${{{processor}}} STREQUAL "AMD64"))
  set(ROCMINFO_CXX_FLAGS ${{ROCMINFO_CXX_FLAGS}} {flags})
endif()
"""
M64 = "set(ROCMINFO_CXX_FLAGS ${ROCMINFO_CXX_FLAGS} -m64)\n"
HOST, TARGET = "CMAKE_HOST_SYSTEM_PROCESSOR", "CMAKE_SYSTEM_PROCESSOR"
WITHOUT_M64 = "set(ROCMINFO_CXX_FLAGS ${ROCMINFO_CXX_FLAGS})\n"

SMI = 'set(CMAKE_CXX_FLAGS\n "${{CMAKE_CXX_FLAGS}} -Wall{flags}")\n'
SMI_GUARDED = (
    'if (${CMAKE_SYSTEM_PROCESSOR} STREQUAL "x86_64")\n'
    '    set(CMAKE_CXX_FLAGS\n     "${CMAKE_CXX_FLAGS} -m64 -msse -msse2")\nendif()\n'
)
LINKER = """\
if (CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    set (CMAKE_SHARED_LINKER_FLAGS "{flags}-Wl,--build-id=sha1")
endif()
"""
KEPT = "${CMAKE_SHARED_LINKER_FLAGS} "

FLAGS = "set ( HSA_CXX_FLAGS ${HSA_COMMON_CXX_FLAGS} -fexceptions"
GUARDED_FLAGS = (
    f'{FLAGS} )\nif ( CMAKE_SYSTEM_PROCESSOR MATCHES "i?86|x86_64|amd64|AMD64" )\n'
    "  set ( HSA_CXX_FLAGS ${HSA_CXX_FLAGS} -mmwaitx )\nendif()\n"
)


def _mwaitx(name):
    bare, guarded = "#include <mwaitxintrin.h>", f"{X86}#include <mwaitxintrin.h>"
    before, already = (MWAITX.format(name=name, include=text) for text in (bare, f"{guarded}\n#endif"))
    after = MWAITX.format(name=name, include=f"{guarded}\n#else\n{MACROS}#endif")
    return Case("rocr", f"src/core/runtime/{name}.cpp", "mwaitxintrin", before, after, already)


def _layouts(file, word, before, after, already):
    roots = (("src", OLD), ("runtime/hsa-runtime", NEW))
    return [Case("rocr", f"{root}/{file}", word, before, after, already, version) for root, version in roots]


CASES = [
    Case("rocr", "src/CMakeLists.txt", "mmwaitx", f"{FLAGS} -mmwaitx -Wno )\n", f"{FLAGS} -Wno )\n", GUARDED_FLAGS),
    _mwaitx("default_signal"),
    _mwaitx("interrupt_signal"),
    Case(
        "rocr",
        "src/core/util/lnx/os_linux.cpp",
        "cpuid\\.h",
        "#include <cpuid.h>\n#include <mutex>\n",
        f"{X86}#include <cpuid.h>\n#endif\n#include <mutex>\n",
        f"{X86}#include <cpuid.h>\n#endif\n",
    ),
    Case(
        "rocr",
        "src/core/util/lnx/os_linux.cpp",
        "ParseCpuID",
        CPUID.format(top="", bottom=""),
        CPUID.format(top=X86, bottom=CLEARED),
        CPUID.format(top=X86, bottom=REFUSED),
    ),
    *_layouts(
        "core/util/lnx/os_linux.cpp",
        "return false",
        CPUID.format(top=X86, bottom=REFUSED),
        CPUID.format(top=X86, bottom=CLEARED),
        CPUID.format(top=X86, bottom=CLEARED),
    ),
    *_layouts(
        "image/util.h",
        "mm_malloc",
        IMAGE.format(allocator='#include "mm_malloc.h"\n', rest=f"#elif defined(__loongarch64)\n{ERROR}"),
        IMAGE.format(allocator="", rest=""),
        "",
    ),
    Case(
        "rocr",
        "src/inc/hsa.h",
        "LITTLEENDIAN",
        ENDIAN.format(first="#if "),
        ENDIAN.format(first=f"#if {BYTES} || \\\n    "),
        ENDIAN.format(first=UPSTREAM_BYTES),
    ),
    *_layouts(
        "core/runtime/amd_blit_sdma.cpp",
        "Queue_DoorBell",
        SDMA.format(fence="std::atomic_thread_fence"),
        SDMA.format(fence="atomic::Fence"),
        "",
    ),
    Case(
        "rocminfo",
        "CMakeLists.txt",
        "-m64",
        INFO.format(plain=M64, processor=TARGET, flags="-msse -msse2"),
        INFO.format(plain=WITHOUT_M64, processor=TARGET, flags="-msse -msse2"),
        INFO.format(plain="", processor=TARGET, flags="-m64 -msse -msse2"),
    ),
    Case(
        "rocminfo",
        "CMakeLists.txt",
        "HOST_SYSTEM",
        INFO.format(plain="", processor=HOST, flags="-msse"),
        INFO.format(plain="", processor=TARGET, flags="-msse"),
        INFO.format(plain="", processor=TARGET, flags="-msse"),
    ),
    Case(
        "rocm-smi-lib",
        "CMakeLists.txt",
        "-m64",
        SMI.format(flags=" -m64 -msse -msse2"),
        SMI.format(flags=""),
        SMI.format(flags="") + SMI_GUARDED,
    ),
    Case(
        "rocm-smi-lib",
        "CMakeLists.txt",
        "build-id",
        LINKER.format(flags=""),
        LINKER.format(flags=KEPT),
        LINKER.format(flags=KEPT),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_edit_changes_what_it_is_for(tmp_path, case):
    outcomes = change(tmp_path, only(case.recipe, case.file, case.word, version=case.version), {case.file: case.before})
    assert [outcome.kind for outcome in outcomes] == ["applied"]
    assert (tmp_path / case.file).read_text() == case.after


@pytest.mark.parametrize("case", [case for case in CASES if case.already], ids=str)
def test_an_edit_leaves_alone_what_upstream_has_changed(tmp_path, case):
    chosen = only(case.recipe, case.file, case.word, version=case.version)
    outcomes = change(tmp_path, chosen, {case.file: case.already})
    assert [outcome.kind for outcome in outcomes] == ["present"]
    assert (tmp_path / case.file).read_text() == case.already


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_edit_that_does_not_fit_is_an_error(tmp_path, case):
    other = "-Wl,--build-id=none\n"
    with pytest.raises(EditError, match=re.escape(case.file)):
        change(tmp_path, only(case.recipe, case.file, case.word, version=case.version), {case.file: other})
    assert (tmp_path / case.file).read_text() == other


def test_management_library_without_a_build_id_needs_no_change(tmp_path):
    chosen = only("rocm-smi-lib", "CMakeLists.txt", "build-id")
    assert [outcome.kind for outcome in change(tmp_path, chosen, {"CMakeLists.txt": "project(smi)\n"})] == ["present"]


DRM = "pkg_check_modules(DRM_AMDGPU REQUIRED IMPORTED_TARGET libdrm_amdgpu)\n"


@pytest.mark.parametrize(
    ("recipe", "file", "version"), [("roct", "CMakeLists.txt", OLD), ("rocr", "libhsakmt/CMakeLists.txt", NEW)]
)
def test_no_directory_of_the_sysroot_gets_into_the_thunks_cmake_files(tmp_path, recipe, file, version):
    chosen = only(recipe, file, "DRM_AMDGPU", version=version)
    change(tmp_path, chosen, {file: f"{DRM}target_link_libraries ( hsakmt PRIVATE ${{DRM_LDFLAGS}} )\n"})
    lines = (tmp_path / file).read_text().splitlines()
    assert lines[1:3] == ["set ( DRM_LDFLAGS ${DRM_LIBRARIES} )", "set ( DRM_AMDGPU_LDFLAGS ${DRM_AMDGPU_LIBRARIES} )"]
    assert not [e for e in edits(recipe, "riscv64", version=version, cross=False) if e.file == file and "DRM" in e.find]


def test_cpuid_of_old_sources_is_settled_by_the_first_of_its_edits(tmp_path):
    file = "src/core/util/lnx/os_linux.cpp"
    source = "#include <cpuid.h>\n" + CPUID.format(top="", bottom="")
    outcomes = [o for o in change(tmp_path, edits("rocr"), {file: source}) if o.file == file]
    assert [outcome.kind for outcome in outcomes] == ["applied", "applied", "present"]
    assert (tmp_path / file).read_text().endswith(CPUID.format(top=X86, bottom=CLEARED))


# ---- order between memory and doorbells

ATOMICS = """\
#include "utils.h"
#define ALWAYS_CONSERVATIVE 0
#ifdef SAMPLE_X86
#define X64_ORDER_WC 1
#endif
#define __forceinline inline __attribute__((always_inline))
namespace rocr {
namespace atomic {
static __forceinline void PreFence(std::memory_order order) {
#if ALWAYS_CONSERVATIVE
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#elif X64_ORDER_WC
  switch (order) {
    case std::memory_order_release:
      _mm_sfence();
    default:;
  }
#endif
}
static __forceinline void PostFence(std::memory_order order) {
#if ALWAYS_CONSERVATIVE
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#elif X64_ORDER_WC
  switch (order) {
    case std::memory_order_seq_cst:
      return _mm_mfence();
    case std::memory_order_acquire:
      return _mm_lfence();
    default:;
  }
#endif
}
static __forceinline void Fence(std::memory_order order=std::memory_order_seq_cst) {
#if ALWAYS_CONSERVATIVE
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#elif X64_ORDER_WC
  switch (order) {
    case std::memory_order_release:
      return _mm_sfence();
    default:;
  }
#else
  std::atomic_thread_fence(order);
#endif
}
}
}
"""
UTILS = "#include <stdlib.h>\n\nnamespace rocr {\ntypedef unsigned int uint;\n}  // namespace rocr\n"

PROGRAM = """\
#include "atomic_helpers.h"
using namespace rocr;
extern "C" void store(long* at, std::memory_order) {
  atomic::PreFence(std::memory_order_ORDER);
  __asm__ __volatile__("# access" ::: "memory");
  atomic::PostFence(std::memory_order_ORDER);
}
extern "C" void fence() { atomic::Fence(std::memory_order_release); }
extern "C" void x86(long* at) { _mm_pause(); _mm_sfence(); _mm_mfence(); _mm_clflush(at); }
"""

LAYOUTS = [("src", OLD), ("runtime/hsa-runtime", NEW)]


@dataclass(frozen=True)
class Processor:
    """An architecture, the macro that tells it, and its instructions that order accesses."""

    arch: str
    macro: str
    words: dict[str, str]


RISCV = Processor(
    "riscv64", "__riscv", {"release": "fence iorw, ow", "acquire": "fence ir, iorw", "full": "fence iorw, iorw"}
)
ARM = Processor("arm64", "__aarch64__", {"release": "dmb osh", "acquire": "dmb oshld", "full": "dmb osh"})
ORDERS = {
    "relaxed": ["access"],
    "acquire": ["access", "acquire"],
    "release": ["release", "access"],
    "acq_rel": ["release", "access", "acquire"],
    "seq_cst": ["release", "access", "full"],
}


def _assembly(tree, root, macro, order):
    """Compile a program that uses the edited header as if for another machine, and return its instructions."""
    for path in tree.rglob("*.h"):
        # the assembler is not run, so any compiler shows what it would be given; only the header is not for x86
        path.write_text(path.read_text().replace("__x86_64__", "SAMPLE_X86").replace(f"defined({macro})", "1"))
    source = tree / root / "core/util/program.cpp"
    source.write_text(PROGRAM.replace("ORDER", order))
    command = ["g++", "-std=c++17", "-O1", "-S", "-o", "-", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _function(assembly, name):
    body = assembly.split(f"\n{name}:")[1].split(f".size\t{name}")[0]
    lines = [line.strip() for line in body.splitlines()]
    return [line for line in lines if line.startswith(("fence", "dmb", "dsb", "yield", ".insn", "# access"))]


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.parametrize("processor", [RISCV, ARM], ids=lambda processor: processor.arch)
@pytest.mark.parametrize(("root", "version"), LAYOUTS, ids=["5.6", "6.4"])
@pytest.mark.parametrize("order", ORDERS)
def test_accesses_are_ordered_with_those_of_devices(tmp_path, processor, root, version, order):
    files = {f"{root}/core/util/atomic_helpers.h": ATOMICS, f"{root}/core/util/utils.h": UTILS}
    change(tmp_path, edits("rocr", processor.arch, version=version), files)
    assembly = _assembly(tmp_path, root, processor.macro, order)
    words = {**processor.words, "access": "# access"}
    assert _function(assembly, "store") == [words[word] for word in ORDERS[order]]
    assert _function(assembly, "fence") == [words["full"]]


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (RISCV, [".insn i 0x0F, 0, x0, x0, 0x010", *["fence iorw, iorw"] * 3]),
        (ARM, ["yield", "dsb sy", "dsb sy", "dmb osh"]),
    ],
    ids=["riscv64", "arm64"],
)
def test_what_is_asked_of_x86_has_a_meaning_elsewhere(tmp_path, processor, expected):
    files = {"src/core/util/atomic_helpers.h": ATOMICS, "src/core/util/utils.h": UTILS}
    change(tmp_path, edits("rocr", processor.arch), files)
    assert _function(_assembly(tmp_path, "src", processor.macro, "relaxed"), "x86") == expected


# ---- machines of x86


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize("recipe", RUNTIMES)
def test_amd64_has_no_edit_for_other_machines(tmp_path, recipe, version):
    native = edits(recipe, "amd64", version=version, cross=False)
    sources = {}
    for case in CASES:
        if case.recipe == recipe and case.version == version:
            sources[case.file] = sources.get(case.file, "") + case.before
    change(tmp_path, native, sources)
    assert {file: (tmp_path / file).read_text() for file in sources} == sources
    assert set(native) <= set(edits(recipe, "riscv64", version=version))
    assert not any(edit.write for edit in native)


def test_other_machines_have_edits_of_their_own():
    for arch in ("riscv64", "arm64"):
        for recipe in ("rocr", "rocminfo", "rocm-smi-lib"):
            assert set(edits(recipe, arch, cross=False)) > set(edits(recipe, "amd64", cross=False)), (recipe, arch)


def test_components_without_code_for_a_machine_are_the_same_on_all():
    for recipe in ("device-libs", "rocm-cmake"):
        assert edits(recipe, "amd64", cross=False) == edits(recipe, "riscv64")
