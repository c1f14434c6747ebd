"""`perfci status`, `run list` and `alerts show`: what a person sees first."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import archives
import pytest
from typer.testing import CliRunner

from perfci import config, pages
from perfci.alerts.model import Alert, AlertState, MovedSeries, SeriesStatus
from perfci.analysis.types import Judgement, Outcome
from perfci.cli.access import holder
from perfci.cli.main import app
from perfci.lab import owners
from perfci.results.archive import read_archive
from perfci.results.model import Validity
from perfci.runs.jobs import load
from perfci.runs.state import run_folder
from perfci.runs.state.unreported import owe
from perfci.runs.tick.tick import tick
from perfci.runs.verdicts.judgement_store import keep_judgements
from perfci.runs.verdicts.lab_services import LabServices


@pytest.fixture
def services(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    return LabServices(config.load())


def night(services, number, *outcomes, **changed):
    """Archive a night; judge its first series with these outcomes."""
    folder = archives.night(services.state.archive, number, **changed)
    if outcomes:
        keys = [one.key for one in read_archive(folder).measurements]
        judgements = [Judgement(key, folder.name, one, "") for key, one in zip(keys, outcomes, strict=False)]
        keep_judgements(services.database, folder.name, judgements)
    return folder.name


def run(*words, code=0):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    return done


def test_runs_are_listed_with_their_verdicts(services):
    names = [
        night(services, 1, Outcome.NO_BASELINE),
        night(services, 2, Outcome.REGRESSION, Outcome.NO_CHANGE),
        night(services, 3, Outcome.REGRESSION, validity=Validity(valid=False, reasons=("busy",))),
        night(services, 4, status="failed"),
        night(services, 5),
    ]
    told = json.loads(run("run", "list", "--json").stdout)
    assert [(one["run_id"], one["verdict"]) for one in told] == [
        (names[4], "not judged"),
        (names[3], "failed in deploy (product)"),
        (names[2], "invalid (lab)"),
        (names[1], "1\u00a0series slower"),
        (names[0], "no baseline"),
    ]
    lines = run("run", "list").stdout.splitlines()
    assert lines[0].split("\t")[:4] == ["run", "lab", "job", "verdict"]
    assert lines[4].split("\t")[3] == "1 series slower"


def test_a_damaged_run_is_named_and_hides_no_other(services):
    names = [night(services, number, Outcome.NO_CHANGE) for number in (1, 2, 3)]
    (services.state.archive / names[1] / "run.json").write_text("{}")
    (services.state.archive / names[2] / "run.json").write_text("[" * 5000)
    done = run("run", "list", "--json")
    assert [one["run_id"] for one in json.loads(done.stdout)] == [names[0]]
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["left out", "left out"]
    assert [name in done.stderr for name in names] == [False, True, True]
    assert json.loads(run("status", "--json").stdout)["last"]["run"] == names[0]


def test_no_more_runs_are_read_than_are_listed(services):
    names = [night(services, number, Outcome.NO_CHANGE) for number in (1, 2)]
    (services.state.archive / names[0] / "run.json").write_text("{}")
    done = run("run", "list", "--limit", "1", "--json")
    assert [one["run_id"] for one in json.loads(done.stdout)] == [names[1]]
    assert done.stderr == "", "the older run was read, too"


def test_where_there_is_no_run_it_is_said_what_was_looked_for(services):
    done = run("run", "list", "--job", "smoke")
    assert done.stdout == ""
    assert f"No runs of the job smoke in {services.state.archive} yet." in done.stderr


@pytest.fixture
def alert(services):
    """An open alert in a state folder with two nights."""
    good, bad = night(services, 1, Outcome.NO_CHANGE), night(services, 2, Outcome.REGRESSION)
    key = read_archive(services.state.archive / bad).measurements[0].key
    moved = MovedSeries(key, bad, bad, 0.25, 0.2, 0.3, 0.001, None, None, None, None)
    found = Alert("ab12cd34", "embedded", "nightly", "neutron", bad, good, bad, (moved,), (), code_known=True)
    services.alerts.save(AlertState(alerts=(found,)))
    return found


def test_status_says_the_last_verdict_open_alerts_and_the_next_run(services, alert, tmp_path):
    crontab = tmp_path / "crontab"
    crontab.write_text("#!/bin/sh\necho '15 2 * * * make nightly'\n")
    crontab.chmod(0o755)
    lines = run("status").stdout.splitlines()
    assert f"last run  {alert.opened}: 1 series slower" in lines
    assert any(
        line.startswith(f"alert     ab12cd34 since {alert.since}: ") and "+25 %" in line for line in lines
    )
    (planned,) = [line for line in lines if line.startswith("next run  ")]
    assert "02:15" in planned
    assert planned.endswith(": make nightly")
    told = json.loads(run("status", "--json").stdout)
    assert (told["last"]["run"], told["open_alerts"][0]["alert"]) == (alert.opened, "ab12cd34")
    assert told["next"][0]["command"] == "make nightly"


def test_status_tells_a_run_that_is_being_judged_from_one_that_was_killed(services, monkeypatch):
    one = night(services, 1)
    owe(services.database, services.state, one)
    lines = run("status").stdout.splitlines()
    assert f"judging   {one}; where it suspects a change, re-runs take a while" in lines
    gone = replace(owners.me(), started_ticks=1)
    monkeypatch.setattr("perfci.lab.owners.me", lambda: gone)
    owe(services.database, services.state, one)
    lines = run("status").stdout.splitlines()
    assert f"pending   verdict and mail of {one}; the next run completes them" in lines


def test_status_says_since_when_a_run_is_in_its_stage(services):
    folder = run_folder.create(services.state.runs, "20261201T021500Z-nightly-1a2b")
    assert f"run       {folder.run_id} in the stage start\n" in run("status").stdout
    folder.note(stage="hammer", stage_started_at="2026-12-01T01:37:32.854000+00:00")
    assert re.search(
        rf"run       {folder.run_id} in the stage hammer since 20\d\d-\d\d-\d\d \d\d:\d\d \w+\n",
        run("status").stdout,
    )


def test_status_of_an_empty_state_folder(services):
    told = json.loads(run("status", "--json").stdout)
    assert (told["last"], told["open_alerts"], told["next"]) == (None, [], [])
    assert "Nothing runs." in run("status").stdout


def test_an_alert_is_shown_by_the_begin_of_its_id(services, alert):
    text = run("alerts", "show", "ab12").stdout
    assert "alert      ab12cd34: open" in text
    assert f"since      {alert.since}" in text
    assert f"last good  {alert.last_good}" in text
    assert "changed    nothing in the code under test" in text
    assert "+25 %\t+20 … +30 %" in text
    assert json.loads(run("alerts", "show", "ab12", "--json").stdout)["id"] == "ab12cd34"
    assert "UnknownAlert".lower() in run("alerts", "show", "zz", code=2).stderr


def test_alerts_fit_80_columns_with_their_ids_whole(services, alert, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    scenario = alert.headline.key.scenario
    lines = [strip(line) for line in run("alerts", "list").stdout.splitlines()]
    assert scenario in lines
    assert [line.split()[0] for line in lines if alert.since in line] == [alert.id]
    shown = [strip(line) for line in run("alerts", "show", alert.id).stdout.splitlines()]
    assert shown.index(scenario) < next(
        n for n, line in enumerate(shown) if "+20\u00a0…\u00a0+30\u00a0%" in line
    )
    assert f"compare    perfci run compare {alert.last_good} {alert.since}" in shown
    assert "try a fix  perfci try nightly --change neutron=fix.patch" in shown
    assert [line for line in lines if len(line) > 80] == []


def strip(line):
    """Return a line of a terminal without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_who_looks_into_an_alert_is_named_on_the_pages_at_once(services, alert):
    overview, page = services.state.site / pages.INDEX, services.state.site / pages.alert_page(alert.id)
    run("report")
    assert "nobody is looking into it yet" in overview.read_text()
    assert "state      nobody is looking into it yet" in run("alerts", "show", "ab12").stdout
    assert run("alerts", "acknowledge", "ab12").stdout == f"ab12cd34: {holder()} is looking into it\n"
    for file in (overview, page):
        assert f"{holder()} is looking into it" in file.read_text()
    assert f"state      {holder()} is looking into it" in run("alerts", "show", "ab12").stdout
    assert json.loads(run("alerts", "list", "--json").stdout)[0]["looked_into_by"] == holder()


