"""``rocmbuild shell``: a shell, or one command, in exactly the environment that builds a component."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace

from rocmbuild.commands.checks import require_sandbox
from rocmbuild.commands.session import Session, open_session
from rocmbuild.errors import UsageError
from rocmbuild.plan.graph import Node
from rocmbuild.plan.plan import Job
from rocmbuild.process import Runner, network_environment
from rocmbuild.run import surroundings
from rocmbuild.run.site import Site
from rocmbuild.settings import Settings
from rocmbuild.tools.pypi import install_python
from rocmbuild.tools.root import make_root
from rocmbuild.tools.sandbox import Sandbox
from rocmbuild.workspace import exclusive, open_workspace


def run(settings: Settings) -> int:
    """Make what the environment needs, then become the shell; does not return unless that fails."""
    name = settings.components[0]
    open_workspace(settings.workspace)
    with exclusive(settings.workspace):
        argv = asyncio.run(_prepare(settings, name))
    sys.stdout.flush()
    os.execvpe(argv[0], argv, {"PATH": os.defpath, "TERM": settings.environ.get("TERM", "dumb")})


async def _prepare(settings: Settings, name: str) -> list[str]:
    runner = Runner(log=settings.workspace / "logs" / "shell.log")
    session = await open_session(settings, runner)
    job = session.plan.job(name)
    job = session.plan.at(job.twin) if job.twin is not None else job
    if session.sandboxed:
        await require_sandbox()
    await _make_roots(session, runner)
    site = session.site(None, "")
    await _sources(site, session, job, runner)
    missing = [need for need in job.needs if not site.area(need).stamps.built([need.component])]
    if missing:
        raise UsageError(
            f"{name} sees {', '.join(map(str, missing))}, not built yet",
            hint=f"rocmbuild build {session.rerun()} --no-verify {name}",
        )
    await surroundings.make_prefix(site, job)
    where = surroundings.environment(site, job)
    env = surroundings.process_environment(site, job, where)
    env |= {"TERM": settings.environ.get("TERM", "dumb"), "PS1": f"[{name}] \\w $ "}
    argv = settings.command or ("/bin/bash", "--norc", "-i")
    if isinstance(where, Sandbox):
        where = replace(where, interactive=True)
    return where.wrap(argv, env, cwd=where.path("build"))


async def _make_roots(session: Session, runner: Runner) -> None:
    environment = network_environment(session.settings.environ)
    for area in session.areas.values():
        made = area.made
        for kind, spec in made.specs.items():
            if kind not in made.roots:
                apt = await session.apt(runner, spec.arch)
                made.roots[kind] = await make_root(session.cache.roots, spec, apt, runner)
        if session.plan.python_packages and made.python is None:
            made.python = await install_python(session.cache.roots, session.plan.python_packages, environment, runner)


async def _sources(site: Site, session: Session, job: Job, runner: Runner) -> None:
    for name in (job.node.component, *job.recipe.needs.sources):
        wanted = session.plan.at(Node(name, job.node.machine_name))
        source, place = wanted.component.source, site.source(wanted)
        if source.kind == "none":
            place.mkdir(parents=True, exist_ok=True)
            continue
        await session.sourcing.fetch(source, runner)
        await session.sourcing.prepare(source, wanted.component.subdir, wanted.recipe, place, runner)
