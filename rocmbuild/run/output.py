"""From stage trees to what the user gets: checked trees, packages, a repository, and the proof that it works."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rocmbuild.errors import RootError, StepError, VerifyError
from rocmbuild.model.recipe import ComponentChecks
from rocmbuild.model.verdict import VerifyRow
from rocmbuild.plan.fingerprint import digest
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.inputs import origin
from rocmbuild.plan.plan import Job
from rocmbuild.plan.values import SYSROOT
from rocmbuild.process import Runner
from rocmbuild.run.packages import BuiltPackage, check_conflicts, read_packages, write_key
from rocmbuild.run.site import Site
from rocmbuild.run.surroundings import EPOCH
from rocmbuild.run.task import StepContext
from rocmbuild.tools.apt import ArchiveFinder
from rocmbuild.tools.aptconf import ORIGIN
from rocmbuild.tools.flush import flush
from rocmbuild.tools.sandbox import BUILD, SOURCE, STAGE
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import Cache, read_json, read_stamp, sha256_file, write_json, write_stamp

if TYPE_CHECKING:
    from rocmbuild.run.qa import Finding
    from rocmbuild.tools.emulation import Emulation
    from rocmbuild.tools.testroot import BaseSpec

# what checks, packs and verifies is loaded when it has work: without any, it would take half of the time of a run

MAINTAINER = "rocmbuild <rocmbuild@localhost>"
INSTALL = "rocm-hip-runtime-dev"
"""The metapackage that brings everything for HIP."""

VERIFY_FORMAT = 1
"""Raised when packages that passed an older verification should be verified again."""


@dataclass(frozen=True)
class Output:
    """Packages, repository and verification of one workspace area."""

    site: Site
    cache: Cache
    finder: ArchiveFinder

    async def check(self, site: Site, job: Job, context: StepContext) -> None:
        """Check a stage tree against the rules; StepError names files and rules that fail."""
        from rocmbuild.run.qa import Stage, check_stage

        stage = Stage(
            component=job.name,
            path=site.stage(job.node),
            dependencies=tuple(site.stage(need) for need in _host_first(job.needs)),
            root=self._admin(site),
            prefix=site.plan.selection.manifest.prefix,
            target=site.plan.selection.target,
            private=(str(site.workspace.path), str(self.cache.path)),
            sandbox=(f"{SOURCE}/{job.node.component}", f"{BUILD}/", f"{STAGE}/", SYSROOT),
        )
        findings = await in_thread(check_stage, stage, job.recipe.waivers)
        _write_lines(context.log, [str(finding) for finding in findings])
        write_json(site.workspace.component(job.name) / "qa.json", [_finding_row(item) for item in findings])
        failing = [finding for finding in findings if finding.fails]
        if failing:
            raise StepError(
                f"{job.name}: {len(failing)} files break a rule; the first: {failing[0]}",
                where=failing[0].file,
                log=str(context.log),
                hint="mend the build, or waive the rule for these files in the recipe (waivers: rule, files, why)",
            )

    async def package(self, site: Site, job: Job, context: StepContext) -> None:
        """Make the packages of a component."""
        from rocmbuild.run.packaging import Packaging, make_packages

        manifest = site.plan.selection.manifest
        source = site.source(job)
        packaging = Packaging(
            component=job.node.component,
            stage=site.workspace.stage(job.name),
            prefix=manifest.prefix,
            recipe=job.recipe,
            source=source if source.is_dir() else None,
            deb_version=job.deb_version,
            arch=site.plan.selection.target.arch,
            admin=self._admin(site),
            epoch=EPOCH,
            siblings=self._packages(tuple(need.component for need in job.needs if need.machine is Machine.HOST)),
            versions=site.plan.package_versions,
            values=job.values,
            out=site.workspace.debs(job.name),
            maintainer=MAINTAINER,
            runtime=job.provided.runtime if job.provided else (),
            origin=origin(job.component),
        )
        await make_packages(packaging, context.runner)
        known = site.area(job.node).stamps.read(job.node.component)
        findings = read_json(site.workspace.component(job.name) / "qa.json")
        write_json(site.workspace.debs(job.name) / "qa.json", findings)  # goes where the packages go
        if known is not None:  # else somebody removes the stage tree meanwhile
            key = job.debs_key(known.output, site.consumed(job), known.root)
            await flush(site.workspace.debs(job.name))
            await in_thread(write_key, site.workspace.debs(job.name), key)

    def deb_files(self, job: Job) -> list[Path]:
        """Return the packages of a component that are there."""
        return [package.path for package in read_packages(self.site.workspace.debs(job.name)) or ()]

    def repository_is_current(self) -> bool:
        """Return whether the repository holds exactly the packages that are there."""
        out = self.site.workspace.out
        wanted = self._repository_key()
        stamp = read_stamp(self._stamp("repository")) or {}
        debs = [package.path for package in self._all_packages().values()]
        return (
            stamp.get("key") == wanted
            and all(_same_file(deb, out / deb.name) for deb in debs)
            and all(_has_sum(out / name, total) for name, total in stamp.get("indices", {}).items())
        )

    async def write_repository(self, runner: Runner) -> None:
        """Make the repository of all packages that are there."""
        from rocmbuild.tools.repository import INDICES, write_repository

        selection = self.site.plan.selection
        await write_repository(
            self.site.workspace.out,
            [package.path for package in self._all_packages().values()],
            origin=ORIGIN,
            suite=selection.manifest.branch,
            arch=selection.target.arch,
            epoch=EPOCH,
            runner=runner,
        )
        write_json(self.site.workspace.out / "build.json", self._record())
        await flush(self.site.workspace.out)
        indices = {name: sha256_file(self.site.workspace.out / name) for name in INDICES}
        write_stamp(self._stamp("repository"), {"key": self._repository_key(), "indices": indices})
        proved = read_json(self._proof_file()) or {}  # in another workspace of this user, of these very packages
        if proved.get("key") == self._verify_key():
            write_json(self._verify_file(), proved)

    def _record(self) -> dict[str, Any]:
        """Return what the packages were made from: sources, keys, build tools, packages of the build root."""
        plan = self.site.plan
        known = read_json(self.site.workspace.out / "build.json") or {}  # of components that are not selected now
        made = {
            job.name: {"source": origin(job.component), "fingerprint": job.key, "version": job.deb_version}
            for job in plan.jobs
        }
        return {
            "branch": plan.selection.manifest.branch,
            "version": plan.selection.manifest.version,
            "target": plan.selection.target.name,
            "distribution": plan.selection.distribution.name,
            "gpus": list(plan.selection.gpus),
            "environment": plan.selection.environment,
            "tools": dict(plan.selection.tools),
            "python": list(plan.python_packages),
            "roots": {
                machine.value: {kind: root.versions for kind, root in area.made.shaping.items()}
                for machine, area in self.site.areas.items()
            },
            "components": {**known.get("components", {}), **made},
        }

    def installable(self) -> tuple[str, ...]:
        """Return what to install: the metapackage that brings everything, or all packages if there is none."""
        packages = self._all_packages()
        return (INSTALL,) if INSTALL in packages else tuple(packages)

    def is_verified(self) -> bool:
        """Return whether exactly these packages have passed verification."""
        record = read_json(self._verify_file()) or {}
        return bool(record.get("status") == "pass" and record.get("key") == self._verify_key())

    def verify_rows(self) -> tuple[VerifyRow, ...]:
        """Return the rows of the last verification if it was of these packages."""
        record = read_json(self._verify_file()) or {}
        if record.get("key") != self._verify_key():
            return ()
        return tuple(VerifyRow(**row) for row in record["rows"])

    async def make_test_root(self, context: StepContext) -> None:
        """Make the base of the root that packages are installed into."""
        from rocmbuild.tools.testroot import make_base

        await make_base(await self._base_spec(context.runner), self.cache.roots, context.runner)

    async def verify(self, context: StepContext) -> None:
        """Install the packages into a fresh root and run every check; VerifyError if one fails."""
        from rocmbuild.run.consumer import CrossConsumer
        from rocmbuild.run.verify import Verification, verify
        from rocmbuild.tools.testroot import FreshRoot

        selection = self.site.plan.selection
        job = Verification(
            root=FreshRoot(
                spec=await self._base_spec(context.runner),
                directory=self.site.workspace.path / "verify" / self.site.workspace.area,
                archives=self.cache.downloads / "debs",
                repository=self.site.workspace.out,
            ),
            bases=self.cache.roots,
            packages=tuple(self._all_packages()),
            components=self._checks(),
            values=self.site.plan.values,
            gpus=selection.gpus,
            target=selection.target,
            prefix=selection.manifest.prefix,
            consumer=CrossConsumer(self.site) if selection.cross else None,
            references=self._references(),
        )
        proof = await verify(job, context.runner, context.note, context.progress)
        rows = [*self._qa_rows(), *proof.rows]
        failed = [row for row in rows if row.status == "fail"]
        record = {
            "key": self._verify_key(),
            "status": "fail" if failed else "pass",
            "rows": [vars(row) for row in rows],
            "packages": {name: package.sha256 for name, package in self._all_packages().items()},
            "sources": self._sources_key(),
            "device_code": proof.device_code,
        }
        write_json(self._verify_file(), record)
        if not failed:
            write_json(self._proof_file(), record)
        if failed:
            first = f"{failed[0].check}: {failed[0].subject}: {failed[0].detail}"
            raise VerifyError(
                f"{len(failed)} of {len(rows)} checks failed; the first: {first}",
                log=str(context.log),
                hint=f"the table is in {self._verify_file()}",
            )

    def _references(self) -> dict[str, dict[str, str]]:
        """Return the sums of the device code that the same sources gave on other machines, by their area."""
        out, name = self.site.workspace.out, self.site.plan.selection.distribution.name
        found = {}
        for path in sorted(out.parent.glob(f"{name}-*/verify.json")):
            record = read_json(path) or {}
            if path.parent != out and record.get("sources") == self._sources_key() and record.get("device_code"):
                found[path.parent.name] = record["device_code"]
        return found

    def _sources_key(self) -> str:
        """Return a digest of the sources and versions of all components, the same for every machine."""
        manifest = self.site.plan.selection.manifest
        local = {job.component.name: job.component for job in self.site.plan.jobs}
        components = {**manifest.components, **local}
        return digest(
            {name: [item.version, item.source.commit, item.source.sha256] for name, item in components.items()}
        )

    def _checks(self) -> tuple[ComponentChecks, ...]:
        """Return what the recipes of components whose packages are there want proved."""
        there = {package.component for package in self._all_packages().values()}
        return tuple(
            ComponentChecks(name, recipe.checks, recipe.waivers)
            for name, recipe in self.site.plan.recipes.items()
            if name in there
        )

    def _qa_rows(self) -> list[VerifyRow]:
        rows = []
        for name in {package.component: None for package in self._all_packages().values()}:
            findings = read_json(self.site.workspace.debs(name) / "qa.json") or []
            rows += [VerifyRow(**row) for row in findings]
            if not any(row["status"] == "fail" for row in findings):
                rows.append(VerifyRow("stage tree", name, "pass", ""))
        return rows

    async def _base_spec(self, runner: Runner) -> BaseSpec:
        from rocmbuild.tools.testroot import BaseSpec

        selection = self.site.plan.selection
        archive = await self.finder.find(runner)
        return BaseSpec(archive, selection.distribution, selection.target.arch, emulation=self._emulation())

    def _emulation(self) -> Emulation | None:
        """Return how programs of the target are run; RootError if nothing emulates it."""
        from rocmbuild.tools.emulation import Emulation

        target = self.site.plan.selection.target
        if not self.site.plan.selection.cross:
            return None
        if target.emulator is None:
            raise RootError(
                f"the target {target.name} names no emulator to verify its packages with",
                hint="add emulator to the target's file, or use --no-verify",
            )
        program = self.site.made.emulator(target.emulator.program)
        return Emulation(program, target.arch, target.elf_machine, target.emulator.cpu)

    def _packages(self, components: tuple[str, ...]) -> dict[str, BuiltPackage]:
        made = [package for name in components for package in read_packages(self.site.workspace.debs(name)) or ()]
        check_conflicts(made)
        return {package.name: package for package in made}

    def _all_packages(self) -> dict[str, BuiltPackage]:
        return self._packages(tuple(self.site.plan.selection.manifest.components))

    def _repository_key(self) -> str:
        return digest({name: package.sha256 for name, package in self._all_packages().items()})

    def _verify_key(self) -> str:
        checks = [
            [
                [check.name, [sha256_file(path) for path in check.files if path.is_file()]],
                [repr(check.steps), check.fatbin, check.packages, repr(owner.waivers)],
            ]
            for owner in self._checks()
            for check in owner.checks
        ]
        gpus = list(self.site.plan.selection.gpus)
        return digest({"format": VERIFY_FORMAT, "repository": self._repository_key(), "checks": checks, "gpus": gpus})

    def _verify_file(self) -> Path:
        return self.site.workspace.out / "verify.json"

    def _proof_file(self) -> Path:
        """Return where it is kept that packages passed, for all workspaces of the cache."""
        return self.cache.proofs / f"{self._verify_key()}.json"

    def _stamp(self, name: str) -> Path:
        return self.site.workspace.component(f".{name}") / "stamp.json"

    def _admin(self, site: Site) -> Path:
        return site.made.installed.path if site.made.installed else Path("/")


def _host_first(nodes: Iterable[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: node.machine is not Machine.HOST)


def _finding_row(finding: Finding) -> dict[str, str]:
    status = "fail" if finding.fails else ("waived" if finding.waived else "warning")
    detail = f"{finding.detail} ({finding.waived})" if finding.waived else finding.detail
    subject = f"{finding.component}: {finding.file}"
    return {"check": finding.rule, "subject": subject, "status": status, "detail": detail}


def _same_file(deb: Path, published: Path) -> bool:
    """Return whether a file of the repository is a link to a package, or a copy that nobody has written to."""
    try:
        one, other = deb.stat(), published.stat()
    except OSError:
        return False
    return os.path.samestat(one, other) or (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _has_sum(path: Path, total: str) -> bool:
    return path.is_file() and sha256_file(path) == total


def _write_lines(log: Path, lines: list[str]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
