"""Lengths of time as people type them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perfci.cli.durations import DurationInvalid, parse_duration


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90m", timedelta(minutes=90)),
        ("4h", timedelta(hours=4)),
        ("2d", timedelta(days=2)),
        ("30s", timedelta(seconds=30)),
        ("1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        (" 1H30M ", timedelta(minutes=90)),
        ("9999d", timedelta(days=9999)),
        ("1h30", timedelta(minutes=90)),
        ("1h05", timedelta(minutes=65)),
        ("1w", timedelta(days=7)),
    ],
)
def test_what_is_understood(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    "text", ["", "4", "h", "0h", "-1h", "1.5h", "30m1h", "4 h", "1h60", "1h300", "30", "99999d", "٤h0"]
)
def test_what_is_not(text: str) -> None:
    with pytest.raises(DurationInvalid, match="such as 90m"):
        parse_duration(text)
