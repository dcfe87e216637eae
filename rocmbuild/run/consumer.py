"""The build machine as a user of packages for another one: it compiles programs against what is installed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.errors import VerifyError
from rocmbuild.plan.graph import Machine
from rocmbuild.run import surroundings
from rocmbuild.run.site import Site
from rocmbuild.tools import toolchain
from rocmbuild.tools.sandbox import BUILD, TOOLS, Mounts, Sandbox


@dataclass(frozen=True)
class CrossConsumer:
    """A sandbox with the cross compilers, the sysroot, and the packages that are installed in another root."""

    site: Site

    @property
    def values(self) -> Mapping[str, str]:
        """Return the placeholders that steps of checks on the build machine may use besides those of recipes."""
        tools = self.site.plan.selection.distribution.cross
        compilers = {"cross:cc": tools.cc, "cross:cxx": tools.cxx} if tools else {}
        return {"toolchain": toolchain.TOOLCHAIN, **compilers}

    def wrap(self, argv: Sequence[str], env: Mapping[str, str], installed: Path, scratch: Path) -> list[str]:
        """Return the argv that runs ``argv`` in ``scratch``, with ``installed`` as prefix, also in the sysroot."""
        made, prefix = self.site.made, self.site.plan.selection.manifest.prefix
        if made.root is None or made.sysroot is None:
            raise VerifyError("the roots of the build machine have not been made")
        surroundings.write_toolchain(self.site)
        hosts = [job.node for job in self.site.plan.jobs if job.node.machine is Machine.HOST]
        mounts = Mounts(
            component="check",
            source=scratch,
            build=scratch,
            stage=scratch,
            prefix=installed,
            final_prefix=prefix,
            tools={**self.site.tools.mounts, **surroundings.cross_tools(self.site)},
            sysroot=made.sysroot.path,
            sysroot_prefix=installed,
            native=surroundings.native_programs(self.site, hosts),
        )
        where = Sandbox(made.root.path, mounts)
        return where.wrap(argv, {**self._environment(where), **env}, cwd=BUILD)

    def _environment(self, where: Sandbox) -> dict[str, str]:
        selection = self.site.plan.selection
        prefix = where.path("prefix")
        return {
            "PATH": f"{where.path('tool', 'cmake')}/bin:{TOOLS}:{surroundings.SYSTEM_PATH}",
            "HOME": "/home",
            "LANG": "C.UTF-8",
            "CMAKE_PREFIX_PATH": prefix,
            **toolchain.environment(selection.target, prefix),
        }
