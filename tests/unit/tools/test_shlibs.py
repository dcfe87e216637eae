"""Dependencies of binaries: the formats, roots made for the purpose, and dpkg-shlibdeps as the judge."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from rocmbuild.errors import PackageError
from rocmbuild.tools.elf import inspect
from rocmbuild.tools.libraries import LibraryRoot
from rocmbuild.tools.relations import simplify
from rocmbuild.tools.shlibs import Binary, Resolver, parse_shlibs, parse_symbols

SYMBOLS = """\
libother.so.1 libother1 #MINVER#
 foo@Base 9
libfoo.so.1 libfoo1 #MINVER#
| libfoo1-private (= 1.2)
* Build-Depends-Package: libfoo-dev
 foo@Base 1.0
 (optional|arch=amd64 riscv64)bar@FOO_2 1.2~rc1
 internal@PRIVATE 0 1
 (regex|optional)^lost.*@Base$ 3.0
 *@FOO_9 9.0
#MISSING: 1.3# gone@Base 0.5
"""


def test_a_symbols_file_has_versions_and_templates_for_each_symbol():
    found = parse_symbols(SYMBOLS, "libfoo.so.1")
    assert found is not None
    assert found.templates == ["libfoo1 #MINVER#", "libfoo1-private (= 1.2)"]
    assert found.symbols == {"foo@Base": ("1.0", 0), "bar@FOO_2": ("1.2~rc1", 0), "internal@PRIVATE": ("0", 1)}
    assert found.versions == {"1.0", "1.2~rc1", "0.5"}
    assert parse_symbols(SYMBOLS, "libbar.so.1") is None


@pytest.mark.parametrize(
    ("soname", "expected"),
    [
        ("libfoo.so.1", "libfoo1 (>= 1.0)"),
        ("libbar-2.4.so", "libbar2 (>= 2), libbar-common"),
        ("libtyped.so.3", "typed-deb"),
        ("libempty.so.1", ""),
        ("libfoo.so.2", None),
        ("libplugin.so", None),
    ],
)
def test_a_shlibs_file_answers_for_sonames(soname, expected):
    text = """\
# libfoo 1 commented-out
libfoo 1 libfoo1 (>= 1.0)
libbar 2.4 libbar2 (>= 2), libbar-common
libtyped 3 typed-any
udeb: libtyped 3 typed-udeb
deb: libtyped 3 typed-deb
libempty 1
"""
    assert parse_shlibs(text, soname) == expected


def build(path: Path, code: str, *options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text(code)
    subprocess.run(["gcc", "-o", str(path), str(source), *options], check=True)
    source.unlink()
    return path


class Root:
    """A root of libraries that are made here, so that no test depends on what this machine has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info = path / "var/lib/dpkg/info"
        self.info.mkdir(parents=True)
        (path / "usr/lib").mkdir(parents=True)
        (path / "lib").symlink_to("/usr/lib")
        (path / "var/lib/dpkg/status").write_text("")

    def library(
        self, soname: str, package: str, code: str, *options: str, directory: str = "usr/lib", listed: str = ""
    ) -> Path:
        flags = ("-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{soname}", *options)
        made = build(self.path / directory / soname, code, *flags)
        with (self.info / f"{package}.list").open("a") as listing:
            listing.write(f"/.\n/{listed or directory}/{soname}\n")
        return made

    def describe(self, package: str, kind: str, text: str) -> None:
        (self.info / f"{package}.{kind}").write_text(text)

    def resolver(self, **in_house: str) -> Resolver:
        return Resolver(LibraryRoot(self.path), {name.replace("_", "."): text for name, text in in_house.items()})


@pytest.fixture
def root(tmp_path) -> Root:
    return Root(tmp_path / "root")


def binary(directory: Path, calls: str, *libraries: Path, options: tuple[str, ...] = ()) -> Binary:
    names = calls.split()
    code = "".join(f"void {name}(void);\n" for name in names)
    code += "void run(void) {" + "".join(f"{name}();" for name in names) + "}"
    flags = ("-shared", "-fPIC", "-nostdlib", "-Wl,--no-as-needed", *map(str, libraries), *options)
    return Binary(build(directory / "libuser.so", code, *flags), "/opt/rocm/lib/libuser.so")


