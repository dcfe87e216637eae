"""Whether what earlier runs left is still what they made: asked before something new is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from rocmbuild.errors import RocmBuildError
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Action
from rocmbuild.plan.plan import Job, Plan
from rocmbuild.run.packages import are_sound, forget_packages
from rocmbuild.run.site import Area
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import tree_digest


def consumed_trees(plan: Plan) -> set[Node]:
    """Return the components whose stage trees of earlier runs this plan makes something of."""
    making = [job for job in plan.jobs if job.action is Action.BUILD or job.repackage]
    read = {node for job in making for node in job.consumed.values()}
    read |= {job.node for job in making if job.action is Action.KEEP or job.conditional}
    return {node for node in read if plan.at(node).action is Action.KEEP or plan.at(node).conditional}


async def forget_damaged(plan: Plan, areas: Mapping[Machine, Area], known: Collection[Node]) -> list[str]:
    """Forget stage trees that are not what was stamped, so that they are made again; return their names.

    A bit that flipped on the disk, or a hand in the tree, would else go into all that is built from it under the
    keys of the whole tree. ``known`` are components that need no look.
    """
    nodes = sorted(consumed_trees(plan) - set(known))
    whole = await asyncio.gather(*(_is_whole(areas[node.machine], node.component) for node in nodes))
    damaged = [node for node, good in zip(nodes, whole, strict=True) if not good]
    for node in damaged:
        areas[node.machine].stamps.forget(node.component)
    return [str(node) for node in damaged]


async def forget_damaged_packages(plan: Plan, areas: Mapping[Machine, Area]) -> list[str]:
    """Forget packages that are not byte by byte what was made, so that they are made again; return their components."""
    places = {
        job.name: areas[Machine.HOST].workspace.debs(job.node.component) for job in plan.jobs if _keeps_packages(job)
    }
    sound = await asyncio.gather(*(in_thread(are_sound, place) for place in places.values()))
    damaged = [name for name, good in zip(places, sound, strict=True) if not good]
    for name in damaged:
        forget_packages(places[name])
    return damaged


def _keeps_packages(job: Job) -> bool:
    kept = job.action in (Action.KEEP, Action.PROVIDED) and not job.repackage
    return job.node.machine is Machine.HOST and (kept or job.conditional)


async def _is_whole(area: Area, component: str) -> bool:
    known = area.stamps.read(component)
    if known is None:
        return True
    try:
        found = await in_thread(lambda: tree_digest(area.workspace.stage(component), ignore=frozenset()))
    except (OSError, RocmBuildError):
        return False
    return found == known.output
