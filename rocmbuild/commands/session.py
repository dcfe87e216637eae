"""A session: the plan that settings ask for, and the means to carry it out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rocmbuild.commands.asked import options, remembered
from rocmbuild.commands.selecting import identified, select
from rocmbuild.errors import UsageError
from rocmbuild.model.catalog import make_catalog
from rocmbuild.model.target import Distribution
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Action
from rocmbuild.plan.plan import Plan
from rocmbuild.plan.planner import make_plan
from rocmbuild.plan.selection import CCACHE, SYSROOT, Selection, root_packages
from rocmbuild.process import Runner, network_environment
from rocmbuild.run.conan_home import tell_on_stderr
from rocmbuild.run.measured import Measured, estimated, machine_slug
from rocmbuild.run.shelf import Shelf
from rocmbuild.run.site import Area, Made, Site
from rocmbuild.run.sourcing import Sourcing
from rocmbuild.run.stamps import Stamps
from rocmbuild.run.store import Store
from rocmbuild.run.surroundings import SYSTEM_PATH
from rocmbuild.settings import Settings
from rocmbuild.tools import ccache
from rocmbuild.tools.apt import Apt, ArchiveFinder
from rocmbuild.tools.ccache import Ccache
from rocmbuild.tools.cmake import BuildTools, find_build_tools
from rocmbuild.tools.download import Downloads
from rocmbuild.tools.git import Git
from rocmbuild.tools.pypi import python_place
from rocmbuild.tools.root import RootSpec, find_root
from rocmbuild.workspace import Cache, Workspace


@dataclass(frozen=True)
class Session:
    """What the verbs of a build share: the catalog, the plan, and the means to carry it out."""

    settings: Settings
    plan: Plan
    areas: Mapping[Machine, Area]
    cache: Cache
    sourcing: Sourcing
    finder: ArchiveFinder
    tools: BuildTools
    shelf: Shelf | None
    """the store, if this plan is made with it"""
    ccache: Ccache | None

    @property
    def distribution(self) -> Distribution:
        return self.plan.selection.distribution

    @property
    def workspace(self) -> Workspace:
        """Return the area of the workspace that packages go to."""
        return self.areas[Machine.HOST].workspace

    @property
    def sandboxed(self) -> bool:
        return self.plan.selection.environment == "sandbox"

    def site(self, jobserver: Path | None, makeflags: str) -> Site:
        """Return where and with what components are built."""
        jobs, memory = self.settings.jobs, self.settings.memory
        return Site(self.plan, self.areas, self.tools, jobserver, makeflags, self.ccache, jobs, memory)

    async def again(self, runner: Runner) -> Session:
        """Return the session with a plan over what is there now; the store is asked if it was not needed before."""
        shelf = self.shelf
        if shelf is None:
            plan = _plan(self.plan.selection, self.areas, None)
            shelf = await _shelf(self.settings, plan, self.areas, runner)
        return self.with_shelf(shelf)

    def with_shelf(self, shelf: Shelf | None) -> Session:
        """Return the session with a plan over what is there now and in a store."""
        plan = _plan(self.plan.selection, self.areas, shelf)
        return replace(self, plan=estimated(plan, self.areas, self.measured, self.settings.jobs), shelf=shelf)

    @property
    def measured(self) -> Measured:
        """Return what building components took on machines like this one."""
        return Measured(self.cache.measured / machine_slug())

    async def apt(self, runner: Runner, arch: str) -> Apt:
        """Return apt for the distribution and an architecture, in private directories below the cache."""
        if self.settings.offline:
            raise UsageError(
                f"a root of {self.distribution.name} for {arch} is not in the cache, and --offline forbids to fetch it",
                hint="run rocmbuild fetch once without --offline",
            )
        return Apt(
            archive=await self.finder.find(runner),
            distribution=self.distribution,
            arch=arch,
            directory=self.cache.apt / f"{self.distribution.name}-{arch}",
            archives=self.cache.downloads / "debs",
        )

    def rerun(self, machine: Machine = Machine.HOST) -> str:
        """Return the options that repeat this run for a machine, without verb and components."""
        settings, selection = self.settings, self.plan.selection
        if machine is Machine.BUILD:
            target = selection.target_of(machine).name
            settings = replace(settings, target=target, distribution=selection.distribution.name)
        return shlex.join(options(settings))


async def open_session(settings: Settings, runner: Runner) -> Session:
    """Make the plan the settings ask for; nothing is downloaded but the refs of git sources."""
    settings = remembered(settings)
    catalog = make_catalog(settings.manifests, settings.recipes, settings.targets)
    manifest = catalog.manifest(settings.required_branch())
    cache = Cache(settings.cache)
    environment = network_environment(settings.environ)
    finder = ArchiveFinder(environment, settings.apt_mirror, settings.allow_stale_archive)
    git = Git(cache.git, environment, settings.mirrors, settings.offline)
    sourcing = Sourcing(git, Downloads(cache.downloads, finder, git.rewrite, environment, settings.offline))
    tools = find_build_tools()
    selection = await identified(select(settings, catalog, manifest, tools), sourcing, runner)
    areas = _areas(settings, selection, cache)
    plan = _plan(selection, areas, None)
    shelf = await _shelf(settings, plan, areas, runner)
    if shelf is not None and shelf.entries:
        plan = _plan(selection, areas, shelf)
    python = python_place(cache.roots, plan.python_packages)
    for area in areas.values():
        area.made.python = python if plan.python_packages and python.is_dir() else None
    session = Session(settings, plan, areas, cache, sourcing, finder, tools, shelf, _ccache(settings, cache))
    return replace(session, plan=estimated(plan, areas, session.measured, settings.jobs))


def _plan(selection: Selection, areas: Mapping[Machine, Area], shelf: Shelf | None) -> Plan:
    """Make the plan over what is there now."""
    built = {
        Node(name, machine.value): known
        for machine, area in areas.items()
        for name, known in area.stamps.built(selection.manifest.components).items()
    }
    digests = {machine: area.made.digest for machine, area in areas.items()}
    return make_plan(selection, built, digests, shelf.stored if shelf is not None else None)


async def _shelf(settings: Settings, plan: Plan, areas: Mapping[Machine, Area], runner: Runner) -> Shelf | None:
    """Return the store if it may have something that is built, or lack something that is here; it is asked once."""
    if not settings.reuse or settings.verb not in ("build", "plan"):
        return None
    asked = (
        job.action is Action.BUILD or (job.action is Action.KEEP and not areas[job.node.machine].stamps.is_stored(job))
        for job in plan.jobs
        if job.storable
    )
    if not any(asked):
        return None
    store = Store(settings.store, network_environment(settings.environ), tell=tell_on_stderr)
    entries = await store.entries(runner)
    store.tell = None  # from now on there is a step to be seen that waits
    return Shelf(store, entries)


def _areas(settings: Settings, selection: Selection, cache: Cache) -> dict[Machine, Area]:
    """Return the area of each machine, with the roots that have been made.

    Tools of a cross build are in the area of native builds: they are the same.
    """
    areas = {}
    for machine, packages in root_packages(selection).items():
        workspace = Workspace(settings.workspace, selection.manifest.branch, _area_name(selection, machine))
        asked = {**packages, CCACHE: (ccache.PACKAGE,)} if settings.ccache else packages
        specs = _specs(selection, machine, asked) if settings.environment == "sandbox" else {}
        found = {kind: find_root(cache.roots, spec) for kind, spec in specs.items()}
        roots = {kind: root for kind, root in found.items() if root is not None}
        areas[machine] = Area(workspace, Stamps(workspace, settings.store), Made(specs, roots))
    return areas


def _ccache(settings: Settings, cache: Cache) -> Ccache | None:
    """Return the cache of compiled files if it is asked for; UsageError if this machine lacks what it takes."""
    if not settings.ccache:
        return None
    program = ccache.of_machine(SYSTEM_PATH) if settings.environment == "host" else None
    cache.ccache.mkdir(parents=True, exist_ok=True)
    return Ccache(cache.ccache, program)


def _area_name(selection: Selection, machine: Machine) -> str:
    return f"{selection.distribution.name}-{selection.target_of(machine).area}"


def _specs(selection: Selection, machine: Machine, packages: Mapping[str, tuple[str, ...]]) -> dict[str, RootSpec]:
    """Return what the roots of a machine are made of; only a sysroot is of the host machine's architecture."""
    runs = selection.target_of(selection.machines[0]).arch
    archs = {SYSROOT: selection.target_of(machine).arch}
    return {kind: RootSpec(selection.distribution, archs.get(kind, runs), names) for kind, names in packages.items()}
