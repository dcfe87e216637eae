"""From a plan to tasks: sources, build root, components, repository, verification."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rocmbuild.errors import UsageError
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Action
from rocmbuild.plan.plan import Job
from rocmbuild.process import Runner
from rocmbuild.run import component
from rocmbuild.run.output import Output
from rocmbuild.run.site import Made, Site
from rocmbuild.run.sourcing import Sourcing
from rocmbuild.run.task import Step, StepContext, StepFunction, Task, Uses
from rocmbuild.tools.apt import Apt
from rocmbuild.tools.edits import Outcome
from rocmbuild.tools.pypi import install_python
from rocmbuild.tools.root import RootSpec, make_root

PYTHON = "python packages"
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
    apt: Callable[[Runner, str], Awaitable[Apt]]
    """apt for an architecture"""
    roots: Path
    rerun: str
    """the command line of this run, without verb and components"""
    rerun_tools: str = ""
    """the same for components of the build machine, which are those of a native build"""

    def tasks(self, phase: Phase, *, verify: bool) -> list[Task]:
        """Return the tasks of a phase; UsageError if it needs what is not built yet."""
        jobs = self.site.plan.jobs
        if phase is Phase.FETCH:
            machines = {job.node.machine for job in jobs}
            return [*(self._source_task(job) for job in jobs if _has_source(job)), *self._root_tasks(machines)]
        working = [job for job in jobs if job.action is Action.BUILD or job.repackage]
        if phase in (Phase.PACKAGE, Phase.VERIFY):
            _refuse_unbuilt(phase, working)
        tasks = [*self._component_tasks(working)] if phase is not Phase.VERIFY else []
        if tasks or not self.output.repository_is_current():
            tasks.append(self._repository_task(frozenset(task.name for task in tasks)))
        asked = phase is Phase.VERIFY  # by name: then it is done again
        if verify and phase is not Phase.PACKAGE and (tasks or asked or not self.output.is_verified()):
            tasks += self._verify_tasks(tasks)
        return tasks

    def _component_tasks(self, working: list[Job]) -> Iterable[Task]:
        if not working:
            return
        with_source = {source.node: source for job in working for source in self._sources(job)}
        for node in sorted(with_source):
            yield self._source_task(with_source[node])
        yield from self._root_tasks({job.node.machine for job in working})
        nodes = {job.node for job in working}
        for job in working:
            yield self._component_task(job, nodes)

    def _sources(self, job: Job) -> list[Job]:
        """Return the jobs whose source trees a job reads; one that takes over an output has only licenses to read."""
        plan = self.site.plan
        if job.twin is not None:
            return [other for other in (plan.at(job.twin),) if _has_source(other)]
        read = (plan.at(replace(job.node, component=name)) for name in job.recipe.needs.sources)
        return [other for other in (job, *read) if _has_source(other)]

    def _root_tasks(self, machines: Collection[Machine]) -> Iterable[Task]:
        """Yield a task for each root of some machines that is missing; they may share one."""
        wanted = [area.made for machine, area in self.site.areas.items() if machine in machines]
        missing = {spec.key: spec for made in wanted for spec in made.missing}
        for key, spec in missing.items():
            yield Task(
                name=self._root_names[key],
                steps=(Step("make", self._making(spec)),),
                cost=60,
                rerun=f"rocmbuild fetch {self.rerun}",
                logs=lambda step, name=self._root_names[key]: self.site.workspace.log(name, step),  # type: ignore[misc]
            )
        if self._needs_python:
            yield Task(
                name=PYTHON,
                steps=(Step("install", self._install_python, Uses.NETWORK),),
                cost=10,
                rerun=f"rocmbuild fetch {self.rerun}",
                logs=lambda step: self.site.workspace.log(PYTHON, step),
            )

    @property
    def _root_names(self) -> dict[str, str]:
        """Return the name of the task that makes each root, by the root's key; machines may share one."""
        named: dict[str, str] = {}
        for made in self._all_made():
            for kind, spec in made.specs.items():
                named.setdefault(spec.key, kind)
        return named

    @property
    def _needs_python(self) -> bool:
        made = self.site.made
        return bool(made.specs and self.site.plan.python_packages and made.python is None)

    def _component_task(self, job: Job, working: set[Node]) -> Task:
        before = (*job.after, *job.needs, *((job.twin,) if job.twin else ()))
        needs = {str(need) for need in before if need in working}
        needs |= {_source_name(source.node) for source in self._sources(job)}
        needs |= {self._root_names[spec.key] for spec in self.site.area(job.node).made.missing}
        if self._needs_python:
            needs.add(PYTHON)
        return Task(
            name=job.name,
            steps=tuple(self._steps(job)),
            needs=frozenset(needs),
            cost=job.cost if job.action is Action.BUILD else 1.0,
            memory=job.recipe.memory if job.action is Action.BUILD else 0,
            rerun=f"rocmbuild build {self._rerun(job)} --no-verify {job.node.component}",
            logs=self._logs(job),
        )

    def _rerun(self, job: Job) -> str:
        return self.rerun if job.node.machine is Machine.HOST else self.rerun_tools

    def _logs(self, job: Job) -> Callable[[str], Path]:
        workspace, name = self.site.area(job.node).workspace, job.node.component
        return lambda step: workspace.log(name, step)

    def _steps(self, job: Job) -> Iterable[Step]:
        watch, look = component.Stopwatch(), _Look(self.site, job)
        if job.conditional:
            yield Step("compare", look.step, Uses.NOTHING)
        if job.action is Action.BUILD and job.recipe.builds and job.twin is None:
            if job.component.source.kind == "none":
                raise UsageError(
                    f"{job.name} has to be built, but the manifest names no source for it",
                    where=job.component.where,
                    hint=f"add it to sources, or let the distribution provide it with --system {job.node.component}",
                )
            yield Step("configure", watch.timed(self._bind(component.configure, job)), needed=look.stage_needed)
            yield Step("build", watch.timed(self._bind(component.build, job)), needed=look.stage_needed)
        if job.action is not Action.KEEP:
            yield Step("install", self._installing(job, watch), needed=look.stage_needed)
        if job.recipe.packages and job.node.machine is Machine.HOST:
            yield Step("check", self._bind(self.output.check, job), needed=look.packages_needed)
            yield Step("package", self._bind(self.output.package, job), needed=look.packages_needed)

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

    def _making(self, spec: RootSpec) -> StepFunction:
        async def step(context: StepContext) -> None:
            apt = await self.apt(context.runner, spec.arch)
            root = await make_root(self.roots, spec, apt, context.runner)
            for made in self._all_made():
                made.roots |= {kind: root for kind, wanted in made.specs.items() if wanted.key == spec.key}

        return step

    async def _install_python(self, context: StepContext) -> None:
        place = await install_python(
            self.roots, self.site.plan.python_packages, self.sourcing.downloads.environment, context.runner
        )
        for made in self._all_made():
            made.python = place

    def _all_made(self) -> Iterable[Made]:
        return [area.made for area in self.site.areas.values()]

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

    def _verify_tasks(self, before: Iterable[Task]) -> Iterable[Task]:
        """Yield the tasks that verify; a cross build takes the roots of the host machine for that."""
        needs = frozenset(task.name for task in before)
        roots = list(self._root_tasks({Machine.HOST})) if self.site.plan.selection.cross else []
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
            steps=(Step("run", self.output.verify),),
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
    left: component.Left = field(default_factory=component.Left)

    async def step(self, _context: StepContext) -> None:
        self.left = component.compare(self.site, self.job)

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


def _has_source(job: Job) -> bool:
    return job.component.source.kind != "none" and job.twin is None


def _refuse_unbuilt(phase: Phase, working: list[Job]) -> None:
    missing = [job.name for job in working if job.action is Action.BUILD]
    if phase is Phase.VERIFY:
        missing = [job.name for job in working]
    if missing:
        raise UsageError(
            f"cannot {phase.value} yet: {', '.join(missing)} must be built, or built again, first",
            hint="run rocmbuild build with the same options",
        )
