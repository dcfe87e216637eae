"""What is known of earlier runs, read from stamps that lie beside what they speak of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.plan.plan import Built, Job
from rocmbuild.workspace import Workspace, read_json, write_json


@dataclass(frozen=True)
class Stamps:
    """The stamps of one area of a workspace; a stamp counts only while the tree it speaks of is there."""

    workspace: Workspace

    def built(self, components: Iterable[str]) -> dict[str, Built]:
        """Return what is there already, by component."""
        found = {}
        for name in components:
            data = read_json(self.workspace.stamp(name))
            if data is not None and self.workspace.stage(name).is_dir():
                packages = read_json(self.workspace.debs(name) / "key.json") or {}
                found[name] = Built(
                    key=data["key"],
                    root=data["root"],
                    packages=packages.get("key"),
                    seconds=data["seconds"],
                    output=data["output"],
                )
        return found

    def record(self, job: Job, root: str | None, output: str, seconds: float) -> None:
        """Note that the stage tree of ``job`` is complete."""
        data = {"key": job.key, "root": root, "output": output, "seconds": round(seconds, 2)}
        write_json(self.workspace.stamp(job.node.component), data)

    def forget(self, name: str) -> None:
        """Remove a component's stamp before its stage tree is touched."""
        self.workspace.stamp(name).unlink(missing_ok=True)

    def tree_fits(self, job: Job, root: str | None) -> bool:
        """Return whether the build tree was configured for exactly this job."""
        whole = (self.workspace.build(job.node.component) / "build.ninja").is_file()
        return whole and bool(read_json(self._tree(job)) == {"key": job.tree_key, "root": root})

    def forget_tree(self, job: Job) -> None:
        """Remove what is known of the build tree before it is touched."""
        self._tree(job).unlink(missing_ok=True)

    def record_tree(self, job: Job, root: str | None) -> None:
        """Note that the build tree is configured."""
        write_json(self._tree(job), {"key": job.tree_key, "root": root})

    def _tree(self, job: Job) -> Path:
        return self.workspace.component(job.node.component) / "tree.json"
