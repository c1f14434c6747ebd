"""What a fill of the cloud left in Rally's report, as curves and as series."""

from __future__ import annotations

import copy
import json

import pytest

from perfci.results.archive import RunFiles, read_archive
from perfci.results.counters import MachineCounters, Sample, Service
from perfci.results.density import FILL, curves_of, measurements
from perfci.results.errors import ReportError
from perfci.results.model import TOTAL, Metric
from perfci.results.rally import read_report

STEPS = {
    "title": "density steps",
    "chart_plugin": "Table",
    "data": {
        "cols": ["servers", "networks", "failed", "started_at", "finished_at", "batch_servers", "batch_seconds", "memory_share"],
        "rows": [[60, 1, 0, 1000.0, 1060.0, 56, 40.0, 0.8], [120, 2, 1, 1060.0, 1130.0, 56, 50.0, 0.7]],
    },
}  # fmt: skip
SAMPLES = {
    "title": "density samples",
    "chart_plugin": "Table",
    "data": {
        "cols": ["servers", "quantity", "seconds"],
        "rows": [
            [60, "boot in a batch, per server", 0.7],
            [60, "boot", 1.0],
            [60, "boot", 1.2],
            [120, "boot", 1.4],
            [120, "boot", 1.8],
            [120, "boot", 1.6],
            [120, "authenticate", 0.1],
        ],
    },
}
LINES = {"title": "Seconds by number of servers", "chart_plugin": "Lines", "data": [["boot", [[60, 1.1]]]]}


def end(reason="target", text="120 servers on 2 networks"):
    return {"title": "density end", "chart_plugin": "TextArea", "data": [reason, text]}


def report(outputs, *, error=()):
    iteration = {
        "timestamp": 999.0,
        "duration": 140.0,
        "idle_duration": 0.0,
        "error": list(error),
        "atomic_actions": [],
        "output": {"additive": [], "complete": copy.deepcopy(outputs)},
    }
    workload = {
        "scenario": {FILL: {"servers": 120}},
        "runner": {"constant": {"times": 1, "concurrency": 1}},
        "contexts": {"users": {"tenants": 1}},
        "data": [iteration],
    }
    return {"info": {"format_version": "1.2"}, "tasks": [{"subtasks": [{"workloads": [workload]}]}]}


@pytest.fixture
def load(tmp_path):
    def of(*outputs, **changed):
        path = tmp_path / "report.json"
        path.write_text(json.dumps(report(outputs, **changed)))
        (found,) = read_report(path, lab="lab", job="density", run_id="run")
        return found

    return of


def test_a_curve_has_the_steps_with_their_measurements(load):
    (curve,) = curves_of(load(STEPS, SAMPLES, end(), LINES), {})
    assert (curve.reason, curve.text) == ("target", "120 servers on 2 networks")
    assert [(p.servers, p.networks, p.failed, p.memory_share) for p in curve.points] == [
        (60, 1, 0, 0.8),
        (120, 2, 1, 0.7),
    ]
    assert curve.quantities == ("boot in a batch, per server", "boot", "authenticate")
    assert curve.middle("boot") == ((60, 1.1), (120, 1.6))
    assert curve.middle("authenticate") == ((120, 0.1),)


def test_there_are_series_at_round_numbers_of_servers(load):
    found = load(STEPS, SAMPLES, end())
    (curve,) = curves_of(found, {})
    series = {m.key.action: m for m in measurements(curve, like=found.total)}
    assert set(series) == {"boot at 100 servers", "authenticate at 100 servers"}
    boot = series["boot at 100 servers"]
    assert boot.values == (1.4, 1.8, 1.6)
    assert boot.timestamps == (1060.0,) * 3
    assert (boot.key.metric, boot.key.arguments, boot.run_id) == (Metric.SECONDS, found.arguments, "run")


