"""``rocmbuild plan``: show the plan that a build would carry out."""

from __future__ import annotations

import asyncio
import json
import sys

from rocmbuild.commands.session import Session, open_session
from rocmbuild.errors import UsageError, nearest
from rocmbuild.process import Runner
from rocmbuild.settings import Settings

FORMATS = ("table", "json", "dot")


def run(settings: Settings) -> int:
    """Print the plan as a table, as JSON or as a Graphviz graph."""
    if settings.format not in FORMATS:
        raise UsageError(f"plan has no format {settings.format}", hint=nearest(settings.format, FORMATS))
    session = asyncio.run(open_session(settings, Runner()))
    rows = [job.row() for job in session.plan.jobs]
    if settings.format == "json":
        print(json.dumps({**_head(session), "jobs": rows}, indent=1))
    elif settings.format == "dot":
        from rocmbuild.ui.plan_view import render_dot

        print(render_dot(rows), end="")
    else:
        from rocmbuild.ui.console import make_console, show
        from rocmbuild.ui.plan_view import render_table

        show(make_console(sys.stdout), render_table(rows, reasons=settings.verbosity > 0))
    return 0


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
