"""A flat apt repository: a directory of debs with the indices that apt reads, unsigned."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from rocmbuild.errors import PackageError
from rocmbuild.process import Runner
from rocmbuild.tools.deb import compress
from rocmbuild.workspace import remove_tree, sweep

INDICES = ("Packages", "Packages.gz", "Release")
"""What is written beside the debs, in this order: apt trusts Release to describe the others."""


async def write_repository(
    out: Path, debs: Sequence[Path], *, origin: str, suite: str, arch: str, epoch: int, runner: Runner
) -> None:
    """Make ``out`` the repository of exactly ``debs``; other files than debs and indices stay.

    New debs come first, then the indices, each in one step, and then debs that are no part of it any more go: so apt
    finds everything an index names at any moment. The same debs give the same bytes; ``epoch`` dates them. Raises
    PackageError if two debs have one name.
    """
    _check_names(debs)
    out.mkdir(parents=True, exist_ok=True)
    sweep(out)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for deb in debs:
            _link(deb, scratch / deb.name)
        date = format_datetime(datetime.fromtimestamp(epoch, UTC))
        fields = {"Origin": origin, "Label": origin, "Suite": suite, "Codename": suite, "Date": date}
        await _index(scratch, {**fields, "Architectures": f"{arch} all"}, runner)
        for name in (*sorted(deb.name for deb in debs), *INDICES):
            (scratch / name).replace(out / name)
    finally:
        remove_tree(scratch)
    kept = {deb.name for deb in debs}
    for path in sorted(out.glob("*.deb")):
        if path.name not in kept:
            path.unlink()


async def _index(directory: Path, fields: Mapping[str, str], runner: Runner) -> None:
    listed = await runner.capture(("apt-ftparchive", "packages", "."), cwd=directory)
    paragraphs = sorted(part.strip() for part in listed.decode().split("\n\n") if part.strip())
    packages = "".join(f"{paragraph}\n\n" for paragraph in paragraphs).encode()
    indices = directory / "indices"
    indices.mkdir()
    (indices / "Packages").write_bytes(packages)
    (indices / "Packages.gz").write_bytes(compress(packages))
    options = [part for key, value in fields.items() for part in ("-o", f"APT::FTPArchive::Release::{key}={value}")]
    release = await runner.capture(("apt-ftparchive", *options, "release", "."), cwd=indices)
    (indices / "Release").write_bytes(release)
    for name in INDICES:
        (indices / name).chmod(0o644)
        (indices / name).replace(directory / name)


def _check_names(debs: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for deb in debs:
        if deb.name in seen:
            raise PackageError(
                f"two packages are called {deb.name}",
                where=f"{seen[deb.name]} and {deb}",
                hint="rename one in its recipe",
            )
        seen[deb.name] = deb


def _link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy where the file system has no links between these places."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
