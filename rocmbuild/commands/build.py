"""``rocmbuild build``, ``fetch``, ``package`` and ``verify``: carry a plan out, as far as the verb says."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable

from rocmbuild import events
from rocmbuild.commands.asked import remember
from rocmbuild.commands.session import Session, open_session
from rocmbuild.errors import UsageError
from rocmbuild.machine import available_cpus
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Action
from rocmbuild.process import Runner
from rocmbuild.run.efforts import Efforts
from rocmbuild.run.foundations import Foundations
from rocmbuild.run.output import Output
from rocmbuild.run.pipeline import VERIFY, Phase, Pipeline
from rocmbuild.run.recorder import Recorder, places
from rocmbuild.run.resources import Jobserver, Memory, Resources
from rocmbuild.run.scheduler import Outcome, Scheduler
from rocmbuild.run.soundness import consumed_trees, forget_damaged, forget_damaged_packages
from rocmbuild.run.task import Task
from rocmbuild.settings import Settings
from rocmbuild.ui import Reactor, make_observer
from rocmbuild.ui.summary import Makespan
from rocmbuild.workspace import exclusive, open_workspace


def run(settings: Settings) -> int:
    """Plan and carry out; return 1 if a task failed."""
    workspace = open_workspace(settings.workspace)
    reacting = make_observer("auto", settings.verbosity, settings.events, sys.stdout)
    with exclusive(workspace) as lock, reacting as reactor:
        return asyncio.run(_run(settings, reactor, lock))


async def _run(settings: Settings, reactor: Reactor, lock: int) -> int:
    begun = time.monotonic()
    runner = Runner(log=settings.workspace / "logs" / "plan.log", inherit=(lock,))
    session = await open_session(settings, runner)
    jobserver = Jobserver(settings.workspace / "jobserver", settings.jobs)
    resources = Resources(jobserver, Memory(settings.memory), locks=(lock,))
    notes: list[events.Note] = []
    if settings.verb == "build":
        remember(settings)
        with_roots = await _with_roots(session, resources, reactor, runner)
        if with_roots is None:
            return 1
        session, notes = await _sound(with_roots, runner, jobserver)
    pipeline = make_pipeline(session, jobserver)
    tasks = pipeline.tasks(Phase(settings.verb), verify=settings.verify)
    await _refuse_hopeless(session, tasks)
    efforts = Efforts(tasks, settings.jobs, available_cpus())
    recorder = Recorder(session.measured, places(session.plan, session.areas), efforts, helped=settings.ccache)
    try:
        opening = [_started(session, tasks, _kept(session, tasks)), *notes]
        outcome = await _carry_out(session, tasks, resources, _to_all(efforts, recorder, reactor), opening)
    finally:
        await recorder.finish()
    reactor.close()
    if settings.verb != "fetch":
        makespan = None if outcome.errors else Makespan(reactor.state.seconds, efforts.bound(), efforts.capacity)
        _summarize(session, pipeline.output, reactor, time.monotonic() - begun, makespan)
    return 1 if outcome.errors else 0


async def _with_roots(session: Session, resources: Resources, reactor: Reactor, runner: Runner) -> Session | None:
    """Make the roots that are missing if it takes their package versions to know what is there already.

    What the store has goes by them, and what is kept must not get company that was built with other versions.

    Return the session with a plan that knows them, None if they could not be made.
    """
    pipeline = make_pipeline(session, resources.jobserver)
    tasks = list(pipeline.foundations.tasks(session.areas))
    something = (session.shelf is not None and session.shelf.entries) or _keeps_without_root(session)
    if not something or not session.plan.building or not tasks:
        return session
    await _refuse_hopeless(session, pipeline.tasks(Phase.BUILD, verify=session.settings.verify))
    outcome = await _carry_out(session, tasks, resources, reactor, [_started(session, tasks, ())])
    return None if outcome.errors else await session.again(runner)


def _keeps_without_root(session: Session) -> bool:
    kept = (job for job in session.plan.jobs if job.action is Action.KEEP)
    return session.sandboxed and any(session.areas[job.node.machine].made.digest is None for job in kept)


async def _sound(session: Session, runner: Runner, jobserver: Jobserver) -> tuple[Session, list[events.Note]]:
    """Return the session with a plan that uses only what is whole, and what is to be said about the rest."""
    notes: list[events.Note] = []
    known: set[Node] = set()
    while True:
        trees = await forget_damaged(session.plan, session.areas, known)
        known |= consumed_trees(session.plan)
        shelf = session.shelf
        entries = await shelf.drop_damaged(session.plan.jobs, runner) if shelf is not None else []
        packages = await _forget_damaged_packages(session, jobserver)
        notes += [
            events.Note(0.0, name, "its packages are not what was made; they are made again") for name in packages
        ]
        notes += [events.Note(0.0, name, "its stage tree is not what was built; it is made again") for name in trees]
        notes += [events.Note(0.0, name, "what the store had is damaged; it is built") for name in entries]
        if not (trees or entries or packages):
            return session, notes
        session = await session.again(runner)


async def _forget_damaged_packages(session: Session, jobserver: Jobserver) -> list[str]:
    """Look at the packages only if a repository is made of them: reading all takes as long as the disk takes."""
    working = any(job.action in (Action.BUILD, Action.RESTORE) or job.repackage for job in session.plan.jobs)
    if not working and make_pipeline(session, jobserver).output.repository_is_current():
        return []
    return await forget_damaged_packages(session.plan, session.areas)


def make_pipeline(session: Session, jobserver: Jobserver) -> Pipeline:
    """Return what makes the tasks of a session's plan."""
    site = session.site(jobserver.path, jobserver.makeflags)
    return Pipeline(
        site=site,
        sourcing=session.sourcing,
        output=Output(site=site, cache=session.cache, finder=session.finder),
        foundations=Foundations(
            site=site,
            apt=session.apt,
            roots=session.cache.roots,
            network=session.sourcing.downloads.environment,
            rerun=f"rocmbuild fetch {session.rerun()}",
        ),
        shelf=session.shelf,
        rerun=session.rerun(),
        rerun_tools=session.rerun(Machine.BUILD),
    )


