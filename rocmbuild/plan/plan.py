"""The plan as a value: which components, in which order, with which action, key and cost, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from rocmbuild.model.manifest import Component
from rocmbuild.model.recipe import Provided, Resolved
from rocmbuild.plan import fingerprint
from rocmbuild.plan.estimate import NO_ESTIMATE, Estimate
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Action, Record, Wanted
from rocmbuild.plan.selection import Selection


@dataclass(frozen=True)
class Job:
    """One component in a plan; strings of its recipe are substituted with ``values``."""

    node: Node
    action: Action
    reason: str
    conditional: bool
    """whether a build is left out if the outputs of its needs come out as they were"""
    stored: str | None
    """the key that the store has or would have it under; None for what is not kept there, and while it is not known"""
    storable: bool
    """whether the store keeps it: not what the distribution provides, nor what comes from somebody's checkout"""
    key: str
    """the static key: its own inputs, and its needs by their static keys"""
    own_key: str
    """the key of its own inputs"""
    outputs: Mapping[str, str | None]
    """what its needs give, by their names in keys; None for one that has to be built first"""
    inputs: Mapping[str, Any]
    """its own inputs as people read them"""
    source_key: str
    tree_key: str
    """names what its build tree may go on with; a local source's content is not in it, for Ninja sees to that"""
    package_key: str
    """what shapes its packages, besides stage trees"""
    repackage: bool
    component: Component
    recipe: Resolved
    provided: Provided | None
    values: Mapping[str, str]
    deb_version: str
    needs: tuple[Node, ...]
    """components whose outputs it sees"""
    after: tuple[Node, ...]
    """components that have to be there before it starts"""
    twin: Node | None
    """the node of the build machine whose output it takes over"""
    estimate: Estimate
    """what building it will take"""

    @property
    def name(self) -> str:
        """Return the name under which the job runs and logs."""
        return str(self.node)

    @property
    def cost(self) -> float:
        """Return the seconds it will take with all CPUs for itself."""
        return self.estimate.seconds

    @property
    def consumed(self) -> dict[str, Node]:
        """Return the nodes whose outputs it is made from, by the names under which its keys have them."""
        twin = (self.twin,) if self.twin is not None else ()
        return {need_name(self.node, need): need for need in (*self.needs, *twin)}

    @property
    def action_key(self) -> str | None:
        """Return the key of its own inputs and the outputs of its needs; None while one of these is not known."""
        return None if None in self.outputs.values() else fingerprint.action_key(self.own_key, self.outputs)

    def wanted(self, root: str | None) -> Wanted:
        """Return what the plan wants of it, with the digest of its root if that is known."""
        return Wanted(self.key, self.own_key, root, self.outputs)

    def record(self, needs: Mapping[str, str | None]) -> Record:
        """Return what it was made from, given the outputs of its needs."""
        return Record(self.key, self.own_key, needs)

    def debs_key(self, output: str | None, needs: Mapping[str, str | None], root: str | None) -> str:
        """Return the key of its packages, given its stage tree and those of its needs."""
        return fingerprint.debs_key(self.package_key, output, needs, root)

    def row(self) -> dict[str, Any]:
        """Return the job as ``rocmbuild plan --format json`` shows it."""
        return {
            "component": self.node.component,
            "machine": self.node.machine_name,
            "action": self.action.value,
            "version": self.component.version,
            "fingerprint": self.key,
            "action_key": self.action_key,
            "conditional": self.conditional,
            "needs": [str(node) for node in self.after],
            "estimate": round(self.estimate.cpu, 1) if self.action is Action.BUILD else 0.0,
            "reason": self.reason,
            "package": self.repackage,
            **(self.estimate if self.action is Action.BUILD else NO_ESTIMATE).row(),
        }


@dataclass(frozen=True)
class Plan:
    """All jobs, each after its needs, and the graph they come from."""

    selection: Selection
    jobs: tuple[Job, ...]
    roots: Mapping[Machine, Mapping[str, tuple[str, ...]]]
    """distribution packages of each kind of root for each machine; see ``root_packages``"""
    python_packages: tuple[str, ...]
    package_versions: Mapping[str, str]
    """version of every package of the release, by name"""
    values: Mapping[str, str]
    """placeholders that all recipes for the host machine share"""
    recipes: Mapping[str, Resolved]
    """of all components of the release, selected or not, for the host machine; placeholders are not replaced"""

    def job(self, name: str, machine: Machine = Machine.HOST) -> Job:
        """Return the job of a component."""
        return self.at(Node(name, machine.value))

    def at(self, node: Node) -> Job:
        """Return the job of a node."""
        return self._by_node[node]

    @cached_property
    def _by_node(self) -> Mapping[Node, Job]:
        return {job.node: job for job in self.jobs}

    @property
    def building(self) -> tuple[Job, ...]:
        """Return the jobs that build something."""
        return tuple(job for job in self.jobs if job.action is Action.BUILD)

    def with_estimates(self, found: Mapping[Node, Estimate]) -> Plan:
        """Return the plan with better estimates of some of its jobs."""
        jobs = (replace(job, estimate=found[job.node]) if job.node in found else job for job in self.jobs)
        return replace(self, jobs=tuple(jobs))


def need_name(node: Node, need: Node) -> str:
    """Return the name of a need in keys: it says its machine only if that is another one.

    So a component for the build machine has the same key in a cross build and in a native one.
    """
    return need.component if need.machine_name == node.machine_name else str(need)
