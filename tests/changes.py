"""Sources written by a test, and what edits of the recipes that ship make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rocmbuild.model.recipe import Edit
from rocmbuild.tools.edits import Outcome, apply_edits


def change(tree: Path, chosen: Sequence[Edit], files: Mapping[str, str]) -> list[Outcome]:
    """Write files, apply the edits that are for them or write files of their own, and return the outcomes."""
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return apply_edits(tree, [edit for edit in chosen if edit.file in files or edit.write is not None])
