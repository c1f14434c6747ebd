"""What the scenarios of the data plane left in Rally's report."""

from __future__ import annotations

import json

import pytest

from perfci.results.archive import RunFiles, read_archive
from perfci.results.dataplane import Rate, is_on_hardware, measurements, rates_of, seconds_of
from perfci.results.errors import ReportError
from perfci.results.model import Metric
from perfci.results.rally import read_report

SCENARIO = "DataPlane.east_west"


def table(title, *rows):
    return {"title": title, "chart_plugin": "Table", "data": {"cols": ["x", "y"], "rows": list(rows)}}


def iteration(number, trip, rate, *, error=()):
    outputs = [
        table("seconds beside the actions", ["round trip", trip]),
        table("rates", ["east-west, 1 pair", rate], ["east-west, 4 pairs", 2 * rate]),
    ]
    return {
        "timestamp": 100.0 + number,
        "duration": 9.0,
        "error": list(error),
        "atomic_actions": [],
        "output": {"additive": [], "complete": outputs},
    }


def report(*data):
    workload = {
        "scenario": {SCENARIO: {}},
        "runner": {"constant": {"times": len(data), "concurrency": 1}},
        "contexts": {},
        "data": list(data),
    }
    return {"info": {"format_version": "1.2"}, "tasks": [{"subtasks": [{"workloads": [workload]}]}]}


REPORT = report(
    iteration(0, 0.001, 100.0),
    iteration(1, 0.002, 300.0, error=("TimeoutError", "", "")),
    iteration(2, 0.003, 500.0),
    iteration(3, 0.004, 600.0),
)


@pytest.fixture
def load(tmp_path):
    def of(content):
        (tmp_path / "report.json").write_text(json.dumps(content))
        return read_report(tmp_path / "report.json", lab="lab", job="job", run_id="run")[0]

    return of


def test_seconds_beside_the_actions_are_series_of_the_iterations_that_went_well(load):
    (found,) = seconds_of(load(REPORT))
    assert (found.key.action, found.key.metric) == ("round trip", Metric.SECONDS)
    assert found.values == (0.001, 0.003, 0.004)
    assert found.timestamps == (100.0, 102.0, 103.0)
    assert (found.attempts, found.failures) == (4, 1)


def test_rates_are_medians_of_the_iterations_that_went_well(load):
    assert list(rates_of(load(REPORT))) == [
        Rate("east-west, 1 pair", 500.0),
        Rate("east-west, 4 pairs", 1000.0),
    ]


def test_a_rate_is_a_series_with_one_value_a_run(load):
    rates = [one for one in measurements(load(REPORT)) if one.key.metric is Metric.MEGABITS_PER_SECOND]
    assert [(one.key.action, one.values, one.timestamps) for one in rates] == [
        ("east-west, 1 pair", (500.0,), (100.0,)),
        ("east-west, 4 pairs", (1000.0,), (100.0,)),
    ]
    assert {(one.attempts, one.failures) for one in rates} == {(4, 1)}


@pytest.mark.parametrize(
    ("path", "published"),
    [
        ("east-west, 4 pairs", (6876.0, 9378.0)),
        ("east-west routed, 1 pair", (5813.0, 9377.0)),
        ("north-south, SNAT, 1 pair", (5322.0, None)),
        ("elsewhere, 1 pair", (None, None)),
    ],
)
def test_what_others_have_published_is_known_by_path(path, published):
    assert Rate(path, 1.0).published == published


@pytest.mark.parametrize(
    ("datapath", "kinds", "hardware"),
    [
        ("system", ("none", "none"), True),
        ("netdev", ("none", "none"), False),
        ("system", ("none", "kvm"), False),
        ("system", (), False),
    ],
)
def test_only_rates_of_real_machines_stand_beside_those_of_others(datapath, kinds, hardware):
    nodes = {f"node-{n}": {"machine": {"virtualization": kind}} for n, kind in enumerate(kinds)}
    assert is_on_hardware({"cloud": {"datapath": datapath}, "nodes": nodes}) is hardware
    assert not is_on_hardware({})


def test_a_damaged_table_is_named(load):
    damaged = report({**iteration(0, 0.1, 1.0), "output": {"complete": [table("rates", ["east-west"])]}})
    with pytest.raises(ReportError, match=r"output of DataPlane.east_west: rates rows\[0\]"):
        list(rates_of(load(damaged)))


def test_an_archived_run_has_both(make_record, archive_run):
    folder = archive_run(make_record())
    assert RunFiles(folder).rates == ()
    tasks = json.loads((folder / "tasks.json").read_text())
    tasks[0] |= {"scenario": SCENARIO, "warmup": 0}
    (folder / "tasks.json").write_text(json.dumps(tasks))
    (folder / "rally" / "01-authenticate.json").write_text(json.dumps(REPORT))
    assert [rate.path for rate in RunFiles(folder).rates] == ["east-west, 1 pair", "east-west, 4 pairs"]
    assert {"round trip", "east-west, 1 pair"} <= {m.key.action for m in read_archive(folder).measurements}
