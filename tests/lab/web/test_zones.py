"""Times as people type and read them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from perfci.lab.errors import ReservationInvalid
from perfci.lab.web.zones import Times, length_text, machine_zone, typed_time, zone_called

PRAGUE = ZoneInfo("Europe/Prague")


def test_times_in_the_words_of_the_history() -> None:
    times = Times(ZoneInfo("Europe/Prague"), datetime(2026, 3, 2, 12, tzinfo=UTC))
    said = times.words("to 2026-03-03T09:30:12.123456+00:00 on node-1, node-2")
    assert said == "to Tue 3 Mar, 10:30 CET on node-1, node-2"


def test_a_time_is_that_of_its_zone():
    assert typed_time("2026-07-01T09:00", PRAGUE) == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert typed_time("2026-01-01T09:00", PRAGUE) == datetime(2026, 1, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-03-29T02:30", "leave it out"),
        ("2026-10-25T02:30", "show it twice"),
        ("tomorrow", "no time"),
        ("0001-01-01T00:00", "no time"),
        ("", "no time"),
    ],
)
def test_what_is_no_single_time_is_refused(text, words):
    with pytest.raises(ReservationInvalid, match=words):
        typed_time(text, PRAGUE)


def test_times_are_shown_with_their_zone():
    times = Times(PRAGUE, datetime(2026, 3, 2, 12, tzinfo=UTC))
    assert times.full(datetime(2026, 7, 1, 7, tzinfo=UTC)) == "Wed 1 Jul 2026, 09:00 CEST"
    assert times.brief(datetime(2026, 3, 2, 23, 30, tzinfo=UTC)) == "Tue 3 Mar, 00:30 CET"
    assert times.brief(datetime(2026, 3, 2, 20, tzinfo=UTC)) == "21:00 CET"
    assert times.brief(datetime(2027, 3, 2, 20, tzinfo=UTC)) == "Tue 2 Mar 2027, 21:00 CET"
    assert times.field(datetime(2026, 3, 2, 12, 0, 1, tzinfo=UTC)) == "2026-03-02T13:01"


def test_the_machines_zone(tmp_path, monkeypatch):
    monkeypatch.delenv("TZ", raising=False)
    link = tmp_path / "localtime"
    assert machine_zone(link).key == "UTC"
    link.symlink_to("/usr/share/zoneinfo/Asia/Tokyo")
    assert machine_zone(link).key == "Asia/Tokyo"
    monkeypatch.setenv("TZ", ":Europe/Prague")
    assert machine_zone(link).key == "Europe/Prague"


@pytest.mark.parametrize(
    "name", ["", "Europe/Nowhere", "../../etc/passwd", "/etc/passwd", "x" * 5000, "a\0b"]
)
def test_only_names_of_zones_are_zones(name):
    assert zone_called(name) is None


def test_lengths_are_told_in_two_units():
    assert [length_text(seconds) for seconds in (5400, 7 * 86400, 90061, 0, -5)] == [
        "1 h 30 min", "7 d", "1 d 1 h", "less than a minute", "less than a minute",
    ]  # fmt: skip
