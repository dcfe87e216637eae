"""Which repositories at which revision make a release: ``manifests/<branch>.yaml`` and its lock file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rocmbuild.errors import DocumentError, Problem, nearest
from rocmbuild.model.document import Document, in_order, load
from rocmbuild.model.recipe import Edit
from rocmbuild.model.recipe_reader import edit_problems
from rocmbuild.model.scalars import cmake_value

_KINDS = ("repository", "debian", "url", "bundled")


@dataclass(frozen=True)
class LayoutRule:
    """Copy files that match ``source`` (a glob) to the directory or file ``target``, except some names.

    Without a ``source`` the directory ``target`` is made, empty.
    """

    source: str
    target: str
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a source tree comes from; ``kind`` is git, debian, url, bundled, local or none.

    git: ``urls`` are tried in order, ``ref`` is a branch or tag, ``commit`` pins it.
    debian: ``path`` lies below ``pool/`` of the archive; url: ``urls``; both pinned by ``sha256``.
    bundled: ``path`` is a directory below the recipe; local: ``path`` is a directory of the user.
    """

    name: str
    kind: str
    urls: tuple[str, ...] = ()
    ref: str = ""
    commit: str | None = None
    submodules: bool = False
    path: str = ""
    sha256: str = ""
    layout: tuple[LayoutRule, ...] = ()
    edits: tuple[Edit, ...] = ()
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Component:
    """A component of a release: its source, the directory in it, its version, release-specific variables."""

    name: str
    source: Source
    subdir: str
    version: str
    variables: Mapping[str, str]
    environment: Mapping[str, str]
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Manifest:
    """A release: ``version`` names the prefix ``/opt/rocm-<version>``."""

    branch: str
    version: str
    summary: str
    distribution: str
    distributions: tuple[str, ...]
    gpus: tuple[str, ...]
    system: tuple[str, ...]
    components: Mapping[str, Component]
    path: Path

    @property
    def prefix(self) -> str:
        """Return the final installation prefix."""
        return f"/opt/rocm-{self.version}"

    def sources(self) -> tuple[Source, ...]:
        """Return the distinct sources of all components, by name."""
        found = {component.source.name: component.source for component in self.components.values()}
        return tuple(found[name] for name in sorted(found))


def load_manifest(path: Path) -> Manifest:
    """Read a manifest and the lock file beside it, if there is one; raises DocumentError."""
    document = load(path, "manifest")
    data = document.data
    sources = dict(_sources(document))
    problems = [*_source_problems(document), *_component_problems(document)]
    if data["branch"] != path.stem:
        problems.append(document.problem(("branch",), f"{data['branch']} is not the name of its file, {path.name}"))
    if problems:
        raise DocumentError(in_order(problems))
    for name, (ref, commit) in _locked(path, data["branch"]).items():
        # a lock speaks of the ref it was made for; once the manifest names another one, it has nothing to say
        if name in sources and sources[name].commit is None and sources[name].ref == ref:
            sources[name] = replace(sources[name], commit=commit)
    return Manifest(
        branch=data["branch"],
        version=data["version"],
        summary=data.get("summary", ""),
        distribution=data["distribution"],
        distributions=tuple(data.get("distributions", (data["distribution"],))),
        gpus=tuple(data.get("gpus", ())),
        system=tuple(data.get("system", ())),
        components={name: _component(document, name, raw, sources) for name, raw in sorted(data["components"].items())},
        path=path,
    )


def lock_path(manifest: Path) -> Path:
    """Return the lock file that belongs to a manifest: ``x.yaml`` has ``x.lock``."""
    return manifest.with_suffix(".lock")


def _locked(path: Path, branch: str) -> dict[str, tuple[str, str]]:
    """Return the ref and the commit of each source in the lock file."""
    lock = lock_path(path)
    if not lock.is_file():
        return {}
    document = load(lock, "lock")
    if document.data["branch"] != branch:
        raise DocumentError([document.problem(("branch",), f"this is the lock file of {document.data['branch']}")])
    return {name: (raw["ref"], raw["commit"]) for name, raw in document.data["sources"].items()}


def _sources(document: Document) -> Iterator[tuple[str, Source]]:
    defaults = document.data.get("defaults", {})
    remotes = document.data.get("remotes", {})
    for name, raw in document.data.get("sources", {}).items():
        remote = raw.get("remote", defaults.get("remote", ""))
        urls = [base + raw["repository"] for base in remotes.get(remote, ())] if "repository" in raw else []
        yield (
            name,
            Source(
                name=name,
                kind="git" if "repository" in raw else next((kind for kind in _KINDS if kind in raw), ""),
                urls=tuple(urls) or ((raw["url"],) if "url" in raw else ()),
                ref=raw.get("ref", defaults.get("ref", "")),
                commit=raw.get("commit"),
                submodules=raw.get("submodules", False),
                path=raw.get("debian", raw.get("bundled", "")),
                sha256=raw.get("sha256", ""),
                layout=tuple(
                    LayoutRule(rule.get("from", ""), rule["to"], tuple(rule.get("except", ())))
                    for rule in raw.get("layout", ())
                ),
                edits=tuple(
                    Edit(**edit, where=document.where("sources", name, "edits", index))
                    for index, edit in enumerate(raw.get("edits", ()))
                ),
                where=document.where("sources", name),
            ),
        )


def _source_problems(document: Document) -> Iterator[Problem]:
    remotes = document.data.get("remotes", {})
    defaults = document.data.get("defaults", {})
    for name, raw in document.data.get("sources", {}).items():
        at = ("sources", name)
        yield from edit_problems(document, at, raw)
        kinds = [kind for kind in _KINDS if kind in raw]
        if len(kinds) != 1:
            yield document.problem(at, f"a source has exactly one of {', '.join(_KINDS)}")
        elif kinds[0] in ("debian", "url") and "sha256" not in raw:
            yield document.problem(at, "the key sha256 is missing", "a downloaded file is always pinned")
        elif kinds[0] == "repository":
            remote = raw.get("remote", defaults.get("remote"))
            if remote is None:
                yield document.problem(at, "the key remote is missing", "name a remote, here or in defaults.remote")
            elif remote not in remotes:
                yield document.problem((*at, "remote"), f"no remote {remote}", nearest(remote, remotes))
            if "ref" not in raw and "ref" not in defaults and "commit" not in raw:
                yield document.problem(at, "the key ref is missing", "name a branch or tag, here or in defaults.ref")


def _component_problems(document: Document) -> Iterator[Problem]:
    sources = document.data.get("sources", {})
    for name, raw in document.data["components"].items():
        source = raw.get("source")
        if source is not None and source not in sources:
            yield document.problem(("components", name, "source"), f"no source {source}", nearest(source, sources))
    for index, name in enumerate(document.data.get("system", ())):
        if name not in document.data["components"]:
            hint = nearest(name, document.data["components"])
            yield document.problem(("system", index), f"no component {name}", hint)


def _component(document: Document, name: str, raw: Mapping[str, Any], sources: Mapping[str, Source]) -> Component:
    return Component(
        name=name,
        source=sources.get(raw.get("source", name), Source(name, "none")),
        subdir=raw.get("subdir", "."),
        version=raw["version"],
        variables={key: cmake_value(value) for key, value in raw.get("variables", {}).items()},
        environment=dict(raw.get("environment", {})),
        where=document.where("components", name),
    )