def _started(session: Session, tasks: Iterable[Task], kept: tuple[str, ...]) -> events.RunStarted:
    title = f"{session.plan.selection.manifest.branch} for {session.workspace.area}"
    return events.RunStarted(0.0, title, {task.name: task.cost for task in tasks}, kept)


def _kept(session: Session, tasks: Iterable[Task]) -> tuple[str, ...]:
    """Return the components that nothing is done about."""
    names = {task.name for task in tasks}
    jobs = session.plan.jobs if session.settings.verb != "fetch" else ()
    return tuple(job.name for job in jobs if job.name not in names)


async def _carry_out(
    session: Session, tasks: list[Task], resources: Resources, emit: events.Emit, opening: Iterable[events.Event]
) -> Outcome:
    """Run tasks, after telling the events of ``opening``."""
    settings = session.settings
    with resources.jobserver.open():
        scheduler = Scheduler(resources, emit, settings.keep_going)
        for event in opening:
            emit(event)
        if settings.environment == "host":
            emit(events.Note(0.0, "environment", _HOST_NOTE))
        status = "interrupted"
        try:
            outcome = await scheduler.run(tasks)
            status = "failed" if outcome.errors else "done"
        finally:
            emit(events.RunEnded(scheduler.now(), status, scheduler.now()))
        return outcome


def _to_all(*observers: events.Emit) -> events.Emit:
    def emit(event: events.Event) -> None:
        for observer in observers:
            observer(event)

    return emit


async def _refuse_hopeless(session: Session, tasks: list[Task]) -> None:
    """Say before hours of work that their end needs the network, or that there can be no sandbox."""
    settings = session.settings
    if session.sandboxed and session.plan.building and settings.verb == "build":
        from rocmbuild.commands.checks import require_sandbox  # late, as all that only work needs

        await require_sandbox()
    if settings.offline and any(task.name == VERIFY for task in tasks):
        raise UsageError(
            "packages are verified with others of the Debian archive, and --offline forbids to fetch them",
            hint="add --no-verify; rocmbuild verify proves them later, with a network",
        )


def _summarize(session: Session, output: Output, reactor: Reactor, seconds: float, makespan: Makespan | None) -> None:
    """Print the summary; ``makespan`` is None if a task failed."""
    from rocmbuild.ui.console import make_console
    from rocmbuild.ui.summary import Summary, component_rows, print_summary

    if session.settings.verbosity < 0:
        return
    words = {Action.BUILD: "built", Action.RESTORE: "restored", Action.KEEP: "kept", Action.PROVIDED: "provided"}
    actions = {job.name: words[job.action] for job in session.plan.jobs}
    debs = {job.name: output.deb_files(job) for job in session.plan.jobs if job.node.machine is Machine.HOST}
    print_summary(
        Summary(
            components=component_rows(reactor.state, actions, debs),
            seconds=seconds,
            out=session.workspace.out if makespan is not None else None,
            checks=output.verify_rows(),
            install=output.installable(),
            makespan=makespan,
            cached=session.ccache.total if session.ccache is not None else None,
        ),
        make_console(sys.stdout),
    )


_HOST_NOTE = (
    "no sandbox: components see this machine's compilers, libraries and any ROCm on it; "
    "what is built here is not isolated and not reproducible elsewhere"
)
