"""Which run somebody means."""

from __future__ import annotations

from datetime import date

import archives
import pytest

from perfci.runs.state.archive import RunNotFound, RunUnclear, find_run
from perfci.runs.state.run_names import named

NIGHTS = (
    "20261128T041500Z-nightly-0a1b",
    "20261129T041500Z-nightly-0a2c",
    "20261129T091500Z-smoke-77ff",
    "20261130T041500Z-nightly-0a3d",
)
RERUNS = ("20261129T043000Z-nightly-confirm-0a2c", "20261129T044000Z-nightly-confirm-beef")
TODAY = date(2026, 11, 30)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("last", NIGHTS[3:]),
        ("today", NIGHTS[3:]),
        ("yesterday", NIGHTS[1:3]),
        ("2026-11-28", NIGHTS[:1]),
        ("2026-11-27", ()),
        ("2026-13-01", ()),
        (NIGHTS[0], NIGHTS[:1]),
        ("20261128", NIGHTS[:1]),
        ("20261129", NIGHTS[1:3]),
        ("0a3d", NIGHTS[3:]),
        ("smoke", NIGHTS[2:3]),
        ("nightly", (NIGHTS[0], NIGHTS[1], NIGHTS[3])),
        ("0a2c", NIGHTS[1:2]),
        ("beef", RERUNS[1:]),
        ("confirm", RERUNS),
        (RERUNS[0], RERUNS[:1]),
        ("elsewhere", ()),
        ("", ()),
    ],
)
def test_a_run_is_named_by_any_part_of_its_id_by_its_day_or_as_the_last(wanted, found):
    assert named(wanted, NIGHTS, RERUNS, TODAY) == list(found)


def test_an_id_that_is_the_begin_of_another_means_itself():
    ids = ("20261128T041500Z-nightly-0a1b", "20261128T041500Z-nightly-0a1b2")
    assert named(ids[0], ids, (), TODAY) == [ids[0]]


def test_nothing_is_the_last_of_none():
    assert named("last", (), RERUNS, TODAY) == []


def test_candidates_are_listed_the_newest_first(tmp_path):
    ids = [archives.night(tmp_path, number).name for number in range(1, 14)]
    with pytest.raises(RunUnclear) as caught:
        find_run(tmp_path, "nightly")
    _, *lines = str(caught.value).splitlines()
    assert lines == [*(f"  {one}" for one in reversed(ids[3:])), "  and 3 older"]
    assert find_run(tmp_path, "-000d").name == ids[-1]


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RunNotFound, match="no run 'nothing' in"):
        find_run(tmp_path, "nothing")
