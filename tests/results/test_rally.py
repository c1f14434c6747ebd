import copy
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfci.results.errors import ReportError
from perfci.results.model import TOTAL, Metric
from perfci.results.rally import read_report

DATA = Path(__file__).parents[1] / "data" / "rally"
PORTS = DATA / "create-and-list-ports.json"
BOOT = DATA / "boot-and-delete-server.json"


def read(path, warmup=0):
    return read_report(path, lab="lab", job="job", run_id="run", warmup=warmup)


@pytest.fixture
def report():
    return json.loads(PORTS.read_text())


@pytest.fixture
def reread(tmp_path):
    def write_and_read(report, warmup=0):
        path = tmp_path / "report.json"
        path.write_text(report if isinstance(report, str) else json.dumps(report))
        return read(path, warmup)

    return write_and_read


def workload(report):
    return report["tasks"][0]["subtasks"][0]["workloads"][0]


def names(actions):
    for action in actions:
        yield action["name"]
        yield from names(action["children"])


def measurement(load, action=TOTAL, metric=Metric.SECONDS):
    return next(m for m in load.measurements if (m.key.action, m.key.metric) == (action, metric))


@pytest.mark.parametrize("path", sorted(DATA.glob("*.json")), ids=lambda path: path.stem)
def test_real_reports_give_timings_for_the_iteration_and_each_action(path):
    (load,) = read(path)
    data = workload(json.loads(path.read_text()))["data"]
    expected = [i["duration"] for i in sorted(data, key=lambda i: i["timestamp"]) if not i["error"]]
    assert list(measurement(load).values) == expected
    assert {m.key.action for m in load.measurements} == {
        TOTAL,
        *names(a for i in data for a in i["atomic_actions"]),
    }
    assert load.iterations == len(data)


def test_repeated_actions_are_added_up(report, reread):
    (load,) = reread(report)
    first = min(workload(report)["data"], key=lambda i: i["timestamp"])
    ports = [a for a in first["atomic_actions"] if a["name"] == "neutron.create_port"]
    assert len(ports) == 5
    seconds = sum(a["finished_at"] - a["started_at"] for a in ports)
    assert measurement(load, "neutron.create_port").values[0] == pytest.approx(seconds)


def test_idle_time_is_not_part_of_the_total():
    (load,) = read(BOOT)
    data = workload(json.loads(BOOT.read_text()))["data"]
    assert {i["idle_duration"] for i in data} == {0.1}
    assert max(measurement(load).values) == max(i["duration"] for i in data)


def test_nested_actions_count_once_by_name_and_without_the_number_of_repetitions(report, reread):
    workload(report)["data"] = workload(report)["data"][:1]
    action = {"started_at": 10.0, "finished_at": 14.0}
    workload(report)["data"][0]["atomic_actions"] = [
        {
            "name": "a (2)",
            "children": [
                {"name": "b", "children": [], "started_at": 10.0, "finished_at": 11.0},
                {"name": "a", "children": [], "started_at": 11.0, "finished_at": 12.0},
                {"name": "b (3)", "children": [], "started_at": 12.0, "finished_at": 12.5},
            ],
            **action,
        },
        {"name": "a", "children": [], "started_at": 20.0, "finished_at": 21.0},
    ]
    (load,) = reread(report)
    assert measurement(load, "a").values == (5.0,)
    assert measurement(load, "b").values == (1.5,)


def test_warm_up_is_the_first_iterations_by_start_in_any_order_of_the_file(report, reread):
    data = workload(report)["data"]
    straight = reread(copy.deepcopy(report), warmup=3)
    data.reverse()
    assert reread(report, warmup=3) == straight
    assert min(measurement(straight[0]).timestamps) > sorted(i["timestamp"] for i in data)[2]
    assert measurement(straight[0]).attempts == len(data) - 3
    assert straight[0].iterations == len(data)


def test_failed_iterations_give_no_timings_but_count(report, reread):
    data = sorted(workload(report)["data"], key=lambda i: i["timestamp"])
    data[0]["error"] = ["Timeout", "late", "Traceback"]
    data[2]["error"] = ["Timeout", "late", "Traceback"]
    (load,) = reread(report, warmup=1)
    total = measurement(load)
    assert (total.attempts, total.failures, len(total.values)) == (len(data) - 1, 1, len(data) - 2)
    assert data[2]["timestamp"] not in total.timestamps
    assert measurement(load, metric=Metric.FAILURE_RATE).values == (1 / (len(data) - 1),)


