"""Packages of PyPI that a build runs, beside the distribution's own: in a directory, not in the root."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rocmbuild.errors import FetchError
from rocmbuild.process import ProcessError, Runner
from rocmbuild.tools.flush import flush
from rocmbuild.tools.waiting import held
from rocmbuild.workspace import new_directory

FORMAT = 1
"""Raised whenever the same requirements would give another directory."""


def python_place(directory: Path, requirements: Sequence[str]) -> Path:
    """Return where the packages for exact ``requirements`` (``name==version``) are kept."""
    digest = hashlib.sha256(json.dumps([FORMAT, sorted(requirements)]).encode()).hexdigest()[:16]
    return directory / f"python-{digest}"


async def install_python(
    directory: Path, requirements: Sequence[str], environment: Mapping[str, str], runner: Runner
) -> Path:
    """Return a directory for PYTHONPATH that has ``requirements``, making it if there is none; raises FetchError."""
    place = python_place(directory, requirements)
    async with held(directory / f".{place.name}.lock", runner.on_line) as lock:
        runner = replace(runner, inherit=(*runner.inherit, lock))
        if place.is_dir():
            return place
        with new_directory(place) as tree:
            argv = [sys.executable, "-m", "pip", "install", "--no-compile", "--no-warn-script-location"]
            try:
                await runner.run([*argv, "--target", str(tree), *sorted(requirements)], env=environment)
            except ProcessError as error:
                raise FetchError(
                    f"the Python packages {', '.join(requirements)} could not be installed",
                    log=error.log,
                    hint="check the network and pip's configuration; needs.python of a recipe names them",
                ) from error
            await flush(tree)
    return place
