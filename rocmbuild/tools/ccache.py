"""ccache, started for compilations by a script that tells it everything an object file depends on.

By itself ccache takes some files for equal that are not: what it is not told of (the flags in a configuration file,
bitcode, a compiler that was just built), and what preprocessed text does not show (the columns of a changed line).
See docs/decisions/0015-ccache.md.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rocmbuild.errors import RootError, UsageError
from rocmbuild.tools.elf import inspect

PACKAGE = "ccache"
"""The distribution's package."""

COMPILE, PREPROCESS, RUN = "compile", "preprocess", "run"
"""Names of the scripts: CMake starts compilers with the first, ccache preprocessors and compilers with the others."""

LANGUAGES = ("C", "CXX", "HIP")

LARGEST, SHARE = 20 << 30, 10
"""The cache takes at most so many bytes, and one part in so many of its file system."""

_HITS = ("direct_cache_hit", "preprocessed_cache_hit")
_MISS = "cache_miss"
_UNSEEN = re.compile(r"\.bc$|/share/hip/version$|/\.hip(Version|Info)$")
"""What clang and hipcc read without being told: bitcode that is linked in, and which HIP there is."""

_LIBRARY = re.compile(r"\.so(\.\d+)*$")
_MACHINE = "/var/lib/dpkg"


@dataclass(frozen=True)
class Counts:
    """How many compilations came out of the cache, how many did not, and how many were not for it."""

    hits: int = 0
    misses: int = 0
    other: int = 0

    def __add__(self, more: Counts) -> Counts:
        return Counts(self.hits + more.hits, self.misses + more.misses, self.other + more.other)

    @property
    def asked(self) -> int:
        """Return how many compilations the cache was asked for."""
        return self.hits + self.misses

    def __str__(self) -> str:
        rate = f" ({100 * self.hits // self.asked}%)" if self.asked else ""
        rest = f", {self.other} not cached" if self.other else ""
        return f"{self.hits} of {self.asked} compilations out of the cache{rate}{rest}"


