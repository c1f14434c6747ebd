"""Every query of the dashboards, asked of a real InfluxDB with data that the results' store wrote."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace

import pytest
from nights import ALL_KEYS, JOB, LAB, PORTS, History, seconds_key
from programs import needs
from results.conftest import Influxd

from perfci.report.dashboard import dashboards, queries
from perfci.results.model import COUNTERS, FINISHED, Measurement, Metric, RunResults
from perfci.results.stores.influx import InfluxStore
from perfci.results.stores.influx_http import InfluxServer, InfluxSettings

pytestmark = [pytest.mark.slow, needs("influxd")]
DATABASE = "perfci_dashboards"
TIME = "time >= '2026-01-01' AND time < '2028-01-01'"
ACTIONS = ("total", "neutron.create_port", "neutron.list_ports")


def results(history, run):
    """Return one night as it is archived: timings, a failure rate and counters of each scenario."""
    found = []
    for one in history.histories():
        point = one.points[-1]
        times = tuple(run.started_at.timestamp() + n for n in range(len(point.values)))
        found.append(Measurement(one.key, run.run_id, point.values, times, len(times) + 1, 1))
    for key in [one for one in ALL_KEYS if one.action == "total"]:
        at = (run.started_at.timestamp(),)
        rate = replace(key, metric=Metric.FAILURE_RATE)
        found.append(Measurement(rate, run.run_id, (0.05,), at, 20, 1))
        for metric in COUNTERS:
            counter = replace(key, metric=metric, action="neutron-api")
            value = float(zlib.crc32(f"{counter}".encode()) % 50)
            found.append(Measurement(counter, run.run_id, (value,), at, 20, 1))
    return RunResults(run, tuple(found))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = Influxd(tmp_path_factory.mktemp("influxd-dashboards")).start()
    settings = InfluxSettings(process.url, database=DATABASE)
    history, store = History(), InfluxStore(settings)
    for number in range(4):
        run = history.play(*(("a.patch",) if number == 2 else ()), invalid=("disk",) if number == 1 else ())
        run = replace(run, status="failed" if number == 3 else FINISHED)
        store.write(results(history, run))
    yield InfluxServer(settings)
    process.stop()


def filled(query):
    """Put in what Grafana puts in: variables, several values as an alternative, time and interval."""
    several = "(" + "|".join(re.escape(action) for action in ACTIONS) + ")"
    values = {
        "lab": LAB,
        "job": JOB,
        "scenario": PORTS,
        "action": several,
        "timeFilter": TIME,
        "__interval": "1d",
    }
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], query)


@pytest.mark.parametrize(
    ("place", "query"), [pair for one in dashboards() for pair in queries(one)], ids=lambda part: part[:40]
)
def test_a_query_returns_rows(server, place, query):
    found = server.query(filled(query))
    assert sum(len(series.rows) for series in found) > 0, place
    if place.startswith("panel") and "SELECT" in query:
        for series in found:
            assert all(
                any(value is not None for name, value in row.items() if name != "time") for row in series.rows
            )


def asked(server, place):
    (query,) = [query for dashboard in dashboards() for name, query in queries(dashboard) if name == place]
    return server.query(filled(query))


def test_variables_offer_what_was_measured(server):
    def offered(name):
        return {row["value"] for series in asked(server, f"variable {name}") for row in series.rows}

    assert (offered("lab"), offered("job")) == ({LAB}, {JOB})
    assert offered("scenario") == {key.scenario for key in ALL_KEYS}
    assert offered("action") == {key.action for key in ALL_KEYS if key.scenario == PORTS}


def test_the_trend_has_a_median_for_each_run_and_chosen_action(server):
    found = asked(server, "panel Median of each run")
    assert {series.tags["action"] for series in found} == set(ACTIONS)
    assert all(len(series.rows) == 4 for series in found)


def test_annotations_name_new_code_unfit_and_failed_runs(server):
    assert sum(len(series.rows) for series in asked(server, "annotation New code")) == 2
    assert [row["run_id"] for series in asked(server, "annotation Lab not fit") for row in series.rows] == [
        row["run_id"]
        for series in asked(server, "panel Runs")
        for row in series.rows
        if row["valid"] is False
    ]
    assert sum(len(series.rows) for series in asked(server, "annotation Run failed")) == 1


def test_counters_are_told_apart_by_service(server):
    for panel in ("CPU seconds", "SQL statements", "Peak memory"):
        (series,) = asked(server, f"panel {panel}")
        assert series.tags == {"action": "neutron-api"}


def test_a_scenario_that_was_not_measured_has_no_rows(server):
    key = seconds_key("total", PORTS)
    query = dict(queries(dashboards()[0]))["panel Median of each run"].replace(
        "$scenario", f"{key.scenario}x"
    )
    assert server.query(filled(query)) == ()
