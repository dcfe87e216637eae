"""The toy release: small components out of real git repositories, built through the program's own command line."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import rocmbuild
from rocmbuild.process import network_environment
from rocmbuild.tools.repository import INDICES
from tests.integration.forge import Forge, Repository
from tests.locking import waiting_lock

TOY = Path(__file__).parent / "toy"
AREA = "debian-12-amd64"
CODE = str(Path(rocmbuild.__file__).parents[1])
"""Where the program under test is imported from, for one that is started in another directory."""
PROGRAM = (sys.executable, "-m", "rocmbuild")
REPOSITORIES = {"toybase": "toybase", "toyapp": "toyapp", "toydevice": "monorepo"}
REF = "toy-9.9.x"


@dataclass
class Toy:
    """A user with a home, a workspace and a cache, who builds a branch of the toy releases."""

    directory: Path
    forge: Path
    branch: str = "toy"
    environ: dict[str, str] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)

    @property
    def workspace(self) -> Path:
        return self.directory / "workspace"

    @property
    def cache(self) -> Path:
        return self.directory / "cache"

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def events(self) -> Path:
        return self.directory / "events.jsonl"

    def argv(self, verb: str, *words: str) -> list[str]:
        """Return a command line; ``words`` follow the options that name the release and the directories."""
        own = self.directory / "recipes"
        return [
            *PROGRAM,
            verb,
            *("--branch", self.branch),
            *(("--manifests", str(self.directory / "manifests")) if (self.directory / "manifests").is_dir() else ()),
            *("--manifests", str(TOY / "manifests")),
            *(("--recipes", str(own)) if own.is_dir() else ()),
            *("--recipes", str(TOY / "recipes")),
            *("--mirror", f"https://forge.example/={self.forge.as_uri()}/"),
            *("--workspace", str(self.workspace)),
            *("--cache", str(self.cache)),
            *self.options,
            *words,
        ]

    def env(self) -> dict[str, str]:
        """Return an environment that has the way to the network, and otherwise only what a test put there."""
        own = {"HOME": str(self.home), "COLUMNS": "100", "PYTHONPATH": CODE, **self.environ}
        return {**network_environment(os.environ), **own}

    def run(self, verb: str, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        return self.call(self.argv(verb, *words), timeout=timeout)

    def call(self, argv: list[str], timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command line in the user's directory."""
        return subprocess.run(
            argv, cwd=self.directory, env=self.env(), capture_output=True, text=True, check=False, timeout=timeout
        )

    def start(self, verb: str, *words: str) -> subprocess.Popen[str]:
        """Start the program."""
        pipe = subprocess.PIPE
        argv = self.argv(verb, *words)
        return subprocess.Popen(argv, cwd=self.directory, env=self.env(), stdout=pipe, stderr=pipe, text=True)

    def build(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Build without verification, telling events, and expect an exit code."""
        done = self.run("build", "--no-verify", "--events", str(self.events), *words)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def plan(self, *words: str) -> dict[str, dict[str, Any]]:
        """Return the rows of the plan by component."""
        done = self.run("plan", "--format", "json", *words)
        assert done.returncode == 0, done.stderr
        return {row["component"]: row for row in json.loads(done.stdout)["jobs"]}

    def actions(self, *words: str) -> dict[str, str]:
        """Return what the plan does with each component."""
        return {name: row["action"] for name, row in self.plan(*words).items()}

    def happened(self) -> list[dict[str, Any]]:
        """Return the events of the last build."""
        return [json.loads(line) for line in self.events.read_text().splitlines()]

    def steps(self) -> set[str]:
        """Return the steps that the last build took, as ``component step``."""
        return {f"{event['task']} {event['step']}" for event in self.happened() if event["event"] == "StepStarted"}

    def area(self, component: str) -> Path:
        """Return the directory of a component's build tree, stage tree and stamps."""
        return self.workspace / "build" / self.branch / AREA / component

    @property
    def out(self) -> Path:
        return self.workspace / "out" / self.branch / AREA

    def debs(self) -> dict[str, str]:
        """Return the sums of the packages and indices of the repository, by file name."""
        files = [path for path in self.out.iterdir() if path.suffix == ".deb" or path.name in INDICES]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def deb(self, package: str) -> Path:
        """Return the file of a package."""
        (path,) = self.out.glob(f"{package}_*.deb")
        return path

    def recipe(self, name: str, *changes: tuple[str, str]) -> Path:
        """Put a changed copy of a recipe before the toy's own; each text must be there once."""
        path = self.directory / "recipes" / name
        if not path.exists():
            shutil.copytree(TOY / "recipes" / name, path)
        return _changed(path / "recipe.yaml", changes)

    def manifest(self, *changes: tuple[str, str]) -> Path:
        """Put a changed copy of the branch's manifest before the toy's own; each text must be there once."""
        path = self.directory / "manifests" / f"{self.branch}.yaml"
        if not path.exists():
            path.parent.mkdir()
            shutil.copy(TOY / "manifests" / path.name, path)
        return _changed(path, changes)

    def own_forge(self) -> Forge:
        """Give the user a copy of the forge, to be changed."""
        shutil.copytree(self.forge, self.directory / "forge")
        self.forge = self.directory / "forge"
        return Forge(self.forge)

    def repository(self, component: str) -> Repository:
        """Return the repository of a component in the user's own forge."""
        assert self.forge == self.directory / "forge", "that of all tests must not change"
        name = f"Toys/{REPOSITORIES[component]}"
        repository = Repository(self.forge / ".work" / name, self.forge / f"{name}.git")
        repository.git("remote", "set-url", "origin", str(repository.bare))
        return repository

    def checkout(self, component: str) -> Path:
        """Return a source tree of a component that the user may change."""
        tree = self.directory / "checkout" / component
        if not tree.exists():
            shutil.copytree(TOY / "sources" / component, tree)
        return tree

    def orphans(self) -> list[str]:
        """Return the processes that know the user's directory: by their arguments, directory, or mounts."""
        needle = str(self.directory.relative_to(self.directory.parents[2])).encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                argv = (path / "cmdline").read_bytes()
                cwd = os.readlink(path / "cwd").encode()
                if argv and any(needle in text for text in (argv, cwd, (path / "mountinfo").read_bytes())):
                    found.append(f"{path.name} {argv.decode(errors='replace')[:200]}")
        return found

    def no_orphans(self) -> None:
        """Fail if a process of an ended run is still there after a moment."""
        wait_for(lambda: not self.orphans(), 10, lambda: f"still there: {self.orphans()}")


def _changed(path: Path, changes: tuple[tuple[str, str], ...]) -> Path:
    text = path.read_text()
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path}"
        text = text.replace(old, new)
    path.write_text(text)
    return path


