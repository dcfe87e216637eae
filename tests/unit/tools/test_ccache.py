"""The scripts that start ccache, with a real ccache out of a root and the machine's own compiler."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rocmbuild.errors import RootError, UsageError
from rocmbuild.process import Runner
from rocmbuild.tools import ccache
from rocmbuild.tools.ccache import Ccache, Compilations, Counts
from rocmbuild.tools.root import RootSpec, make_root
from tests import elf_files
from tests.locking import waiting_lock

ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
SOURCE = '#include "answer.h"\nint twice(int x) { return answer( x ) * 2; }\n'
HEADER = "static inline int answer(int x) { int one = 1, two = 2; return x + one * two; }\n"


@dataclass
class Tree:
    """A source tree with a build tree in it, whose compiler is started by our script."""

    path: Path
    what: Compilations

    def write(self, **changes: object) -> None:
        """Write the scripts, changed for what comes."""
        self.what = replace(self.what, **changes)
        for name, text in ccache.scripts(self.what).items():
            (self.path / "scripts" / name).write_text(text)
            (self.path / "scripts" / name).chmod(0o755)

    def script(self, *argv: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command line by way of the script, as CMake does."""
        script = str(self.path / "scripts" / ccache.COMPILE)
        return subprocess.run([script, *argv], cwd=self.path / "build", env=ENV, capture_output=True, check=False)

    def compile(self, *flags: str, compiler: str = "/usr/bin/gcc") -> bytes:
        """Return the object file that comes by way of the script, which must be that of the compiler itself."""
        common = [compiler, "-O1", *flags, "-I../first", "-I../second", "-MD", "-MF", "a.d", "-MT", "a.o"]
        argv = [*common, "-o", "a.o", "-c", "../a.c"]
        done = self.script(*argv)
        assert done.returncode == 0, done.stderr.decode()
        made = [(self.path / "build" / name).read_bytes() for name in ("a.o", "a.d")]
        subprocess.run(argv, cwd=self.path / "build", env=ENV, check=True)
        assert made == [(self.path / "build" / name).read_bytes() for name in ("a.o", "a.d")]
        return made[0]

    def counts(self) -> Counts:
        """Return the counts since this was asked last."""
        log = Path(self.what.log)
        found = ccache.read_counts(log)
        log.unlink(missing_ok=True)
        return found


HIT, MISS, OTHER = Counts(1, 0), Counts(0, 1), Counts(0, 0, 1)


@pytest.fixture(scope="session")
def ccache_root(machine_apt, test_cache) -> Path:
    spec = RootSpec(machine_apt.distribution, machine_apt.arch, (ccache.PACKAGE,))
    with waiting_lock(test_cache / "lock"):
        return asyncio.run(make_root(test_cache / "program" / "roots", spec, machine_apt, Runner())).path


@pytest.fixture
def tree(tmp_path, ccache_root) -> Tree:
    if shutil.which("gcc", path=ENV["PATH"]) is None:
        pytest.skip("this machine has no gcc")
    path = tmp_path / "tree"
    for name in ("first", "second", "build", "scripts", "cache"):
        (path / name).mkdir(parents=True)
    (path / "a.c").write_text(SOURCE)
    (path / "second/answer.h").write_text(HEADER)
    what = Compilations(
        command=ccache.from_root(ccache_root, str(ccache_root)),
        scripts=str(path / "scripts"),
        directory=str(path / "cache"),
        limit=1 << 30,
        log=str(path / "build/log"),
        scratch=str(path / "build/scratch"),
        identity="0123",
        trusted=("/usr/bin", "/usr/lib"),
        unseen=(),
    )
    made = Tree(path, what)
    made.write()
    return made


def test_what_was_compiled_once_comes_out_of_the_cache(tree):
    first = tree.compile()
    assert tree.counts() == MISS
    assert tree.compile() == first
    assert tree.counts() == HIT
    assert not list((tree.path / "build").glob("scratch*"))


def test_other_flags_are_another_compilation(tree):
    assert tree.compile("-g") != tree.compile()
    assert tree.counts() == Counts(0, 2)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("a.c", "answer( x ) * 2", "answer( x )    * 2"),
        ("a.c", "( x )", "(/* in */ x )"),
        ("second/answer.h", "one = 1, two", "one = 1,   two"),
        ("second/answer.h", "x + one", "x - one"),
    ],
)
def test_what_preprocessed_text_does_not_show_is_seen(tree, file, old, new):
    """Debug information has the columns: ccache by itself gives the old ones."""
    before = tree.compile("-g")
    text = (tree.path / file).read_text()
    (tree.path / file).write_text(text.replace(old, new))
    assert tree.compile("-g") != before
    assert tree.counts() == Counts(0, 2)
    (tree.path / file).write_text(text)
    assert tree.compile("-g") == before
    assert tree.counts() == HIT


