"""Curves over the number of servers, and the pages that show them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from site_data import site_data

from perfci import pages
from perfci.report.curve import LINES_SHOWN, by_service, curves
from perfci.report.model import SiteData
from perfci.report.site import write
from perfci.results.dataplane import Rate
from perfci.results.density import Curve, Point
from perfci.results.leftovers import Leftover, Swept
from perfci.results.model import Metric

NBSP = "\u00a0"


def point(servers, *, boot=(1.0, 1.2), **changed):
    fields = {
        "servers": servers,
        "networks": 2,
        "failed": 0,
        "started_at": 1000.0,
        "seconds": {"boot": boot, "authenticate": (0.1,)},
        "memory_share": 0.5,
        "cpu_seconds": {"nova-api": 0.5, "mariadb": servers / 100},
        "rss_bytes": {"nova-api": 4e8},
        "messages": servers / 2,
    }
    return Point(**{**fields, **changed})


CURVE = Curve(
    "Density.fill_with_servers", (point(50), point(100, boot=(2.0, 2.2))), "memory", "4 % are <left>"
)


def drawn(lines, metric=Metric.SECONDS):
    return ET.fromstring(curves(lines, metric))  # noqa: S314  (our own output, nothing hostile)


def test_more_servers_are_further_right_and_more_seconds_higher():
    first, second = drawn({"boot": [(50, 1.0), (100, 2.0)]}).findall("g/circle")
    assert float(first.get("cx")) < float(second.get("cx"))
    assert float(first.get("cy")) > float(second.get("cy"))
    assert second.find("title").text == f"boot at 100{NBSP}servers: 2.00{NBSP}s"


def test_the_value_axis_begins_at_zero():
    root = drawn({"boot": [(50, 10.0), (100, 10.1)]})
    ticks = [text.text for text in root.findall("text[@class='tick']")]
    assert "0" + f"{NBSP}s" in ticks
    low, high = (float(dot.get("cy")) for dot in root.findall("g/circle"))
    assert low - high < 3


def test_only_so_many_lines_as_can_be_told_apart_and_the_largest_first():
    curve = Curve("s", (point(50, cpu_seconds={f"service-{n}": float(n) for n in range(9)}),), "time", "t")
    lines = by_service(curve, "cpu_seconds")
    assert next(iter(lines)) == "service-8"
    assert len(drawn(lines).findall("g")) == LINES_SHOWN


def test_names_at_the_same_height_do_not_cover_each_other():
    root = drawn({f"line {n}": [(50, 1.0), (100, 0.0)] for n in range(6)})
    heights = sorted(float(text.get("y")) for text in root.findall("text") if "name" in text.get("class"))
    assert len(heights) == 6
    assert all(b - a >= 11.9 for a, b in pairwise(heights))
    assert heights[-1] < 220


@pytest.mark.parametrize("lines", [{}, {"boot": []}])
def test_nothing_measured_is_no_picture(lines):
    assert curves(lines, Metric.SECONDS) == ""


def test_one_point_and_zeros_can_be_drawn():
    assert len(drawn({"boot": [(0, 0.0)]}).findall("g/circle")) == 1


def page_of(tmp_path, **changed):
    report = replace(site_data().runs[0], **changed)
    write(tmp_path, SiteData((report,), ()))
    return (tmp_path / pages.run_page(report.record.run_id)).read_text()


def test_the_page_of_a_fill_shows_its_curves_and_its_limit(tmp_path):
    text = page_of(tmp_path, curves=(CURVE,))
    assert f"Filled to 100{NBSP}servers on 2{NBSP}networks" in text
    assert "<strong>memory</strong>. 4 % are &lt;left&gt;" in text
    assert text.count('<svg class="trend curve"') == 4


@pytest.mark.parametrize("on_hardware", [False, True])
def test_rates_stand_beside_those_of_others_only_on_real_machines(tmp_path, on_hardware):
    rates = (Rate("east-west, 1 pair", 9321.4), Rate("north-south, SNAT, 1 pair", 5001.0))
    text = page_of(tmp_path, rates=rates, on_hardware=on_hardware)
    assert "east-west, 1 pair" in text
    assert "9,321" in text
    assert all((published in text) is on_hardware for published in ("6,876", "9,378", "5,322", "others, MTU"))
    assert ("These are simulated machines" in text) is not on_hardware


def test_the_page_says_what_tasks_left(tmp_path):
    kept = Leftover(kind="port", id="p", name="", error="removal of the port p: Conflict: <in use>")
    gone = Leftover(kind="router", id="r", name="", error="")
    swept = (Swept("01-a", ()), Swept("02-b", (kept, gone, gone)), Swept("03-c", None, "timed out"))
    text = page_of(tmp_path, swept=swept)
    assert f"1{NBSP}port, 2{NBSP}routers" in text
    assert "Conflict: &lt;in use&gt;" in text
    assert "unknown: timed out" in text
    assert "01-a" not in text
    assert f"The tenants of 2{NBSP}tasks left nothing behind." in page_of(
        tmp_path, swept=(Swept("01-a", ()), Swept("02-b", ()))
    )
