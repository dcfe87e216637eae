"""What is known of earlier runs, read from stamps that lie beside what they speak of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocmbuild.plan.history import Built, Record
from rocmbuild.plan.plan import Job
from rocmbuild.run.conan_home import identity
from rocmbuild.run.packages import read_key
from rocmbuild.workspace import Workspace, read_stamp, write_stamp

TREE = "tree.json"
"""The file of a component that says what its build tree was configured for; written once for each new tree."""

RECORDS = 20
"""Sets of inputs to remember that gave the same stage tree, so that going back to one of them builds nothing."""


@dataclass(frozen=True)
class Stamps:
    """The stamps of one area of a workspace; a stamp counts only while the tree it speaks of is there."""

    workspace: Workspace
    store: Path | None = None
    """the directory of the store that trees go to"""

    def built(self, components: Iterable[str]) -> dict[str, Built]:
        """Return what is there already, by component."""
        read = {name: self.read(name) for name in components}
        return {name: known for name, known in read.items() if known is not None}

    def read(self, name: str) -> Built | None:
        """Return what is there of a component."""
        data = read_stamp(self.workspace.stamp(name))
        if data is None or not self.workspace.stage(name).is_dir():
            return None
        try:
            return _built(data, read_key(self.workspace.debs(name)))
        except (KeyError, TypeError):  # somebody wrote it, or another rocmbuild did
            return None

    def record(
        self,
        job: Job,
        root: str | None,
        output: str,
        seconds: float,
        *,
        needs: Mapping[str, str | None],
        before: Built | None = None,
    ) -> None:
        """Note that the stage tree of ``job`` is complete, and what it was made from.

        ``needs`` are the outputs of its needs, ``before`` is what was there until now: what gave the same tree with
        the same root is not forgotten.
        """
        record = job.record(needs)
        same = before is not None and (before.output, before.root) == (output, root)
        older = before.records if same and before is not None else ()
        records = [record, *(item for item in older if item.action != record.action)]
        data = {
            "key": job.key,
            "root": root,
            "output": output,
            "seconds": round(seconds, 2),
            "records": [_row(item) for item in records[:RECORDS]],
            "inputs": dict(job.inputs),
        }
        write_stamp(self.workspace.stamp(job.node.component), data)

    def keep(self, job: Job, needs: Mapping[str, str | None]) -> Built | None:
        """Note that the stage tree is what ``job`` would make; return what is there, or None if it is not that."""
        known = self.read(job.node.component)
        if known is None or None in needs.values():
            return None
        if not any(record.fits(job.own_key, needs) for record in known.records):
            return None
        self.record(job, known.root, known.output, known.seconds, needs=needs, before=known)
        return known

    def mark_stored(self, name: str, key: str) -> None:
        """Note that the store has, or had, a component under a key: it is not offered that again."""
        write_stamp(self._stored(name), {"key": key, "store": self._identity})

    def is_stored(self, job: Job) -> bool:
        """Return whether this very store was given what a job has, or that has no key to be stored under."""
        if job.stored is None:
            return True
        noted, own = read_stamp(self._stored(job.node.component)) or {}, self._identity
        return own is not None and (noted.get("key"), noted.get("store")) == (job.stored, own)

    @property
    def _identity(self) -> str | None:
        return identity(self.store) if self.store is not None else None

    def forget(self, name: str) -> None:
        """Remove a component's stamp before its stage tree is touched."""
        self.workspace.stamp(name).unlink(missing_ok=True)

    def tree_fits(self, job: Job, root: str | None, needs: Mapping[str, str | None]) -> bool:
        """Return whether the build tree was configured for exactly this job, and these outputs of its needs."""
        whole = (self.workspace.build(job.node.component) / "build.ninja").is_file()
        return whole and bool(read_stamp(self._tree(job)) == _tree_record(job, root, needs))

    def forget_tree(self, job: Job) -> None:
        """Remove what is known of the build tree before it is touched."""
        self._tree(job).unlink(missing_ok=True)

    def record_tree(self, job: Job, root: str | None, needs: Mapping[str, str | None]) -> None:
        """Note that the build tree is configured."""
        write_stamp(self._tree(job), _tree_record(job, root, needs))

    def _stored(self, name: str) -> Path:
        return self.workspace.component(name) / "stored.json"

    def _tree(self, job: Job) -> Path:
        return self.workspace.component(job.node.component) / TREE


def _built(data: Mapping[str, Any], packages: str | None) -> Built:
    """Return what a stamp says; KeyError or TypeError if it does not say all of it."""
    return Built(
        key=data["key"],
        root=data["root"],
        packages=packages,
        seconds=data["seconds"],
        output=data["output"],
        records=tuple(Record(row["key"], row["own"], row["needs"]) for row in data.get("records", ())),
        inputs=data.get("inputs"),
    )


def _row(record: Record) -> dict[str, Any]:
    return {"key": record.key, "action": record.action, "own": record.own, "needs": dict(record.needs)}


def _tree_record(job: Job, root: str | None, needs: Mapping[str, str | None]) -> dict[str, Any]:
    return {"key": job.tree_key, "root": root, "needs": dict(needs)}