def test_a_header_that_comes_before_another_is_seen(tree):
    before = tree.compile()
    (tree.path / "first/answer.h").write_text(HEADER.replace("+", "-"))
    assert tree.compile() != before
    assert tree.counts() == Counts(0, 2)


@pytest.mark.parametrize("change", [b"other", b"", None])
def test_changed_bitcode_is_a_miss(tree, change):
    bitcode = [tree.path / name for name in ("ocml.bc", "ockl.bc")]
    for path in bitcode:
        path.write_bytes(path.name.encode())
    tree.write(unseen=tuple(map(str, bitcode)))
    tree.compile()
    tree.compile()
    assert tree.counts() == Counts(1, 1)
    if change is None:
        tree.write(unseen=(str(bitcode[0]),))
    else:
        bitcode[1].write_bytes(change)
    tree.compile()
    assert tree.counts() == MISS


def test_bitcode_that_is_gone_is_no_hit(tree):
    (tree.path / "ocml.bc").write_bytes(b"code")
    tree.write(unseen=(str(tree.path / "ocml.bc"),))
    tree.compile()
    (tree.path / "ocml.bc").unlink()
    tree.counts()
    tree.compile()
    assert tree.counts().hits == 0


def test_other_compilers_are_a_miss(tree):
    tree.compile()
    tree.write(identity="4567")
    tree.compile()
    assert tree.counts() == Counts(0, 2)


def test_two_compilers_of_one_name_are_two(tree):
    for name, answer in (("one", "1"), ("two", "2")):
        path = tree.path / name / "cc"
        path.parent.mkdir()
        path.write_text(f'#!/bin/sh\nexec gcc -DBIAS={answer} "$@"\n')
        path.chmod(0o755)
    tree.write(trusted=(*tree.what.trusted, str(tree.path)))
    (tree.path / "a.c").write_text("int f(void) { return BIAS; }\n")
    one, two = (tree.compile(compiler=str(tree.path / name / "cc")) for name in ("one", "two"))
    assert one != two
    assert tree.counts() == Counts(0, 2)


NAMING = """\
#!/bin/sh
case " $* " in
*" -E "*) exec gcc "$@" ;;
esac
exec gcc "-DUNIT=\\"$(echo "$*" | cksum)\\"" "$@"
"""


def test_a_compiler_that_names_units_after_its_command_line_gives_the_same_names(tree):
    """As clang does for HIP; ccache reorders arguments and adds some, which ``compile`` here would find out."""
    path = tree.path / "naming/cc"
    path.parent.mkdir()
    path.write_text(NAMING)
    path.chmod(0o755)
    tree.write(trusted=(*tree.what.trusted, str(path.parent)))
    (tree.path / "a.c").write_text("#ifdef UNIT\nconst char *unit = UNIT;\n#endif\n")
    one, again, other = (tree.compile(*flags, compiler=str(path)) for flags in ((), (), ("-DOTHER",)))
    assert one == again != other
    assert tree.counts() == Counts(1, 2)


def test_arguments_reach_the_compiler_as_they_are(tree):
    (tree.path / "a.c").write_text("const char *text = TEXT;\n")
    flags = ["-DTEXT=\"it's $HOME `x` \\\\ 'a'\"", "-DEMPTY=", "-DSPACE= "]
    assert b"it's $HOME `x` \\ 'a'" in tree.compile(*flags)
    assert tree.compile(*flags) == tree.compile(*flags)
    assert tree.counts() == Counts(2, 1)


def test_a_compiler_that_was_just_built_is_not_cached(tree):
    (tree.path / "build/gcc").symlink_to("/usr/bin/gcc")
    for _ in range(2):
        tree.compile(compiler=str(tree.path / "build/gcc"))
        tree.compile(compiler="./gcc")
    assert tree.counts() == Counts(0, 0, 4)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_entry_is_a_miss(tree, damage):
    before = tree.compile("-g")
    entries = [path for path in (tree.path / "cache").rglob("*") if path.is_file() and path.name.endswith("R")]
    assert len(entries) == 1
    for path in entries:
        content = bytearray(path.read_bytes())
        match damage:
            case "flip":
                content[len(content) // 2] ^= 1
            case "cut":
                content = content[: len(content) // 2]
            case "empty":
                content = bytearray()
        path.chmod(0o644)
        path.write_bytes(content)
    tree.counts()
    assert tree.compile("-g") == before
    assert tree.counts() == MISS
    assert tree.compile("-g") == before
    assert tree.counts() == HIT, "what was damaged has been replaced"


def test_every_flipped_byte_of_an_entry_is_a_miss_or_harmless(tree):
    """Of many places, since a header is checked in another way than what is compressed."""
    before = tree.compile()
    (entry,) = (path for path in (tree.path / "cache").rglob("*R") if path.is_file())
    whole = entry.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 8)):
        entry.chmod(0o644)
        entry.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        assert tree.compile() == before, f"byte {place} of {len(whole)}"


