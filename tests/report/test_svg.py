from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nights import PORTS, History, run_id, seconds_key, statements_key

from perfci.analysis.changepoints import ChangePoint
from perfci.analysis.types import Judgement, Outcome, RunPoint, SeriesHistory
from perfci.report.model import Mark, PageTone
from perfci.report.points import TrendRun, trend_of
from perfci.report.svg import CodeChange, sparkline, trend

KEY = seconds_key("neutron.create_port", PORTS)
WIDTH, HEIGHT = 760, 190


def parsed(text):
    return ET.fromstring(text)  # noqa: S314  (our own output, nothing hostile)


def point(night, *values, valid=True, environment="e", code="c"):
    return RunPoint(run_id(night), environment, code, values, len(values), 0, valid)


def shown(points, key=KEY):
    return trend_of(SeriesHistory(key, tuple(points)))


def drawn(points, judgement=None, marks=(), key=KEY):
    return parsed(trend(shown(points, key), judgement, marks))


def dots(root, tone=None):
    """Return where the runs are drawn, in the units of the picture, by x; all of them or those of a tone."""
    paths = [one for one in root.iter("path") if one.get("class", "").split()[:1] == ["dots"]]
    paths = [one for one in paths if tone is None or one.get("class").split()[1:] == tone.split()]
    places = [re.findall(r"M(-?\d+) (-?\d+)h0", one.get("d")) for one in paths]
    return sorted((int(x) / 10, int(y) / 10) for path in places for x, y in path)


def test_runs_without_values_leave_no_point():
    root = drawn([point(0, 1.0), point(1), point(2, 1.1)])
    (first, _), (last, _) = dots(root)
    assert last - first == pytest.approx(2 * (WIDTH - 72) / 3, abs=0.2)
    assert trend(shown([point(0)]), None) == ""


def test_a_higher_value_is_drawn_higher_and_a_later_run_further_right():
    (first_x, first_y), (second_x, second_y) = dots(drawn([point(0, 1.0), point(1, 2.0)]))
    assert first_y > second_y
    assert first_x < second_x


def test_below_a_picture_are_days_and_times_of_runs_of_one_day():
    def below(ids):
        points = [RunPoint(one, "e", "c", (1.0,), 1, 0, valid=True) for one in ids]
        root = drawn(points)
        return [one.text for one in root.iter("text") if one.get("y") == str(HEIGHT - 6)][::-1]

    nights = [f"202611{day:02}T041500Z-nightly-{day:04x}" for day in (1, 2, 3)]
    assert below(nights) == ["2026-11-01", "2026-11-02", "2026-11-03"]
    twice = [*nights, "20261103T120000Z-nightly-0004"]
    assert below(twice) == ["2026-11-01", "2026-11-02", "11-03 04:15", "11-03 12:00"]
    assert below(["a", "b", "b"]) == ["a", "b", "b"]


def test_series_of_a_job_share_an_axis():
    runs = [TrendRun(run_id(n), "e", "c", valid=True) for n in range(4)]
    late = trend_of(SeriesHistory(KEY, (point(3, 1.0),)), runs)
    whole = trend_of(SeriesHistory(KEY, tuple(point(n, 1.0) for n in range(4))), runs)
    assert dots(parsed(trend(late, None)))[0][0] == dots(parsed(trend(whole, None)))[3][0]


def test_bars_are_the_middle_of_the_iterations():
    root = drawn([point(0, *[0.9, 1.0, 1.1]), point(1, 1.0)])
    (bar,) = [one.get("d") for one in root.iter("path") if one.get("class").startswith("bars")]
    x, top, bottom = (int(one) / 10 for one in re.fullmatch(r"M(\d+) (\d+)V(\d+)", bar).groups())
    (dot, _) = dots(root)
    assert x == dot[0]
    assert top - dot[1] == pytest.approx(dot[1] - bottom, abs=0.2)


def test_an_unfit_run_is_hollow():
    root = drawn([point(0, 1.0, valid=False), point(1, 1.0)])
    assert len(dots(root, "off")) == 1
    holes = [one.get("d") for one in root.iter("path") if one.get("class") == "hole"]
    assert holes == [one.get("d") for one in root.iter("path") if one.get("class") == "dots off"]