def test_the_highest_version_of_the_symbols_used_counts(root, tmp_path):
    library = root.library("libfoo.so.1", "libfoo1:amd64", "void foo(void){} void bar(void){}")
    root.describe("libfoo1:amd64", "symbols", "libfoo.so.1 libfoo1 #MINVER#\n foo@Base 1.0\n bar@Base 1:0.2\n")
    assert root.resolver().relations([binary(tmp_path / "a", "foo", library)]) == ("libfoo1 (>= 1.0)",)
    assert root.resolver().relations([binary(tmp_path / "b", "foo bar", library)]) == ("libfoo1 (>= 1:0.2)",)


def test_the_version_of_a_symbol_counts_beside_the_symbol(root, tmp_path):
    (tmp_path / "versions").write_text("FOO_1 { foo; }; FOO_2 { bar; };")
    script = f"-Wl,--version-script={tmp_path / 'versions'}"
    library = root.library("libfoo.so.1", "libfoo1", "void foo(void){} void bar(void){}", script)
    text = "libfoo.so.1 libfoo1 #MINVER#\n FOO_1@FOO_1 1.1\n FOO_2@FOO_2 1.4\n foo@FOO_1 1.0\n bar@FOO_2 1.2\n"
    root.describe("libfoo1", "symbols", text)
    assert root.resolver().relations([binary(tmp_path / "a", "foo", library)]) == ("libfoo1 (>= 1.1)",)
    assert root.resolver().relations([binary(tmp_path / "b", "foo bar", library)]) == ("libfoo1 (>= 1.4)",)


def test_a_library_of_which_no_symbol_is_used_still_has_to_exist(root, tmp_path):
    library = root.library("libfoo.so.1", "libfoo1", "void foo(void){} void bar(void){}")
    root.describe("libfoo1", "symbols", "libfoo.so.1 libfoo1 #MINVER#\n foo@Base 2.0\n bar@Base 1.5\n")
    assert root.resolver().relations([binary(tmp_path, "", library)]) == ("libfoo1 (>= 1.5)",)


def test_private_symbols_bring_their_own_template(root, tmp_path):
    library = root.library("libfoo.so.1", "libfoo1", "void foo(void){} void secret(void){}")
    text = "libfoo.so.1 libfoo1 #MINVER#\n| libfoo1 (= 1.2-3), libfoo-data\n foo@Base 1.0\n secret@Base 0 1\n"
    root.describe("libfoo1", "symbols", text)
    found = root.resolver().relations([binary(tmp_path, "foo secret", library)])
    assert found == ("libfoo-data", "libfoo1 (= 1.2-3)")


def test_shlibs_are_asked_when_there_are_no_symbols(root, tmp_path):
    library = root.library("libfoo.so.1", "libfoo1", "void foo(void){}")
    root.describe("libfoo1", "shlibs", "libfoo 1 libfoo1 (>= 1.4), foo-data\n")
    assert root.resolver().relations([binary(tmp_path, "foo", library)]) == ("foo-data", "libfoo1 (>= 1.4)")


def test_a_package_that_says_nothing_is_needed_in_its_own_version(root, tmp_path):
    library = root.library("libfoo.so.1", "libfoo1:amd64", "void foo(void){}")
    status = "Package: libfoo1\nStatus: install ok installed\nVersion: 1.9-2\nDescription: x\n y\n\nPackage: other\n"
    (root.path / "var/lib/dpkg/status").write_text(status)
    assert root.resolver().relations([binary(tmp_path, "foo", library)]) == ("libfoo1 (>= 1.9-2)",)


def test_libraries_of_the_release_go_before_those_of_the_root(root, tmp_path):
    library = root.library("libfoo.so.1", "libfoo1", "void foo(void){}")
    resolver = root.resolver(libfoo_so_1="hsa-rocr (>= 1.9)")
    user = binary(tmp_path, "foo", library)
    assert resolver.relations([user]) == ("hsa-rocr (>= 1.9)",)
    assert resolver.relations([user], own=["libfoo.so.1"]) == ()


