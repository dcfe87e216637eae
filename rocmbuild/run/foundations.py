"""The tasks that make what components are built over: roots, and packages of PyPI beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.plan.graph import Machine
from rocmbuild.process import Runner
from rocmbuild.run.site import Made, Site
from rocmbuild.run.task import Step, StepContext, StepFunction, Task, Uses
from rocmbuild.tools.apt import Apt
from rocmbuild.tools.pypi import install_python
from rocmbuild.tools.root import RootSpec, make_root

PYTHON = "python packages"


@dataclass(frozen=True)
class Foundations:
    """What is missing of the roots; ``apt`` is asked for late, for it may need the network."""

    site: Site
    apt: Callable[[Runner, str], Awaitable[Apt]]
    """apt for an architecture"""
    roots: Path
    network: Mapping[str, str]
    """the environment of programs that reach the network"""
    rerun: str

    def tasks(self, machines: Collection[Machine]) -> Iterable[Task]:
        """Yield a task for each root of some machines that is missing; they may share one."""
        wanted = [area.made for machine, area in self.site.areas.items() if machine in machines]
        missing = {spec.key: spec for made in wanted for spec in made.missing}
        for key, spec in missing.items():
            yield Task(
                name=self._root_names[key],
                steps=(Step("make", self._making(spec)),),
                cost=60,
                rerun=self.rerun,
                logs=lambda step, name=self._root_names[key]: self.site.workspace.log(name, step),  # type: ignore[misc]
            )
        if self._needs_python:
            yield Task(
                name=PYTHON,
                steps=(Step("install", self._install_python, Uses.NETWORK),),
                cost=10,
                rerun=self.rerun,
                logs=lambda step: self.site.workspace.log(PYTHON, step),
            )

    @property
    def _root_names(self) -> dict[str, str]:
        """Return the name of the task that makes each root, by the root's key; machines may share one."""
        named: dict[str, str] = {}
        for made in self._all_made():
            for kind, spec in made.specs.items():
                named.setdefault(spec.key, kind)
        return named

    @property
    def _needs_python(self) -> bool:
        made = self.site.made
        return bool(made.specs and self.site.plan.python_packages and made.python is None)

    def before(self, machine: Machine) -> Iterable[str]:
        """Yield the tasks that have to be done before anything is built for a machine."""
        yield from (self._root_names[spec.key] for spec in self.site.areas[machine].made.missing)
        if self._needs_python:
            yield PYTHON

    def _making(self, spec: RootSpec) -> StepFunction:
        async def step(context: StepContext) -> None:
            apt = await self.apt(context.runner, spec.arch)
            root = await make_root(self.roots, spec, apt, context.runner)
            for made in self._all_made():
                made.roots |= {kind: root for kind, wanted in made.specs.items() if wanted.key == spec.key}

        return step

    async def _install_python(self, context: StepContext) -> None:
        place = await install_python(self.roots, self.site.plan.python_packages, self.network, context.runner)
        for made in self._all_made():
            made.python = place

    def _all_made(self) -> Iterable[Made]:
        return [area.made for area in self.site.areas.values()]
