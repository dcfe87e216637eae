"""The texts of a package: description, changelog, and copyright as DEP-5 has it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from debian.changelog import Changelog
from debian.copyright import License
from debian.deb822 import Deb822

from rocmbuild.errors import PackageError

WIDTH = 79
FORMAT = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
"""Of copyright files; it names the specification, nothing is fetched from there."""

_STATEMENT = re.compile(r"(?i)(?:\bcopyright\b|©|\(c\)).*\b(?:19|20)\d\d\b.*")
_WORD = re.compile(r"(?i)(?:\s|copyright|©|\(c\)|:)+")


def description(summary: str, paragraphs: Sequence[str]) -> str:
    """Return a Description field: the summary, then the texts wrapped; lines of lists stay as they are."""
    lines = [summary.strip().rstrip(".")]
    blocks = [block for text in paragraphs for block in re.split(r"\n\s*\n", text.strip()) if block.strip()]
    for number, block in enumerate(blocks):
        lines += [" ."] * (number > 0)
        lines += _block(block)
    return "\n".join(lines)


def _block(block: str) -> list[str]:
    if re.search(r"(?m)^\s*[-*] ", block):
        return [f"  {line.strip()}" for line in block.splitlines()]
    return textwrap.wrap(
        " ".join(block.split()),
        WIDTH,
        initial_indent=" ",
        subsequent_indent=" ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def changelog(source: str, version: str, maintainer: str, epoch: int, notes: Sequence[str]) -> str:
    """Return a changelog of one entry; ``epoch`` is its date in seconds since 1970."""
    log = Changelog()
    log.new_block(
        package=source,
        version=version,
        distributions="unstable",
        urgency="medium",
        author=maintainer,
        date=format_datetime(datetime.fromtimestamp(epoch, UTC)),
    )
    log.add_change("")
    for note in notes:
        lines = textwrap.wrap(
            " ".join(note.split()), WIDTH, initial_indent="  * ", subsequent_indent="    ", break_on_hyphens=False
        )
        for line in lines:
            log.add_change(line)
    log.add_change("")
    return str(log)


def copyright_file(name: str, homepage: str, spdx: str, licenses: Mapping[str, str]) -> str:
    """Return a machine-readable copyright file with the text of the license files in it, by their names."""
    titled = (f"{title}:\n\n{text}" if len(licenses) > 1 else text for title, text in licenses.items())
    text = "\n\n".join(part.strip("\n") for part in titled) or f"See {homepage or 'the source'}."
    holders = "\n ".join(holders_of(text)) or f"the authors of {name}"
    header = Deb822({"Format": FORMAT, "Upstream-Name": name, **({"Source": homepage} if homepage else {})})
    files = Deb822({"Files": "*", "Copyright": holders, "License": License(_short(spdx), text).to_str()})
    return f"{header.dump()}\n{files.dump()}"


def read_licenses(source: Path, names: Sequence[str], where: str) -> dict[str, str]:
    """Return the texts of license files of a source tree; ``where`` is the recipe that names them, for messages.

    A name that begins with ``?`` may be missing. Without names, those files are taken whose names say what they are,
    at the top of the tree, else one level down. Raises PackageError for a file that is missing.
    """
    return {name: _license_text(source, name, where) for name in (_present(source, names) if names else _found(source))}


def _present(source: Path, names: Sequence[str]) -> list[str]:
    return [name.lstrip("?") for name in names if not name.startswith("?") or (source / name[1:]).is_file()]


def _found(source: Path) -> list[str]:
    for pattern in ("*", "*/*"):
        files = [path for path in source.glob(pattern) if path.is_file() and _LICENSE.match(path.name)]
        if files:
            return sorted(str(path.relative_to(source)) for path in files)
    return []


def _license_text(source: Path, name: str, where: str) -> str:
    try:
        return (source / name).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise PackageError(
            f"the license file {name} cannot be read: {error.strerror}",
            where=where,
            hint=f"correct license.files of the recipe; the source is {source}",
        ) from error


def holders_of(text: str) -> list[str]:
    """Return the copyright statements of a license text (those with a year), without the word itself."""
    statements = (match.group() for line in text.splitlines() if (match := _STATEMENT.search(line)))
    found = (_WORD.sub("", statement, count=1).strip(" */#") for statement in statements)
    return list(dict.fromkeys(holder for holder in found if holder))


_LICENSE = re.compile(r"(licen[cs]e|copying|notices?)(?![a-z])", re.IGNORECASE)


def _short(spdx: str) -> str:
    """Return an SPDX expression as a license name of DEP-5, which has lower-case operators and one word for with."""
    return re.sub(r" (AND|OR) ", lambda match: match.group().lower(), spdx).replace(" WITH ", "-with-") or "other"
