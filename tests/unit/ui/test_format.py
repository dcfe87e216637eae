"""Durations, sizes, marks and cleaned output lines."""

from __future__ import annotations

import pytest

from rocmbuild.ui.format import (
    ASCII,
    UNICODE,
    about,
    clean,
    duration,
    marks_for,
    plural,
    shorten,
    size,
    size_of,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0.4, "0s"),
        (42, "42s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (372, "6m 12s"),
        (3599.7, "1h 00m"),
        (3780, "1h 03m"),
        (7199, "2h 00m"),
        (100 * 3600, "100h 00m"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "under a minute"), (55, "about 1 min"), (240, "about 4 min"), (3580, "about 1h 00m"), (5000, "about 1h 23m")],
)
def test_about(seconds, text):
    assert about(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (12_897_485, "12.3 MiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
    ],
)
def test_size(count, text):
    assert size(count) == text


def test_part_of_a_size_uses_the_unit_of_the_whole():
    assert size_of(31_457_280, 41_943_040) == "30.0/40.0 MiB"
    assert size_of(3, 12) == "3/12 B"


def test_plural():
    assert [plural(count, "task") for count in (0, 1, 2)] == ["0 tasks", "1 task", "2 tasks"]


@pytest.mark.parametrize("encoding", ["ascii", "ANSI_X3.4-1968", "iso-8859-1", "no-such-encoding", None, ""])
def test_marks_fall_back_to_ascii(encoding):
    assert marks_for(encoding) is ASCII
    "".join(vars(ASCII).values()).encode("ascii")


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "utf8"])
def test_marks_in_unicode(encoding):
    assert marks_for(encoding) is UNICODE


def test_every_mark_is_one_column_wide():
    assert {len(mark) for marks in (ASCII, UNICODE) for mark in vars(marks).values()} == {1}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("\x1b[31mFAILED:\x1b[0m a.o\n", "FAILED: a.o"),
        ("\x1b]8;;file:///a\x07link\x1b]8;;\x1b\\", "link"),
        ("10%\r50%\r100%", "100%"),
        ("100%\r\n", "100%"),
        ("\x1b[2Jgone\x07\x00", "gone"),
        ("a\tb", "a       b"),
        ("grün ✔", "grün ✔"),
    ],
)
def test_clean_leaves_what_a_terminal_would_show(raw, text):
    assert clean(raw) == text


def test_shorten_tells_that_it_cut():
    assert shorten("rocblas", 7) == "rocblas"
    assert shorten("rocm-device-libs", 8) == "rocm-de…"
    assert shorten("rocm-device-libs", 8, ASCII) == "rocm-de~"
    assert shorten("rocblas", 0) == ""
