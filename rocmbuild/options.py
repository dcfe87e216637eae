"""The words of the command line: verbs, options, help texts; one table for all layers of settings.

``rocmbuild --help`` loads this, so nothing is imported that is slow to import: dataclasses alone
would double the start-up time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Option:
    """One setting: ``kind`` says how its text is read, ``layers`` whether variables and files set it too."""

    __slots__ = ("flags", "group", "help", "kind", "layers", "metavar", "name")

    def __init__(
        self, name: str, kind: str, group: str, text: str, *, metavar: str = "", short: str = "", layers: bool = True
    ) -> None:
        self.name = name
        self.kind = kind
        self.group = group
        self.help = text
        self.metavar = metavar
        self.flags = (*((short,) if short else ()), f"--{name}")
        self.layers = layers

    @property
    def key(self) -> str:
        """Return the name used in a parsed namespace."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """Return the environment variable that sets it."""
        return f"ROCMBUILD_{self.key.upper()}"

    @property
    def takes_value(self) -> bool:
        return self.kind not in ("flag", "verbosity")

    def all_flags(self) -> tuple[str, ...]:
        """Return every spelling on the command line, opposites of switches included."""
        if self.kind == "verbosity":
            return ("-v", "--verbose", "-q", "--quiet")
        return (*self.flags, f"--no-{self.name}") if self.kind == "flag" else self.flags


class Verb:
    """A verb: how many words follow it (``maximum`` None: any number), its options, the module that runs it."""

    __slots__ = ("examples", "maximum", "minimum", "module", "name", "options", "summary", "words")

    def __init__(
        self,
        name: str,
        summary: str,
        words: str,
        options: Iterable[str],
        examples: Sequence[tuple[str, str]],
        *,
        minimum: int = 0,
        maximum: int | None = None,
        module: str = "",
    ) -> None:
        self.name = name
        self.module = module or name
        self.summary = summary
        self.words = words
        self.options = tuple(options)
        self.examples = tuple(examples)
        self.minimum = minimum
        self.maximum = maximum


OPTIONS = {
    option.name: option
    for option in (
        Option(
            "branch", "text", "what", "the ROCm release: a manifest's name (rocmbuild list branches)", metavar="BRANCH"
        ),
        Option("target", "text", "what", "machine to build for (default: this one)", metavar="NAME"),
        Option("distribution", "text", "what", "Debian release to build for (default: the manifest's)", metavar="NAME"),
        Option("gpu", "names", "what", "GPU targets or families, such as gfx1030,gfx90a", metavar="GFX[,GFX...]"),
        Option("system", "names", "what", "take COMPONENT from the distribution; repeatable", metavar="COMPONENT"),
        Option(
            "source",
            "places",
            "what",
            "build COMPONENT from a local checkout; repeatable",
            metavar="COMPONENT=PATH",
        ),
        Option(
            "mirror",
            "pairs",
            "network",
            "fetch URL in place of what starts with PREFIX; repeatable",
            metavar="PREFIX=URL",
        ),
        Option("apt-mirror", "text", "network", "Debian archive (default: that of this machine's apt)", metavar="URL"),
        Option(
            "allow-stale-archive",
            "flag",
            "network",
            "accept a Debian release file past its date (signatures still count)",
        ),
        Option("offline", "flag", "network", "use only what was fetched before"),
        Option(
            "jobs",
            "number",
            "machine",
            "compile jobs of all components together (default: CPUs)",
            metavar="N",
            short="-j",
        ),
        Option("memory", "size", "machine", "memory they may use, such as 16G (default: 7/8 of it)", metavar="SIZE"),
        Option(
            "environment",
            "environment",
            "machine",
            "sandbox (default), or host where namespaces are forbidden",
            metavar="KIND",
        ),
        Option("ccache", "flag", "machine", "keep compiled files for later builds, with ccache"),
        Option("keep-going", "flag", "machine", "after a failure, build what does not depend on it"),
        Option("verify", "flag", "machine", "do not install and try the packages"),
        Option("reuse", "flag", "machine", "take nothing from the store of binaries, put nothing there"),
        Option("workspace", "path", "files", "directory of builds and packages (default: workspace)", metavar="DIR"),
        Option("cache", "path", "files", "downloads shared by workspaces (default: ~/.cache/rocmbuild)", metavar="DIR"),
        Option("store", "path", "files", "binaries shared by workspaces (default: store in the cache)", metavar="DIR"),
        Option("manifests", "directories", "files", "own manifests, looked at first; repeatable", metavar="DIR"),
        Option("recipes", "directories", "files", "own recipes, looked at first; repeatable", metavar="DIR"),
        Option("targets", "directories", "files", "own targets, looked at first; repeatable", metavar="DIR"),
        Option("config", "path", "files", "settings (default: rocmbuild.yaml, else the user's)", metavar="FILE"),
        Option(
            "format",
            "text",
            "output",
            "how to print it: table, json; a plan also as dot",
            metavar="FORMAT",
            layers=False,
        ),
        Option(
            "why",
            "text",
            "output",
            "say which inputs of COMPONENT changed since it was built",
            metavar="COMPONENT",
            layers=False,
        ),
        Option("keep-days", "number", "output", "remove what was not used for N days", metavar="N", layers=False),
        Option("keep-size", "size", "output", "remove the least used beyond SIZE", metavar="SIZE", layers=False),
        Option("fix", "flag", "output", "install the Debian packages that are missing", layers=False),
        Option("host", "flag", "output", "examine this machine as the one that uses the packages", layers=False),
        Option("events", "path", "output", "write what happens as JSON lines", metavar="FILE"),
        Option("verbosity", "verbosity", "output", "print more (-v, -vv)"),
    )
}
"""Every option of every verb, by name; also the keys of the configuration file."""

GROUPS = {
    "what": "what to build",
    "network": "where sources come from",
    "machine": "how to build",
    "files": "files and directories",
    "output": "output",
}

_COMMON = ("workspace", "cache", "manifests", "recipes", "targets", "config", "verbosity")
_FETCH = ("mirror", "apt-mirror", "allow-stale-archive", "offline")
_AREA = ("branch", "target", "distribution")
_SELECT = (*_AREA, "gpu", "system", "source")
_RUN = ("jobs", "memory", "environment", "ccache", "keep-going", "reuse", "store")
_BUILD = (*_SELECT, *_FETCH, *_RUN, *_COMMON, "events")

VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "build",
            "fetch, build, package and verify (the default verb)",
            "[COMPONENT...]",
            (*_BUILD, "verify"),
            (
                ("rocmbuild --branch rocm-5.6.x", "a whole release for this machine"),
                ("rocmbuild --branch rocm-5.6.x --gpu gfx1030 rocr", "one component and what it needs"),
            ),
        ),
        Verb(
            "plan",
            "show what a build would do, without doing it",
            "[COMPONENT...]",
            (*_BUILD, "format", "why"),
            (
                ("rocmbuild plan --branch rocm-5.6.x --format dot", "the graph for Graphviz"),
                ("rocmbuild plan --branch rocm-5.6.x --why rocr", "what changed since it was built"),
            ),
        ),
        Verb(
            "fetch",
            "fetch the sources only",
            "[COMPONENT...]",
            _BUILD,
            (("rocmbuild fetch --branch rocm-5.6.x", "before going offline"),),
            module="build",
        ),
        Verb(
            "package",
            "make Debian packages of what is built",
            "[COMPONENT...]",
            _BUILD,
            (("rocmbuild package --branch rocm-5.6.x", "after a change of package rules"),),
            module="build",
        ),
        Verb(
            "verify",
            "install the packages in a fresh root and try them",
            "[COMPONENT...]",
            _BUILD,
            (("rocmbuild verify --branch rocm-5.6.x", "the checks alone"),),
            module="build",
        ),
        Verb(
            "lock",
            "resolve every ref of a branch to a commit",
            "",
            ("branch", *_FETCH, *_COMMON),
            (("rocmbuild lock --branch rocm-5.6.x", "write the manifest's lock file"),),
            maximum=0,
        ),
        Verb(
            "shell",
            "a shell, or a command, where a component is built",
            "COMPONENT [-- COMMAND...]",
            _BUILD,
            (
                ("rocmbuild shell rocr --branch rocm-5.6.x", "look around"),
                ("rocmbuild shell rocr --branch rocm-5.6.x -- env", "run one command"),
            ),
            minimum=1,
            maximum=1,
        ),
        Verb(
            "logs",
            "print the log of a component's last run",
            "COMPONENT [STEP]",
            (*_AREA, *_COMMON),
            (("rocmbuild logs rocr configure", "one step; without STEP, the last one that ran"),),
            minimum=1,
            maximum=2,
        ),
        Verb(
            "list",
            "print what is known",
            "branches|components|targets|distributions|gpus",
            ("branch", "format", *_COMMON),
            (
                ("rocmbuild list branches", "the releases there are"),
                ("rocmbuild list components --branch rocm-5.6.x", "what is in one"),
            ),
            minimum=1,
            maximum=1,
        ),
        Verb(
            "doctor",
            "say what this machine lacks, and what mends it",
            "",
            ("fix", "host", "format", "jobs", "memory", "environment", "apt-mirror", "offline", *_COMMON),
            (
                ("rocmbuild doctor --fix", "install what is missing"),
                ("rocmbuild doctor --host", "on the machine with the GPU: kernel, card, rights"),
            ),
            maximum=0,
        ),
        Verb(
            "store",
            "share, save and tend the store of binaries",
            "ACTION [WORD...]",
            ("store", "keep-days", "keep-size", "format", *_SELECT, *_FETCH, *_COMMON),
            (
                ("rocmbuild store list", "what there is; verify reads all of it"),
                ("rocmbuild store add-remote team URL", "a Conan server; remotes prints them"),
                ("rocmbuild store push team", "give it all; or components named here"),
                ("rocmbuild store pull team", "take what it has; or components"),
                ("rocmbuild store pull team --branch rocm-5.6.x", "what that build can use"),
                ("rocmbuild store save rocm.tgz", "a file for machines without network"),
                ("rocmbuild store load rocm.tgz", "take what is in it, there"),
                ("rocmbuild store gc --keep-days 30", "remove what was not used"),
            ),
            minimum=1,
        ),
        Verb(
            "clean",
            "remove build trees and stage trees",
            "[COMPONENT...]",
            (*_AREA, *_COMMON),
            (("rocmbuild clean rocr", "the store keeps what it has of it; build --no-reuse from zero"),),
        ),
    )
}
"""Every verb, by name, in the order of the help text."""
