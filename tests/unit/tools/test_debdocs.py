"""Texts of packages: what policy and lintian ask of them, and that nothing of the machine is in them."""

from __future__ import annotations

import io

import pytest
from debian.changelog import Changelog
from debian.copyright import Copyright

from rocmbuild.errors import PackageError
from rocmbuild.tools.debdocs import changelog, copyright_file, description, holders_of, read_licenses

MIT = """\
The MIT License

Copyright (c) 2019-2023 Advanced Micro Devices, Inc.
 * Copyright 2011 Somebody Else */

Permission is hereby granted: the above copyright notice must stay.
"""


def test_a_description_is_wrapped_and_its_lists_are_kept():
    text = description("HSA runtime.", ["One two.\n\n- first\n- second", " ".join(["word"] * 40)])
    lines = text.splitlines()
    assert lines[:6] == ["HSA runtime", " One two.", " .", "  - first", "  - second", " ."]
    assert all(line.startswith(" word") and len(line) < 80 for line in lines[6:])
    assert len(lines) == 9


def test_a_changelog_has_one_entry_dated_by_the_epoch():
    notes = ["Built from the source by rocmbuild.", "edits.c: " + "reason " * 30]
    text = changelog("rocr", "1.9.0.50601-1~debian12", "ROCm <rocm@example.org>", 1_690_000_000, notes)
    assert text.endswith(" -- ROCm <rocm@example.org>  Sat, 22 Jul 2023 04:26:40 +0000\n")
    assert max(map(len, text.splitlines())) <= 79
    log = Changelog(text, strict=True)
    assert len(log) == 1
    assert (log.package, str(log.version)) == ("rocr", "1.9.0.50601-1~debian12")
    assert sum(line.startswith("  * ") for line in text.splitlines()) == 2


def test_a_copyright_file_has_the_text_and_its_holders():
    text = copyright_file("rocr", "https://example.org/rocr", "MIT", {"LICENSE.txt": MIT})
    parsed = Copyright(io.StringIO(text), strict=True)
    assert (parsed.header.upstream_name, parsed.header.source) == ("rocr", "https://example.org/rocr")
    (files,) = parsed.all_files_paragraphs()
    assert files.license is not None
    assert files.license.synopsis == "MIT"
    assert "Permission is hereby granted" in files.license.text
    assert files.copyright == "2019-2023 Advanced Micro Devices, Inc.\n 2011 Somebody Else"


def test_several_license_files_are_told_apart():
    text = copyright_file("llvm", "", "Apache-2.0 WITH LLVM-exception AND NCSA", {"A.txt": "aaa\n", "B.txt": "bbb\n"})
    assert "License: Apache-2.0-with-LLVM-exception and NCSA\n A.txt:\n .\n aaa\n .\n B.txt:\n .\n bbb\n" in text


def test_without_license_files_it_says_where_to_look():
    text = copyright_file("rocm-core", "https://example.org/core", "MIT", {})
    assert "Copyright: the authors of rocm-core" in text
    assert " See https://example.org/core." in text


def test_holders_need_a_year():
    assert holders_of("copyright notice\n© 2020 A\nCopyright (C) 2021 B\n(c) 2020-2022, C\n© 2020 A\n") == [
        "2020 A",
        "2021 B",
        "2020-2022, C",
    ]


def test_license_files_are_read_whatever_their_encoding(tmp_path):
    (tmp_path / "LICENSE").write_bytes(b"\xa9 2020 AMD\n")
    assert read_licenses(tmp_path, ["LICENSE"], "r") == {"LICENSE": "\ufffd 2020 AMD\n"}


def test_a_missing_license_file_is_an_error_at_the_recipe(tmp_path):
    with pytest.raises(PackageError, match=r"the license file COPYING cannot be read: No such file") as caught:
        read_licenses(tmp_path, ["COPYING"], "recipe.yaml:1:1")
    assert caught.value.where == "recipe.yaml:1:1"
    assert str(tmp_path) in str(caught.value.hint)
