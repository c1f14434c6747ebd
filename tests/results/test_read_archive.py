import dataclasses
import json
import shutil
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci import names
from perfci.results.archive import RunFiles, earlier_runs, read_archive, run_folders
from perfci.results.canaries import NodeCanaries
from perfci.results.errors import ArchiveError, CountersError, ReportError
from perfci.results.model import (
    TOTAL,
    CodeUnderTest,
    Metric,
    Purpose,
    RunRecord,
    ServiceRevision,
    Validity,
)
from perfci.results.record import record_from_dict, record_to_dict
from perfci.results.validity import EarlierRun

NAMES = st.text(min_size=1)
RUN_IDS = st.from_regex(names.RUN_ID, fullmatch=True)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
RECORDS = st.builds(
    RunRecord,
    run_id=RUN_IDS,
    lab=st.from_regex(names.LAB, fullmatch=True),
    job=st.from_regex(names.JOB, fullmatch=True),
    cloud=NAMES,
    started_at=MOMENTS,
    finished_at=MOMENTS,
    environment=NAMES,
    code=st.builds(
        CodeUnderTest,
        NAMES,
        st.lists(
            st.builds(
                ServiceRevision, NAMES, st.text(), st.text(), st.text(), st.lists(st.text()).map(tuple)
            ),
            max_size=2,
        ).map(tuple),
    ),
    validity=st.builds(Validity, st.booleans(), st.lists(st.text(), max_size=2).map(tuple)),
    status=st.sampled_from(["finished", "failed"]),
    confirms=st.none() | RUN_IDS,
)


@given(RECORDS)
def test_a_record_comes_back_from_json_as_it_was(record):
    assert record_from_dict(json.loads(json.dumps(record_to_dict(record)))) == record


def test_a_re_run_names_the_run_that_it_confirms(make_record):
    night = make_record()
    assert (night.purpose, night.confirms) == (Purpose.NIGHT, None)
    assert record_to_dict(night)["purpose"] == "night"
    assert "confirms" not in record_to_dict(night)
    again = dataclasses.replace(night, confirms="20261121T041500Z-nightly-1f2e")
    assert again.purpose is Purpose.CONFIRM
    assert record_to_dict(again)["purpose"] == "confirm"
    assert record_from_dict(record_to_dict(again)) == again


def test_unknown_keys_are_passed_over(make_record):
    record = make_record()
    written = {**record_to_dict(record), "stages": [1], "failure": None}
    written["environment"] |= {"kernel": "6.1"}
    assert record_from_dict(written) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema: got 2; expected 1"),
        ({"started_at": "2026-11-21T04:15:00"}, "started_at: got '2026-11-21T04:15:00'"),
        ({"code": None}, "code: got None; expected an object"),
        ({"run_id": ""}, "run_id: got ''"),
    ],
)
def test_a_wrong_record_is_named(make_record, change, message):
    with pytest.raises(ArchiveError, match=message):
        record_from_dict({**record_to_dict(make_record()), **change})


def values(results, action, metric):
    return {
        m.key.scenario: m.values
        for m in results.measurements
        if (m.key.action, m.key.metric) == (action, metric)
    }


def test_an_archived_run_is_read_whole(make_record, archive_run):
    record = make_record()
    results = read_archive(archive_run(record, stages=["any"]))
    assert results.record == record
    totals = values(results, TOTAL, Metric.SECONDS)
    assert {scenario: len(found) for scenario, found in totals.items()} == {
        "Authenticate.keystone": 6,
        "NeutronNetworks.create_and_list_ports": 6,
    }
    assert values(results, TOTAL, Metric.FAILURE_RATE)["Authenticate.keystone"] == (0.0,)
    # 0.5 CPU seconds and 10 statements a second: whole seconds around the task, for its 7 iterations.
    cpu = values(results, "nova-api", Metric.CPU_SECONDS)["Authenticate.keystone"][0]
    sql = values(results, "nova", Metric.SQL_STATEMENTS)["Authenticate.keystone"][0]
    assert sql * 7 / 10 == pytest.approx(cpu * 7 / 0.5) == pytest.approx(round(sql * 7 / 10))
    keys = [m.key for m in results.measurements]
    assert keys == sorted(set(keys))


def test_the_load_spans_all_tasks(make_record, archive_run):
    folder = archive_run(make_record())
    (shares,) = RunFiles(folder).shares
    assert (shares.node, shares.foreign) == ("node-1", pytest.approx(0.05))
    (folder / "tasks.json").write_text("[]")
    assert RunFiles(folder).shares == ()


def test_a_run_that_failed_has_no_measurements(make_record, archive_run):
    folder = archive_run(make_record(status="failed"))
    shutil.rmtree(folder / "rally")
    assert read_archive(folder).measurements == ()


def test_a_task_that_crashed_gives_none(make_record, archive_run):
    folder = archive_run(make_record())
    tasks = json.loads((folder / "tasks.json").read_text())
    tasks[0] |= {"status": "crashed", "finished_at": None, "error": "did not end"}
    tasks.append({**tasks[0], "started_at": None, "error": "not started"})
    (folder / "tasks.json").write_text(json.dumps(tasks))
    (folder / "rally" / "01-authenticate.json").unlink()
    assert {m.key.scenario for m in read_archive(folder).measurements} == {
        "NeutronNetworks.create_and_list_ports"
    }


