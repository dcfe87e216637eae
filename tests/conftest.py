"""What several tests share: small releases written as YAML text, and a real build root of a few packages."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from rocmbuild.model.catalog import make_catalog
from rocmbuild.model.manifest import Manifest, load_manifest
from rocmbuild.model.recipe import Recipe
from rocmbuild.model.recipe_reader import load_recipe
from rocmbuild.model.target import Distribution, Suite, Target
from rocmbuild.plan.plan import Built, Plan, Selection, make_plan
from rocmbuild.process import Runner, network_environment
from rocmbuild.tools.apt import Apt, find_archive
from rocmbuild.tools.root import Root, RootSpec, make_root
from rocmbuild.workspace import waiting_lock

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell that runs the tests in its background arranged that; the programs under test are to be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)

TARGET = Target("pc", "", "x86_64-linux-gnu", "amd64", ("x86_64",), "EM_X86_64", None, ("-O2",), ())
DISTRIBUTION = Distribution(
    "testix", "", "testix1", None, (Suite("sid", "main", ("main",)),), "/usr/bin/gcc", "/usr/bin/g++", ("dash",)
)

HEAD = "format: 1\nbranch: small\nversion: '5.6.1'\ndistribution: testix\n"


@dataclass
class Release:
    """A release in a directory of its own: recipes and a manifest as text, a selection as values."""

    directory: Path
    target: Target = TARGET
    distribution: Distribution = DISTRIBUTION
    changes: dict = field(default_factory=dict)

    def recipe(self, name: str, text: str = "", **files: str) -> Path:
        """Write a recipe; ``text`` follows its first lines, ``files`` lie beside it (``_`` stands for a dot)."""
        directory = self.directory / "recipes" / name
        directory.mkdir(parents=True, exist_ok=True)
        head = f"format: 1\ncomponent: {name}\nsummary: the {name}\n"
        (directory / "recipe.yaml").write_text(head + textwrap.dedent(text))
        for file, content in files.items():
            (directory / file.replace("_", ".")).write_text(content)
        return directory

    def manifest(self, text: str, head: str = HEAD) -> Path:
        """Write the manifest; ``text`` follows its first lines."""
        path = self.directory / "manifests" / "small.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + textwrap.dedent(text))
        return path

    def components(self, *names: str) -> Path:
        """Write a manifest of components that have no source and version 1.0."""
        return self.manifest("components:\n" + "".join(f"  {name}: {{version: '1.0'}}\n" for name in names))

    def load(self) -> tuple[Manifest, dict[str, Recipe]]:
        """Return the manifest and the recipes of its components."""
        manifest = load_manifest(self.directory / "manifests" / "small.yaml")
        return manifest, {name: load_recipe(self.directory / "recipes" / name) for name in manifest.components}

    def selection(self, **changes) -> Selection:
        """Return the selection of everything, with fields changed."""
        manifest, recipes = self.load()
        selection = Selection(
            manifest=manifest,
            recipes=recipes,
            target=self.target,
            distribution=self.distribution,
            gpus=("gfx1030",),
            system=frozenset(),
            tools={"cmake": "3.31", "ninja": "1.13"},
        )
        return replace(selection, **{**self.changes, **changes})

    def plan(self, built: dict[str, Built] | None = None, root: str | None = None, **changes) -> Plan:
        """Return the plan of a selection."""
        return make_plan(self.selection(**changes), built or {}, root)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path)


@pytest.fixture(scope="session")
def test_cache() -> Path:
    """Downloads that outlive a test run, so that the archive is asked for each package once."""
    place = os.environ.get("ROCMBUILD_TEST_CACHE") or str(Path("~/.cache/rocmbuild/tests").expanduser())
    path = Path(place)
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def machine_distribution() -> Distribution:
    """The distribution that this machine runs."""
    if shutil.which("apt-get") is None:
        pytest.skip("this machine has no apt")
    machine = platform.freedesktop_os_release()
    for name in make_catalog().distributions():
        distribution = make_catalog().distribution(name)
        if distribution.release_id == (machine["ID"], machine.get("VERSION_ID")):
            return distribution
    pytest.skip(f"no distribution describes this machine, {machine['PRETTY_NAME']}")


@pytest.fixture(scope="session")
def machine_apt(test_cache: Path, machine_distribution: Distribution) -> Apt:
    """apt for this machine's own distribution and architecture."""
    archive = asyncio.run(find_archive(Runner(), network_environment(os.environ), mirror=None, allow_stale=True))
    arch = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    return Apt(archive, machine_distribution, arch, test_cache / "apt", test_cache / "debs")


TINY = ("coreutils", "dash", "libc-bin", "perl-base")
"""Enough to run a script in a sandbox, and to try the network."""


@dataclass(frozen=True)
class TinyRoot:
    """A build root of a few packages, what it was made from, and the log of its making."""

    root: Root
    spec: RootSpec
    directory: Path
    log: Path


@pytest.fixture(scope="session")
def tiny_root(machine_apt: Apt, test_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyRoot]:
    """A root made in this test run, by one worker for all."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    spec = RootSpec(machine_apt.distribution, machine_apt.arch, TINY)
    log = shared / "root.log"
    with waiting_lock(test_cache / "lock"):
        root = asyncio.run(make_root(shared / "roots", spec, machine_apt, Runner(log=log)))
    return TinyRoot(root, spec, shared / "roots", log)


@pytest.fixture
def processes() -> Callable[[str], list[int]]:
    """Return a function that finds the living processes with a word in their command line."""

    def find(word: str) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                state = (path.parent / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if word.encode() in path.read_bytes() and state != "Z":
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    return find