@pytest.mark.parametrize("change", [{"failed": True}, {"finished_at": None}])
def test_an_action_that_failed_gives_no_timing_even_where_the_iteration_went_on(report, reread, change):
    first = min(workload(report)["data"], key=lambda i: i["timestamp"])
    next(a for a in first["atomic_actions"] if a["name"] == "neutron.create_port").update(change)
    (load,) = reread(report)
    assert first["timestamp"] not in measurement(load, "neutron.create_port").timestamps
    assert first["timestamp"] in measurement(load, "neutron.list_ports").timestamps
    assert first["timestamp"] in measurement(load).timestamps


def test_where_all_iterations_failed_there_are_series_without_values(report, reread):
    for iteration in workload(report)["data"]:
        iteration["error"] = ["Forbidden", "no", "Traceback"]
    (load,) = reread(report)
    assert measurement(load).values == measurement(load, "neutron.list_ports").values == ()
    assert measurement(load).failures == measurement(load).attempts == 7
    assert measurement(load, metric=Metric.FAILURE_RATE).values == (1.0,)


def test_the_digest_covers_what_makes_workloads_comparable(report, reread):
    digest = reread(report)[0].arguments
    assert len(digest) == 8

    def changed(change):
        other = copy.deepcopy(report)
        change(workload(other))
        return reread(other)[0].arguments

    assert changed(lambda w: w["runner"]["constant"].update(times=99)) == digest
    assert (
        changed(lambda w: w["contexts"].update(users=dict(reversed(w["contexts"]["users"].items()))))
        == digest
    )
    assert changed(lambda w: w["runner"]["constant"].update(concurrency=99)) != digest
    assert changed(lambda w: w["contexts"].update(quotas={})) != digest
    assert (
        changed(lambda w: w["scenario"].update({next(iter(w["scenario"])): {"ports_per_network": 6}}))
        != digest
    )


def test_moving_a_file_that_an_argument_names_keeps_the_digest(report, reread):
    def digest(location):
        workload(report)["scenario"] = {"GlanceImages.create_image": {"files": [{"image": location}]}}
        return reread(report)[0].arguments

    assert digest("/srv/perfci/state/image.raw") == digest("/opt/image.raw")
    assert digest("/opt/image.raw") != digest("/opt/other.raw")
    assert digest("http://a/image.raw") != digest("http://b/image.raw")


def test_several_workloads_are_loads_of_their_own_and_equal_ones_are_joined(report, reread):
    workloads = report["tasks"][0]["subtasks"][0]["workloads"]
    later = copy.deepcopy(workloads[0])
    for iteration in later["data"]:
        iteration["timestamp"] += 100
    other = copy.deepcopy(workloads[0])
    other["scenario"] = {"Nobody.knows_this": {}}
    workloads[:0] = [later, other]
    joined, unknown = reread(report, warmup=2)
    assert unknown.scenario == "Nobody.knows_this"
    assert joined.iterations == 14
    times = measurement(joined).timestamps
    assert len(times) == 10
    assert list(times) == sorted(times)


def remove(key):
    return lambda report: workload(report).pop(key)


