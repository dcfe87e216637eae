"""Dependencies of riscv64 binaries: dpkg-shlibdeps, run on this machine as in a cross build, is the judge.

It gets the same root to look into. The Debian archive is needed.
"""

import asyncio
import shutil

import pytest

from rocmbuild.model.catalog import make_catalog
from rocmbuild.process import BASE_ENVIRONMENT, Runner
from rocmbuild.tools.elf import inspect
from rocmbuild.tools.libraries import LibraryRoot
from rocmbuild.tools.relations import simplify
from rocmbuild.tools.shlibs import Binary, Resolver
from tests.integration.foreign import MACHINE, reached_archive, unpacker

TARGET = make_catalog().target("sg2042")
JUDGE = ("dpkg", "dpkg-dev", "binutils-riscv64-linux-gnu")
PACKAGES = ("apt", "binutils", "clinfo", "curl", "libdrm-dev", "libelf-dev", "ninja-build")
CONTROL = "Source: x\nMaintainer: x <x@x.example>\n\nPackage: x\nArchitecture: any\n"

SAMPLES = {
    "curl": ("usr/bin/curl",),
    "curl's library": ("usr/lib/*/libcurl.so.4",),
    "TLS": ("usr/lib/*/libssl.so.3",),
    "C++ of the standard library alone": ("usr/bin/ninja",),
    "C++ of its own, a library": ("usr/lib/*/libapt-pkg.so.*.*.*",),
    "C++ of its own, a program": ("usr/bin/apt-get",),
    "the C++ runtime": ("usr/lib/*/libstdc++.so.6",),
    "alternatives": ("usr/bin/clinfo",),
    "shlibs alone, with an upper limit": ("usr/bin/riscv64-linux-gnu-ld.bfd",),
    "shlibs alone": ("usr/lib/*/libelf.so.1",),
    "two of one source": ("usr/lib/*/libdrm_amdgpu.so.1",),
    "an epoch; a version newer than its symbols": ("usr/lib/*/libpciaccess.so.0",),
    "many at once": ("usr/bin/curl", "usr/bin/clinfo", "usr/bin/apt-get", "usr/bin/*-as", "usr/lib/*/libdrm*.so.?"),
}
"""Files by what is special about the libraries they need."""


@pytest.fixture(scope="module")
def unpacked(test_cache, tmp_path_factory):
    log = tmp_path_factory.mktemp("roots") / "log"
    return unpacker(reached_archive(log), test_cache, log)


@pytest.fixture(scope="module")
def root(unpacked):
    """A root of riscv64 packages, as a sysroot is."""
    return unpacked(TARGET.arch, *PACKAGES)


@pytest.fixture(scope="module")
def judge(unpacked, root, tmp_path_factory):
    """Return a function that runs dpkg-shlibdeps on files, by their locations, and returns the relations."""
    package = tmp_path_factory.mktemp("package")
    (package / "debian/x/DEBIAN").mkdir(parents=True)
    (package / "debian/control").write_text(CONTROL)
    shutil.copytree(root / "var/lib/dpkg", package / "dpkg")
    (package / "dpkg/info/format").write_text("1\n")  # files of info have an architecture in their names
    (package / "dpkg/arch").write_text(f"{MACHINE}\n{TARGET.arch}\n")
    inside = mounted(unpacked(MACHINE, *JUDGE), root, package)
    environment = {**BASE_ENVIRONMENT, "DEB_HOST_ARCH": TARGET.arch}

    def run(locations):
        shutil.rmtree(package / "debian/x/usr", ignore_errors=True)  # what is there would be of the same package
        for location in locations:
            copy = package / "debian/x" / location
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / location, copy)
        argv = ["dpkg-shlibdeps", "--warnings=0", "-O", *(f"debian/x/{location}" for location in locations)]
        output = asyncio.run(Runner(package / "log").capture([*inside, *argv], env=environment))
        return simplify(output.decode().strip().removeprefix("shlibs:Depends=").split(", "))

    return run


def mounted(tools, root, package):
    """Return the command line of a machine with the programs of ``tools``, and the libraries of both roots."""
    libraries = {path.name: path for path in (*(tools / "usr/lib").iterdir(), *(root / "usr/lib").iterdir())}
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for name in ("bin", "sbin", "lib", "lib64"):
        command += ["--symlink", f"usr/{name}", f"/{name}"]
    for name in ("bin", "lib64", "share"):
        command += ["--ro-bind", str(tools / "usr" / name), f"/usr/{name}"]
    for name, path in libraries.items():
        command += ["--ro-bind", str(path), f"/usr/lib/{name}"]
    command += ["--ro-bind", str(root / "etc"), "/etc", "--ro-bind", str(package / "dpkg"), "/var/lib/dpkg"]
    return [*command, "--ro-bind", str(package), "/package", "--chdir", "/package", "--"]


@pytest.mark.parametrize("patterns", SAMPLES.values(), ids=SAMPLES)
def test_the_result_is_that_of_dpkg_shlibdeps(root, judge, patterns):
    locations = [str(path.relative_to(root)) for pattern in patterns for path in sorted(root.glob(pattern))]
    assert len(locations) >= len(patterns)
    binaries = [Binary(root / location, f"/{location}") for location in locations]
    files = [inspect(binary.path) for binary in binaries]
    assert {file.machine for file in files} == {TARGET.elf_machine}
    found = Resolver(LibraryRoot(root), {}).relations(binaries, own={file.soname for file in files})
    assert found == judge(locations)
    assert found
