"""The steps that turn one component's source into a stage tree."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rocmbuild.errors import OutOfMemory, StepError, StoreError
from rocmbuild.model.recipe import Discard
from rocmbuild.model.template import substitute
from rocmbuild.plan.graph import Machine
from rocmbuild.plan.plan import Job, Plan
from rocmbuild.process import ProcessError, Runner, describe_exit
from rocmbuild.run import outage
from rocmbuild.run.compiler_cache import counted
from rocmbuild.run.failure import lacks_memory
from rocmbuild.run.shelf import Shelf
from rocmbuild.run.site import Site
from rocmbuild.run.surroundings import environment, link_pool, make_prefix, process_environment, variables
from rocmbuild.run.task import StepContext, StepFunction
from rocmbuild.tools import cmake
from rocmbuild.tools.flush import flush, refuse_full
from rocmbuild.tools.prefix import merge
from rocmbuild.tools.runpath import relocate_tree
from rocmbuild.tools.sourcetree import newest
from rocmbuild.tools.split import discarded, entries
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import remove_tree, tree_digest, write_text


@dataclass
class Stopwatch:
    """Add up the seconds that the steps of one component take."""

    seconds: float = 0.0

    def timed(self, function: StepFunction) -> StepFunction:
        """Return ``function`` with its time counted."""

        async def step(context: StepContext) -> None:
            begun = time.monotonic()
            await function(context)
            self.seconds += time.monotonic() - begun

        return step


@dataclass(frozen=True)
class Left:
    """What need not be made, for it is there already."""

    stage: bool = False
    packages: bool = False


async def compare(site: Site, job: Job, shelf: Shelf | None, context: StepContext) -> Left:
    """Find out what need not be made now that the needs are there.

    The stage tree is kept if they came out as they were for it, or comes from the store if that has it.
    """
    area, needs = site.area(job.node), site.consumed(job)
    known = area.stamps.read(job.node.component)
    if known is not None and known.root == area.made.digest and area.stamps.keep(job, needs) is not None:
        return Left(stage=True, packages=known.packages == job.debs_key(known.output, needs, known.root))
    entry = await shelf.find(site, job, context.runner) if shelf is not None else None
    if shelf is None or entry is None:
        return Left()
    try:
        packages = await shelf.restore(site, job, entry, context.runner)
    except StoreError:  # of which the store has warned
        return Left()
    context.note("comes from the store")
    return Left(stage=True, packages=packages)


async def configure(site: Site, job: Job, context: StepContext) -> None:
    """Merge the prefix and configure; do nothing if the build tree fits already."""
    area, needs = site.area(job.node), site.consumed(job)
    tree = area.workspace.build(job.node.component)
    fits = area.stamps.tree_fits(job, area.made.digest, needs)
    if fits and await in_thread(newest, tree) > time.time():  # what is edited now would look older than what it makes
        context.note("has a build tree from the future, for the clock was ahead: begins anew")
        fits = False
    if fits:
        context.note("goes on in the build tree of an earlier run")
        lost = outage.distrust(area.workspace.component(job.node.component), tree)
        if lost:
            context.note(f"the machine went down in that run: its last {lost} files are made again")
        await make_prefix(site, job)
        if _pool_differs(site, job):  # as many linkers as there is memory for now; nothing else of the tree changes
            area.stamps.forget_tree(job)
            await _cmake(site, job, cmake.reconfigure(environment(site, job), link_pool(site, job)), context)
            await _keep_tree(site, job, needs)
        return
    area.stamps.forget_tree(job)
    await in_thread(remove_tree, tree)
    await make_prefix(site, job)
    where = environment(site, job)
    await _cmake(site, job, cmake.configure(where, job.recipe.subdir, variables(site, job, where)), context)
    await _keep_tree(site, job, needs)


async def _keep_tree(site: Site, job: Job, needs: Mapping[str, str | None]) -> None:
    """Note that the build tree is configured, once it is sure that all of it has been written."""
    area = site.area(job.node)
    tree = area.workspace.build(job.node.component)
    refuse_full(tree)
    await flush(tree)
    area.stamps.record_tree(job, area.made.digest, needs)


def _pool_differs(site: Site, job: Job) -> bool:
    pool, cache = link_pool(site, job), site.area(job.node).workspace.build(job.node.component) / "CMakeCache.txt"
    return any(cmake.cached(cache, name) != value for name, value in pool.items())


async def _cmake(site: Site, job: Job, argv: Sequence[str], context: StepContext) -> None:
    try:
        await _run(site, job, argv, context.runner)
    except ProcessError as error:
        hint = _configure_hint(site.plan, job, _read(context.log))
        raise _failed(job, "configured", context.log, error, hint) from error


async def build(site: Site, job: Job, context: StepContext) -> None:
    """Run Ninja as a client of the run's jobserver."""
    where = environment(site, job)
    argv = cmake.build(where, job.recipe.targets)

    def line(text: str) -> None:
        status = cmake.progress(text)
        if status is not None:
            context.progress(*status)
        if context.runner.on_line is not None:
            context.runner.on_line(text)

    runner = replace(context.runner, on_line=line)
    outage.mark(site.area(job.node).workspace.component(job.node.component))
    flags = {"MAKEFLAGS": site.makeflags + where.path("jobserver")} if site.jobserver else {}
    try:
        with counted(site, job, context.note):
            await _run(site, job, argv, runner, flags)
    except ProcessError as error:
        _distrust_rerun(site, job, context)
        raise _failed(job, "built", context.log, error, _build_hint(site, job, _read(context.log))) from error