@dataclass(frozen=True)
class Ccache:
    """The cache of one run: its directory, and what came of it by the names of jobs.

    ``program`` is the machine's own ccache; in a sandbox it comes out of a root.
    """

    directory: Path
    program: Path | None = None
    counts: dict[str, Counts] = field(default_factory=dict)

    @property
    def total(self) -> Counts:
        """Return the counts of all jobs together."""
        return sum(self.counts.values(), Counts())

    @property
    def limit(self) -> int:
        """Return the size in bytes that the cache may have."""
        return min(LARGEST, shutil.disk_usage(self.directory).total // SHARE)


@dataclass(frozen=True)
class Compilations:
    """What the scripts of a component are to say; all paths are those that its commands see.

    ``command`` starts ccache, ``scripts`` is where the scripts are, ``log`` takes the statistics, ``scratch`` begins
    the names of passing files. ``identity`` sums up all compilers, what they start, and their configuration: everything
    of that kind below the directories ``trusted``. ``unseen`` are the files that compilers read without a word.
    """

    command: tuple[str, ...]
    scripts: str
    directory: str
    limit: int
    log: str
    scratch: str
    identity: str
    trusted: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings that are the same for all compilers."""
        return {
            "CCACHE_CONFIGPATH": "/dev/null",
            "CCACHE_DIR": self.directory,
            "CCACHE_MAXSIZE": f"{self.limit >> 20}Mi",
            "CCACHE_STATSLOG": self.log,
            "CCACHE_PREFIX": f"{self.scripts}/{RUN}",
            "CCACHE_PREFIX_CPP": f"{self.scripts}/{PREPROCESS}",
            "CCACHE_EXTRAFILES": ":".join(self.unseen),
            # a header that comes to lie before another one is only seen by running the preprocessor
            "CCACHE_NODIRECT": "1",
            "CCACHE_NODEPEND": "1",
            "CCACHE_NOINODECACHE": "1",
            "CCACHE_SLOPPINESS": "",
            # what is compiled is the source, not what the preprocessor made of it
            "CCACHE_CPP2": "1",
        }


PLAIN = """\
#!/bin/sh
# Compile without ccache, in a build tree that was configured with it.
exec "$@"
"""

_COMPILE = """\
#!/bin/sh
# Compile by way of ccache, unless something takes part in it that ccache is not told of.
plain() {{
  printf '# %s\\nplain\\n' "$1" >>{log}
  exec "$@"
}}
is_trusted() {{
  case $1/ in
  */../*) return 1 ;;
  {trusted}) return 0 ;;
  esac
  return 1
}}
is_trusted "$1" || plain "$@"
command=
for argument; do
  case $argument in
  -load | --config | -fopenmp-targets* | -P | @*) plain "$@" ;;
  -B*) value=${{argument#-B}} ;;
  *=*) value=${{argument#*=}} ;;
  *) value=$argument ;;
  esac
  case $argument in
  *.bc | *-device-lib* | --config* | --rocm-path* | --hip-path* | -B* | -specs* | --specs* | -f*plugin*)
    is_trusted "$value" || plain "$@" ;;
  esac
  quoted=
  while true; do
    case $argument in
    *"'"*) quoted=$quoted${{argument%%"'"*}}"'\\''" argument=${{argument#*"'"}} ;;
    *) break ;;
    esac
  done
  command="$command '$quoted$argument'"
done
{exports}
export ROCMBUILD_COMMAND="$command"
export CCACHE_COMPILERCHECK="string:{identity} $PWD$command"
exec {command} "$@"
"""

_RUN = """\
#!/bin/sh
# Compile with the command line that there is without ccache, which changes it: clang names units of HIP after it.
eval "set -- $ROCMBUILD_COMMAND"
unset ROCMBUILD_COMMAND
exec "$@"
"""

_PREPROCESS = """\
#!/bin/sh
# Preprocess, and add the sums of all files that took part as they are: preprocessed text does not tell all of them.
output= previous=
for argument; do
  test "$previous" = -o && output=$argument
  previous=$argument
done
file=${{output:-{scratch}.$$}}
if test -n "$output"; then
  "$@" || exit
else
  trap 'rm -f "$file"' EXIT
  "$@" >"$file" || exit
fi
# "<built-in>" and the like are no files, nor is the directory that GCC names with a slash at its end
sums=$(awk -F '"' '/^# [0-9]/ && !seen[$2]++ && $2 !~ /^<|\\/$/ {{ print $2 }}' "$file" |
  tr '\\n' '\\0' | xargs -0 -r sha256sum 2>&1)
printf '%s\\n' "$sums" >>"$file"
test -n "$output" || cat "$file"
"""


def scripts(what: Compilations) -> dict[str, str]:
    """Return the texts of the scripts by their names."""
    exports = [f"export {key}={shlex.quote(value)}" for key, value in what.settings.items()]
    compiling = _COMPILE.format(
        log=shlex.quote(what.log),
        trusted=" | ".join(f"{shlex.quote(place + '/')}*" for place in what.trusted),
        exports="\n".join(exports),
        identity=what.identity,
        command=shlex.join(what.command),
    )
    preprocessing = _PREPROCESS.format(scratch=shlex.quote(what.scratch))
    return {COMPILE: compiling, PREPROCESS: preprocessing, RUN: _RUN}


def from_root(root: Path, place: str) -> tuple[str, ...]:
    """Return the command that starts the ccache of a root mounted at ``place``, over whatever other root.

    It brings its own loader and libraries, whose place it is told. Raises RootError if the root has none of it.
    """
    program = "usr/bin/ccache"
    elf = inspect(root / program) if (root / program).is_file() else None
    if elf is None:
        raise RootError(f"there is no ccache in {root}", hint=f"remove {root}; it is made again")
    if elf.interpreter is None:
        return (f"{place}/{program}",)
    loader = (root / elf.interpreter[1:]).resolve().relative_to(root.resolve())
    return (f"{place}/{loader}", "--library-path", f"{place}/{loader.parent}", f"{place}/{program}")


def of_machine(directories: str) -> Path:
    """Return this machine's ccache, looked for in ``directories`` as in PATH; UsageError if there is none."""
    found = shutil.which(PACKAGE, path=directories)
    if found is None:
        raise UsageError(
            "--ccache: this machine has no ccache, and on the host there is no other",
            hint=f"sudo apt install {PACKAGE}; or leave --ccache or --environment host out",
        )
    return Path(found)


def read_counts(log: Path) -> Counts:
    """Return what a log of statistics says; each compilation has a line ``# SOURCE``, then lines of results."""
    try:
        lines = Counter(line[:1] if line.startswith("#") else line for line in log.read_text().splitlines())
    except (FileNotFoundError, UnicodeDecodeError):
        return Counts()
    hits, misses = sum(lines[name] for name in _HITS), lines[_MISS]
    return Counts(hits, misses, max(0, lines["#"] - hits - misses))


def unseen_of_packages(root: Path) -> list[str]:
    """Return the files of a root that compilers read without a word, by dpkg's lists of installed packages."""
    names: set[str] = set()
    for path in (root / f"{_MACHINE}/info"[1:]).glob("*.list"):
        names |= {name for name in path.read_text(errors="surrogateescape").splitlines() if _UNSEEN.search(name)}
    return sorted(name for name in names if (root / name[1:]).is_file())


def unseen_below(tree: Path, place: str) -> list[str]:
    """Return the files that compilers read without a word of a tree that is seen at ``place``."""
    names = (os.path.join(directory, name) for directory, _, files in os.walk(tree) for name in files)
    return sorted(f"{place}/{os.path.relpath(name, tree)}" for name in names if _UNSEEN.search(name))


def has_programs(tree: Path) -> bool:
    """Return whether there is something in a tree that can be executed, which a compiler may be or start."""
    return any(
        path.is_symlink() or path.stat().st_mode & 0o111
        for directory, _, files in os.walk(tree)
        for path in (Path(directory, name) for name in files if not _LIBRARY.search(name))
    )
