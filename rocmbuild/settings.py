"""Settings as one frozen value: command line over environment over configuration file over defaults."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rocmbuild.arguments import Arguments
from rocmbuild.errors import UsageError, nearest
from rocmbuild.machine import available_cpus, available_memory
from rocmbuild.options import OPTIONS, Option

Environment = Literal["sandbox", "host"]

_SWITCHES: Mapping[str, bool] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("", "0", "false", "no", "off"), False),
}


@dataclass(frozen=True)
class Settings:
    """What the user wants, from all layers. Paths are absolute; ``memory`` is in bytes.

    ``words`` of the command line become ``components``, ``topic`` (of ``list``, ``store``) or ``step`` (of ``logs``);
    ``command`` is what follows ``--``; ``environ`` is the caller's environment, of which only what
    ``process.network_environment`` lets through reaches a program.
    """

    verb: str = "build"
    components: tuple[str, ...] = ()
    topic: str | None = None
    step: str | None = None
    command: tuple[str, ...] = ()
    branch: str | None = None
    target: str | None = None
    distribution: str | None = None
    gpus: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    sources: Mapping[str, Path] = field(default_factory=dict)
    mirrors: tuple[tuple[str, str], ...] = ()
    apt_mirror: str | None = None
    allow_stale_archive: bool = False
    offline: bool = False
    jobs: int = 1
    memory: int = 1 << 30
    environment: Environment = "sandbox"
    ccache: bool = False
    keep_going: bool = False
    verify: bool = True
    reuse: bool = True
    workspace: Path = Path("workspace")
    cache: Path = Path("cache")
    store: Path = Path("cache/store")
    keep_days: int | None = None
    keep_size: int | None = None
    manifests: tuple[Path, ...] = ()
    recipes: tuple[Path, ...] = ()
    targets: tuple[Path, ...] = ()
    format: str = "table"
    why: str | None = None
    fix: bool = False
    host: bool = False
    events: Path | None = None
    verbosity: int = 0
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    def required_branch(self) -> str:
        """Return the branch; UsageError if none was named in any layer."""
        if self.branch is None:
            raise UsageError(
                f"{self.verb} needs --branch, the ROCm release",
                hint="rocmbuild list branches prints those there are; ROCMBUILD_BRANCH sets it too",
            )
        return self.branch


@dataclass(frozen=True)
class _Given:
    """A value as one layer gave it (texts, switches), where that was, what relative paths start from."""

    value: Any
    where: str
    base: Path


def load_settings(arguments: Arguments, environ: Mapping[str, str], directory: Path) -> Settings:
    """Merge all layers; ``directory`` is where relative paths start.

    Raises UsageError or DocumentError that say which layer gave the bad value.
    """
    line = _command_line(arguments, directory)
    variables = _variables(environ, directory)
    above = {**variables, **line}
    file = {} if arguments.given.get("host") else _file(above, environ, directory)  # to read one takes YAML
    given = {**file, **above}
    values = {name: _converted(OPTIONS[name], item) for name, item in given.items()}
    cache = values.get("cache") or default_cache(environ)
    return Settings(
        verb=arguments.verb,
        **_words(arguments),
        command=arguments.command,
        branch=values.get("branch"),
        target=_target(values.get("target"), directory),
        distribution=values.get("distribution"),
        gpus=values.get("gpu", ()),
        system=values.get("system", ()),
        sources=dict(values.get("source", ())),
        mirrors=values.get("mirror", ()),
        apt_mirror=values.get("apt-mirror"),
        allow_stale_archive=values.get("allow-stale-archive", False),
        offline=values.get("offline", False),
        jobs=values.get("jobs") or available_cpus(),
        memory=values.get("memory") or available_memory(),
        environment=values.get("environment", "sandbox"),
        ccache=values.get("ccache", False),
        keep_going=values.get("keep-going", False),
        verify=values.get("verify", True),
        reuse=values.get("reuse", True),
        workspace=values.get("workspace") or directory / "workspace",
        cache=cache,
        store=values.get("store") or cache / "store",
        keep_days=values.get("keep-days"),
        keep_size=values.get("keep-size"),
        manifests=values.get("manifests", ()),
        recipes=values.get("recipes", ()),
        targets=values.get("targets", ()),
        format=values.get("format", "table"),
        why=values.get("why"),
        fix=values.get("fix", False),
        host=values.get("host", False),
        events=values.get("events"),
        verbosity=values.get("verbosity", 0),
        environ=dict(environ),
    )


def default_cache(environ: Mapping[str, str]) -> Path:
    """Return where downloads are kept if no layer says otherwise."""
    return _user_directory(environ, "XDG_CACHE_HOME", ".cache")


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the ROCMBUILD_* variables that set nothing, each with a hint."""
    known = [option.variable for option in OPTIONS.values() if option.layers]
    names = (name for name in sorted(environ) if name.startswith("ROCMBUILD_") and name not in known)
    return {name: nearest(name, known) for name in names}


def _target(name: str | None, directory: Path) -> str | None:
    """Return the name of a target; a file of the user's is named so that it is found from anywhere."""
    if name is None or not name.endswith((".yaml", ".yml")):
        return name
    return str(directory / Path(name).expanduser())


def _words(arguments: Arguments) -> dict[str, Any]:
    words = arguments.words
    if arguments.verb == "list":
        return {"topic": words[0]}
    if arguments.verb == "store":
        return {"topic": words[0], "components": words[1:]}
    if arguments.verb == "logs":
        return {"components": words[:1], "step": words[1] if len(words) > 1 else None}
    return {"components": words}


