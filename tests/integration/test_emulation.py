"""Real programs of other architectures, run by the distribution's own QEMU; the Debian archive is needed."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from rocmbuild.commands.checks import check_emulation
from rocmbuild.model.catalog import make_catalog
from rocmbuild.process import Runner
from rocmbuild.tools import binfmt
from rocmbuild.tools.emulation import Emulation, as_root, find_emulator
from rocmbuild.tools.testroot import BaseSpec, FreshRoot, make_base
from tests.integration.foreign import DISTRIBUTION, MACHINE, reached_archive, unpacker

TARGETS = [make_catalog().target(name) for name in ("sg2042", "arm64")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    finding = asyncio.run(check_emulation(Runner()))
    if finding.status != "ok":
        pytest.skip(finding.detail)
    return reached_archive(tmp_path_factory.mktemp("archive") / "log")


@pytest.fixture(scope="module")
def unpacked(archive, test_cache, tmp_path_factory):
    return unpacker(archive, test_cache, tmp_path_factory.mktemp("roots") / "log")


@pytest.fixture(scope="module")
def emulation(unpacked):
    """Return a function that gives the emulation of a target."""

    def make(target):
        program = find_emulator(unpacked(MACHINE, DISTRIBUTION.cross.emulators), target.emulator.program)
        return Emulation(program, target.arch, target.elf_machine, target.emulator.cpu)

    return make


@pytest.fixture
def untouched():
    """Fail if the machine knows of an interpreter, or has a mount for them, that it had not before."""

    def state():
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if "binfmt" in line]
        return mounts, sorted(path.name for path in Path(binfmt.MOUNT_POINT).iterdir())

    before = state()
    yield
    assert state() == before


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_program_out_of_a_sysroot_runs(unpacked, emulation, untouched, target, tmp_path):
    root = unpacked(target.arch, "coreutils", "dash")
    inside = ["bwrap", "--unshare-all", "--ro-bind", str(root), "/", "--dev", "/dev"]
    run = Runner(tmp_path / "log")
    emulated = emulation(target)

    async def output(*argv):
        data = await run.capture(
            emulated.wrap([*inside, "--", *argv]), env={"PATH": "/usr/bin", **emulated.environment}
        )
        return data.decode().split()

    assert asyncio.run(output("uname", "-m")) == [target.machines[0]]
    assert asyncio.run(output("sh", "-c", "exec uname -m")) == [target.machines[0]]
    assert asyncio.run(run.run(as_root([*inside, "--", "uname", "-m"]), check=False)) != 0  # not without


@pytest.fixture(scope="module")
def base(archive, emulation, test_cache, tmp_path_factory):
    """A configured root for riscv64; it takes minutes, so it is kept from one test run to the next."""
    spec = BaseSpec(archive, DISTRIBUTION, "riscv64", (), emulation(TARGETS[0]))
    log = tmp_path_factory.mktemp("base") / "log"
    return spec, asyncio.run(make_base(spec, test_cache / "emulation/bases", Runner(log)))


def test_packages_are_installed_examined_and_purged(base, untouched, test_cache, tmp_path):
    spec, tarball = base
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository/Packages").touch()
    fresh = FreshRoot(spec, tmp_path / "fresh", test_cache / "debs", tmp_path / "repository")
    runner = Runner(tmp_path / "log")

    async def inside(*argv):
        lines = []
        status = await replace(runner, on_line=lines.append).run(fresh.enter(argv), check=False)
        return status, [line.strip() for line in lines]

    async def everything():
        await fresh.open(tarball, runner)
        assert await inside("uname", "-m") == (0, ["riscv64"])
        assert await inside("sh", "-c", "echo $QEMU_CPU") == (0, [spec.emulation.cpu])
        assert await inside("stat", "-c", "%U %G", "/var/mail") == (0, ["root mail"])
        await fresh.install(["hello"], runner)
        assert await inside("hello", "--greeting=x") == (0, ["x"])
        assert await inside("dpkg", "--verify", "hello") == (0, [])
        status, lines = await inside("ldd", "-r", "/usr/bin/hello")
        assert status == 0
        assert any(line.startswith("libc.so.6 => /") and "riscv64-linux-gnu" in line for line in lines)
        await fresh.purge(["hello"], runner)
        assert not (fresh.path / "usr/bin/hello").exists()
        await fresh.remove(runner)

    asyncio.run(everything())
    assert not fresh.path.exists()