@pytest.fixture
def scheduled(tmp_path, monkeypatch):
    """Two jobs that start by themselves, in a lab with a node."""
    (tmp_path / "inventory" / "embedded").mkdir(parents=True)
    (tmp_path / "inventory" / "embedded" / "hosts.yml").write_text(
        "all: {children: {cloud: {hosts: {node-0: {ansible_connection: local}}}}}\n"
    )
    (tmp_path / "jobs" / "tasks").mkdir(parents=True)
    (tmp_path / "jobs" / "tasks" / "ports.yml.j2").write_text("{}\n")
    for name, at in (("early", "02:15"), ("late", "14:45")):
        (tmp_path / "jobs" / f"{name}.yml").write_text(
            f"name: {name}\nschedule: {{at: '{at}'}}\nscenarios: [{{task: ports, times: 2}}]\n"
        )
    monkeypatch.setenv("PERFCI_ROOT_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("scheduled")
def test_status_says_when_the_schedules_of_jobs_start_their_next_nights(services):
    def following():
        return {
            one["command"]: one["at"][11:16] for one in json.loads(run("status", "--json").stdout)["next"]
        }

    unplanned = "(not planned: does `perfci tick` run?)"
    assert following() == {
        f"perfci run early {unplanned}": "02:15",
        f"perfci run late {unplanned}": "14:45",
    }
    tick(config.load(), spawn=lambda _: None)
    assert following() == {"perfci run early": "02:15", "perfci run late": "14:45"}
    moments = [one["at"] for one in json.loads(run("status", "--json").stdout)["next"]]
    assert moments == sorted(moments)
    assert len([line for line in run("status").stdout.splitlines() if line.startswith("next run  ")]) == 2


@pytest.mark.usefixtures("services")
def test_status_reads_the_files_of_scheduled_jobs_alone(scheduled, monkeypatch):
    asked = []
    real = load.load_job
    monkeypatch.setattr(load, "load_job", lambda name, *more: asked.append(name) or real(name, *more))
    (scheduled / "jobs" / "plain.yml").write_text("name: plain\nscenarios: [{task: ports, times: 2}]\n")
    (scheduled / "jobs" / "odd.yml").write_text(
        'name: odd\n"sched\\u0075le": {at: "05:00"}\nscenarios: [{task: ports, times: 2}]\n'
    )
    (scheduled / "jobs" / "broken.yml").write_text("[\n")
    commands = {one["command"] for one in json.loads(run("status", "--json").stdout)["next"]}
    assert {one.split()[2] for one in commands} == {"early", "late", "odd"}
    assert asked == ["early", "late", "odd"]
    # `schedule` says what is wrong with any job file: its schedule may have been meant, and misspelt.
    assert "broken.yml:2: not YAML" in run("schedule").stderr


def test_where_no_alert_is_open_it_is_said_how_many_are_closed(services, alert):
    assert "No open alerts." not in run("alerts", "list").stderr
    services.alerts.save(AlertState(alerts=(replace(alert, status=SeriesStatus.CLOSED),)))
    assert run("alerts", "list").stderr == "No open alerts; 1 closed, --all lists them.\n"
