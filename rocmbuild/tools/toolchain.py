"""Make clang and CMake build for another machine: a configuration file for the one, a toolchain file for the other.

What differs between machines comes from the target and the distribution; nothing here knows an architecture.
"""

from __future__ import annotations

from rocmbuild.model.target import CrossTools, Target
from rocmbuild.plan.values import CONFIGURATION, SYSROOT
from rocmbuild.tools.sandbox import BUILD, SOURCE, TOOLS

TOOLCHAIN = f"{TOOLS}/toolchain.cmake"
EMULATOR = f"{TOOLS}/emulator"

_BINUTILS = {
    "AR": "llvm-ar",
    "RANLIB": "llvm-ranlib",
    "NM": "llvm-nm",
    "STRIP": "llvm-strip",
    "OBJCOPY": "llvm-objcopy",
    "OBJDUMP": "llvm-objdump",
    "READELF": "llvm-readelf",
}


def clang_configuration(target: Target, tools: CrossTools) -> str:
    """Return clang's configuration file, for CMake and for commands that call clang by hand.

    Without ``--gcc-install-dir`` clang finds GCC by way of /lib, a link to /usr/lib, and names headers with ``..`` in
    their paths; Ninja cleans these, so that dependencies never match, and every build begins anew.
    """
    lines = [
        f"--target={target.triple}",
        f"--sysroot={SYSROOT}",
        f"--gcc-install-dir={SYSROOT}/usr/lib/gcc/{target.triple}/{tools.gcc}",
        f"--ld-path={tools.linker}",
        # version scripts of ROCm name symbols that are not there; GNU ld does not mind
        "-Wl,--undefined-version",
        *target.flags,
    ]
    return "\n".join(lines) + "\n"


def toolchain_file(target: Target, tools: CrossTools) -> str:
    """Return CMake's toolchain file. Sources and build trees count as found places, or nothing in them is found."""
    languages = ("C", "CXX", "ASM")
    compilers = {"C": tools.cc, "CXX": tools.cxx, "ASM": tools.cc}
    values = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": target.machines[0],
        "CMAKE_LIBRARY_ARCHITECTURE": target.triple,
        "CMAKE_SYSROOT": SYSROOT,
        # absolute: a bare name is looked for again when CMake runs again, and that discards its cache
        **{f"CMAKE_{name}_COMPILER": compilers[name] for name in languages},
        **{f"CMAKE_{name}_COMPILER_TARGET": target.triple for name in languages},
        **{f"CMAKE_{name}_FLAGS_INIT": f"--config={CONFIGURATION}" for name in languages},
        **{f"CMAKE_{name}": f"{tools.binutils}/{program}" for name, program in _BINUTILS.items()},
        "CMAKE_LINKER": tools.linker,
        "CMAKE_FIND_ROOT_PATH": ";".join((SYSROOT, SOURCE, BUILD)),
        "CMAKE_FIND_ROOT_PATH_MODE_PROGRAM": "NEVER",
        **{f"CMAKE_FIND_ROOT_PATH_MODE_{kind}": "ONLY" for kind in ("LIBRARY", "INCLUDE", "PACKAGE")},
    }
    if target.emulator is not None:
        values["CMAKE_CROSSCOMPILING_EMULATOR"] = ";".join(emulator_command(target))
    return "".join(f'set({name} "{value}")\n' for name, value in values.items())


def emulator_command(target: Target) -> list[str]:
    """Return the argv, without the program, that runs a program of the target; empty if nothing emulates it."""
    if target.emulator is None:
        return []
    cpu = ["-cpu", target.emulator.cpu] if target.emulator.cpu else []
    return [EMULATOR, *cpu, "-L", SYSROOT]


def environment(target: Target, prefix: str) -> dict[str, str]:
    """Return what pkg-config has to know to find libraries of the target only."""
    places = [f"{prefix}/lib/pkgconfig", f"{prefix}/share/pkgconfig"]
    places += [f"/usr/lib/{target.triple}/pkgconfig", "/usr/lib/pkgconfig", "/usr/share/pkgconfig"]
    return {
        "PKG_CONFIG_SYSROOT_DIR": SYSROOT,
        "PKG_CONFIG_LIBDIR": ":".join(f"{SYSROOT}{place}" for place in places),
    }