def test_the_same_scenario_in_two_tasks_is_one_series(make_record, archive_run):
    folder = archive_run(make_record())
    once = read_archive(folder)
    tasks = json.loads((folder / "tasks.json").read_text())
    tasks.append({**tasks[0], "slug": "03-again"})
    (folder / "tasks.json").write_text(json.dumps(tasks))
    report = json.loads((folder / "rally" / "01-authenticate.json").read_text())
    for iteration in report["tasks"][0]["subtasks"][0]["workloads"][0]["data"][:3]:
        iteration["error"] = ["Timeout", "late", ""]
    (folder / "rally" / "03-again.json").write_text(json.dumps(report))
    twice = read_archive(folder)
    assert [m.key for m in twice.measurements] == [m.key for m in once.measurements]
    total = next(
        m
        for m in twice.measurements
        if m.key.scenario.startswith("Auth") and m.key.action == TOTAL and m.key.metric is Metric.SECONDS
    )
    assert (total.attempts, len(total.values), list(total.timestamps)) == (
        12,
        12 - total.failures,
        sorted(total.timestamps),
    )
    assert values(twice, TOTAL, Metric.FAILURE_RATE)["Authenticate.keystone"] == (total.failures / 12,)
    for action, metric in (("nova-api", Metric.CPU_SECONDS), ("nova-api", Metric.PEAK_RSS_BYTES)):
        assert values(twice, action, metric) == values(once, action, metric)


def test_what_several_loads_of_a_task_used_is_not_told_apart(make_record, archive_run):
    folder = archive_run(make_record())
    path = folder / "rally" / "01-authenticate.json"
    report = json.loads(path.read_text())
    workloads = report["tasks"][0]["subtasks"][0]["workloads"]
    workloads.append({**workloads[0], "scenario": {"Other.scenario": {}}})
    path.write_text(json.dumps(report))
    cpu = values(read_archive(folder), "nova-api", Metric.CPU_SECONDS)
    assert set(cpu) == {"NeutronNetworks.create_and_list_ports"}


BROKEN = {
    "no run.json": (lambda f: (f / "run.json").unlink(), ArchiveError, "run.json: file: No such file"),
    "half a run.json": (
        lambda f: (f / "run.json").write_text('{"schema": 1, '),
        ArchiveError,
        "expected whole JSON",
    ),
    "no tasks.json": (lambda f: (f / "tasks.json").unlink(), ArchiveError, "tasks.json"),
    "a slug that leads away": (
        lambda f: (f / "tasks.json").write_text((f / "tasks.json").read_text().replace("01-", "../")),
        ArchiveError,
        "slug",
    ),
    "an unknown status": (
        lambda f: (f / "tasks.json").write_text('[{"status": "half"}]'),
        ArchiveError,
        r"tasks.json: \[0\]: got .*half.*; expected",
    ),
    "no report": (
        lambda f: (f / "rally" / "01-authenticate.json").unlink(),
        ReportError,
        "01-authenticate.json",
    ),
    "broken counters": (
        lambda f: (f / "counters" / "node-1.jsonl").write_text("{}\n"),
        CountersError,
        "line 1",
    ),
    "another run": (lambda f: f.rename(f.with_name("r1")), ArchiveError, "expected 'r1', its folder"),
}


@pytest.mark.parametrize(("change", "error", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_missing_or_broken_is_named(make_record, archive_run, change, error, message):
    folder = archive_run(make_record())
    change(folder)
    with pytest.raises(error, match=message):
        read_archive(folder if folder.exists() else folder.with_name("r1"))


def test_earlier_runs_for_the_validity(make_record, archive_run, tmp_path):
    records = [make_record(n) for n in range(1, 6)]
    records[1] = dataclasses.replace(records[1], validity=Validity(valid=False))
    records[2] = dataclasses.replace(records[2], status="failed")
    records[3] = dataclasses.replace(records[3], lab="other")
    folders = [archive_run(record, disk=n / 10) for n, record in enumerate(records, 1)]
    archive = tmp_path / "archive"
    assert run_folders(archive) == folders

    def run(level, valid):
        canaries = (NodeCanaries("node-1", {"disk": level}, {"disk": level}),)
        number = round(10 * level) - 1
        return EarlierRun("0123456789ab", valid, canaries, run_id=records[number].run_id)

    assert earlier_runs(archive, records[4]) == (run(0.1, valid=True), run(0.2, valid=False))
    assert earlier_runs(archive, records[4], limit=1) == (run(0.2, valid=False),)
    assert earlier_runs(archive, records[0]) == ()
    (folders[0] / "canaries" / "node-1-after.json").write_text("")
    assert earlier_runs(archive, records[4]) == (run(0.2, valid=False),)


def test_a_clock_that_was_set_back_costs_only_the_iterations_in_which_it_was(make_record, archive_run):
    folder = archive_run(make_record())
    whole = read_archive(folder)
    path = folder / "rally" / "01-authenticate.json"
    report = json.loads(path.read_text())
    data = report["tasks"][0]["subtasks"][0]["workloads"][0]["data"]
    for one in sorted(data, key=lambda one: one["timestamp"])[-2:]:
        action = one["atomic_actions"][0]
        action["finished_at"] = action["started_at"] - 0.4
    path.write_text(json.dumps(report))
    results = read_archive(folder)
    assert results.dropped == (("Authenticate.keystone", 2),)
    assert [m.key for m in results.measurements] == [m.key for m in whole.measurements]
    totals = values(results, TOTAL, Metric.SECONDS)
    assert {scenario: len(found) for scenario, found in totals.items()} == {
        "Authenticate.keystone": 4,
        "NeutronNetworks.create_and_list_ports": 6,
    }
