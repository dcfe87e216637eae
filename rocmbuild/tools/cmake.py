"""Command lines and environment for CMake and Ninja, and what they print."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rocmbuild.errors import RootError
from rocmbuild.tools.sandbox import Environment

NINJA_STATUS = "[%f/%t] "

_PROGRESS = re.compile(r"^\[(\d+)/(\d+)\] (.*)")
_PACKAGE = re.compile(
    r'Could not find a package configuration file provided\s+by\s+"(?P<config>[^"]+)"'
    r"|By not providing\s+\"Find(?P<module>[^\"]+)\.cmake\""
    r"|Could NOT find (?P<plain>[A-Za-z0-9_-]+)"
)

_ERROR = re.compile(r"^CMake Error(?: at (?P<place>[^\n]*?))?:[ \n]+(?P<text>.*?)\n[ ]*\n", re.MULTILINE | re.DOTALL)
_COMPILER = re.compile(r"^.*(?:\berror: |: undefined reference to |\bld: (?!warning)).*$", re.MULTILINE)
_NO_MEMORY = re.compile(
    r"^FAILED: \[code=137\]"
    r"|Killed signal terminated program|internal compiler error: Killed|terminated with signal 9"
    r"|(?:unable to execute command|failed due to signal).*Killed|^Killed$"
    r"|out of memory|memory exhausted|std::bad_alloc|[Cc]annot allocate memory|^MemoryError",
    re.MULTILINE,
)
"""What Ninja, gcc, collect2, clang, shells, linkers and Python say when the kernel ends a program or refuses memory."""
_FAILED = re.compile(r"^FAILED: (?:\[code=\d+\] )?(?P<output>\S+)", re.MULTILINE)
_NINJA = re.compile(r"^ninja: (?:error|fatal): (.*)$", re.MULTILINE)
_FROM_THE_FUTURE = re.compile(r"^ninja: error: .* still dirty after \d+ tries", re.MULTILINE)
_LONGEST = 300

RERUN = "Re-running CMake"
"""What Ninja says when sources of the build tree itself have changed."""


@dataclass(frozen=True)
class BuildTools:
    """The CMake (a directory) and the Ninja (a file) that go into every sandbox, and their versions."""

    cmake: Path
    ninja: Path
    versions: Mapping[str, str]

    @property
    def mounts(self) -> dict[str, Path]:
        """Return the files by the names under which the sandbox mounts them."""
        return {"cmake": self.cmake, "ninja": self.ninja}


def find_build_tools() -> BuildTools:
    """Return the CMake and Ninja that were installed with rocmbuild; RootError if they were not."""
    places = {
        "cmake": installed_file("cmake", "data/bin/cmake").parent.parent,
        "ninja": installed_file("ninja", "bin/ninja"),
    }
    return BuildTools(places["cmake"], places["ninja"], {name: metadata.version(name) for name in places})


def installed_file(package: str, suffix: str) -> Path:
    """Return a file of an installed Python package by the end of its path; RootError if it is missing."""
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        pass
    else:  # as text: an object for each of CMake's 3800 files takes longer than to make a plan
        lines = (distribution.read_text("RECORD") or "").splitlines()
        names = [line.partition(",")[0] for line in lines] or map(str, distribution.files or ())
        for name in names:
            if name.endswith(suffix):
                return Path(str(distribution.locate_file(name))).resolve()
    raise RootError(f"the Python package {package} is missing", hint=f"pip install {package}")


def configure(environment: Environment, subdir: str, variables: Mapping[str, str]) -> list[str]:
    """Return the argv that configures a component with Ninja as its generator."""
    source = environment.path("source")
    return [
        f"{environment.path('tool', 'cmake')}/bin/cmake",
        "-G",
        "Ninja",
        "-S",
        source if subdir == "." else f"{source}/{subdir}",
        "-B",
        environment.path("build"),
        *(f"-D{key}={value}" for key, value in sorted(variables.items())),
    ]


def reconfigure(environment: Environment, variables: Mapping[str, str]) -> list[str]:
    """Return the argv that changes variables of a build tree."""
    changes = [f"-D{key}={value}" for key, value in sorted(variables.items())]
    return [f"{environment.path('tool', 'cmake')}/bin/cmake", *changes, environment.path("build")]


def cached(cache: Path, name: str) -> str | None:
    """Return a variable of a build tree's CMakeCache.txt."""
    match = re.search(rf"^{re.escape(name)}:[A-Z]+=(.*)$", cache.read_text(encoding="utf-8"), re.MULTILINE)
    return match[1] if match else None


def build(environment: Environment, targets: Sequence[str]) -> list[str]:
    """Return the argv that builds; it has no ``-j``, for that would switch the jobserver client off."""
    return [environment.path("tool", "ninja"), "-C", environment.path("build"), *targets]


def install(environment: Environment) -> list[str]:
    """Return the argv that installs; DESTDIR in its environment says where."""
    return [f"{environment.path('tool', 'cmake')}/bin/cmake", "--install", environment.path("build")]


def progress(line: str) -> tuple[int, int, str] | None:
    """Return (done, total, what) of a status line of Ninja, or None."""
    match = _PROGRESS.match(line)
    return (int(match[1]), int(match[2]), match[3]) if match else None


def complaint(text: str) -> str | None:
    """Return what a log complains of first: a compiler's words, CMake's, the output that failed, or Ninja's words."""
    if match := _COMPILER.search(text):
        found = match[0]
    elif match := _ERROR.search(text):
        found = f"{match['place']}: {match['text']}" if match["place"] else match["text"]
    elif match := _FAILED.search(text):
        found = f"{match['output']} could not be made"
    elif match := _NINJA.search(text):
        found = match[1]
    else:
        return None
    return " ".join(found.split())[:_LONGEST]


def begins_again(text: str) -> bool:
    """Return whether a log says that Ninja ran CMake again and again, for what CMake reads is from the future."""
    return _FROM_THE_FUTURE.search(text) is not None


def out_of_memory(text: str) -> bool:
    """Return whether a log says that a program was ended, or ended itself, for lack of memory.

    If Ninja ran, only what comes after its first failure counts: warnings may speak of anything.
    """
    return _NO_MEMORY.search(text, max(text.find("FAILED: "), 0)) is not None


def missing_packages(text: str) -> list[str]:
    """Return the CMake packages that a configure run looked for in vain, in order."""
    found = (match["config"] or match["module"] or match["plain"] for match in _PACKAGE.finditer(text))
    return list(dict.fromkeys(name for name in found if name))