def test_an_error_is_the_compilers_own(tree):
    (tree.path / "a.c").write_text("int f( { }\n")
    done = tree.script("/usr/bin/gcc", "-c", "../a.c", "-o", "a.o")
    assert done.returncode == 1
    assert b"error: " in done.stderr
    assert tree.counts().asked == 0


def test_a_warning_is_repeated(tree):
    (tree.path / "a.c").write_text("int f(void) { int unused; return 0; }\n")
    said = [tree.script("/usr/bin/gcc", "-Wall", "-c", "../a.c", "-o", "a.o").stderr for _ in range(2)]
    assert b"unused variable" in said[0]
    assert said[0] == said[1]
    assert tree.counts() == Counts(1, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "a.c"],
        ["--rocm-path=/usr/lib/rocm", "-c", "a.c"],
        ["--config=/usr/lib/rocmbuild/clang.cfg", "-c", "a.c"],
        ["--rocm-device-lib-path=/opt/rocm-1/amdgcn/bitcode", "-c", "a.c"],
        ["-Xclang", "-mlink-builtin-bitcode", "-Xclang", "/opt/rocm-1/x.bc", "-c", "a.c"],
        ["-B/usr/lib/gcc", "-DX=/src/x", "-I/src/include", "-c", "a b.c"],
    ],
)
def test_what_is_part_of_the_compilers_is_cached(tree, arguments):
    tree.write(command=("/bin/echo", "cached"), trusted=("/usr/bin", "/usr/lib", "/opt/rocm-1"))
    done = tree.script("/usr/bin/printf", "%s|", *arguments)
    assert done.stdout.decode() == f"cached /usr/bin/printf %s| {' '.join(arguments)}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rocm-path=/build/rocm"],
        ["--rocm-path=/usr/lib/../../build"],
        ["--rocm-device-lib-path=/opt/rocm-11/bitcode"],
        ["--hip-device-lib-path=bitcode"],
        ["-Xclang", "-mlink-builtin-bitcode", "-Xclang", "/build/x.bc"],
        ["--config", "x.cfg"],
        ["--config=/src/x.cfg"],
        ["-B."],
        ["-B", "/usr/lib"],
        ["-specs=/src/specs"],
        ["-fplugin=/build/plugin.so"],
        ["-fpass-plugin=plugin.so"],
        ["-Xclang", "-load", "-Xclang", "/build/plugin.so"],
        ["-fopenmp-targets=amdgcn-amd-amdhsa"],
        ["-P"],
        ["@arguments"],
    ],
)
def test_what_ccache_is_not_told_of_is_not_cached(tree, arguments):
    tree.write(command=("/bin/echo", "cached"), trusted=("/usr/bin", "/usr/lib", "/opt/rocm-1"))
    done = tree.script("/usr/bin/printf", "%s|", *arguments, "-c", "a b.c")
    assert done.stdout.decode() == "|".join([*arguments, "-c", "a b.c", ""])
    assert tree.counts() == OTHER


def test_the_preprocessor_may_write_to_a_file_or_not(tree):

    def preprocess(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        script = str(tree.path / "scripts" / ccache.PREPROCESS)
        argv = [script, "/usr/bin/gcc", "-E", "-I../second", *arguments]
        return subprocess.run(argv, cwd=tree.path / "build", env=ENV, capture_output=True, check=False)

    printed = preprocess("../a.c").stdout
    assert preprocess("../a.c", "-o", "a.i").stdout == b""
    assert (tree.path / "build/a.i").read_bytes() == printed
    sums = dict(reversed(line.split("  ")) for line in printed.decode().splitlines() if line.count("  ") == 1)
    assert sums["../a.c"] == hashlib.sha256(SOURCE.encode()).hexdigest()
    assert sums["../second/answer.h"] == hashlib.sha256(HEADER.encode()).hexdigest()
    assert sorted(path.name for path in (tree.path / "build").iterdir()) == ["a.i"]
    assert preprocess("missing.c").returncode == 1


def test_without_ccache_a_compiler_is_started_as_it_is(tmp_path):
    (tmp_path / "plain").write_text(ccache.PLAIN)
    (tmp_path / "plain").chmod(0o755)
    argv = [str(tmp_path / "plain"), "/usr/bin/printf", "%s|", "a b", "$x", '"']
    assert subprocess.run(argv, capture_output=True, check=True).stdout == b'a b|$x|"|'


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (Counts(), "0 of 0 compilations out of the cache"),
        (Counts(118, 2), "118 of 120 compilations out of the cache (98%)"),
        (Counts(999, 1, 3), "999 of 1000 compilations out of the cache (99%), 3 not cached"),
        (Counts(5, 0), "5 of 5 compilations out of the cache (100%)"),
    ],
)
def test_counts_as_text(counts, text):
    assert str(counts) == text


