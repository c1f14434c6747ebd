"""Every form that Rally has written its results in gives the same measurements."""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci.results import json_stream
from perfci.results.errors import NotRallyResults
from perfci.results.model import Metric
from perfci.results.rally import read_report
from perfci.results.rally_forms import write_reports

REPORT = Path(__file__).parents[1] / "data" / "rally" / "create-and-list-ports.json"


@pytest.fixture
def exported():
    return json.loads(REPORT.read_text())


def listed(report, *, seconds_by_name=False):
    """Return a report as `rally task results` wrote it."""
    found = []
    for subtask in report["tasks"][0]["subtasks"]:
        for number, workload in enumerate(subtask["workloads"]):
            ((name, args),) = workload["scenario"].items()
            ((kind, settings),) = workload["runner"].items()
            data = copy.deepcopy(workload["data"])
            for one in data:
                one["error"] = one["error"] or []
                if seconds_by_name:
                    actions, one["atomic_actions"] = one["atomic_actions"], {}
                    for action in actions:
                        seen = one["atomic_actions"]
                        count = sum(key.split(" (")[0] == action["name"] for key in seen)
                        key = action["name"] if not count else f"{action['name']} ({count + 1})"
                        seen[key] = action["finished_at"] - action["started_at"]
                    one["scenario_output"] = {"data": {}, "errors": ""}
                    del one["output"]
            kw = {"args": args, "runner": {"type": kind, **settings}, "context": workload["contexts"]}
            found.append({"key": {"name": name, "pos": number, "kw": kw}, "result": data, "sla": []})
    return found


def reports_in(content, folder, name="results.json"):
    folder.mkdir(exist_ok=True)
    return [json.loads(one.path.read_text()) for one in write_reports(io.BytesIO(content), name, folder)]


def measured(report, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    (load,) = read_report(path, lab="lab", job="job", run_id="run")
    return {one.key: one for one in load.measurements}


def first_exporter(report):
    report["info"]["format_version"] = 1
    return report


FORMS = {
    "the exporter": lambda report: report,
    "the first exporter": first_exporter,
    "a list": listed,
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_all_forms_give_the_same_measurements(exported, tmp_path, form, compressed):
    expected = measured(exported, tmp_path)
    content = json.dumps(form(exported)).encode()
    (report,) = reports_in(gzip.compress(content) if compressed else content, tmp_path / "made")
    assert measured(report, tmp_path) == expected


def test_seconds_by_name_are_actions(exported, tmp_path):
    expected = measured(exported, tmp_path)
    (report,) = reports_in(json.dumps(listed(exported, seconds_by_name=True)).encode(), tmp_path / "made")
    found = measured(report, tmp_path)
    assert found.keys() == expected.keys()
    for key, one in found.items():
        assert one.values == pytest.approx(expected[key].values, abs=1e-5)


def test_an_action_without_seconds_failed(exported, tmp_path):
    old = listed(exported, seconds_by_name=True)
    actions = old[0]["result"][0]["atomic_actions"]
    name = list(actions)[-1]
    actions[name] = None
    (report,) = reports_in(json.dumps(old).encode(), tmp_path / "made")
    found = {key: one for key, one in measured(report, tmp_path).items() if key.metric is Metric.SECONDS}
    lengths = {key.action: len(one.values) for key, one in found.items()}
    assert lengths[name] == lengths["total"] - 1


def test_each_task_is_a_report_and_workloads_without_iterations_are_left_out(exported, tmp_path):
    exported["tasks"].append(copy.deepcopy(exported["tasks"][0]))
    empty = copy.deepcopy(exported["tasks"][0]["subtasks"][0]["workloads"][0])
    exported["tasks"][0]["subtasks"][0]["workloads"].append({**empty, "data": []})
    reports = reports_in(json.dumps(exported).encode(), tmp_path / "made")
    assert [len(one["tasks"][0]["subtasks"][0]["workloads"]) for one in reports] == [1, 1]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "expected whole JSON"),
        (b"5", "expected an object of Rally's JSON exporter, or the list"),
        (b"{}", "tasks: missing"),
        (b'{"A": 1, "a.b": 2, "x A.b": 3}', "tasks: missing"),
        (b'{"NovaServers.boot_server": [{"args": {}}]}', "a task file of Rally: it says what to run"),
        (b'{"version": 2, "title": "t", "subtasks": []}', "a task file of Rally: it says what to run"),
        (b"[]", "no iterations"),
        (b"[1]", r"\[0\]: got 1; expected an object"),
        (b"[{}]", r"\[0\].key: got None"),
        (b'[{"key": {"name": "a"}}]', r"\[0\].result: missing"),
        (b'[{"key": {"name": "a"}, "result": 5}]', r"\[0\].result: got 5; expected a list"),
        (b'[{"key": {"name": "a"}, "result": null}]', "no iterations"),
        (b"<!doctype html><html>", "a page of HTML; expected JSON: Rally's pages show averages"),
        (b'{"tasks": [], "info": {"format_version": "2.0"}}', "got '2.0'; expected a version 1.x"),
        (gzip.compress(b"[]" * 9, mtime=0)[:-9], "damaged gzip"),
        (b'{"info": {"format_version": "2.0"}, "tasks": []}', "got '2.0'; expected a version 1.x"),
        (b'{"tasks": [{"subtasks": [{"workloads": [1]}]}]}', "expected an object"),
        (b"\x1f\x8b\x08broken", "damaged gzip"),
    ],
)
def test_what_is_no_result_of_rally_is_refused_with_its_name(content, problem, tmp_path):
    with pytest.raises(NotRallyResults, match=problem) as caught:
        reports_in(content, tmp_path, "strange.json")
    assert str(caught.value).startswith("strange.json: ")


