"""Strangers' text becomes one harmless line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci.changes.text import one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Fix it", "Fix it"),
        ("  two\r\nlines\t ", "two lines"),
        ("\x1b[31mred\x07", "[31mred"),
        ("a\u202eb\u200bc\ue000d", "a b c d"),
        ("Zürich → 東京", "Zürich → 東京"),
        ("", ""),
        ("x" * 200, "x" * 159 + "…"),
        (" " * 10_000 + "late", "…"),
    ],
)
def test_lines(text, line):
    assert one_line(text) == line


@given(st.text())
def test_any_text_is_one_printable_line(text):
    line = one_line(text, 40)
    assert len(line) <= 40
    assert line.isprintable()
    assert line == line.strip()