def test_a_run_path_below_origin_leads_to_a_library(root, tmp_path):
    library = root.library("libfoo.so.1", "vendor", "void foo(void){}", directory="opt/rocm/llvm/lib")
    root.describe("vendor", "shlibs", "libfoo 1 vendor\n")
    user = binary(tmp_path, "foo", library, options=("-Wl,-rpath,$ORIGIN/../llvm/lib",))
    assert root.resolver().relations([user]) == ("vendor",)


def test_directories_of_ld_so_conf_are_searched(root, tmp_path):
    (root.path / "etc/ld.so.conf.d").mkdir(parents=True)
    (root.path / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    (root.path / "etc/ld.so.conf.d/x.conf").write_text("# a comment\n/srv/lib\n")
    library = root.library("libfoo.so.1", "libfoo1", "void foo(void){}", directory="srv/lib")
    assert root.resolver().relations([binary(tmp_path, "foo", library)]) == ("libfoo1",)


def test_the_package_is_found_by_either_name_of_a_merged_directory(root, tmp_path):
    library = root.library("libfoo.so.1", "libfoo1", "void foo(void){}", listed="lib")
    assert root.resolver().relations([binary(tmp_path, "foo", library)]) == ("libfoo1",)


def test_a_library_nowhere_to_be_found_is_an_error_with_file_and_soname(root, tmp_path):
    stray = build(tmp_path / "libstray.so.3", "void stray(void){}", "-shared", "-Wl,-soname,libstray.so.3")
    with pytest.raises(PackageError, match=r"needs libstray\.so\.3, which is neither in the root") as caught:
        root.resolver().relations([binary(tmp_path, "stray", stray)])
    assert caught.value.where == "/opt/rocm/lib/libuser.so"
    assert "needs.system" in str(caught.value.hint) and "needs.libs" in str(caught.value.hint)


def test_a_library_for_another_machine_does_not_count(root, tmp_path):
    library = root.library("libfoo.so.1", "libfoo1", "void foo(void){}")
    user = binary(tmp_path, "foo", library)
    data = bytearray(library.read_bytes())
    data[18:20] = (22).to_bytes(2, "little")  # e_machine: S/390
    library.write_bytes(data)
    with pytest.raises(PackageError, match=r"libfoo\.so\.1"):
        root.resolver().relations([user])


def test_files_that_are_not_dynamic_need_nothing(root, tmp_path):
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert root.resolver().relations([Binary(tmp_path / "script", "/opt/rocm/bin/script")]) == ()


def samples() -> list[str]:
    """Return programs and libraries of this machine, C and C++, with many kinds of dependencies.

    None of them asks for a version of zlib that is newer than the symbols of it: dpkg before 1.23 takes no notice.
    """
    names = ("ls", "git", "apt-get", "python3", "gdb", "perl", "systemctl", "make", "x86_64-linux-gnu-ld.bfd")
    found = [str(Path(path).resolve()) for name in names if (path := shutil.which(name, path="/usr/bin:/bin"))]
    libraries = ("libapt-pkg.so.6.0", "libstdc++.so.6", "libcurl-gnutls.so.4", "libgnutls.so.30", "libelf.so.1")
    found += [str(path) for name in libraries for path in Path("/usr/lib").glob(f"*-linux-gnu/{name}")]
    return [name for name in found if inspect(Path(name))]


@pytest.mark.skipif(not shutil.which("dpkg-shlibdeps"), reason="dpkg-shlibdeps (dpkg-dev) is the judge here")
@pytest.mark.parametrize("name", samples())
def test_the_result_is_that_of_dpkg_shlibdeps(name, tmp_path):
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian/control").write_text(
        "Source: x\nMaintainer: x <x@x.example>\n\nPackage: x\nArchitecture: any\n"
    )
    argv = ["dpkg-shlibdeps", "--warnings=0", "-O", name]
    judge = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = simplify(judge.stdout.strip().removeprefix("shlibs:Depends=").split(", "))
    assert Resolver(LibraryRoot(Path("/")), {}).relations([Binary(Path(name), name)]) == expected
    assert expected
