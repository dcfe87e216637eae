"""From words to arguments: finds the verb, parses its options, names what is close to a misspelt one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from rocmbuild import __version__
from rocmbuild.options import GROUPS, OPTIONS, VERBS, Option, Verb


class Arguments:
    """A parsed command line: ``given`` maps option names to texts, switches to booleans, lists to lists."""

    __slots__ = ("command", "explicit", "given", "verb", "words")

    def __init__(
        self, verb: str, *, explicit: bool, words: Sequence[str], command: Sequence[str], given: dict[str, object]
    ) -> None:
        self.verb = verb
        self.explicit = explicit
        self.words = tuple(words)
        self.command = tuple(command)
        self.given = given


def parse(argv: Sequence[str]) -> Arguments:
    """Parse a command line; UsageError for a mistake, SystemExit after ``--help`` or ``--version``."""
    own, command = _split(argv)
    position = _first_word(own)
    explicit = position is not None and own[position] in VERBS
    verb = VERBS[own[position]] if explicit and position is not None else VERBS["build"]
    rest = [word for index, word in enumerate(own) if not (explicit and index == position)]
    parser = _parser(verb, top=not explicit)
    namespace, unknown = parser.parse_known_intermixed_args(rest)
    if unknown:
        _refuse(unknown[0], verb)
    given = vars(namespace)
    words = [*given.pop("words"), *(() if verb.name == "shell" else command)]
    _check_words(verb, words)
    return Arguments(
        verb.name,
        explicit=explicit,
        words=words,
        command=command if verb.name == "shell" else (),
        given={name: given[option.key] for name, option in OPTIONS.items() if option.key in given},
    )


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the words before ``--`` from those after it."""
    if "--" not in argv:
        return list(argv), []
    index = list(argv).index("--")
    return list(argv[:index]), list(argv[index + 1 :])


def _first_word(argv: Sequence[str]) -> int | None:
    """Return the index of the first argument that is neither an option nor an option's value."""
    values = {flag for option in OPTIONS.values() if option.takes_value for flag in option.flags}
    skip = False
    for index, word in enumerate(argv):
        if skip:
            skip = False
        elif not word.startswith("-") or word == "-":
            return index
        else:
            cluster = not word.startswith("--") and word[1:-1].strip("vq") == ""
            skip = word in values or (cluster and f"-{word[-1]}" in values)
    return None


def _check_words(verb: Verb, words: Sequence[str]) -> None:
    from rocmbuild.errors import UsageError

    usage = f"rocmbuild {verb.name} {verb.words}".rstrip()
    if len(words) < verb.minimum:
        raise UsageError(f"{verb.name} needs {verb.words}", hint=verb.examples[0][0])
    if verb.maximum is not None and len(words) > verb.maximum:
        raise UsageError(f"{verb.name} does not take {words[verb.maximum]!r}", hint=usage)


def _refuse(word: str, verb: Verb) -> NoReturn:
    from rocmbuild.errors import UsageError, nearest

    flag = word.partition("=")[0]
    owners = [other.name for other in VERBS.values() for name in other.options if flag in OPTIONS[name].all_flags()]
    if owners:
        raise UsageError(f"{verb.name} has no option {flag}", hint=f"it belongs to {', '.join(owners)}")
    known = [spelling for name in verb.options for spelling in OPTIONS[name].all_flags() if spelling.startswith("--")]
    hint = nearest(flag, known)
    if not hint.startswith("did"):
        hint = f"rocmbuild {verb.name} --help"
    raise UsageError(f"unknown option {flag}", hint=hint)


class _Parser(argparse.ArgumentParser):
    """Report a mistake as an error of ours, printed where all errors are."""

    def error(self, message: str) -> NoReturn:
        from rocmbuild.errors import UsageError

        raise UsageError(message.removeprefix("argument "), hint=f"{self.prog} --help")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keep examples as they are; measure the terminal without importing shutil and its compressors."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(terminal_width(), 100) - 2)


def terminal_width() -> int:
    """Return the columns of the terminal, 80 if there is none."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns or 80
    except (OSError, ValueError):
        return 80


def _parser(verb: Verb, *, top: bool) -> _Parser:
    words = f" {verb.words}" if verb.words else ""
    needed = (
        " --branch BRANCH" if "branch" in verb.options and verb.name not in ("list", "logs", "clean", "store") else ""
    )
    parser = _Parser(
        prog="rocmbuild" if top else f"rocmbuild {verb.name}",
        usage=f"rocmbuild {'[VERB]' if top else verb.name}{needed}{words} [options]",
        description=_overview() if top else f"{verb.summary[0].upper()}{verb.summary[1:]}.",
        epilog=_examples(verb, top=top),
        formatter_class=_Formatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    for group, title in GROUPS.items():
        options = [OPTIONS[name] for name in verb.options if OPTIONS[name].group == group]
        section = parser.add_argument_group(title) if options else parser
        for option in options:
            _add(section, option)
        if group == "output":
            section.add_argument("-h", "--help", action="help", help="print this and exit")
    parser.add_argument("--version", action="version", version=f"rocmbuild {__version__}", help=argparse.SUPPRESS)
    return parser


def _add(section: argparse._ActionsContainer, option: Option) -> None:
    unset = argparse.SUPPRESS
    if option.kind == "verbosity":
        section.add_argument(
            "-v", "--verbose", dest=option.key, action="append_const", const=1, default=unset, help=option.help
        )
        section.add_argument(
            "-q", "--quiet", dest=option.key, action="append_const", const=-1, default=unset, help="print less"
        )
    elif option.kind == "flag":
        on, off = option.help, argparse.SUPPRESS
        if option.name in ("verify", "reuse"):  # on unless somebody says no
            on, off = off, on
        section.add_argument(*option.flags, dest=option.key, action="store_true", default=unset, help=on)
        section.add_argument(f"--no-{option.name}", dest=option.key, action="store_false", default=unset, help=off)
    else:
        many = option.kind in ("names", "places", "pairs", "directories")
        section.add_argument(
            *option.flags,
            dest=option.key,
            action="append" if many else "store",
            default=unset,
            metavar=option.metavar,
            help=option.help,
        )


def _overview() -> str:
    lines = ["Build AMD's ROCm from source into verified Debian packages.", "", "verbs:"]
    lines += [f"  {verb.name:<10}{verb.summary}" for verb in VERBS.values()]
    lines += ["", "rocmbuild VERB --help says more of each. Without a verb, build:"]
    return "\n".join(lines)


def _examples(verb: Verb, *, top: bool) -> str:
    examples = [*verb.examples, *((("rocmbuild doctor --fix", "prepare this machine"),) if top else ())]
    width = max(len(command) for command, _ in examples)
    one_line = width + max(len(what) for _, what in examples) + 6 <= 80
    lines = ["examples:" if len(examples) > 1 else "example:"]
    for command, what in examples:
        lines += [f"  {command:<{width}}  {what}"] if one_line else [f"  {command}", f"      {what}"]
    if top:
        lines += ["", "Settings: command line, then ROCMBUILD_<NAME> variables, then the file, by the same names."]
    return "\n".join(lines)
