"""From a stage tree to packages: files by the rules of the recipe, relations, documents, and the debs themselves."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rocmbuild.errors import PackageError
from rocmbuild.model.recipe import Discard, PackageRule, Resolved
from rocmbuild.model.template import substitute
from rocmbuild.process import Runner
from rocmbuild.run.packages import BuiltPackage, check_conflicts, write_packages
from rocmbuild.tools import debdocs, relations
from rocmbuild.tools.deb import Deb, build_deb, compress
from rocmbuild.tools.elf import Elf, inspect
from rocmbuild.tools.libraries import LibraryRoot
from rocmbuild.tools.shlibs import Binary, Resolver
from rocmbuild.tools.split import entries, split
from rocmbuild.tools.waiting import in_thread
from rocmbuild.workspace import new_directory, sha256_file

_RELATIONS = ("depends", "recommends", "suggests", "conflicts", "breaks", "replaces", "provides")


@dataclass(frozen=True)
class Packaging:
    """Everything that the packages of one component are made from.

    ``admin`` is a root of the target with ``var/lib/dpkg`` in it, ``siblings`` the packages of other components by
    name, ``values`` the placeholders of recipes, ``out`` the directory that is replaced by the result, ``runtime``
    dependencies of every package, ``epoch`` seconds since 1970, ``origin`` what the source is, for the changelog,
    ``versions`` those of all packages of the release, also of those that are not made yet.
    """

    component: str
    stage: Path
    prefix: str
    recipe: Resolved
    source: Path | None
    deb_version: str
    arch: str
    admin: Path
    epoch: int
    siblings: Mapping[str, BuiltPackage]
    values: Mapping[str, str]
    out: Path
    maintainer: str
    runtime: tuple[str, ...] = ()
    origin: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Content:
    """The files of one package, and the headers of those that are ELF, by path."""

    rule: PackageRule
    files: tuple[str, ...]
    elves: Mapping[str, Elf]

    @property
    def libraries(self) -> dict[str, str]:
        """Return the shared libraries, by path: their soname, or their file name if they have none."""
        return {
            name: elf.soname or posixpath.basename(name)
            for name, elf in self.elves.items()
            if elf.type == "ET_DYN" and not elf.interpreter and (elf.soname or ".so" in posixpath.basename(name))
        }

    @property
    def sonames(self) -> tuple[str, ...]:
        """Return what other files may name as needed."""
        return tuple(sorted({name for path, name in self.libraries.items() if not self.elves[path].is_device}))


async def make_packages(job: Packaging, runner: Runner) -> list[BuiltPackage]:
    """Make all packages of a component, in the order of its recipe, and ``packages.json`` beside them.

    ``job.out`` is replaced only when all of them are made. Raises PackageError for files without an owner, libraries
    that cannot be found, relations to packages that do not exist, and files that another component owns.
    """
    contents = await in_thread(_contents, job)
    versions = {**job.versions, **{name: package.version for name, package in job.siblings.items()}}
    versions |= {content.rule.name: job.deb_version for content in contents}
    licenses = debdocs.read_licenses(job.source, job.recipe.license_files, job.recipe.where) if job.source else {}
    resolver = Resolver(LibraryRoot(job.admin), _in_house(job, contents))
    with new_directory(job.out) as out:
        made = []
        for content in contents:
            needed = await in_thread(_needed, job, content, resolver)
            deb = _deb(job, content, _related(job, content.rule, versions, needed), licenses)
            path, size = await build_deb(deb, out, runner)
            made.append(_built(job, content, deb, path, size))
        check_conflicts([*job.siblings.values(), *made])
        write_packages(out, made)
    return [replace(package, path=job.out / package.path.name) for package in made]


def _contents(job: Packaging) -> list[_Content]:
    """Give every file of the stage tree its package, and look into the files of each."""
    where = job.recipe.where
    rules = [_substituted(rule, job.values) for rule in job.recipe.packages]
    # a built stage tree is without them; one that was made in another way may have them
    unwanted = [
        Discard(tuple(f"?{name.removeprefix('?')}" for name in item.files), item.why) for item in job.recipe.discards
    ]
    owned = split(entries(job.stage), job.prefix, rules, unwanted, where).packages
    contents = []
    for rule in rules:
        if rule.name in owned:
            files = owned[rule.name]
            found = {name: elf for name in files if (elf := _host_elf(job.stage / name)) is not None}
            contents.append(_Content(rule, files, found))
    return contents


def _substituted(rule: PackageRule, values: Mapping[str, str]) -> PackageRule:
    """Return the rule with placeholders replaced where the text is not a relation."""
    return replace(
        rule,
        summary=substitute(rule.summary, values, rule.where),
        description=substitute(rule.description, values, rule.where),
        files=tuple(substitute(pattern, values, rule.where) for pattern in rule.files),
    )


def _host_elf(path: Path) -> Elf | None:
    return None if path.is_symlink() else inspect(path)


def _in_house(job: Packaging, contents: Iterable[_Content]) -> dict[str, str]:
    """Return the relation for every library of this release: exactly this version within a component."""
    found = {
        soname: f"{package.name} (>= {package.version})"
        for _, package in sorted(job.siblings.items(), reverse=True)
        for soname in package.sonames
    }
    own = {soname: f"{c.rule.name} (= {job.deb_version})" for c in contents for soname in c.sonames}
    return {**found, **own}


def _needed(job: Packaging, content: _Content, resolver: Resolver) -> tuple[str, ...]:
    """Return the relations that the binaries of a package need."""
    host = {name: elf for name, elf in content.elves.items() if not elf.is_device}
    if host and content.rule.architecture == "all":
        raise PackageError(
            f"package {content.rule.name} is for all architectures but has {next(iter(host))}",
            where=content.rule.where,
            hint="set architecture: any",
        )
    return resolver.relations([Binary(job.stage / name, f"/{name}") for name in host], own=content.sonames)


def _related(
    job: Packaging, rule: PackageRule, versions: Mapping[str, str], needed: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Return all relations of a package by the name of their control field."""
    found = {}
    for kind in _RELATIONS:
        filled = (relations.fill(text, versions, rule.where) for text in getattr(rule, kind))
        declared = [substitute(text, job.values, rule.where) for text in filled if text]
        if kind == "depends":
            declared += [*needed, *job.runtime]
        found[kind.capitalize()] = relations.simplify(declared, rule.where)
    return found