def wait_for(condition: Callable[[], object], seconds: float, complaint: Callable[[], str]) -> None:
    """Wait until something holds, and fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(complaint())
        time.sleep(0.02)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of a test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def _once(shared: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Make a directory in the first worker that asks for it."""
    path = shared / name
    with waiting_lock(shared / f"{name}.lock"):
        if not (path / "made").exists():
            shutil.rmtree(path, ignore_errors=True)
            make(path)
            (path / "made").touch()
    return path


@pytest.fixture(scope="session")
def toy_forge(shared: Path) -> Path:
    """The repositories of the toy release, made once."""

    def make(path: Path) -> None:
        forge = Forge(path)
        for component, name in REPOSITORIES.items():
            forge.create(f"Toys/{name}", TOY / "sources" / component, branch=REF)

    return _once(shared, "forge", make)


@pytest.fixture(scope="session")
def new_toy(toy_forge: Path, test_cache: Path) -> Callable[[Path], Toy]:
    """Return a function that makes a user in an empty directory; downloads and roots are those of all test runs."""

    def make(directory: Path, branch: str = "toy") -> Toy:
        toy = Toy(directory, toy_forge, branch)
        for path in (toy.home, toy.cache):
            path.mkdir(parents=True)
        for name in ("apt", "downloads", "roots"):
            kept = test_cache / "program" / name
            kept.mkdir(parents=True, exist_ok=True)
            (toy.cache / name).symlink_to(kept)
        return toy

    return make


@pytest.fixture
def toy(new_toy: Callable[[Path], Toy], tmp_path: Path) -> Toy:
    """A user who has built nothing yet."""
    return new_toy(tmp_path / "user")


@pytest.fixture(scope="session")
def first_build(shared: Path, new_toy: Callable[[Path], Toy], toy_forge: Path) -> Toy:
    """A user who has built the toy release once; not to be changed. ``before.json`` is the plan before it."""

    def make(path: Path) -> None:
        toy = new_toy(path)
        (path / "before.json").write_text(json.dumps(toy.plan()))
        (path / "stdout").write_text(toy.build().stdout)

    return Toy(_once(shared, "first", make), toy_forge)


@pytest.fixture
def built(first_build: Toy, tmp_path: Path) -> Toy:
    """A user of one's own who has built the toy release: a copy, in another place."""
    subprocess.run(["cp", "--archive", str(first_build.directory), str(tmp_path / "user")], check=True)
    return Toy(tmp_path / "user", first_build.forge)


@pytest.fixture
def slow(new_toy: Callable[..., Toy], tmp_path: Path) -> Toy:
    """A user who builds a release that takes a while."""
    return new_toy(tmp_path / "user", "slow")


@pytest.fixture(scope="session")
def slow_debs(shared: Path, new_toy: Callable[..., Toy], toy_forge: Path) -> dict[str, str]:
    """The packages of a build of the slow release that nothing disturbed."""
    path = _once(shared, "undisturbed", lambda path: new_toy(path, "slow").build() and None)
    return Toy(path, toy_forge, "slow").debs()


@pytest.fixture
def namespace() -> Callable[..., list[str]]:
    """Return a function that puts a command line into namespaces of its own, after a shell script."""
    probe = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "true"], check=False, capture_output=True
    )
    if probe.returncode != 0:
        pytest.skip("this machine forbids user namespaces")

    def wrap(script: str, argv: list[str], *options: str) -> list[str]:
        unshare = ["unshare", "--user", "--map-root-user", "--mount", *options]
        return [*unshare, "sh", "-ec", f'{script}\nexec "$@"', "sh", *argv]

    return wrap


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """A list of programs that are stopped at the end of the test."""
    programs: list[subprocess.Popen[str]] = []
    yield programs
    for program in programs:
        program.kill()
        program.communicate()
