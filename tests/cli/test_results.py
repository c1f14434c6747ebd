"""`perfci results` on archives that are not as perfci itself would have written them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import archives
import pytest
from influx_recorder import Recorder
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


def test_where_nothing_was_measured_it_is_said_what_was_looked_for_also_in_a_pipe(state):
    run = archives.night(state.state.archive, 1)
    done = CliRunner().invoke(app, ["results", "show", "last", "--scenario", "Nova"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"No scenario of {run.name} has 'Nova' in its name.\n"
    (run / "tasks.json").write_text("[]")
    for report in (run / "rally").iterdir():
        report.unlink()
    assert CliRunner().invoke(app, ["results", "show"]).stderr == f"{run.name} has measured nothing.\n"
    done = CliRunner().invoke(app, ["analyse"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"{run.name} has measured nothing, so there is nothing to judge.\n"


def test_sync_names_the_runs_that_influxdb_refuses_delivers_the_others_and_sends_none_again(
    state, monkeypatch
):
    folders = [archives.night(state.state.archive, number) for number in range(3)]
    names = [folder.name for folder in folders]

    def too_old(handler):
        refused = names[0] in recorder.requests[-1].body.decode()
        said = b'{"error": "partial write: points beyond retention policy dropped=117"}' if refused else b""
        handler.send_response(400 if refused else 204)
        handler.send_header("X-Influxdb-Version", recorder.version)
        handler.send_header("Content-Length", str(len(said)))
        handler.end_headers()
        handler.wfile.write(said)

    with Recorder("1.6.7") as recorder:
        recorder.answers["/write"] = too_old
        monkeypatch.setenv("PERFCI_INFLUX__URL", recorder.url)
        done = CliRunner().invoke(app, ["results", "sync"])
        assert (done.exit_code, done.stdout) == (4, "2 runs delivered.\n")
        assert f"keeps no points as old as those of {names[0]} (400): " in done.stderr
        assert "points beyond retention policy dropped=117" in done.stderr
        assert f"perfci results sync --again {names[0]}" in done.stderr
        sent = len(recorder.of("/write"))
        again = CliRunner().invoke(app, ["results", "sync"])
        assert (again.exit_code, again.stdout) == (0, "0 runs delivered.\n")
        assert again.stderr.startswith(f"{names[0]} was not sent again: ")
        assert len(recorder.of("/write")) == sent
        shown = CliRunner().invoke(app, ["status"]).stdout
        assert "influxdb  1 run refused and not sent again; " in shown


def test_rallys_results_come_in_from_files_and_standard_input(state, tmp_path):
    report = json.dumps(archives.report())
    done = CliRunner().invoke(app, ["results", "ingest", "--rally", "-", "--json"], input=report)
    assert done.exit_code == 0, done.output
    (taken,) = json.loads(done.stdout)
    assert "-rally-" in taken["run"]
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    done = CliRunner().invoke(app, ["results", "ingest", "--rally", str(bad)])
    assert done.exit_code == 1
    assert f"{bad}: " in done.stderr
    done = CliRunner().invoke(app, ["results", "ingest", "--rally", "-", "--job", "No Name"], input=report)
    assert done.exit_code == 2


def test_a_folder_of_rallys_results_becomes_pages_and_says_what_it_left_out(state, tmp_path):
    folder = tmp_path / "old results"
    (folder / "2024").mkdir(parents=True)
    (folder / "2024" / "report.json.gz").write_bytes(gzip.compress(json.dumps(archives.report()).encode()))
    (folder / "page.html").write_text("<html>")
    done = CliRunner().invoke(app, ["results", "ingest", "--rally", str(folder), "--job", "old"])
    assert done.exit_code == 0, done.output
    assert f"left out: {folder / 'page.html'}: file: a page of HTML" in done.stderr
    run, pages, change_points = done.stdout.splitlines()
    assert re.fullmatch(r"20231114T221320Z-old-[0-9a-f]{4}: 5 series", run)
    assert Path(pages.split(maxsplit=1)[1]).is_file()
    assert change_points.endswith("perfci analyse changepoints --job old")
    shown = CliRunner().invoke(app, ["run", "show", run.partition(":")[0]]).stdout
    assert "job          old on elsewhere\ntaken from   report.json.gz, results of Rally\n" in shown
    (folder / "2024" / "report.json.gz").unlink()
    done = CliRunner().invoke(app, ["results", "ingest", "--rally", str(folder)])
    assert done.exit_code == 1
    assert "no results of Rally" in done.stderr
