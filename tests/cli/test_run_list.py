"""`perfci run list` and `show`: nights, and the re-runs that confirm them."""

from __future__ import annotations

import json
import re

import archives
import pytest
from typer.testing import CliRunner

from perfci import config
from perfci.analysis.decision import Decision
from perfci.analysis.types import Basis, Confirmation
from perfci.cli.run import app
from perfci.cli.run_text import filled
from perfci.database.engine import open_database
from perfci.results.archive import read_archive
from perfci.results.density import Curve, Point
from perfci.runs.state.state_folder import StateFolder
from perfci.runs.verdicts.confirmation_store import Answer, write_answers


@pytest.fixture
def night(tmp_path, monkeypatch):
    """A night with one re-run, and what that has shown."""
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    state = StateFolder(tmp_path)
    folder = archives.night(state.archive, 1)
    again = f"{folder.name[:16]}-nightly-confirm-0001"
    archives.night(state.reruns, 1, run_id=again, job="nightly-confirm", confirms=folder.name)
    key = read_archive(folder).measurements[0].key
    shown = Confirmation(Decision.SAME, Basis.RERUNS, "re-runs refuted it", folder.name, folder.name)
    write_answers(open_database(config.load()), folder.name, [Answer(key, shown)])
    return folder.name, again


def run(*arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_re_runs_stand_beside_the_nights_and_are_marked(night):
    name, again = night
    rows = [line.split("\t") for line in run("list").splitlines()]
    place = rows[0].index("re-run for")
    assert {row[0]: row[place] if len(row) > place else "" for row in rows[1:]} == {name: "", again: name}
    assert [one["run_id"] for one in json.loads(run("list", "--job", "nightly", "--json"))] == [name]


def test_at_80_columns_each_run_is_one_line_with_its_verdict(night, tmp_path, monkeypatch):
    name, again = night
    lost = archives.night(StateFolder(tmp_path).archive, 2, status="failed").name
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", run("list")).splitlines()
    assert [line.split(maxsplit=1) for line in lines[:4]] == [
        ["run", "verdict"],
        [lost, "failed in deploy (product)"],
        [again, "not judged"],
        [name, "not judged"],
    ]
    assert "Not shown: job, " in lines[-1]
    assert max(map(len, lines)) <= 80
    assert "--limit" not in " ".join(lines)
    assert "These are the newest 2 runs; --limit lists more." in run("list", "--limit", "2")


def test_a_night_shows_what_its_re_runs_have_shown(night):
    name, again = night
    assert "confirm      same: " in run("show", "last")
    assert "re-runs refuted it" in run("show", name)
    found = json.loads(run("show", name, "--json"))["confirmations"]
    assert [one["confirmation"]["decision"] for one in found] == ["same"]
    assert "verdict      not judged\nstarted      2026-11-02 04:15:00 UTC\n" in run("show", name)
    assert f"re-run for   {name}" in run("show", again)


def test_a_run_shows_what_its_tasks_left_and_that_it_was_no_fill(night, tmp_path):
    name, _ = night
    thing = {"kind": "port", "id": "p", "name": "", "error": "Conflict: in use"}
    found = [
        {"slug": "01-a", "found": [], "error": None},
        {"slug": "02-b", "found": [thing], "error": None},
        {"slug": "03-c", "found": None, "error": "timed out"},
    ]
    (StateFolder(tmp_path).archive / name / "leftovers.json").write_text(json.dumps(found))
    lines = run("show", name).splitlines()
    assert "left         02-b: 1 port" in lines
    assert "             not removed: Conflict: in use" in lines
    assert "left         03-c: unknown: timed out" in lines
    assert not [line for line in lines if "01-a" in line or "fill" in line]
    told = json.loads(run("show", name, "--json"))
    assert told["fills"] == []
    assert told["leftovers"][1] == {"task": "02-b", "left": {"port": 1}, "error": ""}


def test_a_fill_is_told_point_by_point():
    seconds = {"boot": (1.0, 1.2, 9.0), "authenticate": (0.1,)}
    known = Point(100, 2, 0, 1000.0, seconds, 0.5, {"nova-api": 0.5, "mariadb": 0.25})
    unknown = Point(150, 3, 1, 1060.0, {}, 0.4)
    lines = list(filled(Curve("Density.fill_with_servers", (known, unknown), "memory", "4 % are left")))
    assert lines == [
        "fill         ended at the limit memory: 4 % are left",
        "               100\u00a0servers: a boot 1.20\u00a0s, 0.750\u00a0s of CPU for each",
        "               150\u00a0servers: a boot \u2013, \u2013 of CPU for each",
    ]


def test_a_run_against_another_says_which_code_differs(night, tmp_path):
    name, _ = night
    folder = archives.night(
        StateFolder(tmp_path).archive, 2, code="bbbbbbbbbbbb", changes=("slow.patch@1f2e",)
    )
    lines = run("show", folder.name, "--against", name).splitlines()
    (differs,) = [line for line in lines if line.startswith("differs")]
    assert "code.neutron" in differs
    assert "29.0.0 (wheel) -> 29.0.0+bbbb (wheel) with slow.patch@1f2e" in differs
    assert f"differs      in nothing from {name}" in run("show", name, "--against", name)