def counters(*, cpu, messages):
    """One sample a second: nova-api uses `cpu` seconds in each of them."""
    for second in range(990, 1140):
        yield Sample(
            t=float(second),
            services={"nova-api": Service(cpu_seconds=cpu * (second - 990), rss_bytes=5e8 + second), "counters": Service(cpu_seconds=1.0, rss_bytes=1.0)},
            sql={},
            machine=MachineCounters(busy_seconds=1.0, steal_seconds=0.0, cpus=2),
            foreign_seconds=0.0,
            messages=messages(second),
        )  # fmt: skip


def test_what_services_used_in_a_step_comes_from_the_counters(load):
    samples = tuple(
        counters(
            cpu=0.58,
            messages=lambda t: {"ready": max(0, t - 1000), "unacknowledged": 2} if t % 5 == 0 else {},
        )
    )
    (curve,) = curves_of(load(STEPS, SAMPLES, end()), {"node-1": samples})
    first, second = curve.points
    assert first.cpu_seconds == {
        "nova-api": pytest.approx(0.58 * 60 / 58)
    }  # 56 in a batch and two single ones
    assert second.rss_bytes == {"nova-api": 5e8 + 1130}
    assert (first.messages, second.messages) == (62, 132)


def test_nothing_is_known_without_counters_and_nothing_is_guessed(load):
    (curve,) = curves_of(load(STEPS, SAMPLES, end()), {})
    assert all((p.cpu_seconds, p.rss_bytes, p.messages) == ({}, {}, None) for p in curve.points)


def test_another_scenario_and_a_fill_that_failed_have_no_curve(load):
    assert not list(curves_of(load(LINES), {}))
    assert not list(curves_of(load(STEPS, SAMPLES, end(), error=["NothingFits", "no server was booted"]), {}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s["data"]["rows"][0].pop(), "density steps .0..memory_share: missing"),
        (lambda s: s["data"]["rows"].clear(), "density steps"),
        (lambda s: s["data"]["rows"][1].__setitem__(0, -3), "servers: got -3"),
        (lambda s: s.update(data="nothing"), "density steps"),
    ],
)
def test_damaged_outputs_are_named(load, damage, message):
    steps = copy.deepcopy(STEPS)
    damage(steps)
    with pytest.raises(ReportError, match=message):
        list(curves_of(load(steps, SAMPLES, end()), {}))


def archived(folder, outputs):
    """Make the first task of an archived run a fill."""
    tasks = json.loads((folder / "tasks.json").read_text())
    tasks[0] |= {"scenario": FILL, "warmup": 0}
    (folder / "tasks.json").write_text(json.dumps(tasks))
    (folder / "rally" / "01-authenticate.json").write_text(json.dumps(report(outputs)))
    return folder


def test_an_archived_fill_gives_its_curve_and_its_series(make_record, archive_run):
    folder = archived(archive_run(make_record()), [STEPS, SAMPLES, end()])
    (curve,) = RunFiles(folder).curves
    assert curve.points[-1].servers == 120
    found = {
        (m.key.action, m.key.metric) for m in read_archive(folder).measurements if m.key.scenario == FILL
    }
    assert ("boot at 100 servers", Metric.SECONDS) in found
    assert {(TOTAL, Metric.SECONDS), (TOTAL, Metric.FAILURE_RATE)} <= found


def test_a_fill_that_was_ended_early_took_no_comparable_time(make_record, archive_run):
    folder = archived(archive_run(make_record()), [STEPS, SAMPLES, end("memory", "4 % are left")])
    found = {
        (m.key.action, m.key.metric) for m in read_archive(folder).measurements if m.key.scenario == FILL
    }
    assert ("boot at 100 servers", Metric.SECONDS) in found
    assert (TOTAL, Metric.FAILURE_RATE) in found
    assert (TOTAL, Metric.SECONDS) not in found
    assert not {metric for _, metric in found} & {Metric.CPU_SECONDS, Metric.PEAK_RSS_BYTES}


def test_runs_that_failed_or_filled_nothing_have_no_curves(make_record, archive_run):
    assert RunFiles(archive_run(make_record())).curves == ()
    failed = archive_run(make_record(2, status="failed"))
    (failed / "tasks.json").unlink()
    assert RunFiles(failed).curves == ()
