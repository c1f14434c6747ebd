from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from perfci.report.dashboard import as_json, dashboards, queries, write

FOLDER = Path(__file__).parents[2] / "dashboards"
BUILT_IN = {"timeFilter", "__interval"}
# What Grafana fills in in legends and values, not from the dashboard's variables.
LEGEND = {"tag_action", "col", "__all"}


@pytest.fixture(params=dashboards(), ids=lambda one: one["uid"])
def dashboard(request):
    return request.param


def test_the_files_are_what_the_code_says():
    generated = {f"{one['uid']}.json": as_json(one) for one in dashboards()}
    stored = {file.name: file.read_text() for file in FOLDER.glob("*.json")}
    assert stored == generated, (
        "run: python -c 'from perfci.report.dashboard import *; write(Path(\"dashboards\"))'"
    )


def test_writing_and_reading_gives_the_same(tmp_path, dashboard):
    write(tmp_path)
    assert json.loads((tmp_path / f"{dashboard['uid']}.json").read_text()) == dashboard


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard):
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        assert place["h"] > 0
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_every_variable_that_is_used_is_defined_before(dashboard):
    defined = set()
    for variable in dashboard["templating"]["list"]:
        assert used(variable["query"]) <= defined
        defined.add(variable["name"])
    rest = {key: value for key, value in dashboard.items() if key != "templating"}
    assert used(json.dumps(rest)) <= defined | BUILT_IN | LEGEND
    assert defined <= used(json.dumps(rest))


def used(text):
    return set(re.findall(r"\$\{?(\w+)", text))


def test_every_panel_asks_our_data_source_and_has_a_unit_or_mapping(dashboard):
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] == "perfci-influxdb"
        assert all(target["rawQuery"] and target["refId"] for target in panel["targets"])
        if panel["type"] == "timeseries":
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_every_query_is_limited_to_the_time_that_is_shown(dashboard):
    for place, query in queries(dashboard):
        assert ("$timeFilter" in query) == (not place.startswith("variable")), place