def test_what_tells_a_report_from_others_is_known_without_reading_it_again(exported, tmp_path):
    workloads = exported["tasks"][0]["subtasks"][0]["workloads"]
    data = [one for workload in workloads for one in workload["data"]]
    (found,) = write_reports(io.BytesIO(json.dumps(listed(exported)).encode()), "results.json", tmp_path)
    assert found.start == min(one["timestamp"] for one in data)
    assert found.end == max(one["timestamp"] + one["duration"] for one in data)
    assert found.scenarios == ("NeutronNetworks.create_and_list_ports",)
    other = tmp_path / "other"
    other.mkdir()
    data[0]["duration"] += 1
    (changed,) = write_reports(io.BytesIO(json.dumps(listed(exported)).encode()), "results.json", other)
    assert changed.digest != found.digest


@pytest.mark.parametrize("form", [FORMS["the exporter"], listed], ids=["the exporter", "a list"])
def test_a_large_file_is_not_held_in_memory(exported, tmp_path, form, monkeypatch):
    document = form(exported)
    workload = document[0] if form is listed else exported["tasks"][0]["subtasks"][0]["workloads"][0]
    name = "result" if form is listed else "data"
    workload[name] = workload[name] * (8_000 // len(workload[name]))
    path = tmp_path / "large.json.gz"
    path.write_bytes(gzip.compress(json.dumps(document).encode(), 1))
    del workload, document, exported
    (tmp_path / "made").mkdir()
    monkeypatch.setattr(json_stream, "CHUNK", 1 << 16)
    tracemalloc.start()
    try:
        with path.open("rb") as source:
            (found,) = write_reports(source, "large.json", tmp_path / "made")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.path.stat().st_size > 4 * peak


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_any_value_anywhere_gives_reports_or_a_report_error(data):
    report = json.loads(REPORT.read_text())
    node = data.draw(st.sampled_from([report, listed(report), listed(report, seconds_by_name=True)]))
    whole = node
    while isinstance(node, dict | list) and node:
        parent = node
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        node = parent[key]
        if data.draw(st.integers(0, 5)) == 0:
            break
    parent[key] = data.draw(JSON)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(NotRallyResults):
        reports_in(json.dumps(whole).encode(), Path(folder))