def test_counts_add_up(tmp_path):
    cache = Ccache(tmp_path)
    assert cache.total == Counts()
    cache.counts.update(rocr=Counts(1, 2, 3), hip=Counts(10, 20, 30))
    assert cache.total == Counts(11, 22, 33)


def test_a_log_is_read(tmp_path):
    log = tmp_path / "log"
    assert ccache.read_counts(log) == Counts()
    log.write_text(
        "# a.c\ndirect_cache_hit\nlocal_storage_hit\n# b.c\npreprocessed_cache_hit\n"
        "# c.c\ncache_miss\npreprocessed_cache_miss\n# \ncalled_for_link\n"
        "# /build/clang\nplain\n# d.c\ncompile_failed\n"
    )
    assert ccache.read_counts(log) == Counts(2, 1, 3)


def test_the_cache_takes_a_share_of_its_disk_and_no_more_than_a_limit(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    for total, limit in ((100 << 30, 10 << 30), (1 << 50, 20 << 30)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, total=total: usage._replace(total=total))
        assert Ccache(tmp_path).limit == limit


def test_a_machine_without_ccache_is_told_what_to_install(tmp_path):
    with pytest.raises(UsageError, match="this machine has no ccache") as caught:
        ccache.of_machine(str(tmp_path))
    assert "apt install ccache" in (caught.value.hint or "")
    (tmp_path / "ccache").write_text("#!/bin/sh\n")
    (tmp_path / "ccache").chmod(0o755)
    assert ccache.of_machine(f"/nowhere:{tmp_path}") == tmp_path / "ccache"


def test_a_root_without_ccache_says_so(tmp_path):
    with pytest.raises(RootError, match=f"there is no ccache in {tmp_path}"):
        ccache.from_root(tmp_path, "/x")


def test_a_static_ccache_needs_no_loader(tmp_path):
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/ccache").write_bytes(elf_files.library())
    assert ccache.from_root(tmp_path, "/x") == ("/x/usr/bin/ccache",)


def test_bitcode_of_packages_is_in_their_lists(tmp_path):
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/ocml.bc").touch()
    (info / "libs.list").write_text("/.\n/usr/lib\n/usr/lib/ocml.bc\n/usr/lib/removed.bc\n")
    (info / "other.list").write_text("/.\n/usr/lib/other.so\n")
    assert ccache.unseen_of_packages(tmp_path) == ["/usr/lib/ocml.bc"]


def test_what_is_read_without_a_word_has_the_names_by_which_it_is_seen(tmp_path):
    for name in ("amdgcn/bitcode/ocml.bc", "share/hip/version", "bin/.hipVersion", "lib/x.so", "share/x/version"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert ccache.unseen_below(tmp_path, "/opt/rocm") == [
        "/opt/rocm/amdgcn/bitcode/ocml.bc",
        "/opt/rocm/bin/.hipVersion",
        "/opt/rocm/share/hip/version",
    ]
    assert ccache.unseen_below(tmp_path / "missing", "/opt/rocm") == []


@pytest.mark.parametrize(
    ("name", "mode", "link", "program"),
    [
        ("bin/clang", 0o755, None, True),
        ("bin/hipcc", None, "hipcc.pl", True),
        ("include/x.h", 0o644, None, False),
        ("lib/libx.so.1.2.3", 0o755, None, False),
        ("lib/libx.so", None, "libx.so.1.2.3", False),
    ],
)
def test_programs_are_told_from_libraries(tmp_path, name, mode, link, program):
    path = tmp_path / name
    path.parent.mkdir()
    if link is not None:
        path.symlink_to(link)
    else:
        path.touch()
        path.chmod(mode)
    assert ccache.has_programs(tmp_path) is program


def test_a_tree_that_is_not_there_has_no_programs(tmp_path):
    assert not ccache.has_programs(tmp_path / os.urandom(4).hex())
