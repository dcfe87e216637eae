"""From a plan to tasks: sources, build root, components, repository, verification."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rocmbuild.errors import UsageError
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Action
from rocmbuild.plan.plan import Job
from rocmbuild.run import component
from rocmbuild.run.foundations import Foundations
from rocmbuild.run.output import Output
from rocmbuild.run.shelf import Shelf
from rocmbuild.run.site import Site
from rocmbuild.run.sourcing import Sourcing
from rocmbuild.run.task import Step, StepContext, StepFunction, Task, Uses
from rocmbuild.tools.edits import Outcome

REPOSITORY = "repository"
VERIFY = "verify"


class Phase(enum.Enum):
    """How far a run goes."""

    FETCH = "fetch"
    BUILD = "build"
    """everything"""
    PACKAGE = "package"
    VERIFY = "verify"


@dataclass(frozen=True)
class Pipeline:
    """Everything the tasks of a run work with."""

    site: Site
    sourcing: Sourcing
    output: Output
    foundations: Foundations
    rerun: str
    """the command line of this run, without verb and components"""
    shelf: Shelf | None = None
    """the store; None if it is not used"""
    rerun_tools: str = ""
    """the same for components of the build machine, which are those of a native build"""

    def tasks(self, phase: Phase, *, verify: bool) -> list[Task]:
        """Return the tasks of a phase; UsageError if it needs what is not built yet."""
        jobs = self.site.plan.jobs
        if phase is Phase.FETCH:
            machines = {job.node.machine for job in jobs}
            return [*(self._source_task(job) for job in jobs if _has_source(job)), *self.foundations.tasks(machines)]
        working = [job for job in jobs if job.action in (Action.BUILD, Action.RESTORE) or job.repackage]
        if phase in (Phase.PACKAGE, Phase.VERIFY):
            _refuse_unbuilt(phase, working)
        tasks = [*self._component_tasks(working)] if phase is not Phase.VERIFY else []
        if tasks or not self.output.repository_is_current():
            tasks.append(self._repository_task(frozenset(task.name for task in tasks)))
        asked = phase is Phase.VERIFY  # by name: then it is done again
        if verify and phase is not Phase.PACKAGE and (tasks or asked or not self.output.is_verified()):
            tasks += self._verify_tasks(tasks, again=asked)
        return [*tasks, *self._store_tasks({job.node for job in working})] if phase is Phase.BUILD else tasks

    def _component_tasks(self, working: list[Job]) -> Iterable[Task]:
        if not working:
            return
        making = [job for job in working if _is_made(job)]
        with_source = {source.node: source for job in making for source in self._sources(job)}
        for node in sorted(with_source):
            yield self._source_task(with_source[node])
        yield from self.foundations.tasks({job.node.machine for job in making})
        nodes = {job.node for job in working}
        for job in working:
            yield self._component_task(job, nodes)

    def _sources(self, job: Job) -> list[Job]:
        """Return the jobs whose source trees a job reads; one that takes over an output has only licenses to read."""
        plan = self.site.plan
        if job.twin is not None:
            return [other for other in (plan.at(job.twin),) if _has_source(other)]
        read = (plan.at(Node(name, job.node.machine_name)) for name in job.recipe.needs.sources)
        return [other for other in (job, *read) if _has_source(other)]

    def _component_task(self, job: Job, working: set[Node]) -> Task:
        return Task(
            name=job.name,
            steps=tuple(self._steps(job)),
            needs=frozenset(self._before(job, working)) if _is_made(job) else frozenset(),
            cost=job.cost if job.action is Action.BUILD else 1.0,
            memory=job.estimate.memory if job.action is Action.BUILD else 0,
            rerun=f"rocmbuild build {self._rerun(job)} --no-verify {job.node.component}",
            logs=self._logs(job),
        )

    def _before(self, job: Job, working: set[Node]) -> Iterable[str]:
        """Yield the tasks that have to be done before a component is built, or only packaged."""
        yield from (str(need) for need in self._awaited(job) if need in working)
        yield from (_source_name(source.node) for source in self._sources(job))
        yield from self.foundations.before(job.node.machine)

    def _awaited(self, job: Job) -> Iterable[Node]:
        """Yield the components that a job waits for itself, of all whose outputs it sees.

        What is built is waited for along the way: between it and the job everything is built.
        """
        yield from job.after
        if self._unbuilt:
            yield from (need for need in job.needs if need in self._unbuilt)

    @cached_property
    def _unbuilt(self) -> frozenset[Node]:
        """Return the components that are not built: in a large plan each is asked for by hundreds of others."""
        return frozenset(job.node for job in self.site.plan.jobs if job.action is not Action.BUILD)

    def _store_tasks(self, working: set[Node]) -> Iterable[Task]:
        """Yield a task for each component that the store may not have yet; its needs are stored before it."""
        jobs = [job for job in self.site.plan.jobs if self._to_store(job)] if self.shelf is not None else []
        storing = {job.node for job in jobs}
        for job in jobs:
            before = {str(job.node)} if job.node in working else set()
            before |= {_store_name(need) for need in self._awaited(job) if need in storing}
            yield Task(
                name=_store_name(job.node),
                steps=(Step("store", self._keeping(job), Uses.NOTHING),),
                needs=frozenset(before),
                rerun=f"rocmbuild build {self._rerun(job)} --no-verify {job.node.component}",
                logs=self._logs(job),
            )

    def _to_store(self, job: Job) -> bool:
        if job.action is Action.KEEP:
            return job.storable and not self.site.area(job.node).stamps.is_stored(job)
        return job.storable and (job.action is Action.BUILD or (job.action is Action.RESTORE and job.repackage))

    def _keeping(self, job: Job) -> StepFunction:
        async def step(context: StepContext) -> None:
            if self.shelf is not None:
                await self.shelf.keep(self.site, job, context)

        return step

    def _restoring(self, job: Job) -> StepFunction:
        async def step(context: StepContext) -> None:
            if self.shelf is not None and job.stored is not None:
                entry = self.shelf.entries[job.node.component, job.stored]
                await self.shelf.restore(self.site, job, entry, context.runner)

        return step

    def _rerun(self, job: Job) -> str:
        return self.rerun if job.node.machine is Machine.HOST else self.rerun_tools

    def _logs(self, job: Job) -> Callable[[str], Path]:
        workspace, name = self.site.area(job.node).workspace, job.node.component
        return lambda step: workspace.log(name, step)

    def _steps(self, job: Job) -> Iterable[Step]:
        watch, look = component.Stopwatch(), _Look(self.site, job, self.shelf)
        if job.action is Action.RESTORE:
            yield Step("restore", self._restoring(job))
        elif job.conditional or self._may_be_stored(job):
            yield Step("compare", look.step, Uses.NOTHING)
        if job.action is Action.BUILD and job.recipe.builds and job.twin is None:
            if job.component.source.kind == "none":
                raise UsageError(
                    f"{job.name} has to be built, but the manifest names no source for it",
                    where=job.component.where,
                    hint=f"add it to sources, or let the distribution provide it with --system {job.node.component}",
                )
            yield Step("configure", watch.timed(self._bind(component.configure, job)), needed=look.stage_needed)
            build = watch.timed(self._bind(component.build, job))
            yield Step("build", build, needed=look.stage_needed, expendable=True)
        if job.action in (Action.BUILD, Action.PROVIDED):
            yield Step("install", self._installing(job, watch), needed=look.stage_needed)
        if job.repackage and job.recipe.packages and job.node.machine is Machine.HOST:
            yield Step("check", self._bind(self.output.check, job), needed=look.packages_needed)
            yield Step("package", self._bind(self.output.package, job), needed=look.packages_needed)

    def _may_be_stored(self, job: Job) -> bool:
        """Return whether the store may turn out to have a component, once its needs are there."""
        names = {name for name, _ in self.shelf.entries} if self.shelf is not None else set()
        return job.action is Action.BUILD and job.storable and job.stored is None and job.node.component in names

    def _bind(self, function: Callable[..., Awaitable[None]], job: Job) -> StepFunction:
        async def step(context: StepContext) -> None:
            await function(self.site, job, context)

        return step

    def _installing(self, job: Job, watch: component.Stopwatch) -> StepFunction:
        async def step(context: StepContext) -> None:
            await component.install(self.site, job, watch.seconds, context)

        return step

    def _source_task(self, job: Job) -> Task:
        source = job.component.source
        target = self.site.source(job)

        async def fetch(context: StepContext) -> None:
            await self.sourcing.fetch(source, context.runner)

        async def prepare(context: StepContext) -> None:
            prepared = await self.sourcing.prepare(source, job.component.subdir, job.recipe, target, context.runner)
            _report(prepared.outcomes, context)

        return Task(
            name=_source_name(job.node),
            steps=(Step("fetch", fetch, Uses.NETWORK), Step("prepare", prepare, Uses.NOTHING)),
            cost=5,
            rerun=f"rocmbuild fetch {self._rerun(job)} {job.node.component}",
            logs=self._logs(job),
        )

    def _repository_task(self, needs: frozenset[str]) -> Task:
        async def write(context: StepContext) -> None:
            await self.output.write_repository(context.runner)

        return Task(
            name=REPOSITORY,
            steps=(Step("write", write),),
            needs=needs,
            cost=5,
            rerun=f"rocmbuild package {self.rerun}",
            logs=lambda step: self.site.workspace.log(REPOSITORY, step),
        )

    def _verify_tasks(self, before: Iterable[Task], *, again: bool) -> Iterable[Task]:
        """Yield the tasks that verify, unless it was proved before; a cross build takes the host machine's roots."""
        needs = frozenset(task.name for task in before)
        roots = list(self.foundations.tasks({Machine.HOST})) if self.site.plan.selection.cross else []
        yield from (task for task in roots if task.name not in needs)
        yield Task(
            name="test root",
            steps=(Step("make", self.output.make_test_root),),
            needs=frozenset(task.name for task in roots),
            cost=50,
            rerun=f"rocmbuild verify {self.rerun}",
            logs=lambda step: self.site.workspace.log("test-root", step),
        )
        yield Task(
            name=VERIFY,
            steps=(Step("run", self.output.verify, needed=lambda: again or not self.output.is_verified()),),
            needs=needs | {"test root"},
            cost=60,
            rerun=f"rocmbuild verify {self.rerun}",
            logs=lambda step: self.site.workspace.log(VERIFY, step),
        )


