"""``rocmbuild logs``: the log of a component's last run; its path goes to standard error, its text to output."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rocmbuild.commands.areas import check_workspace, components, unknown
from rocmbuild.errors import UsageError, nearest
from rocmbuild.settings import Settings


def run(settings: Settings) -> int:
    """Print a log; UsageError names what there is if the component or the step has none."""
    check_workspace(settings.workspace)
    (component,) = settings.components
    found = components(settings, "logs")
    known = {
        name: logs for name, places in found.items() if (logs := [log for at in places for log in at.glob("*.log")])
    }
    if component not in known:
        raise unknown(component, known, "log")
    path = _newest(component, known[component], settings.step)
    print(path, file=sys.stderr, flush=True)
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    return 0


def _newest(component: str, logs: Sequence[Path], step: str | None) -> Path:
    """Return the log written last; ``step`` None means of any step that makes something of the component."""
    made = [path for path in logs if path.stem not in ("store", "restore")] or logs
    wanted = [path for path in logs if path.stem == step] if step is not None else made
    if not wanted:
        steps = [path.stem for path in logs]
        raise UsageError(f"{component} has no log of a step {step}", hint=nearest(str(step), steps))
    return max(wanted, key=lambda path: path.stat().st_mtime_ns)
