"""``rocmbuild build``, ``fetch``, ``package`` and ``verify``: carry a plan out, as far as the verb says."""

from __future__ import annotations

import asyncio
import sys
import time

from rocmbuild import events
from rocmbuild.commands.asked import remember
from rocmbuild.commands.checks import require_sandbox
from rocmbuild.commands.session import Session, open_session
from rocmbuild.errors import UsageError
from rocmbuild.plan.graph import Machine
from rocmbuild.plan.history import Action
from rocmbuild.process import Runner
from rocmbuild.run.output import Output
from rocmbuild.run.pipeline import VERIFY, Phase, Pipeline
from rocmbuild.run.resources import Jobserver, Memory, Resources
from rocmbuild.run.scheduler import Outcome, Scheduler
from rocmbuild.run.task import Task
from rocmbuild.settings import Settings
from rocmbuild.ui import Reactor, make_observer
from rocmbuild.workspace import exclusive, open_workspace


def run(settings: Settings) -> int:
    """Plan and carry out; return 1 if a task failed."""
    workspace = open_workspace(settings.workspace)
    with exclusive(workspace), make_observer("auto", settings.verbosity, settings.events, sys.stdout) as reactor:
        return asyncio.run(_run(settings, reactor))


async def _run(settings: Settings, reactor: Reactor) -> int:
    begun = time.monotonic()
    session = await open_session(settings, Runner(log=settings.workspace / "logs" / "plan.log"))
    if settings.verb == "build":
        remember(settings)
    jobserver = Jobserver(settings.workspace / "jobserver", settings.jobs)
    pipeline = _pipeline(session, jobserver)
    tasks = pipeline.tasks(Phase(settings.verb), verify=settings.verify)
    _refuse_offline(settings, tasks)
    if session.sandboxed and session.plan.building and settings.verb == "build":
        await require_sandbox()
    outcome = await _carry_out(session, tasks, jobserver, reactor)
    reactor.close()
    if settings.verb != "fetch":
        _summarize(session, pipeline.output, reactor, time.monotonic() - begun, failed=bool(outcome.errors))
    return 1 if outcome.errors else 0


def _pipeline(session: Session, jobserver: Jobserver) -> Pipeline:
    site = session.site(jobserver.path, jobserver.makeflags)
    return Pipeline(
        site=site,
        sourcing=session.sourcing,
        output=Output(site=site, cache=session.cache, finder=session.finder),
        apt=session.apt,
        roots=session.cache.roots,
        rerun=session.rerun(),
        rerun_tools=session.rerun(Machine.BUILD),
    )


async def _carry_out(session: Session, tasks: list[Task], jobserver: Jobserver, reactor: Reactor) -> Outcome:
    settings = session.settings
    with jobserver.open():
        resources = Resources(jobserver, Memory(settings.memory))
        scheduler = Scheduler(resources, reactor, settings.keep_going)
        names = {task.name for task in tasks}
        kept = tuple(job.name for job in session.plan.jobs if job.name not in names) if settings.verb != "fetch" else ()
        title = f"{session.plan.selection.manifest.branch} for {session.workspace.area}"
        reactor(events.RunStarted(0.0, title, {task.name: task.cost for task in tasks}, kept))
        if settings.environment == "host":
            reactor(events.Note(0.0, "environment", _HOST_NOTE))
        status = "interrupted"
        try:
            outcome = await scheduler.run(tasks)
            status = "failed" if outcome.errors else "done"
        finally:
            reactor(events.RunEnded(scheduler.now(), status, scheduler.now()))
        return outcome


def _refuse_offline(settings: Settings, tasks: list[Task]) -> None:
    """Say before hours of building that their end needs the network."""
    if settings.offline and any(task.name == VERIFY for task in tasks):
        raise UsageError(
            "packages are verified with others of the Debian archive, and --offline forbids to fetch them",
            hint="add --no-verify; rocmbuild verify proves them later, with a network",
        )


def _summarize(session: Session, output: Output, reactor: Reactor, seconds: float, *, failed: bool) -> None:
    from rocmbuild.ui.console import make_console
    from rocmbuild.ui.summary import Summary, component_rows, print_summary

    if session.settings.verbosity < 0:
        return
    words = {Action.BUILD: "built", Action.KEEP: "kept", Action.PROVIDED: "provided"}
    actions = {job.name: words[job.action] for job in session.plan.jobs}
    debs = {job.name: output.deb_files(job) for job in session.plan.jobs if job.node.machine is Machine.HOST}
    print_summary(
        Summary(
            components=component_rows(reactor.state, actions, debs),
            seconds=seconds,
            out=None if failed else session.workspace.out,
            checks=output.verify_rows(),
            install=output.installable(),
        ),
        make_console(sys.stdout),
    )


_HOST_NOTE = (
    "no sandbox: components see this machine's compilers, libraries and any ROCm on it; "
    "what is built here is not isolated and not reproducible elsewhere"
)