def _distrust_rerun(site: Site, job: Job, context: StepContext) -> None:
    """Begin anew next time if Ninja ran CMake again on a full disk: what that wrote may not be whole."""
    area = site.area(job.node)
    try:
        refuse_full(area.workspace.build(job.node.component))
    except OSError:
        if cmake.RERUN in _read(context.log):
            area.stamps.forget_tree(job)


async def install(site: Site, job: Job, seconds: float, context: StepContext) -> None:
    """Install into a new stage tree, make it position independent, and stamp it."""
    begun = time.monotonic()
    area, stage = site.area(job.node), site.stage(job.node)
    before = area.stamps.read(job.node.component)
    area.stamps.forget(job.node.component)
    await in_thread(remove_tree, stage)
    if job.twin is not None:
        await in_thread(merge, [(str(job.twin), site.stage(job.twin))], stage)
    elif job.recipe.builds:
        where = environment(site, job)
        try:
            await _run(site, job, cmake.install(where), context.runner, {"DESTDIR": where.path("stage")})
        except ProcessError as error:
            hint = f"look into the log, or try by hand: {_shell(job, site)}"
            raise _failed(job, "installed", context.log, error, hint) from error
    stage.mkdir(parents=True, exist_ok=True)
    output = await in_thread(_finish_stage, site.plan, job, stage)
    await flush(stage)
    outage.unmark(area.workspace.component(job.node.component))
    seconds += time.monotonic() - begun
    area.stamps.record(job, area.made.digest, output, seconds, needs=site.consumed(job), before=before)


def _finish_stage(plan: Plan, job: Job, stage: Path) -> str:
    if job.twin is not None:
        return tree_digest(stage, ignore=frozenset())
    prefix = plan.selection.manifest.prefix
    for addition in job.recipe.additions:
        path = stage / addition.path[1:] if addition.path.startswith("/") else stage / prefix[1:] / addition.path
        _add(path, addition.text, addition.link)
    if job.provided is not None:
        for link, target in job.provided.links:
            _add(stage / prefix[1:] / link, None, substitute(target, {**job.values, "home": job.provided.home}))
    discard_files(stage, prefix, job.recipe.discards, job.recipe.where)
    relocate_tree(stage, prefix)
    return tree_digest(stage, ignore=frozenset())


def discard_files(stage: Path, prefix: str, discards: Sequence[Discard], where: str) -> None:
    """Remove what a recipe does not want, with the directories that are empty then.

    Raises PackageError for a pattern without a file, and then nothing is removed.
    """
    for name in discarded(entries(stage), prefix, discards, where):
        path = stage / name
        path.unlink()
        for directory in path.parents:
            if directory == stage or any(directory.iterdir()):
                break
            directory.rmdir()


def _add(path: Path, text: str | None, link: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if link is not None:
        path.unlink(missing_ok=True)
        path.symlink_to(link)
    else:
        write_text(path, text or "")


async def _run(
    site: Site, job: Job, argv: Sequence[str], runner: Runner, extra: Mapping[str, str] | None = None
) -> None:
    where = environment(site, job)
    env = {**process_environment(site, job, where), **(extra or {})}
    await runner.run(where.wrap(argv, env, cwd=where.path("build")))


def _configure_hint(plan: Plan, job: Job, log: str) -> str:
    for package in cmake.missing_packages(log):
        for name, recipe in sorted(plan.selection.recipes.items()):
            if package in recipe.cmake_packages and name not in {need.component for need in job.needs}:
                return (
                    f"it looks for {package}, which the component {name} provides: "
                    f"add {name} to needs.libs or needs.tools in {job.recipe.where.split(':')[0]}"
                )
    missing = cmake.missing_packages(log)
    if missing:
        return f"it looks for {missing[0]}: add the distribution's package to needs.system in {job.recipe.where}"
    return f"the reason is in the log; the recipe is {job.recipe.where.split(':')[0]}"


def _build_hint(site: Site, job: Job, log: str) -> str:
    if not cmake.begins_again(log):
        return f"look into the log, or try by hand: {_shell(job, site)}"
    root = site.area(job.node).made.root
    places = f"{site.tools.cmake} or {root.path if root is not None else 'this machine'}"
    return (
        f"something that CMake reads is from the future, for the clock was ahead when {places} was installed: "
        "touch what is younger than now, or wait until the clock has passed it"
    )


def _failed(job: Job, what: str, log: Path, error: ProcessError, hint: str) -> StepError:
    text = _read(log)
    reason = cmake.complaint(text) or describe_exit(error.returncode)
    kind = OutOfMemory if lacks_memory(error) or cmake.out_of_memory(text) else StepError
    return kind(f"{job.name} could not be {what}: {reason}", log=str(log), hint=hint)


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _shell(job: Job, site: Site) -> str:
    selection = site.plan.selection
    native = f" --target {selection.target_of(job.node.machine).name} --distribution {selection.distribution.name}"
    options = "" if job.node.machine is Machine.HOST else native
    return f"rocmbuild shell {job.node.component}{options} --workspace {site.workspace.path}"