def test_a_triangle_is_new_code_and_says_which():
    found = trend(
        shown([point(0, 1.0), point(1, 1.0)]), None, codes=(CodeChange(1, "new code: <nova> 1 → 2"),)
    )
    (triangle,) = parsed(found).findall("path[@class='code']")
    assert triangle.find("title").text == "new code: <nova> 1 → 2"


def test_the_band_is_the_baseline_and_its_mde():
    judgement = Judgement(KEY, run_id(1), Outcome.NO_CHANGE, "", baseline_location=1.0, mde=0.1)
    root = drawn([point(0, 1.0), point(1, 2.0)], judgement)
    band, base = root.find("rect[@class='band']"), root.find("path[@class='base']")
    top, height = float(band.get("y")), float(band.get("height"))
    line = float(re.match(r"M\d+ ([\d.]+)H", base.get("d"))[1])
    assert line == pytest.approx(top + height / 2, abs=0.2)
    scale = [y for _, y in dots(root)]
    assert height == pytest.approx((scale[0] - scale[1]) * 0.2, abs=0.2)


def test_colours_follow_the_newest_mark():
    marks = (Mark(KEY, run_id(1), "+20 %", PageTone.BAD), Mark(KEY, run_id(3), "back", PageTone.GOOD))
    root = drawn([point(n, 1.0) for n in range(4)], marks=marks)
    assert [len(dots(root, tone)) for tone in ("", "bad", "good")] == [1, 2, 1]
    assert dots(root, "bad") == dots(root)[1:3]
    assert "+20 % since 2026-11-01; back since 2026-11-03" in root.get("aria-label")


def level_change(index, earliest, latest, effect=0.12):
    return ChangePoint(index, earliest, latest, 1.0, 1 + effect, effect, effect - 0.02, effect + 0.02, 0.0001)


def test_a_change_of_level_is_a_field_as_wide_as_its_date_is_uncertain():
    points = [point(n, 1.0) for n in range(9)]
    changes = (level_change(2, 2, 2), level_change(6, 5, 7, -0.2))
    root = parsed(trend(shown(points), None, changes=changes))
    fields = root.findall("g[@class='level']/rect")
    narrow, wide = (float(one.get("width")) for one in fields)
    assert narrow < wide
    assert root.find("g[@class='level']/title").text.startswith("the level changed by +12")
    assert "2026-11-02" in root.find("g[@class='level']/title").text
    assert "from 1.00\u00a0s to 1.12\u00a0s" in root.find("g[@class='level']/title").text


def test_a_change_next_to_a_marked_one_is_the_same_change():
    marks = (Mark(KEY, run_id(5), "+13 %", PageTone.BAD),)
    points = tuple(point(n, 1.0) for n in range(14))
    text = trend(shown(points), None, marks, changes=(level_change(6, 6, 6, 0.094),))
    assert "+9.4" not in text
    assert "+9.4" in trend(shown(points), None, marks, changes=(level_change(9, 9, 9, 0.094),))


def test_a_change_that_is_marked_anyway_gets_no_field():
    marks = (Mark(KEY, run_id(2), "+20 %", PageTone.BAD),)
    points = tuple(point(n, 1.0) for n in range(6))
    root = parsed(trend(shown(points), None, marks, changes=(level_change(3, 2, 4),)))
    assert root.findall("g[@class='level']") == []


def test_a_sparkline_needs_two_runs():
    assert sparkline(shown([point(0, 1.0)])) == ""
    root = parsed(sparkline(shown([point(0, 1.0), point(1, 3.0)])))
    assert root.find("polyline").get("points") == "2.0,18.0 98.0,2.0"


values = st.lists(st.floats(0, 1e13, allow_subnormal=False), max_size=6)


@given(
    st.lists(values, max_size=12), st.booleans(), st.floats(0, 1e13) | st.none(), st.floats(0, 3) | st.none()
)
def test_everything_stays_inside_the_picture(runs, counters, base, mde):
    key = statements_key("neutron-api", PORTS) if counters else KEY
    judgement = Judgement(key, run_id(0), Outcome.NO_CHANGE, "", baseline_location=base, mde=mde)
    text = trend(shown((point(n, *run) for n, run in enumerate(runs)), key), judgement)
    if not any(runs):
        assert text == ""
        return
    for x, y in dots(parsed(text)):
        assert -0.1 <= x <= WIDTH + 0.1
        assert -0.1 <= y <= HEIGHT + 0.1
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
        assert len(dots(parsed(trend(trend_of(one), None)))) == 5
