from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nights import PORTS, History, run_id, seconds_key, statements_key

from perfci.analysis.changepoints import ChangePoint
from perfci.analysis.types import Judgement, Outcome, RunPoint, SeriesHistory
from perfci.report.model import Mark, PageTone
from perfci.report.svg import RUNS_SHOWN, sparkline, trend

KEY = seconds_key("neutron.create_port", PORTS)
WIDTH, HEIGHT = 760, 190


def parsed(text):
    return ET.fromstring(text)  # noqa: S314  (our own output, nothing hostile)


def point(night, *values, valid=True, environment="e", code="c"):
    return RunPoint(run_id(night), environment, code, values, len(values), 0, valid)


def drawn(points, judgement=None, marks=(), key=KEY):
    return parsed(trend(SeriesHistory(key, tuple(points)), judgement, marks))


def test_runs_without_values_leave_no_point():
    root = drawn([point(0, 1.0), point(1), point(2, 1.1)])
    assert len(root.findall("a")) == 2
    assert trend(SeriesHistory(KEY, (point(0),)), None) == ""


def test_a_higher_value_is_drawn_higher_and_a_later_run_further_right():
    first, second = drawn([point(0, 1.0), point(1, 2.0)]).findall("a/circle")
    assert float(first.get("cy")) > float(second.get("cy"))
    assert float(first.get("cx")) < float(second.get("cx"))


def test_pointing_at_a_run_tells_value_code_and_run():
    root = parsed(
        trend(
            SeriesHistory(KEY, (point(0, *[0.9, 1.0, 1.1]),)),
            None,
            (),
            {"c": "code c: neutron with slow.patch"},
        )
    )
    title = root.find("a/title").text
    assert title.splitlines() == [
        "2026-10-31 04:15 UTC: 1.00\u00a0s",
        "middle 80 %: 0.920\u00a0s … 1.08\u00a0s",
        "3\u00a0values",
        "code c: neutron with slow.patch",
        run_id(0),
    ]


def test_an_unfit_run_says_so():
    root = drawn([replace(point(0, 1.0, valid=False), failures=2)])
    assert "off" in root.find("a").get("class")
    assert "the lab was not fit to measure" in root.find("a/title").text
    assert "2\u00a0failures" in root.find("a/title").text


def test_the_band_is_the_baseline_and_its_mde():
    judgement = Judgement(KEY, run_id(1), Outcome.NO_CHANGE, "", baseline_location=1.0, mde=0.1)
    root = drawn([point(0, 1.0), point(1, 2.0)], judgement)
    band, base = root.find("rect[@class='band']"), root.find("line[@class='base']")
    top, height = float(band.get("y")), float(band.get("height"))
    assert float(base.get("y1")) == pytest.approx(top + height / 2, abs=0.2)
    scale = [float(circle.get("cy")) for circle in root.findall("a/circle")]
    assert height == pytest.approx((scale[0] - scale[1]) * 0.2, abs=0.2)


def test_colours_follow_the_newest_mark():
    marks = (Mark(KEY, run_id(1), "+20 %", PageTone.BAD), Mark(KEY, run_id(3), "back", PageTone.GOOD))
    root = drawn([point(n, 1.0) for n in range(4)], marks=marks)
    assert [one.get("class").strip() for one in root.findall("a")] == [
        "run",
        "run bad",
        "run bad",
        "run good",
    ]
    assert "+20 % since 2026-11-01; back since 2026-11-03" in root.get("aria-label")


def level_change(index, earliest, latest, effect=0.12):
    return ChangePoint(index, earliest, latest, 1.0, 1 + effect, effect, effect - 0.02, effect + 0.02, 0.0001)


def test_a_change_of_level_is_a_field_as_wide_as_its_date_is_uncertain():
    points = [point(n, 1.0) for n in range(9)]
    changes = (level_change(2, 2, 2), level_change(6, 5, 7, -0.2))
    root = parsed(trend(SeriesHistory(KEY, tuple(points)), None, changes=changes))
    fields = root.findall("g[@class='level']/rect")
    narrow, wide = (float(one.get("width")) for one in fields)
    assert narrow < wide
    assert root.find("g[@class='level']/title").text.startswith("the level changed by +12")
    assert "2026-11-02" in root.find("g[@class='level']/title").text
    assert "from 1.00\u00a0s to 1.12\u00a0s" in root.find("g[@class='level']/title").text


def test_a_change_next_to_a_marked_one_is_the_same_change():
    marks = (Mark(KEY, run_id(5), "+13 %", PageTone.BAD),)
    points = tuple(point(n, 1.0) for n in range(14))
    text = trend(SeriesHistory(KEY, points), None, marks, changes=(level_change(6, 6, 6, 0.094),))
    assert "+9.4" not in text
    assert "+9.4" in trend(SeriesHistory(KEY, points), None, marks, changes=(level_change(9, 9, 9, 0.094),))


def test_a_change_that_is_marked_anyway_gets_no_field():
    marks = (Mark(KEY, run_id(2), "+20 %", PageTone.BAD),)
    points = tuple(point(n, 1.0) for n in range(6))
    root = parsed(trend(SeriesHistory(KEY, points), None, marks, changes=(level_change(3, 2, 4),)))
    assert root.findall("g[@class='level']") == []


def test_only_the_last_runs_are_drawn():
    root = drawn([point(n, 1.0) for n in range(RUNS_SHOWN + 30)])
    assert len(root.findall("a")) == RUNS_SHOWN


def test_a_sparkline_needs_two_runs():
    assert sparkline(SeriesHistory(KEY, (point(0, 1.0),))) == ""
    root = parsed(sparkline(SeriesHistory(KEY, (point(0, 1.0), point(1, 3.0)))))
    assert root.find("polyline").get("points") == "2.0,18.0 98.0,2.0"


values = st.lists(st.floats(0, 1e13, allow_subnormal=False), max_size=6)


@given(
    st.lists(values, max_size=12), st.booleans(), st.floats(0, 1e13) | st.none(), st.floats(0, 3) | st.none()
)
def test_everything_stays_inside_the_picture(runs, counters, base, mde):
    key = statements_key("neutron-api", PORTS) if counters else KEY
    judgement = Judgement(key, run_id(0), Outcome.NO_CHANGE, "", baseline_location=base, mde=mde)
    text = trend(SeriesHistory(key, tuple(point(n, *run) for n, run in enumerate(runs))), judgement)
    if not any(runs):
        assert text == ""
        return
    for element in parsed(text).iter():
        for name in ("cy", "y1", "y2", "y"):
            assert -0.1 <= float(element.get(name, 0)) <= HEIGHT + 0.1
        for name in ("cx", "x1", "x2", "x"):
            assert -0.1 <= float(element.get(name, 0)) <= WIDTH + 0.1


def test_the_trend_of_real_iterations_shows_every_run():
    history = History()
    for _ in range(5):
        history.play()
    for one in history.histories():
        assert len(parsed(trend(one, None)).findall("a")) == 5
