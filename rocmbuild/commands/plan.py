"""``rocmbuild plan``: show the plan that a build would carry out."""

from __future__ import annotations

import asyncio
import json
import sys

from rocmbuild.commands.session import Session, open_session
from rocmbuild.errors import UsageError, nearest
from rocmbuild.plan.estimate import Outlook
from rocmbuild.plan.history import Action, why
from rocmbuild.plan.plan import Job
from rocmbuild.process import Runner
from rocmbuild.settings import Settings

FORMATS = ("table", "json", "dot")


def run(settings: Settings) -> int:
    """Print the plan as a table, as JSON or as a Graphviz graph."""
    if settings.format not in FORMATS:
        raise UsageError(f"plan has no format {settings.format}", hint=nearest(settings.format, FORMATS))
    if settings.why is not None and settings.format == "dot":
        raise UsageError("why a component is built is told as table or json, not as dot")
    session = _opened(settings)
    if settings.why is not None:
        _explain(session, settings.why)
        return 0
    rows = [job.row() for job in session.plan.jobs]
    if settings.format == "json":
        outlook = _outlook(session)
        found = {"estimate": outlook.row() if outlook else None, "unsettled": _unsettled(session), "jobs": rows}
        print(json.dumps({**_head(session), **found}, indent=1))
    elif settings.format == "dot":
        from rocmbuild.ui.plan_view import render_dot

        print(render_dot(rows), end="")
    else:
        from rocmbuild.ui.console import make_console, show
        from rocmbuild.ui.plan_view import render_table

        outlook = _outlook(session)
        table = render_table(rows, reasons=settings.verbosity > 0, outlook=outlook.row() if outlook else None)
        console = make_console(sys.stdout)
        show(console, table)
        unsettled = _unsettled(session)
        if unsettled:
            from rich.text import Text

            show(console, Text(_UNSETTLED.format(", ".join(unsettled))))
    return 0


def _unsettled(session: Session) -> list[str]:
    """Return the components that the store may have: that can be told once their root is there, with its versions."""
    names = {name for name, _ in session.shelf.entries} if session.shelf is not None else set()
    return [
        job.name
        for job in session.plan.building
        if job.storable and job.node.component in names and session.areas[job.node.machine].made.digest is None
    ]


_UNSETTLED = (
    "the build root is not there yet, and what the store has depends on the versions in it; "
    "rocmbuild fetch or rocmbuild build makes it, then the store may save the building of {}"
)


def _opened(settings: Settings) -> Session:
    """Return the session.

    It is not the coroutine that returns it: at its end asyncio.run of Python 3.11 asks for the handler of an interrupt,
    and the enumeration of the well-known ones writes down that it is not among them, with the task and its result.
    For a large plan that takes longer than all the rest.
    """
    found: list[Session] = []

    async def opened() -> None:
        found.append(await open_session(settings, Runner()))

    asyncio.run(opened())
    return found[0]


def _outlook(session: Session) -> Outlook | None:
    """Return what a build would take; None if it would build nothing, or refuse to."""
    if not session.plan.building:
        return None
    from rocmbuild.commands.build import make_pipeline
    from rocmbuild.run.forecast import forecast
    from rocmbuild.run.pipeline import Phase
    from rocmbuild.run.resources import Jobserver

    settings = session.settings
    pipeline = make_pipeline(session, Jobserver(settings.workspace / "jobserver", settings.jobs))
    try:
        tasks = pipeline.tasks(Phase.BUILD, verify=settings.verify)
    except UsageError:  # the build says it; a plan can be looked at all the same
        return None
    return forecast(tasks, session.plan, settings.jobs, settings.memory)


def _explain(session: Session, name: str) -> None:
    """Print what changed about a component since it was built, for each machine that it is built for."""
    jobs = [job for job in session.plan.jobs if job.node.component == name]
    if not jobs:
        names = sorted({job.node.component for job in session.plan.jobs})
        raise UsageError(f"this plan has no component {name}", hint=nearest(name, names))
    changes = {job.name: _changes(session, job) for job in jobs}
    if session.settings.format == "json":
        found = {job.name: {**job.row(), "changed": changes[job.name]} for job in jobs}
        print(json.dumps(found, indent=1))
        return
    for job in jobs:
        print(f"{job.name}: {job.action.value}, {job.reason}")
        print("".join(f"  {line}\n" for line in changes[job.name]), end="")


def _changes(session: Session, job: Job) -> list[str]:
    area = session.areas[job.node.machine]
    built = area.stamps.read(job.node.component)
    if built is None:
        return ["never built, or what was built is gone"]
    lines = [str(change) for change in why(job.wanted(area.made.digest), built, job.inputs)]
    if job.repackage and job.action is not Action.BUILD:
        lines.append("packages: what shapes them changed, or they are gone")
    return lines or ["nothing changed"]


def _head(session: Session) -> dict[str, object]:
    selection = session.plan.selection
    digests = {machine.value: area.made.digest for machine, area in session.areas.items()}
    return {
        "branch": selection.manifest.branch,
        "version": selection.manifest.version,
        "target": selection.target.name,
        "distribution": selection.distribution.name,
        "gpus": list(selection.gpus),
        "prefix": selection.manifest.prefix,
        "environment": selection.environment,
        "root": digests["host"],
        "roots": digests,
    }