def _deb(job: Packaging, content: _Content, related: Mapping[str, tuple[str, ...]], licenses: Mapping[str, str]) -> Deb:
    rule, recipe = content.rule, job.recipe
    documents = f"usr/share/doc/{rule.name}"
    changelog = debdocs.changelog(job.component, job.deb_version, job.maintainer, job.epoch, _notes(job))
    native = "" if "-" not in job.deb_version else ".Debian"
    return Deb(
        control={
            "Package": rule.name,
            "Source": job.component if job.component != rule.name else "",
            "Version": job.deb_version,
            "Architecture": _architecture(job, rule),
            "Maintainer": job.maintainer,
            **{name: ", ".join(texts) for name, texts in related.items()},
            "Section": rule.section,
            "Priority": "optional",
            "Homepage": recipe.homepage,
            "Description": debdocs.description(rule.summary, _paragraphs(job, rule)),
        },
        stage=job.stage,
        files=content.files,
        extra={
            f"{documents}/copyright": debdocs.copyright_file(
                job.component, recipe.homepage, recipe.spdx, licenses
            ).encode(),
            f"{documents}/changelog{native}.gz": compress(changelog.encode()),
        },
        scripts=dict(_scripts(job, rule)),
        epoch=job.epoch,
        libraries=frozenset(content.libraries),
    )


def _architecture(job: Packaging, rule: PackageRule) -> str:
    return "all" if rule.architecture == "all" else job.arch


def _paragraphs(job: Packaging, rule: PackageRule) -> list[str]:
    own = rule.description or substitute(job.recipe.description, job.values, job.recipe.where)
    return [*([own] if own else []), f"This package is built from the component {job.component} of ROCm."]


def _notes(job: Packaging) -> list[str]:
    """Return what the changelog says: the source, how it was changed, and what its users should know."""
    changes = [(edit.file, edit.why) for edit in job.recipe.edits]
    changes += [(patch.path.name, patch.why) for patch in job.recipe.patches]
    built = f"Built from {job.origin or f'the source of {job.component}'} by rocmbuild."
    return [built, *(f"{name}: {why}" for name, why in changes), *job.recipe.notes]


def _scripts(job: Packaging, rule: PackageRule) -> Iterator[tuple[str, str]]:
    for kind, path in rule.scripts:
        yield kind, substitute(path.read_text(encoding="utf-8"), job.values, str(path))


def _built(job: Packaging, content: _Content, deb: Deb, path: Path, size: int) -> BuiltPackage:
    return BuiltPackage(
        name=content.rule.name,
        version=job.deb_version,
        arch=deb.control["Architecture"],
        path=path,
        component=job.component,
        sonames=content.sonames,
        files=tuple(sorted((*content.files, *deb.extra))),
        installed_size=size,
        sha256=sha256_file(path),
    )