def _command_line(arguments: Arguments, directory: Path) -> dict[str, _Given]:
    return {name: _Given(value, f"--{name}", directory) for name, value in arguments.given.items()}


def _variables(environ: Mapping[str, str], directory: Path) -> dict[str, _Given]:
    found = {}
    for name, option in OPTIONS.items():
        text = environ.get(option.variable, "")
        if option.layers and text:
            found[name] = _Given(_split(option, text), option.variable, directory)
    return found


def _split(option: Option, text: str) -> Any:
    """Part a variable that holds several values: paths by colons as in PATH, the rest by spaces."""
    match option.kind:
        case "directories":
            return [part for part in text.split(":") if part]
        case "names" | "places" | "pairs":
            return text.split()
    return text


def _file(above: Mapping[str, _Given], environ: Mapping[str, str], directory: Path) -> dict[str, _Given]:
    """Read the configuration file: the one named in a layer above, else the directory's, else the user's."""
    if "config" in above:
        path = _converted(OPTIONS["config"], above["config"])
        if not path.is_file():
            raise UsageError(f"there is no file {path}", where=above["config"].where)
        return _read(path, directory)
    for path in (directory / "rocmbuild.yaml", _user_directory(environ, "XDG_CONFIG_HOME", ".config") / "config.yaml"):
        if path.is_file():
            return _read(path, directory)
    return {}


def _read(path: Path, directory: Path) -> dict[str, _Given]:
    from rocmbuild.model.document import load  # YAML costs as much as all else here; most have no file

    shown = path.relative_to(directory) if path.is_relative_to(directory) else path
    document = load(shown if directory == Path.cwd() else path, "config")
    return {
        name: _Given(_as_text(value), f"{document.where(name)}: {name}", path.parent)
        for name, value in document.data.items()
    }


def _as_text(value: Any) -> Any:
    """Write a value of the file (the schema has checked its type) the way the other layers do."""
    if isinstance(value, dict):
        return [f"{key}={item}" for key, item in value.items()]
    return value if isinstance(value, bool | list) else str(value)


def _converted(option: Option, given: _Given) -> Any:
    try:
        return _CONVERTERS[option.kind](given.value, given.base)
    except ValueError as error:
        raise UsageError(str(error), where=given.where) from error


def _text(value: str, _base: Path) -> str:
    if not value.strip():
        raise ValueError("it is empty")
    return value


def _number(value: str, _base: Path) -> int:
    if not re.fullmatch(r"[0-9]+", value):
        raise ValueError(f"{value!r} is not a number")
    if int(value) < 1:
        raise ValueError(f"{value} is too small; the least is 1")
    return int(value)


def _size(value: str, _base: Path) -> int:
    from rocmbuild.model.scalars import parse_size

    size = parse_size(value)
    if size < 1 << 28:
        raise ValueError(f"{value} is too small; the least is 256M")
    return size


def _switch(value: bool | str, _base: Path) -> bool:
    if isinstance(value, bool):
        return value
    if value.lower() not in _SWITCHES:
        raise ValueError(f"{value!r} is neither yes nor no (1, true, yes, on; 0, false, no, off)")
    return _SWITCHES[value.lower()]


def _environment(value: str, _base: Path) -> str:
    if value not in ("sandbox", "host"):
        raise ValueError(f"{value!r} is neither sandbox nor host")
    return value


def _path(value: str, base: Path) -> Path:
    return (base / Path(_text(value, base)).expanduser()).resolve()


def _directory(value: str, base: Path) -> Path:
    path = _path(value, base)
    if not path.is_dir():
        raise ValueError(f"there is no directory {path}")
    return path


def _verbosity(value: str | list[int], _base: Path) -> int:
    if isinstance(value, list):
        return sum(value)
    if not re.fullmatch(r"-?[0-9]+", value):
        raise ValueError(f"{value!r} is not a number")
    return int(value)


def _names(value: Iterable[str], _base: Path) -> tuple[str, ...]:
    names = (name.strip() for item in value for name in item.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _pair(text: str, form: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign and value):
        raise ValueError(f"{text!r} is not of the form {form}")
    return key, value


def _pairs(value: Iterable[str], _base: Path) -> tuple[tuple[str, str], ...]:
    return tuple(_pair(text, "PREFIX=URL") for text in value)


def _places(value: Iterable[str], base: Path) -> dict[str, Path]:
    pairs = (_pair(text, "COMPONENT=PATH") for text in value)
    return {name: _directory(place, base) for name, place in pairs}


def _directories(value: Iterable[str], base: Path) -> tuple[Path, ...]:
    return tuple(_directory(text, base) for text in value)


_CONVERTERS: Mapping[str, Callable[[Any, Path], Any]] = {
    "text": _text,
    "number": _number,
    "size": _size,
    "flag": _switch,
    "environment": _environment,
    "path": _path,
    "verbosity": _verbosity,
    "names": _names,
    "pairs": _pairs,
    "places": _places,
    "directories": _directories,
}


def _user_directory(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """Return the user's directory for rocmbuild; the XDG specification ignores relative values."""
    base = Path(environ.get(variable, ""))
    if not base.is_absolute():
        home = environ.get("HOME", "")
        base = (Path(home) if home.startswith("/") else Path.home()) / default
    return base / "rocmbuild"
