"""The store as one run uses it: what of a plan it has, trees that come out of it, trees that go into it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rocmbuild.errors import RocmBuildError
from rocmbuild.plan import fingerprint
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Action, Stored
from rocmbuild.plan.plan import Job
from rocmbuild.process import Runner
from rocmbuild.run.packages import are_sound
from rocmbuild.run.site import Site
from rocmbuild.run.store import Entry, Store
from rocmbuild.run.task import StepContext
from rocmbuild.tools.flush import flush
from rocmbuild.tools.waiting import in_thread


@dataclass
class Shelf:
    """The store, and what it had when it was asked; it is asked once."""

    store: Store
    entries: dict[tuple[str, str], Entry]

    @property
    def stored(self) -> dict[tuple[str, str], Stored]:
        """Return what a plan has to know of the entries."""
        return {key: Stored(entry.output, entry.packages) for key, entry in self.entries.items()}

    async def drop_damaged(self, jobs: Iterable[Job], runner: Runner) -> list[str]:
        """Check what is to be restored; forget what is damaged, and return its names."""
        wanted = {(job.node.component, job.stored or ""): job for job in jobs if job.action is Action.RESTORE}
        places = await asyncio.gather(*(self.store.check(self.entries[key], runner) for key in wanted))
        damaged = [key for key, place in zip(wanted, places, strict=True) if place is None]
        for key in damaged:
            del self.entries[key]
        return [wanted[key].name for key in damaged]

    async def find(self, site: Site, job: Job, runner: Runner) -> Entry | None:
        """Return the whole entry of a component whose needs are there now."""
        key = self._key(site, job)
        entry = self.entries.get((job.node.component, key)) if key else None
        if entry is None or await self.store.check(entry, runner) is not None:
            return entry
        del self.entries[job.node.component, entry.key]
        return None

    async def restore(self, site: Site, job: Job, entry: Entry, runner: Runner) -> bool:
        """Bring a stage tree back and stamp it, and its packages if they fit; return whether they do."""
        area, name, needs = site.area(job.node), job.node.component, _needs(site, job)
        before = area.stamps.read(name)
        packaged = entry.packages is not None and entry.packages == job.debs_key(entry.output, needs, area.made.digest)
        debs = area.workspace.debs(name) if packaged and job.node.machine is Machine.HOST else None
        area.stamps.forget(name)
        await self.store.restore(entry, area.workspace.stage(name), debs, runner)
        await flush(area.workspace.stage(name))
        area.stamps.record(job, area.made.digest, entry.output, 0.0, needs=needs, before=before)
        area.stamps.mark_stored(name, entry.key)
        return debs is not None

    async def keep(self, site: Site, job: Job, context: StepContext) -> None:
        """Put a component into the store unless it is there; what goes wrong is told, and fails nothing."""
        area, name = site.area(job.node), job.node.component
        known, key = area.stamps.read(name), self._key(site, job)
        if known is None or key is None:
            return  # somebody removes the stage tree meanwhile
        if known.root != area.made.digest:
            return  # kept while its root was not there, which is there again with other package versions
        needs, debs = _needs(site, job), area.workspace.debs(name)
        packages = job.debs_key(known.output, needs, known.root)
        packaged = known.packages == packages and job.node.machine is Machine.HOST
        packaged = packaged and await in_thread(are_sound, debs)  # nobody has read them if this run makes nothing
        try:
            there = self.entries.get((name, key))
            if there is None or (packaged and there.packages != packages):
                self.entries[name, key] = await self.store.put(
                    component=name,
                    version=job.component.version,
                    key=key,
                    stage=area.workspace.stage(name),
                    debs=debs if packaged else None,
                    output=known.output,
                    packages=packages if packaged else None,
                    requires=self._requires(site, job.consumed.values()),
                    runner=context.runner,
                )
        except RocmBuildError as error:
            context.note(f"not stored: {error.message}")
            return
        area.stamps.mark_stored(name, key)

    def _requires(self, site: Site, nodes: Iterable[Node]) -> list[Entry]:
        jobs = [site.plan.at(node) for node in nodes]
        found = {job.node.component: self.entries.get((job.node.component, self._key(site, job) or "")) for job in jobs}
        return [entry for entry in found.values() if entry is not None]

    def _key(self, site: Site, job: Job) -> str | None:
        """Return the key of a component as its needs are now; None for what is not stored, and while that is open."""
        needs, root = _needs(site, job), site.area(job.node).made.digest
        if not job.storable or root is None or None in needs.values():
            return None
        return fingerprint.store_key(fingerprint.action_key(job.own_key, needs), root)


def _needs(site: Site, job: Job) -> Mapping[str, str | None]:
    """Return the outputs of a component's needs: as planned if all were known then, for they come in any order."""
    return site.consumed(job) if None in job.outputs.values() else job.outputs
