"""The columns hold what a plain reading of the same iterations gives, whatever their order and their quirks."""

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from perfci.results.model import TOTAL, Metric
from perfci.results.rally import read_report

NAMES = st.sampled_from(["nova.boot", "nova.boot (2)", "a", "b", "total", "\t", "ä"])
MOMENTS = st.floats(1.0, 100.0) | st.integers(1, 100)
ACTIONS = st.recursive(
    st.fixed_dictionaries(
        {"name": NAMES, "started_at": MOMENTS | st.none()},
        optional={"finished_at": MOMENTS | st.none(), "failed": st.booleans(), "children": st.just([])},
    ),
    lambda action: st.fixed_dictionaries(
        {
            "name": NAMES,
            "started_at": MOMENTS,
            "finished_at": MOMENTS,
            "children": st.lists(action, max_size=2),
        }
    ),
    max_leaves=4,
)
OUTPUTS = st.sampled_from(
    [{}, {"complete": []}, {"additive": [], "complete": []}, {"additive": [{"title": "x"}], "complete": []},
     {"complete": [{"title": "curve", "data": [1]}]}, {"complete": [{"title": "t", "data": {"k": None}}]}]
)  # fmt: skip
ITERATIONS = st.fixed_dictionaries(
    {
        "timestamp": st.integers(0, 5) | st.floats(0.0, 5.0),
        "duration": st.floats(-0.5, 9.0) | st.integers(0, 9),
        "error": st.sampled_from([[], [], [], ["Error", "it failed", "trace"]]),
        "atomic_actions": st.lists(ACTIONS, max_size=3),
    },
    optional={"output": OUTPUTS, "idle_duration": st.just(0.0)},
)


def flat(actions, inside=()):
    """Yield name and seconds of each action that counts; None for one that failed or never ended."""
    for one in actions:
        name = re.sub(r" \(\d+\)$", "", one["name"])
        ended = one["started_at"] is not None and one.get("finished_at") is not None and not one.get("failed")
        if name not in inside:
            yield name, one["finished_at"] - one["started_at"] if ended else None
        yield from flat(one.get("children", ()), (*inside, name))


def is_backwards(actions):
    return any(
        (one["started_at"] is not None and one.get("finished_at") is not None
         and one["finished_at"] < one["started_at"]) or is_backwards(one.get("children", ()))
        for one in actions
    )  # fmt: skip


def plainly(data, warmup):
    """Return what a report with this data says: values and timestamps by action, attempts, failures, outputs."""
    timed = sorted(data, key=lambda one: one["timestamp"])[warmup:]
    good = [one for one in timed if one["duration"] >= 0 and not is_backwards(one["atomic_actions"])]
    found = {TOTAL: []}
    for one in timed:
        for name, _ in flat(one["atomic_actions"]):
            found.setdefault(name, [])
        if one not in good or one["error"]:
            continue
        sums = {}
        for name, seconds in flat(one["atomic_actions"]):
            known = sums.get(name, 0.0)
            sums[name] = None if seconds is None or known is None else known + seconds
        for name, seconds in {**sums, TOTAL: one["duration"]}.items():
            if seconds is not None:
                found[name].append((seconds, one["timestamp"]))
    outputs = [
        (told["title"], told["data"])
        for one in good
        if not one["error"]
        for told in one.get("output", {}).get("complete", ())
    ]
    return found, len(good), sum(bool(one["error"]) for one in good), len(timed) - len(good), outputs


@settings(max_examples=300, deadline=None)
@given(st.lists(ITERATIONS, min_size=1, max_size=8), st.integers(0, 2))
def test_columns_hold_what_a_plain_reading_gives(tmp_path_factory, data, warmup):
    workload = {
        "scenario": {"A.b": {}},
        "runner": {"serial": {}},
        "contexts": {},
        "data": [*data, *({**data[0], "timestamp": 6} for _ in range(3))],
    }
    report = {"info": {"format_version": "1.2"}, "tasks": [{"subtasks": [{"workloads": [workload]}]}]}
    path = tmp_path_factory.getbasetemp() / "columns.json"
    path.write_text(json.dumps(report))
    (load,) = read_report(path, lab="lab", job="job", run_id="run", warmup=warmup)
    found, attempts, failures, dropped, outputs = plainly(workload["data"], warmup)
    timings = {m.key.action: m for m in load.measurements if m.key.metric is Metric.SECONDS}
    assert {action: list(zip(m.values, m.timestamps, strict=True)) for action, m in timings.items()} == found
    assert {(m.attempts, m.failures) for m in load.measurements} == {(attempts, failures)}
    assert (load.dropped, load.iterations) == (dropped, len(workload["data"]))
    assert [(one.title, one.data) for one in load.outputs] == outputs
    assert all(type(value) is float for m in load.measurements for value in (*m.values, *m.timestamps))
