"""How the compilations of a component go through ccache, and what came of it.

Nothing here is in a key: with ccache and without, the same files come out. A build tree that was configured with
ccache starts a script for each compilation; a run without ccache puts another script there, that only compiles.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rocmbuild.errors import UsageError
from rocmbuild.plan.fingerprint import digest
from rocmbuild.plan.plan import Job
from rocmbuild.plan.selection import CCACHE
from rocmbuild.plan.values import CONFIGURATION, SYSROOT
from rocmbuild.run.site import Site
from rocmbuild.tools import ccache
from rocmbuild.tools.sandbox import Environment, Host
from rocmbuild.workspace import sha256_file, write_text

TOOL = "ccache"
SCRIPTS = "compile"
"""Names under which the commands of a component find ccache, and the scripts that start it."""

FORMAT = 1
"""Raised when entries that an older rocmbuild made may not be used any more."""

_LOG, _SCRATCH = ".ccache-log", ".ccache-preprocessed"
_MACHINE = ("/var/lib/dpkg/status", "/usr/bin/cc", "/usr/bin/c++")
"""What tells the compilers of one machine from those of another, or from those it had before an upgrade."""


def scripts(site: Site, job: Job) -> Path:
    """Return the directory of a component's scripts."""
    return site.area(job.node).workspace.component(job.node.component) / SCRIPTS


def tools(site: Site, job: Job) -> dict[str, Path]:
    """Return what the commands of a component need to have besides: a tree that once had ccache needs its scripts."""
    place = scripts(site, job)
    found = {SCRIPTS: place} if site.ccache is not None or place.is_dir() else {}
    root = site.area(job.node).made.roots.get(CCACHE)
    return found if site.ccache is None or root is None else {**found, TOOL: root.path}


def variables(site: Site, where: Environment) -> dict[str, str]:
    """Return the CMake variables that send compilations through ccache."""
    if site.ccache is None:
        return {}
    script = f"{where.path('tool', SCRIPTS)}/{ccache.COMPILE}"
    return {f"CMAKE_{language}_COMPILER_LAUNCHER": script for language in ccache.LANGUAGES}


def prepare(site: Site, job: Job, where: Environment) -> None:
    """Write the scripts of a component, once its prefix is there."""
    place = scripts(site, job)
    if site.ccache is not None:
        texts = ccache.scripts(_compilations(site, job, where, site.ccache))
    elif place.is_dir():
        texts = {ccache.COMPILE: ccache.PLAIN}
    else:
        return
    for name, text in texts.items():
        write_text(place / name, text)
        (place / name).chmod(0o755)


@contextlib.contextmanager
def counted(site: Site, job: Job, note: Callable[[str], None]) -> Iterator[None]:
    """Count what ccache does meanwhile, also if that fails, and tell it."""
    log = site.area(job.node).workspace.build(job.node.component) / _LOG
    log.unlink(missing_ok=True)
    try:
        yield
    finally:
        counts = ccache.read_counts(log)
        if site.ccache is not None and counts != ccache.Counts():
            site.ccache.counts[job.name] = counts
            note(f"ccache: {counts}")


def _compilations(site: Site, job: Job, where: Environment, cache: ccache.Ccache) -> ccache.Compilations:
    root = site.area(job.node).made.roots.get(CCACHE)
    at_tool, build = where.path("tool", SCRIPTS), where.path("build")
    _refuse_signs(at_tool)
    own = (where.path("prefix"), *((SYSROOT,) if site.is_cross(job.node) else ()))
    if root is not None:
        command = ccache.from_root(root.path, where.path("tool", TOOL))
    else:
        command = (str(cache.program or ccache.PACKAGE),)
    return ccache.Compilations(
        command=command,
        scripts=at_tool,
        directory=where.path("ccache"),
        limit=cache.limit,
        log=f"{build}/{_LOG}",
        scratch=f"{build}/{_SCRATCH}",
        identity=_identity(site, job, where),
        trusted=("/usr/bin", "/usr/lib", *own),
        unseen=tuple(_unseen(site, job, where)),
    )


def _refuse_signs(path: str) -> None:
    """Raise UsageError for a path that ccache would take for several; in a sandbox there is none."""
    if " " in path or ":" in path:
        raise UsageError(
            f"--ccache: ccache cannot be told of {path}, for it has a space or a colon in it",
            hint="choose another directory with --workspace, or leave --ccache out",
        )


def _identity(site: Site, job: Job, where: Environment) -> str:
    """Return a digest of all that compiles: the root's packages, what needs have to be executed, flags, variables."""
    outputs = site.consumed(job)
    inputs = {name: job.inputs.get(name) for name in ("target", "compilers", "environment", "prefix", "programs")}
    programs = {name: outputs[name] for name, need in job.consumed.items() if ccache.has_programs(site.stage(need))}
    over = _sums(_MACHINE) if isinstance(where, Host) else site.area(job.node).made.digest
    files = _sums([str(site.workspace.toolchain / Path(CONFIGURATION).name)]) if site.is_cross(job.node) else {}
    return digest({"format": FORMAT, "root": over, "inputs": inputs, "programs": programs, "files": [*files.values()]})


def _sums(names: Iterable[str]) -> dict[str, str]:
    return {name: sha256_file(Path(name)) for name in names if Path(name).is_file()}


def _unseen(site: Site, job: Job, where: Environment) -> Iterator[str]:
    """Yield the files that compilers may read without a word where a component is built."""
    made, workspace = site.area(job.node).made, site.area(job.node).workspace
    yield from ccache.unseen_of_packages(made.root.path if made.root is not None else Path("/"))
    yield from ccache.unseen_below(workspace.prefix(job.node.component), where.path("prefix"))
    if site.is_cross(job.node) and made.sysroot is not None:
        yield from (f"{SYSROOT}{name}" for name in ccache.unseen_of_packages(made.sysroot.path))
        inside = f"{SYSROOT}{where.path('prefix')}"
        yield from ccache.unseen_below(workspace.sysroot_prefix(job.node.component), inside)
