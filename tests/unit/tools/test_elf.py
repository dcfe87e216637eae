"""ELF headers and symbols, on files that the compiler makes here."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from rocmbuild.errors import PackageError
from rocmbuild.tools.elf import Identity, identify, inspect, symbols
from tests import elf_files

ISA = elf_files.SG2042_ISA
VERSIONS = "FOO_1 { global: foo_old; local: hidden; };\nFOO_2 { global: foo_new; } FOO_1;\n"


def compiled(directory: Path, name: str, code: str, *options: str) -> Path:
    source, target = directory / f"{name}.c", directory / name
    source.write_text(code)
    subprocess.run(["gcc", "-o", str(target), str(source), *options], check=True, cwd=directory)
    return target


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("elf")
    (directory / "versions").write_text(VERSIONS)
    code = "int shared_counter = 1;\nint foo_old(void) { return 1; } int foo_new(void) { return 2; } int hidden;"
    return compiled(
        directory,
        "libfoo.so.2",
        code,
        *("-shared", "-fPIC", "-g", "-Wl,-soname,libfoo.so.2", "-Wl,--version-script,versions"),
        *("-Wl,-rpath,/opt/x/lib:$ORIGIN", "-Wl,--build-id=0x1234abcd", "-Wl,-z,now,-z,relro,--no-as-needed"),
    )


def test_the_headers_of_a_library(library):
    elf = inspect(library)
    assert elf is not None
    assert elf.machine in ("EM_X86_64", "EM_AARCH64", "EM_RISCV")
    assert (elf.bits, elf.type, elf.soname) == (64, "ET_DYN", "libfoo.so.2")
    assert elf.runpath == ("/opt/x/lib", "$ORIGIN")
    assert elf.rpath == ()
    assert elf.build_id == "1234abcd"
    assert "libc.so.6" in elf.needed
    assert elf.interpreter is None
    assert elf.has_debug and elf.relro and elf.bind_now and elf.dynamic
    assert not (elf.textrel or elf.exec_stack or elf.is_device)


def test_the_headers_of_a_program(tmp_path):
    options = ("-Wl,--disable-new-dtags,-rpath,/a:/b", "-Wl,-z,execstack,-z,lazy,-z,norelro", "-no-pie")
    elf = inspect(compiled(tmp_path, "program", "int main(void) { return 0; }", *options))
    assert elf is not None
    assert (elf.type, elf.soname) == ("ET_EXEC", None)
    assert elf.interpreter is not None and elf.interpreter.startswith("/lib")
    assert elf.rpath == ("/a", "/b") and elf.runpath == ()
    assert elf.exec_stack
    assert not (elf.has_debug or elf.relro or elf.bind_now)


def test_an_object_file_is_elf_without_dynamic_section(tmp_path):
    elf = inspect(compiled(tmp_path, "object.o", "int x;", "-c"))
    assert elf is not None
    assert (elf.type, elf.dynamic, elf.needed) == ("ET_REL", False, ())


def test_a_separate_debug_file_can_be_read(library, tmp_path):
    target = tmp_path / "libfoo.debug"
    subprocess.run(["objcopy", "--only-keep-debug", str(library), str(target)], check=True)
    elf = inspect(target)
    assert elf is not None and elf.has_debug
    assert not elf.dynamic


def test_text_and_links_to_nowhere_are_not_elf(tmp_path):
    (tmp_path / "text").write_text("#!/bin/sh\n")
    (tmp_path / "link").symlink_to("nowhere")
    assert inspect(tmp_path / "text") is None
    assert inspect(tmp_path / "link") is None


def test_code_for_a_gpu_is_device_code(tmp_path):
    path = compiled(tmp_path, "kernel.o", "int x;", "-c")
    data = bytearray(path.read_bytes())
    data[18:20] = (224).to_bytes(2, "little")  # e_machine
    path.write_bytes(data)
    elf = inspect(path)
    assert elf is not None and elf.is_device


@pytest.mark.parametrize("length", [5, 40, 70, 200, 900])
def test_a_truncated_file_is_an_error_that_names_it(library, tmp_path, length):
    broken = tmp_path / "libbroken.so"
    broken.write_bytes(library.read_bytes()[:length])
    with pytest.raises(PackageError, match="begins like ELF but cannot be read") as caught:
        inspect(broken)
    assert caught.value.where == str(broken)
    assert caught.value.hint


def test_exported_symbols_have_their_versions(library):
    exported = symbols(library).exported
    assert {"foo_old@FOO_1", "foo_new@FOO_2"} <= exported
    assert not any(name.startswith("hidden@") for name in exported)


def test_imported_symbols_have_their_versions(library, tmp_path):
    code = "int foo_old(void); int foo_new(void); int main(void) { return foo_old() + foo_new(); }"
    program = compiled(tmp_path, "program", code, str(library))
    imported = symbols(program).imported
    assert {"foo_old@FOO_1", "foo_new@FOO_2"} <= imported
    assert any(name.startswith("__libc_start_main@GLIBC_") for name in imported)


def test_a_copied_variable_counts_as_imported(tmp_path):
    library = compiled(tmp_path, "libvar.so", "int counter = 1;", "-shared", "-fPIC")
    code = "extern int counter; int main(void) { return counter; }"
    program = compiled(tmp_path, "program", code, "-no-pie", "-fno-pie", str(library))
    found = symbols(program)
    assert "counter@Base" in found.imported
    assert "counter@Base" not in found.exported


def test_a_file_without_dynamic_symbols_has_none(tmp_path):
    found = symbols(compiled(tmp_path, "object.o", "int x;", "-c"))
    assert (found.imported, found.exported) == (frozenset(), frozenset())


def test_the_instruction_set_that_a_file_asks_for(tmp_path):
    for name, content in {"a.o": elf_files.elf(isa=ISA), "liba.so": elf_files.library(isa=ISA)}.items():
        (tmp_path / name).write_bytes(content)
        found = inspect(tmp_path / name)
        assert found is not None
        assert (found.machine, found.flags, found.isa) == ("EM_RISCV", 5, ISA)
        assert identify(io.BytesIO(content), name) == Identity("EM_RISCV", 64, 5, found.type, ISA)


def test_a_file_that_says_nothing_of_its_instruction_set():
    assert identify(io.BytesIO(elf_files.elf()), "a.o").isa is None
    assert identify(io.BytesIO(elf_files.elf(machine=elf_files.X86_64, flags=0, isa="rv64gc")), "a.o").isa is None


def test_sections_of_large_objects_are_looked_at_too(tmp_path):
    code = "".join(f'__attribute__((section(".text.f{n}"))) void f{n}(void) {{}}\n' for n in range(300))
    with compiled(tmp_path, "many.o", code, "-c").open("rb") as file:
        found = identify(file, "many.o")
    assert (found.type, found.isa) == ("ET_REL", None)


def test_damaged_attributes_are_an_error_and_no_endless_loop():
    whole = elf_files.elf(isa="rv64gc")
    first = whole.index(b"A", 64)
    for index in range(first, first + 30):
        for byte in (0, 5, 255):
            damaged = whole[:index] + bytes([byte]) + whole[index + 1 :]
            try:
                identify(io.BytesIO(damaged), "a.o")
            except PackageError as error:
                assert error.where == "a.o"
    with pytest.raises(PackageError, match="begins like ELF but cannot be read"):
        identify(io.BytesIO(whole[:first] + b"B" + whole[first + 1 :]), "a.o")
