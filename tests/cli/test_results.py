"""`perfci results` on archives that are not as perfci itself would have written them."""

from __future__ import annotations

import json

import archives
import pytest
from typer.testing import CliRunner

from perfci.cli.access import lab_services
from perfci.cli.main import app


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    return lab_services()


def set_back(folder, number):
    """Let an action of one iteration end 0.4 s before it starts."""
    (path,) = (folder / "rally").glob("*.json")
    report = json.loads(path.read_text())
    action = report["tasks"][0]["subtasks"][0]["workloads"][0]["data"][number]["atomic_actions"][0]
    action["finished_at"] = action["started_at"] - 0.4
    path.write_text(json.dumps(report))


def test_a_night_in_which_the_clock_was_set_back_is_shown_judged_and_indexed(state):
    folders = [archives.night(state.state.archive, number) for number in range(10)]
    set_back(folders[-1], 17)
    said = f"{archives.SCENARIO}: 1 iteration left out: the clock was set back\n"
    for command in (["results", "show", "last"], ["analyse"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert done.stderr.replace("\u00a0", " ") == said
        assert archives.SCENARIO in done.stdout
    shown = json.loads(CliRunner().invoke(app, ["results", "show", "last", "--json"]).stdout)
    assert shown["dropped"] == {archives.SCENARIO: 1}
    assert {series["attempts"] for series in shown["series"]} == {
        27
    }  # 30, less 2 for warm-up and the one that is left out
    rebuilt = json.loads(CliRunner().invoke(app, ["results", "rebuild", "--json"]).stdout)
    assert (len(rebuilt["runs"]), rebuilt["unreadable"]) == (10, [])
