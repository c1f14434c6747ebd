"""Two archived runs beside each other, and the command that shows it."""

from __future__ import annotations

import json
import re

import archives
import pytest
from typer.testing import CliRunner

from perfci.cli.main import app
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.studies.compare_runs import compare_runs


@pytest.fixture
def two(tmp_path):
    archive = tmp_path / "state" / "archive"
    folders = (archives.night(archive, 1), archives.night(archive, 2, factor=3.0, code="bbbbbbbbbbbb"))
    for number, folder in enumerate(folders):
        document = json.loads((folder / "run.json").read_text())
        document["versions"] = {"oslo.db": f"17.{number}.0", "neutron": "29.0.0"}
        (folder / "run.json").write_text(json.dumps(document))
    return [ArchivedRun(folder) for folder in folders]


def test_every_decile_of_what_is_slower_has_moved_by_about_as_much(two):
    found = compare_runs(*two)
    whole = next(one for one in found.timings if one.key.action == "total")
    assert whole.middle.relative == pytest.approx(2.0, abs=0.2)
    assert whole.middle.is_certain
    assert [round(one.level, 1) for one in whole.shifts] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert all(one.low <= one.shift <= one.high for one in whole.shifts)


def test_what_differs_is_code_and_packages(two):
    found = compare_runs(*two)
    assert [(one.what, one.name) for one in found.moved] == [("code", "neutron"), ("package", "oslo-db")]


def test_counters_that_differ_are_compared_the_largest_change_first(two, tmp_path):
    thing = {"kind": "port", "id": "p", "name": "", "error": ""}
    for one, left in zip(two, (1, 3), strict=True):
        found = [{"slug": "01-ports", "found": [thing] * left, "error": None}]
        (one.folder / "leftovers.json").write_text(json.dumps(found))
    (counter,) = compare_runs(*[ArchivedRun(one.folder) for one in two]).counters
    assert (counter.key.metric, counter.before, counter.after, counter.change) == ("leftovers", 1.0, 3.0, 2.0)
    text = run(tmp_path, two[0].run_id, two[1].run_id).output.replace("\u00a0", " ")
    assert "things left in the cloud" in text
    assert "+200 %" in text
    assert "1.00 → 3.00" in text


def test_a_run_does_not_differ_from_itself(two):
    found = compare_runs(two[0], two[0])
    assert found.moved == ()
    assert found.counters == ()
    assert {shift.shift for one in found.timings for shift in one.shifts} == {0.0}
    assert not any(one.middle.is_certain for one in found.timings)


def test_turned_round_everything_moves_back(two):
    there, back = compare_runs(*two), compare_runs(*two[::-1])
    shifts = {one.key.action: one.middle.shift for one in there.timings}
    assert {one.key.action: -one.middle.shift for one in back.timings} == pytest.approx(shifts)


def run(tmp_path, *words, columns=80):
    environment = {"PERFCI_STATE_DIR": str(tmp_path / "state"), "COLUMNS": str(columns), "FORCE_COLOR": "1"}
    return CliRunner().invoke(app, ["run", "compare", *words], env=environment)


def test_the_command_says_what_differs_and_what_has_moved_in_80_columns(two, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = run(tmp_path, two[0].run_id, "last")
    assert found.exit_code == 0
    assert two[0].run_id in found.output
    assert "oslo-db" in found.output
    shown = found.output.replace("\u00a0", " ")
    assert re.search(r"whole iteration +\+\d+ % +\+\d+ … \+\d+ % +\d", shown)
    assert "create_and_list_ports" in found.output.replace("\n", "")


def test_the_command_shows_deciles_of_the_series_that_are_asked_for(two, tmp_path):
    text = run(tmp_path, two[0].run_id, two[1].run_id, "--series", "list_ports").output
    assert "10%" in text
    assert "90%" in text


def test_programs_get_json(two, tmp_path):
    found = json.loads(run(tmp_path, two[0].run_id, two[1].run_id, "--json").output)
    assert found["before"] == two[0].run_id
    assert len(found["timings"][0]["deciles"]) == 9


def test_an_unknown_run_is_exit_code_2(two, tmp_path):
    assert run(tmp_path, "19700101", two[1].run_id).exit_code == 2