BROKEN = {
    "no tasks": (lambda r: r.update(tasks=[]), r"tasks: got \[\]; expected"),
    "no info": (lambda r: r.pop("info"), "info: missing"),
    "format 2": (lambda r: r["info"].update(format_version="2.0"), "got '2.0'; expected a version 1.x"),
    "format 10": (lambda r: r["info"].update(format_version="10.1"), "expected a version 1.x"),
    "tasks not a list": (lambda r: r.update(tasks={"a": 1}), "expected a list"),
    "no subtasks": (lambda r: r["tasks"][0].update(subtasks=[]), r"tasks\[0\].subtasks"),
    "no data key": (remove("data"), r"workloads\[0\].data: missing"),
    "empty data": (lambda r: workload(r).update(data=[]), "0 iterations of NeutronNetworks"),
    "two scenarios": (lambda r: workload(r)["scenario"].update(B={}), "scenario"),
    "text as duration": (
        lambda r: workload(r)["data"][2].update(duration="1"),
        r"data\[2\].duration: got '1'",
    ),
    "NaN": (lambda r: workload(r)["data"][1].update(duration=math.nan), "expected a finite number"),
    "infinite": (lambda r: workload(r)["data"][1].update(timestamp=math.inf), "expected a finite number"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_named_with_file_place_and_expectation(report, reread, change, message):
    change(report)
    with pytest.raises(ReportError, match=message) as caught:
        reread(report)
    assert "report.json: " in str(caught.value)
    assert "expected" in str(caught.value)
    assert "rally task report" in caught.value.advice


def ends_early(action, seconds=0.4):
    action["finished_at"] = action["started_at"] - seconds


BACKWARDS = {
    "an action": lambda one: ends_early(one["atomic_actions"][0]),
    "an action inside another": lambda one: one["atomic_actions"][0].update(
        children=[{**one["atomic_actions"][0], "started_at": 2.0, "finished_at": 1.0, "children": []}]
    ),
    "an action that failed": lambda one: one["atomic_actions"][0].update(finished_at=1.0, failed=True),
    "the iteration": lambda one: one.update(duration=-0.1),
}


@pytest.mark.parametrize("change", BACKWARDS.values(), ids=BACKWARDS)
def test_an_iteration_in_which_the_clock_was_set_back_is_left_out_and_counted(report, reread, change):
    (whole,) = reread(report)
    data = workload(report)["data"]
    data.sort(key=lambda one: one["timestamp"])
    change(data[3])
    (load,) = reread(report)
    assert load.dropped == 1
    assert load.iterations == whole.iterations
    assert {m.key for m in load.measurements} == {m.key for m in whole.measurements}
    assert load.total.values == whole.total.values[:3] + whole.total.values[4:]
    assert (load.total.attempts, load.total.failures) == (whole.total.attempts - 1, 0)


def test_where_the_clock_went_back_in_all_iterations_there_are_series_without_values(report, reread):
    for one in workload(report)["data"]:
        ends_early(one["atomic_actions"][0])
    (load,) = reread(report)
    assert load.dropped == load.iterations == 7
    assert {m.values for m in load.measurements} == {()}
    assert load.total.attempts == 0


@pytest.mark.parametrize(
    "text", ["", " \n", "null", "[]", "{}", "[" * 100_000, '{"info": 1}', "\x00", "\ud800"]
)
def test_files_that_are_no_report(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ReportError):
        read(path)


def test_a_missing_file_is_a_report_error(tmp_path):
    with pytest.raises(ReportError, match="No such file"):
        read(tmp_path / "none.json")


def test_warm_up_that_leaves_nothing(report, reread):
    with pytest.raises(ReportError, match=r"7 iterations of .*; expected at least one after 7 for warm-up"):
        reread(report, warmup=7)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_truncation_is_a_report_error(tmp_path_factory, data):
    content = PORTS.read_bytes().rstrip()
    path = tmp_path_factory.getbasetemp() / "truncated.json"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ReportError):
        read(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_value_anywhere_gives_a_report_or_a_report_error(tmp_path_factory, data):
    report = json.loads(BOOT.read_text())
    node = report
    while isinstance(node, dict | list) and node:
        parent = node
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        node = parent[key]
        if data.draw(st.integers(0, 5)) == 0:
            break
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    parent[key] = data.draw(
        st.recursive(
            scalars,
            lambda s: st.lists(s, max_size=2) | st.dictionaries(st.text(), s, max_size=2),
            max_leaves=4,
        )
    )
    path = tmp_path_factory.getbasetemp() / "changed.json"
    path.write_text(json.dumps(report))
    try:
        loads = read(path)
    except ReportError:
        return
    for m in (m for load in loads for m in load.measurements):
        assert len(m.values) == len(m.timestamps)
        assert all(math.isfinite(v) and v >= 0 for v in m.values)
        assert list(m.timestamps) == sorted(m.timestamps)
        assert m.failures <= m.attempts
