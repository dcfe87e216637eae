"""Install the packages of a repository into a fresh root of the distribution and prove that they work.

The order matters: the packages are examined before any check brings compilers and tools with it, which
could hide a dependency that a package forgot to name.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from rocmbuild.errors import PackageError, RootError, VerifyError
from rocmbuild.model.recipe import Check, CheckStep, ComponentChecks
from rocmbuild.model.target import Target
from rocmbuild.model.template import substitute
from rocmbuild.model.verdict import Status, VerifyRow
from rocmbuild.process import Runner, describe_exit
from rocmbuild.run.judging import difference, expected, joined, judge, shortened
from rocmbuild.run.qa import INSTALLED_RULES, Finding, apply_waivers
from rocmbuild.tools import fatbin
from rocmbuild.tools.elf import inspect
from rocmbuild.tools.testroot import ENVIRONMENT, FreshRoot, make_base
from rocmbuild.workspace import sha256_file

Progress = Callable[[int, int, str], None]

TIME_LIMIT = 900.0
"""Seconds after which a command inside has hung."""

SCRATCH = "/srv/checks"
"""Where check programs are put and built, inside the root."""

_DEBUG = "/usr/lib/debug/"
_UNRESOLVED = re.compile(r"\bnot found\b|undefined symbol|symbol .* not defined|cannot open shared object")


@dataclass(frozen=True)
class Verification:
    """Everything a verification works with.

    ``root`` names the repository and the directory to work in, ``bases`` is where tarballs of fresh roots are
    kept, ``packages`` are the names to install, ``values`` the placeholders of recipes, ``gpus`` the GPU
    targets that were asked for. ``consumer`` is the build machine of a cross build, as it sees the fresh root;
    ``references`` are sums of the device code that packages for other machines made, by where they lie.
    """

    root: FreshRoot
    bases: Path
    packages: tuple[str, ...]
    components: tuple[ComponentChecks, ...]
    values: Mapping[str, str]
    gpus: tuple[str, ...]
    target: Target
    prefix: str
    consumer: Consumer | None = None
    references: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Proof:
    """The outcome of every check, and the sums of the device code that was made in them, by check and file."""

    rows: list[VerifyRow]
    device_code: Mapping[str, str]


class Consumer(Protocol):
    """A build machine that uses the installed packages of another one."""

    @property
    def values(self) -> Mapping[str, str]:
        """Return the placeholders that steps on the build machine may use besides those of recipes."""
        ...

    def wrap(self, argv: Sequence[str], env: Mapping[str, str], installed: Path, scratch: Path) -> list[str]:
        """Return the argv that runs ``argv`` in ``scratch``, with what is ``installed`` below the prefix."""
        ...


async def verify(job: Verification, runner: Runner, note: Callable[[str], None], progress: Progress) -> Proof:
    """Return the outcome of every check; RootError if there is no fresh root to check in.

    The root is removed if all is well, and kept to be looked at if something failed.
    """
    tarball = await make_base(job.root.spec, job.bases, runner)
    await job.root.open(tarball, runner)
    session = _Session(job, runner, progress)
    rows = await session.run()
    if any(row.status == "fail" for row in rows):
        note(f"the root that the checks failed in is kept until the next verification: {job.root.path}")
    else:
        await job.root.remove(runner)
    return Proof(rows, session.device_code)


@dataclass
class _Session:
    job: Verification
    runner: Runner
    progress: Progress
    rows: list[VerifyRow] = field(default_factory=list)
    device_code: dict[str, str] = field(default_factory=dict)

    async def run(self) -> list[VerifyRow]:
        """Do all checks in order; after a failed installation there is nothing to check."""
        phases: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("dpkg-verify", self._verify_files),
            ("undefined-symbols", self._resolve_symbols),
            *((f"{owner.component}/{check.name}", self._checking(owner, check)) for owner, check in self._checks()),
            ("purge", self._purge),
        ]
        self.progress(0, len(phases) + 1, "install")
        if not await self._install():
            self.rows += [VerifyRow(name, "", "skipped", "the packages are not installed") for name, _ in phases]
            return self.rows
        for number, (name, phase) in enumerate(phases, 1):
            self.progress(number, len(phases) + 1, name)
            await phase()
        return self.rows

    def _add(self, check: str, subject: str, failure: str | None) -> bool:
        self.rows.append(VerifyRow(check, subject, "fail" if failure else "pass", failure or ""))
        return not failure

    async def _install(self) -> bool:
        failure = None
        try:
            await self.job.root.install(self.job.packages, self.runner)
        except RootError as error:
            failure = f"apt-get install must succeed: {error.message}"
        return self._add("install", ", ".join(self.job.packages), failure)

    async def _verify_files(self) -> None:
        findings = []
        for package in self.job.packages:
            _, lines = await self._inside(["dpkg", "--verify", package])
            for line in lines:
                marks, _, path = line.partition(" /")
                detail = f"is not as it was packaged; dpkg --verify says {marks.strip()}"
                findings.append(Finding("dpkg-verify", package, f"/{path}", detail))
        self._report("dpkg-verify", self.job.packages, findings)

    async def _resolve_symbols(self) -> None:
        """Let the root's own dynamic linker resolve every library and symbol, as ``LD_BIND_NOW`` would."""
        files = await asyncio.to_thread(lambda: list(self._linked_files()))
        findings = []
        for package, path in files:
            status, lines = await self._inside(["ldd", "-r", path])
            problems = [line.strip() for line in lines if _UNRESOLVED.search(line)]
            if status != 0 and not problems:
                problems = lines[-3:] or [f"ldd {describe_exit(status)}"]
            if problems:
                detail = f"ldd -r must resolve everything: {joined(problems)}"
                findings.append(Finding("undefined-symbols", package, path, detail))
        self._report("undefined-symbols", [path for _, path in files], findings)

    def _report(self, rule: str, subjects: Sequence[str], findings: Sequence[Finding]) -> None:
        """Add a row for each finding, waived or not, and one for each subject without."""
        judged = list(findings)
        for owner in self.job.components:
            waivers = [waiver for waiver in owner.waivers if waiver.rule == rule]
            judged = apply_waivers(judged, waivers, owner.component, self.job.prefix, INSTALLED_RULES)
        for item in judged:
            status: Status = "waived" if item.waived is not None else "fail"
            reason = f" (waived: {item.waived})" if item.waived is not None else ""
            self.rows.append(VerifyRow(rule, f"{item.component}: {item.file}", status, f"{item.detail}{reason}"))
        troubled = {name for item in findings for name in (item.component, item.file)}
        self.rows += [VerifyRow(rule, name, "pass") for name in subjects if name not in troubled]

    def _linked_files(self) -> Iterator[tuple[str, str]]:
        """Yield package and path of every installed program and library of ours."""
        for package in self.job.packages:
            for path in self._files_of(package):
                file = self.job.root.path / path.lstrip("/")
                if path.startswith(_DEBUG) or file.is_symlink():
                    continue
                try:
                    elf = inspect(file)
                except PackageError:
                    continue  # the stage tree's check reports it
                if elf is not None and elf.dynamic and elf.machine == self.job.target.elf_machine:
                    yield package, path

    def _files_of(self, package: str) -> list[str]:
        info = self.job.root.path / "var/lib/dpkg/info"
        lists = [path for path in (info / f"{package}.list", *info.glob(f"{package}:*.list")) if path.is_file()]
        return [line for path in lists for line in path.read_text().splitlines() if line != "/."]

    def _checks(self) -> Iterator[tuple[ComponentChecks, Check]]:
        for owner in self.job.components:
            for check in owner.checks:
                yield owner, check

    def _checking(self, owner: ComponentChecks, check: Check) -> Callable[[], Awaitable[None]]:
        return lambda: self._check(owner, check)

    async def _check(self, owner: ComponentChecks, check: Check) -> None:
        """Do one check of a recipe; later steps build on earlier ones, so the first failure ends it."""
        name = f"{owner.component}/{check.name}"
        if check.packages and not await self._prepare(name, check):
            return
        scratch = f"{SCRATCH}/{name}"
        place = self.job.root.path / scratch.lstrip("/")
        place.mkdir(parents=True)
        for file in check.files:
            shutil.copyfile(file, place / file.name)
        for step in check.steps:
            outcomes = [await self._step(name, scratch, step, gpu) for gpu in self._repeats(step)]
            if not all(outcomes):
                return
        made: dict[str, str] = {}
        if check.fatbin is not None:
            made = await self._compare_gpus(name, scratch, check.fatbin)
        for pattern in check.device_code:
            for gpu in self.job.gpus if "{gpu}" in pattern else ("",):
                output = substitute(pattern, self._values(scratch, gpu), name)
                if not (place / output).is_file():
                    self._add(name, output, "the steps must make this file, and did not")
                    continue
                made[output] = await asyncio.to_thread(sha256_file, place / output)
        self._compare_device_code(name, made)

    async def _prepare(self, name: str, check: Check) -> bool:
        try:
            await self.job.root.install(check.packages, self.runner)
        except RootError as error:
            return self._add(name, "packages of the check", error.message)
        return True

    def _repeats(self, step: CheckStep) -> tuple[str, ...]:
        return self.job.gpus if step.each_gpu else ("",)

    def _repeated(self, word: str) -> list[str]:
        """Return a word once, or once for each GPU target if it names each."""
        return [word.replace("{gpus:each}", gpu) for gpu in self.job.gpus] if "{gpus:each}" in word else [word]

    async def _step(self, name: str, scratch: str, step: CheckStep, gpu: str) -> bool:
        values = self._values(scratch, gpu)
        words = (each for word in step.run for each in self._repeated(word))
        argv = [substitute(word, values, name) for word in words]
        own = {key: substitute(value, values, name) for key, value in step.environment}
        env = {**ENVIRONMENT, **own}
        try:
            async with asyncio.timeout(TIME_LIMIT):
                if step.on == "build":
                    status, lines = await self._outside(argv, own, scratch)
                else:
                    status, lines = await self._inside(argv, env, scratch)
            failure = judge(step.exit, expected(step, values, name), status, lines)
        except TimeoutError:
            failure = f"must end within {TIME_LIMIT:.0f} seconds and did not"
        return self._add(name, shortened(argv), failure and f"{shlex.join(argv)}: {failure}{self._log()}")

    def _values(self, scratch: str, gpu: str = "") -> dict[str, str]:
        own = {"gpus:comma": ",".join(self.job.gpus), "scratch": scratch}
        consumer = self.job.consumer.values if self.job.consumer else {}
        return {**self.job.values, **consumer, **own, **({"gpu": gpu} if gpu else {})}

    async def _compare_gpus(self, name: str, scratch: str, file: str) -> dict[str, str]:
        """Compare the targets a program has code for with those that were asked for; return sums of the code."""
        location = os.path.join(scratch, substitute(file, self._values(scratch), name))
        found: dict[str, str] = {}
        try:
            found = await asyncio.to_thread(fatbin.device_code, self.job.root.path / location.lstrip("/"))
            failure = difference(frozenset(found), self.job.gpus)
        except VerifyError as error:
            failure = error.message
        self._add(name, f"device code of {location}", failure)
        return {f"{file} for {gpu}": digest for gpu, digest in found.items()}

    def _compare_device_code(self, name: str, made: Mapping[str, str]) -> None:
        """Compare device code with that of the same check on other machines: byte for byte, it must be the same.

        So must files of one name be that checks of one component made, by the build machine's compiler and by ours.
        """
        component = name.partition("/")[0]
        for file, digest in made.items():
            for made_before, earlier in self.device_code.items():
                check, _, name_before = made_before.partition(": ")
                if name_before == file and check.startswith(f"{component}/"):
                    failure = None if earlier == digest else f"the bytes differ from those of {check}"
                    self._add(name, f"{file}, the same as in {check}", failure)
        self.device_code |= {f"{name}: {file}": digest for file, digest in made.items()}
        for place, known in self.job.references.items():
            for file, digest in made.items():
                if (other := known.get(f"{name}: {file}")) is not None:
                    failure = None if other == digest else f"the bytes differ from those that {place} makes"
                    self._add(name, f"{file}, the same as on {place}", failure)
        if made and self.job.consumer is not None and not self.job.references:
            detail = "no verified packages of this release for another machine are in the workspace to compare with"
            self.rows.append(VerifyRow(name, "device code as on other machines", "skipped", detail))

    async def _purge(self) -> None:
        files = [path for package in self.job.packages for path in self._files_of(package)]
        try:
            await self.job.root.purge(self.job.packages, self.runner)
        except RootError as error:
            self._add("purge", self.job.prefix, error.message)
            return
        left = await asyncio.to_thread(self._leftovers, files)
        failure = f"apt-get purge must leave nothing of ours; {len(left)} left: {joined(left)}" if left else None
        self._add("purge", self.job.prefix, failure)

    def _leftovers(self, files: Sequence[str]) -> list[str]:
        """Return files of our packages that are still there, and the prefix if it is, with all that is in it."""
        root = self.job.root.path
        paths = (root / path.lstrip("/") for path in files)
        left = {path for path in paths if path.is_symlink() or path.is_file()}  # others may share the directories
        prefix = root / self.job.prefix.lstrip("/")
        if prefix.exists():
            left |= {prefix, *prefix.rglob("*")}
        return sorted("/" + path.relative_to(root).as_posix() for path in left)

    async def _inside(
        self, argv: Sequence[str], env: Mapping[str, str] = ENVIRONMENT, cwd: str = "/"
    ) -> tuple[int, list[str]]:
        """Run a command in the root; return its status and the lines it printed."""
        return await self._lines(self.job.root.enter(argv, env, cwd))

    async def _outside(self, argv: Sequence[str], env: Mapping[str, str], cwd: str) -> tuple[int, list[str]]:
        """Run a command on the build machine, with the installed packages below its prefix and in its sysroot."""
        if self.job.consumer is None:
            raise VerifyError(f"{shlex.join(argv)} is to run on the build machine, which is the target itself")
        root = self.job.root.path
        command = self.job.consumer.wrap(argv, env, root / self.job.prefix.lstrip("/"), root / cwd.lstrip("/"))
        return await self._lines(command)

    async def _lines(self, command: Sequence[str]) -> tuple[int, list[str]]:
        """Run a command; return its status and the lines it printed."""
        lines: list[str] = []

        def collect(line: str) -> None:
            lines.append(line)
            if self.runner.on_line is not None:
                self.runner.on_line(line)

        status = await replace(self.runner, on_line=collect).run(command, check=False)
        return status, lines

    def _log(self) -> str:
        return f" (log: {self.runner.log})" if self.runner.log else ""
