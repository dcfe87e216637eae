"""A store of small components for tests, kept by the real Conan."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rocmbuild.process import Runner, network_environment
from rocmbuild.run.store import Entry, Store
from rocmbuild.tools import conan
from rocmbuild.workspace import tree_digest
from tests.integration.conftest import CODE, PROGRAM

T = TypeVar("T")
ROCM = "opt/rocm-9.9.9"


def key(letter: str) -> str:
    """Return a key of one letter of 0-9a-f."""
    return letter * 64


def flip(path: Path) -> None:
    """Change a bit in the middle of a file, without a trace in its times."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a failing disk would


@dataclass
class Shop:
    """A store in a directory, trees to put into it, and what it warned of."""

    directory: Path
    warnings: list[str] = field(default_factory=list)
    program: Path | None = None

    @property
    def path(self) -> Path:
        return self.directory / "store"

    @property
    def database(self) -> Path:
        return conan.database(self.path / "conan")

    @property
    def store(self) -> Store:
        """Return the store as another run would open it: nothing is remembered."""
        return Store(self.path, network_environment(os.environ), self.warnings.append, self.program)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    def stage(self, name: str, content: str = "") -> Path:
        """Make a stage tree with a header, a program, links and an empty directory."""
        root = self.directory / "trees" / f"{name}-stage"
        shutil.rmtree(root, ignore_errors=True)
        prefix = root / ROCM
        for directory in ("include", "bin", "lib/empty"):
            (prefix / directory).mkdir(parents=True)
        (prefix / "include" / f"{name}.h").write_text(f"#define {name.upper()} 42 /* {content} */\n")
        (prefix / "bin" / name).write_text("#!/bin/sh\n")
        (prefix / "bin" / name).chmod(0o755)
        (prefix / "lib" / "link").symlink_to("../include")
        (prefix / "lib" / "dangling").symlink_to("/nowhere")
        return root

    def debs(self, name: str) -> Path:
        root = self.directory / "trees" / f"{name}-debs"
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.deb").write_text(f"package of {name}")
        (root / "key.json").write_text("{}")
        return root

    def put(self, name: str, letter: str, *requires: Entry, debs: bool = True, content: str = "") -> Entry:
        """Put a component under a key."""
        return self.run(self.putting(name, letter, *requires, debs=debs, content=content))

    async def putting(self, name: str, letter: str, *requires: Entry, debs: bool = True, content: str = "") -> Entry:
        stage = self.stage(name, content)
        return await self.store.put(
            component=name,
            version="9.9.9",
            key=key(letter),
            stage=stage,
            debs=self.debs(name) if debs else None,
            output=tree_digest(stage, ignore=frozenset()),
            packages=key("d") if debs else None,
            requires=requires,
            runner=Runner(),
        )

    def entries(self) -> dict[tuple[str, str], Entry]:
        return self.run(self.store.entries(Runner()))

    def check(self, entry: Entry) -> Path | None:
        return self.run(self.store.check(entry, Runner()))

    def place(self, entry: Entry) -> Path:
        place = self.check(entry)
        assert place is not None, self.warnings
        return place

    def packages(self) -> list[Path]:
        """Return the directories of all packages in the home, finished or not."""
        return [*self.path.glob("conan/p/b/*/p"), *self.path.glob("conan/p/*/p")]

    def cli(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run ``rocmbuild store`` on this store."""
        return self.call(self.argv(*words), **environ)

    def argv(self, *words: str) -> list[str]:
        return [*PROGRAM, "store", *words, "--store", str(self.path)]

    def call(self, argv: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
        env = {**network_environment({}), "HOME": str(self.directory), "PYTHONPATH": CODE, "COLUMNS": "120", **environ}
        return subprocess.run(
            argv, cwd=self.directory, env=env, capture_output=True, text=True, check=False, timeout=120
        )
