"""phases.json: what becomes a series, and what is refused."""

from __future__ import annotations

import json

import pytest

from perfci.results.archive import RunFiles, read_archive
from perfci.results.errors import PhasesError
from perfci.results.model import TOTAL, Metric
from perfci.results.phases import PHASES, read_parts

RENAME = "nova.16f1fbcab42b_resolve_shadow_table_diffs"
BEGAN = 1_793_506_510.25


def part(**changed):
    return {
        "slug": "nova_cell1-500",
        "scenario": "DbMigration.nova_cell1.500",
        "arguments": {"seed": 1, "rows": {"instances": 500}},
        "status": "finished",
        "started_at": BEGAN,
        "finished_at": BEGAN + 4,
        "phases": [
            {
                "action": RENAME,
                "at": BEGAN,
                "values": {"seconds": 0.25, "rows_read": 500, "rows_changed": 0, "pages_read": 1200},
            },
            {"action": TOTAL, "at": BEGAN, "values": {"seconds": 0.25}},
        ],
        **changed,
    }


@pytest.fixture
def folder(make_record, archive_run):
    """A run that measured phases; its counters go on from a second before the first to two after the last."""
    path = archive_run(make_record())
    (path / "tasks.json").unlink()
    lines = [
        {
            "t": float(second),
            "services": {"mariadb": {"cpu_seconds": 0.5 * (second - int(BEGAN)), "rss_bytes": 1000}},
            "sql": {"nova": 10 * (second - int(BEGAN))},
            "machine": {"busy_seconds": float(second - int(BEGAN)), "steal_seconds": 0.0, "cpus": 2},
            "foreign_seconds": 0.1 * (second - int(BEGAN)),
        }
        for second in range(int(BEGAN), int(BEGAN) + 7)
    ]
    (path / "counters" / "node-1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write(folder, *parts):
    (folder / PHASES).write_text(json.dumps(parts))
    return folder


def test_each_value_of_each_phase_is_a_series(folder):
    results = read_archive(
        write(folder, part(), {"slug": "x", "status": "crashed", "error": "no such table"})
    )
    found = {(m.key.scenario, m.key.action, m.key.metric): m.values for m in results.measurements}
    scenario = "DbMigration.nova_cell1.500"
    assert found[scenario, RENAME, Metric.SECONDS] == (0.25,)
    assert found[scenario, RENAME, Metric.ROWS_READ] == (500,)
    assert found[scenario, RENAME, Metric.PAGES_READ] == (1200,)
    assert found[scenario, TOTAL, Metric.SECONDS] == (0.25,)
    assert {key[0] for key in found} == {scenario}
    assert len({m.key.arguments for m in results.measurements}) == 1


def test_what_the_services_used_meanwhile_stands_beside_them(folder):
    results = read_archive(write(folder, part()))
    found = {(m.key.action, m.key.metric): m.values for m in results.measurements}
    assert found["mariadb", Metric.CPU_SECONDS] == (2.5,)  # whole seconds around the 4 s of the part
    assert found["nova", Metric.SQL_STATEMENTS] == (50,)
    (shares,) = RunFiles(folder).shares
    assert shares.foreign == pytest.approx(0.05)


def test_other_arguments_are_other_series_and_their_order_is_nothing(folder):
    def digest(arguments):
        return read_parts(write(folder, part(arguments=arguments)))[0].arguments_digest

    assert digest({"seed": 1, "size": 5}) == digest({"size": 5, "seed": 1}) != digest({"seed": 2, "size": 5})


WRONG = {
    "a metric that there is not": (
        {"phases": [{"action": "total", "at": 1, "values": {"hours": 1}}]},
        r"phases\[0\].values.hours",
    ),
    "less than nothing": (
        {"phases": [{"action": "total", "at": 1, "values": {"seconds": -1}}]},
        "values.seconds",
    ),
    "no total": ({"phases": [{"action": "stop", "at": 1, "values": {"seconds": 1}}]}, "a phase called total"),
    "a phase twice": (
        {"phases": [{"action": "total", "at": 1, "values": {"seconds": 1}}] * 2},
        "every phase once",
    ),
    "no phases": ({"phases": []}, "phases"),
    "another status": ({"status": "half"}, "finished"),
}


@pytest.mark.parametrize(("changed", "place"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(folder, changed, place):
    with pytest.raises(PhasesError, match=place):
        read_archive(write(folder, part(**changed)))


@pytest.mark.parametrize("text", ["", "[", "{}"])
def test_half_a_file_is_no_file(folder, text):
    (folder / PHASES).write_text(text)
    with pytest.raises(PhasesError):
        read_archive(folder)
