"""The command line: settings, the verb's module, and the one place that turns an error into an exit code.

0: done; 1: a build failed; 2: the user's mistake; 3: a bug of ours; 130: interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

TYPE_CHECKING = False  # typing's own constant, without loading it for --help
if TYPE_CHECKING:
    from types import FrameType

    from rocmbuild.errors import RocmBuildError
    from rocmbuild.settings import Settings

FAILED = 1
BUG = 3
INTERRUPTED = 130
PIPE_CLOSED = 141
"""What a shell reports for a program that SIGPIPE ended."""

GARBAGE = 500_000
"""Objects after which Python looks for cycles; by default, that is a tenth of a run with nothing to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: this process's) and return its exit code; raises nothing."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        try:
            try:
                status = _run(words)
                sys.stdout.flush()
            finally:
                if argv is None:  # else somebody else decides what comes after
                    _let_signals_pass()
        except BrokenPipeError:
            raise
        except BaseException as error:
            status = _failed(error, words)
            sys.stdout.flush()
    except BrokenPipeError:
        _let_go_of_output()
        return PIPE_CLOSED
    except OSError:  # the output is a file, and its disk is full: nobody can be told
        _let_go_of_output()
        return FAILED
    return status


def _let_signals_pass() -> None:
    """Have the end of the process told by its exit code alone: it is decided, and nothing is left to be stopped."""
    for _ in range(3):  # each of the signals may be waiting here, to interrupt what is done against it
        try:
            _ignore_signals()
            break
        except KeyboardInterrupt:
            continue
    exec("")  # Python ends itself by SIGINT if the last exec() was interrupted, as of a dataclass in an import


def _ignore_signals() -> None:
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        try:
            signal.signal(number, signal.SIG_IGN)
        except ValueError:  # this is not the main thread: no signal comes here
            return


def _run(words: Sequence[str]) -> int:
    from rocmbuild.arguments import parse

    try:
        arguments = parse(words)
    except SystemExit:  # argparse, after --help and --version
        return 0
    import gc
    from importlib import import_module
    from pathlib import Path

    from rocmbuild.options import VERBS
    from rocmbuild.settings import load_settings

    gc.set_threshold(GARBAGE)
    settings = load_settings(arguments, os.environ, Path.cwd())
    _warn(settings)
    if not arguments.explicit:
        _check_default_verb(settings)
    _end_like_interrupt()
    result = import_module(f"rocmbuild.commands.{VERBS[settings.verb].module}").run(settings)
    return int(result)


def _warn(settings: Settings) -> None:
    from rocmbuild.settings import unknown_variables

    for name, hint in unknown_variables(settings.environ).items():
        _print_plain("warning", f"{name} is not a setting", None, hint)


def _check_default_verb(settings: Settings) -> None:
    """Refuse words that are neither verbs nor components: ``biuld`` is not a component to look for."""
    if not settings.components:
        return
    from rocmbuild.errors import UsageError, nearest
    from rocmbuild.model.catalog import make_catalog
    from rocmbuild.options import VERBS

    catalog = make_catalog(settings.manifests, settings.recipes, settings.targets)
    components = set(catalog.recipes())
    word = next((word for word in settings.components if word not in components), None)
    if word is None:
        return
    if settings.branch is not None:
        components |= set(catalog.manifest(settings.branch).components)
    if word not in components:
        hint = nearest(word, [*VERBS, *components])
        known = f"verbs: {', '.join(VERBS)}; components: rocmbuild list components"
        raise UsageError(f"{word} is neither a verb nor a component", hint=hint if hint.startswith("did") else known)


def _end_like_interrupt() -> None:
    """Let SIGTERM and a closed terminal stop programs as an interrupt does; they are in sessions of their own."""
    import signal
    import threading

    def interrupt(_number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # a shell that runs scripts has its background jobs ignore SIGINT, but not this
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP, and means it
                signal.signal(number, interrupt)


def _failed(error: BaseException, words: Sequence[str]) -> int:
    """Print an error and return its exit code."""
    from rocmbuild.errors import RocmBuildError

    causes = list(_leaves(error))
    if any(isinstance(cause, KeyboardInterrupt) or type(cause).__name__ == "CancelledError" for cause in causes):
        _print_plain("interrupted", "the same command goes on from here", None, None)
        return INTERRUPTED
    known = [_known(cause) for cause in causes]
    for cause in known:
        if isinstance(cause, RocmBuildError):
            _print(cause)
    bugs = [cause for cause in known if not isinstance(cause, RocmBuildError)]
    if bugs:
        return _report_bug(bugs[0], error, words)
    return max(cause.exit_code for cause in known if isinstance(cause, RocmBuildError))


def _known(error: BaseException) -> BaseException:
    """Return an error of ours for what the machine refuses: a full disk or a forbidden file is not a bug."""
    from rocmbuild.errors import refusal

    return (refusal(error) or error) if isinstance(error, OSError) else error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Return the exceptions of a group, as concurrent tasks raise it, or the one itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _print(error: RocmBuildError) -> None:
    from rocmbuild.errors import DocumentError, UsageError

    if isinstance(error, UsageError) and not isinstance(error, DocumentError):
        _print_plain("error", error.message, error.where, error.hint)
        return
    from rocmbuild.ui.console import make_console
    from rocmbuild.ui.failure import render_error

    render_error(error, make_console(sys.stderr))


def _print_plain(kind: str, message: str, where: str | None, hint: str | None) -> None:
    lines = [f"rocmbuild: {kind}: {f'{where}: ' if where else ''}{message}"]
    lines += [f"  {'try:' if number == 0 else '    '} {text}" for number, text in enumerate((hint or "").splitlines())]
    text = "\n".join(lines).encode(sys.stderr.encoding or "utf-8", "backslashreplace")
    print(text.decode(sys.stderr.encoding or "utf-8"), file=sys.stderr, flush=True)


def _report_bug(bug: BaseException, error: BaseException, words: Sequence[str]) -> int:
    """Save the traceback and say where it is; a traceback on the screen helps nobody but us."""
    import platform
    import shlex
    import tempfile
    import traceback

    from rocmbuild import __version__

    text = (
        f"rocmbuild {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"command: {shlex.join(['rocmbuild', *words])}\n\n" + "".join(traceback.format_exception(error))
    )
    with tempfile.NamedTemporaryFile(
        "w", prefix="rocmbuild-bug-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(text)
    summary = f"{type(bug).__name__}: {bug}".splitlines()[0]
    hint = f"report it to rocmbuild's authors, with the file {file.name}\n(command, versions and traceback are in it)"
    _print_plain("bug", summary, None, hint)
    return BUG


def _let_go_of_output() -> None:
    """End quietly when the reader (``| head``) has gone; what is still buffered goes nowhere."""
    for stream in (sys.stdout, sys.stderr):
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        except (OSError, ValueError):
            continue  # it is not a file: nothing is left to flush
