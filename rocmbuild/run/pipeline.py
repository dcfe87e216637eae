"""From a plan to tasks: sources, build root, components, repository, verification."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.errors import RootError, UsageError
from rocmbuild.plan.plan import Action, Job
from rocmbuild.process import Runner
from rocmbuild.run import component
from rocmbuild.run.component import Site
from rocmbuild.run.output import Output
from rocmbuild.run.sourcing import Sourcing
from rocmbuild.run.task import Step, StepContext, StepFunction, Task, Uses
from rocmbuild.tools.apt import Apt
from rocmbuild.tools.edits import Outcome
from rocmbuild.tools.pypi import install_python
from rocmbuild.tools.root import RootSpec, make_root

ROOT = "build root"
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
    """Everything the tasks of a run work with; ``apt`` is asked for late, for it may need the network."""

    site: Site
    sourcing: Sourcing
    output: Output
    apt: Callable[[Runner], Awaitable[Apt]]
    root_spec: RootSpec | None
    roots: Path
    rerun: str
    """the command line of this run, without verb and components"""

    def tasks(self, phase: Phase, *, verify: bool) -> list[Task]:
        """Return the tasks of a phase; UsageError if it needs what is not built yet."""
        jobs = self.site.plan.jobs
        if phase is Phase.FETCH:
            sources = [self._source_task(job) for job in jobs if job.component.source.kind != "none"]
            return [*sources, *self._root_tasks()]
        working = [job for job in jobs if job.action is Action.BUILD or job.repackage]
        if phase in (Phase.PACKAGE, Phase.VERIFY):
            _refuse_unbuilt(phase, working)
        tasks = [*self._component_tasks(working)] if phase is not Phase.VERIFY else []
        if tasks or not self.output.repository_is_current():
            tasks.append(self._repository_task(frozenset(task.name for task in tasks)))
        asked = phase is Phase.VERIFY  # by name: then it is done again
        if verify and phase is not Phase.PACKAGE and (tasks or asked or not self.output.is_verified()):
            tasks += self._verify_tasks(frozenset(task.name for task in tasks))
        return tasks

    def _component_tasks(self, working: list[Job]) -> Iterable[Task]:
        if not working:
            return
        by_name = {job.node.component: job for job in self.site.plan.jobs}
        with_source = {name for job in working for name in (job.node.component, *job.recipe.needs.sources)}
        for name in sorted(with_source):
            if by_name[name].component.source.kind != "none":
                yield self._source_task(by_name[name])
        yield from self._root_tasks()
        names = {job.name for job in working}
        for job in working:
            yield self._component_task(job, names, by_name)

    @property
    def _needs_root(self) -> bool:
        made, python = self.site.made, self.site.plan.python_packages
        return self.root_spec is not None and (made.root is None or bool(python and made.python is None))

    def _root_tasks(self) -> Iterable[Task]:
        if self._needs_root:
            yield Task(
                name=ROOT,
                steps=(Step("make", self._make_root),),
                cost=60,
                rerun=f"rocmbuild fetch {self.rerun}",
                logs=lambda step: self.site.workspace.log("root", step),
            )

    def _component_task(self, job: Job, working: set[str], by_name: dict[str, Job]) -> Task:
        needs = {need for need in (*job.after, *job.needs) if need in working}
        sources = (job.node.component, *job.recipe.needs.sources)
        needs |= {_source_name(name) for name in sources if by_name[name].component.source.kind != "none"}
        if self._needs_root:
            needs.add(ROOT)
        return Task(
            name=job.name,
            steps=tuple(self._steps(job)),
            needs=frozenset(needs),
            cost=job.cost if job.action is Action.BUILD else 1.0,
            memory=job.recipe.memory if job.action is Action.BUILD else 0,
            rerun=f"rocmbuild build {self.rerun} --no-verify {job.node.component}",
            logs=lambda step, name=job.name: self.site.workspace.log(name, step),  # type: ignore[misc]
        )

    def _steps(self, job: Job) -> Iterable[Step]:
        watch = component.Stopwatch()
        if job.action is Action.BUILD and job.recipe.builds:
            if job.component.source.kind == "none":
                raise UsageError(
                    f"{job.name} has to be built, but the manifest names no source for it",
                    where=job.component.where,
                    hint=f"add it to sources, or let the distribution provide it with --system {job.name}",
                )
            yield Step("configure", watch.timed(self._bind(component.configure, job)))
            yield Step("build", watch.timed(self._bind(component.build, job)))
        if job.action is not Action.KEEP:
            yield Step("install", self._installing(job, watch))
        if job.recipe.packages:
            yield Step("check", self._bind(self.output.check, job))
            yield Step("package", self._bind(self.output.package, job))

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
        target = self.site.workspace.source(job.node.component)

        async def fetch(context: StepContext) -> None:
            await self.sourcing.fetch(source, context.runner)

        async def prepare(context: StepContext) -> None:
            prepared = await self.sourcing.prepare(source, job.component.subdir, job.recipe, target, context.runner)
            _report(prepared.outcomes, context)

        return Task(
            name=_source_name(job.node.component),
            steps=(Step("fetch", fetch, Uses.NETWORK), Step("prepare", prepare, Uses.NOTHING)),
            cost=5,
            rerun=f"rocmbuild fetch {self.rerun} {job.node.component}",
            logs=lambda step: self.site.workspace.log(job.node.component, step),
        )

    async def _make_root(self, context: StepContext) -> None:
        if self.root_spec is None:
            raise RootError("this run has no build root")
        apt = await self.apt(context.runner)
        self.site.made.root = await make_root(self.roots, self.root_spec, apt, context.runner)
        if self.site.plan.python_packages:
            self.site.made.python = await install_python(
                self.roots, self.site.plan.python_packages, apt.archive.environment, context.runner
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

    def _verify_tasks(self, needs: frozenset[str]) -> Iterable[Task]:
        yield Task(
            name="test root",
            steps=(Step("make", self.output.make_test_root),),
            cost=50,
            rerun=f"rocmbuild verify {self.rerun}",
            logs=lambda step: self.site.workspace.log("test-root", step),
        )
        yield Task(
            name=VERIFY,
            steps=(Step("run", self.output.verify),),
            needs=needs | {"test root"},
            cost=60,
            rerun=f"rocmbuild verify {self.rerun}",
            logs=lambda step: self.site.workspace.log(VERIFY, step),
        )


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


def _source_name(name: str) -> str:
    return f"{name} source"


def _refuse_unbuilt(phase: Phase, working: list[Job]) -> None:
    missing = [job.name for job in working if job.action is Action.BUILD]
    if phase is Phase.VERIFY:
        missing = [job.name for job in working]
    if missing:
        raise UsageError(
            f"cannot {phase.value} yet: {', '.join(missing)} must be built, or built again, first",
            hint="run rocmbuild build with the same options",
        )