@dataclass
class _Look:
    """What a task finds to be there once its needs are done, which decides about its later steps."""

    site: Site
    job: Job
    shelf: Shelf | None
    left: component.Left = field(default_factory=component.Left)

    async def step(self, context: StepContext) -> None:
        self.left = await component.compare(self.site, self.job, self.shelf, context)

    def stage_needed(self) -> bool:
        return not self.left.stage

    def packages_needed(self) -> bool:
        return not self.left.packages


def _report(outcomes: Sequence[Outcome], context: StepContext) -> None:
    """Write what became of each edit into the log, and tell their number and what did not fit."""
    lines = [str(outcome) for outcome in outcomes]
    with context.log.open("a", encoding="utf-8") as log:
        log.writelines(f"{line}\n" for line in lines)
    for outcome, line in zip(outcomes, lines, strict=True):
        if outcome.kind == "left out":
            context.note(line)
        elif context.runner.on_line is not None:
            context.runner.on_line(line)
    kinds = Counter(outcome.kind for outcome in outcomes)
    if kinds:
        words = {"applied": "applied", "present": "already in", "left out": "left out"}
        context.note("edits: " + ", ".join(f"{kinds[kind]} {word}" for kind, word in words.items() if kinds[kind]))


def _source_name(node: Node) -> str:
    return f"{node} source"


def _store_name(node: Node) -> str:
    return f"{node} store"


def _is_made(job: Job) -> bool:
    """Return whether something of a component is made, and not only brought back."""
    return job.action is not Action.RESTORE or job.repackage


def _has_source(job: Job) -> bool:
    return job.component.source.kind != "none" and job.twin is None


def _refuse_unbuilt(phase: Phase, working: list[Job]) -> None:
    missing = [job.name for job in working if job.action in (Action.BUILD, Action.RESTORE)]
    if phase is Phase.VERIFY:
        missing = [job.name for job in working]
    if missing:
        raise UsageError(
            f"cannot {phase.value} yet: {', '.join(missing)} must be built, or built again, first",
            hint="run rocmbuild build with the same options",
        )
