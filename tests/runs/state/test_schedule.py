"""When cron starts the next night."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from perfci.runs.state.schedule import planned

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
"""A Monday."""


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ("15 2 * * *", (12, 1, 2, 15)),
        ("30 12 * * *", (11, 30, 12, 30)),
        ("0 12 * * *", (12, 1, 12, 0)),
        ("*/20 * * * *", (11, 30, 12, 20)),
        ("5,10 3-4 * * *", (12, 1, 3, 5)),
        ("0 1 * * 7", (12, 6, 1, 0)),
        ("0 1 * * 0", (12, 6, 1, 0)),
        ("0 1 * * 1-5", (12, 1, 1, 0)),
        ("0 1 5 * 2", (12, 1, 1, 0)),
        ("0 1 5 * *", (12, 5, 1, 0)),
        ("@daily", (12, 1, 0, 0)),
    ],
)
def test_the_next_time_of_a_line(fields, at):
    month, day, hour, minute = at
    (found,) = planned(f"MAILTO=x\n{fields} cd /srv/perfci && make nightly\n", NOW)
    assert found.at == datetime(2026, month, day, hour, minute, tzinfo=UTC)
    assert found.command == "cd /srv/perfci && make nightly"


@pytest.mark.parametrize("fields", ["0 1 * * mon", "61 1 * * *", "0 1 30 2 *", "@reboot x x x x"])
def test_a_line_that_can_not_be_read_has_no_time(fields):
    (found,) = planned(f"{fields} perfci run nightly", NOW)
    assert found.at is None


def test_other_lines_are_none_of_ours_and_the_next_comes_first():
    text = "# 0 1 * * * make nightly\n0 1 * * * backup\n0 5 * * * perfci run smoke\n0 3 * * * make -C /x nightly\n\n"
    assert [one.command for one in planned(text, NOW)] == ["make -C /x nightly", "perfci run smoke"]
    assert planned("", NOW) == []
