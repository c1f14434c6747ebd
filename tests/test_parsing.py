"""Texts that others wrote: a value, or a NotReadable that says in one line what is wrong."""

from __future__ import annotations

import contextlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from perfci.parsing import NotReadable, json_value, yaml_value

DEEP = 200_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * DEEP, "nested too deeply"),
        (b'{"a":' * DEEP, "nested too deeply"),
        (b'{"a": "\xff"}', "utf-8"),
        ("9" * 5000, "digits"),
        ("", "Expecting value"),
        ('{"a": 1', "delimiter"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_json_that_is_none(text, said):
    with pytest.raises(NotReadable, match=said):
        json_value(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "a: [",
        "a: \x07",
        "? [a]\n: b",
        "a: 2026-13-45",
        "a: !!timestamp soon",
        "a: !!bool perhaps",
        'a: !!int ""',
        "a: !!python/object:os.system x",
        f"a: {'9' * 5000}",
    ],
    ids=lambda text: text[:20],
)
def test_yaml_that_is_none(text):
    with pytest.raises(NotReadable) as refused:
        yaml_value(text)
    assert str(refused.value)
    assert "\n" not in str(refused.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES, st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_what_is_json_comes_out_as_it_went_in(value, encoding):
    text = json.dumps(value)
    assert json_value(text) == json_value(text.encode(encoding)) == value


@given(st.text() | VALUES.map(yaml.safe_dump))
def test_any_text_is_a_value_or_not_readable(text):
    for read in (json_value, yaml_value):
        with contextlib.suppress(NotReadable):
            read(text)
