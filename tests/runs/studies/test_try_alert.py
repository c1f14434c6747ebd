"""`perfci try --alert`, and what a try says before it starts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from bisect_lab import SOON, BisectLab, alert, nights, services_on
from git_repositories import Landscape
from typer.testing import CliRunner

from perfci.analysis.decision import Decision
from perfci.analysis.pair_decision import PairReading, PairSettings
from perfci.cli.main import app
from perfci.results.model import TOTAL, Metric
from perfci.runs.jobs.model import Job
from perfci.runs.night import reference
from perfci.runs.studies import compare as comparing
from perfci.runs.studies import try_change as trying
from perfci.runs.studies.change_sets import ChangeInvalid
from perfci.runs.studies.forecast import Forecast, forecast, half_width, paired_forecast
from perfci.runs.studies.side_by_side import SideBySide, SideFinding
from perfci.runs.studies.try_change import job_of_alert

TASK = "neutron-create-and-list-ports"
JOB = Job(
    name="tiny",
    cloud={"services": ["neutron"]},
    scenarios=({"task": TASK, "times": 28}, {"task": "keystone-authenticate", "times": 9}),
)


@pytest.fixture
def land(tmp_path):
    found = Landscape(tmp_path / "base")
    found.project("neutron", {"neutron/db/api.py": "VALUE = 0\n"})
    return found


@pytest.fixture
def services(land, tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PERFCI_GIT_BASE", str(land.base))
    return services_on(land, tmp_path / "state")


def slowed(land, services, metric=Metric.SECONDS):
    """Have nights, a slow change, a night with it, and an alert; return the slow commit."""
    good = nights(services, JOB, land)
    slow = land.change("neutron", {"neutron/db/api.py": "VALUE = 1\n"}, "Slow it")
    bad = nights(services, JOB, land, number=1, factor=1.3, start=SOON - timedelta(days=1))
    alert(services, good, bad, metric=metric)
    return slow


def test_the_base_is_the_slow_code_with_the_slow_tasks(land, services):
    slow = slowed(land, services)
    job, found = job_of_alert(services, "3f2a")
    assert found.id == "3f2a1b"
    assert [one.task for one in job.scenarios] == [TASK]
    assert job.sources.neutron.ref == slow


def test_an_alert_without_its_job_is_refused(land, services):
    slowed(land, services)
    (one,) = services.alerts.load().alerts
    (services.state.archive / one.since / "job.yml").unlink()
    with pytest.raises(ChangeInvalid, match="lacks the job"):
        job_of_alert(services, "3f2a")


def test_a_fix_says_how_much_it_takes_back(land, services, monkeypatch, tmp_path):
    slow = slowed(land, services)
    fix = tmp_path / "fix.patch"
    fix.write_text("--- a/neutron/db/api.py\n+++ b/neutron/db/api.py\n@@ -1 +1 @@\n-VALUE = 1\n+VALUE = 0\n")
    monkeypatch.setattr(comparing, "night", BisectLab(land, services, {slow: 1.3}))
    words = ["try", "--alert", "3f2a", "--change", f"neutron={fix}", "--in-turns"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "removes" in done.stdout
    assert "ahead   ±" in done.stderr
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    share = int(told["cure"].partition("removes ")[2].partition("%")[0])
    assert 85 <= share <= 100
    assert told["forecast"]["tasks"] == 1


def test_what_cures_nothing_is_said(land, services, monkeypatch, tmp_path):
    slow = slowed(land, services)
    mine = land.repos["neutron"].commit("No fix", {"neutron/a.py": "1\n"}, land.tick(), ref="refs/heads/fix")
    lab = BisectLab(land, services, {slow: 1.3})
    monkeypatch.setattr(comparing, "night", lab)
    done = CliRunner().invoke(
        app, ["try", "--alert", "3f2a", "--change", f"neutron={mine}", "--runs", "60", "--in-turns"]
    )
    assert "does not fix alert 3f2a1b" in done.stdout


@pytest.mark.parametrize("of_night", [Metric.SECONDS, Metric.RATIO])
@pytest.mark.parametrize(
    ("log", "decision", "text"),
    [
        (-0.2, Decision.DIFFERENT, "removes"),
        (0.0, Decision.SAME, "does not fix alert 3f2a1b"),
        (-0.1, Decision.UNKNOWN, "perfci could not decide whether it fixes alert 3f2a1b"),
    ],
)
def test_pairs_of_two_clouds_say_it_too(
    land, services, monkeypatch, tmp_path, *, log, decision, text, of_night
):
    """Only the measuring is left out: tests/runs/studies/test_side_by_side.py has that."""
    slowed(land, services, of_night)
    fix = tmp_path / "fix.patch"
    fix.write_text("--- a/neutron/db/api.py\n+++ b/neutron/db/api.py\n@@ -1 +1 @@\n-VALUE = 1\n+VALUE = 0\n")
    (alert,) = services.alerts.load().alerts
    key = replace(alert.headline.key, action=TOTAL, metric=Metric.SECONDS)
    reading = PairReading(decision, log, log - 0.01, log + 0.01, 2)
    finding = SideFinding(key, reading, 0.02, 40, 0, 1.0, 0.9, (0, 40), (0, 40), ())
    shown = SideBySide(PairSettings(within=0.05), (finding,), (), ("run-1",), (), "")
    monkeypatch.setattr(trying, "in_pairs", lambda *_, **__: shown)
    monkeypatch.setattr(reference, "two_fit", lambda *_: True)
    words = ["try", "--alert", "3f2a", "--change", f"neutron={fix}"]
    done = CliRunner().invoke(app, words)
    assert "ahead   steps from" in done.stderr
    assert text in done.stdout
    assert done.stdout.startswith("answer  nothing is")
    assert text in json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["cure"]
    assert CliRunner().invoke(app, [*words, "--comment"]).stdout.startswith("perfci: nothing is")


@pytest.mark.parametrize("words", [[], ["tiny", "--alert", "3f2a"]])
def test_a_job_or_an_alert_must_be_named(services, words):
    done = CliRunner().invoke(app, ["try", *words, "--json"])
    assert (done.exit_code, json.loads(done.stdout)["error"]) == (2, "TryUnclear")


def test_the_forecast_follows_from_the_nights(land, services):
    assert forecast(services, JOB) is None
    nights(services, JOB, land)
    limits = JOB.analysis.confirm.model_copy(update={"most_runs": 100, "most_minutes": 20})
    job = JOB.model_copy(update={"analysis": JOB.analysis.model_copy(update={"confirm": limits})})
    ahead = forecast(services, job)
    assert (ahead.runs, ahead.tasks, set(ahead.widths)) == (24, 2, {TASK})  # of 50 s each
    assert 0 < ahead.widths[TASK] < 0.03
    assert ahead.text.replace("\u00a0", " ") == f"±{_digits(ahead)} % on 1 of 2 tasks in 20 min (24 runs)"


def test_the_forecast_of_pairs_follows_from_the_draws_that_the_job_allows(land, services):
    limits = JOB.analysis.confirm.model_copy(update={"most_runs": 12, "most_minutes": 60})
    job = JOB.model_copy(update={"analysis": JOB.analysis.model_copy(update={"confirm": limits})})
    ahead = paired_forecast(services, job)
    assert (ahead.draws, ahead.minutes) == (6, None)
    assert 0.01 < ahead.smallest < 0.05
    few = limits.model_copy(update={"most_runs": 4})
    fewer = job.model_copy(update={"analysis": job.analysis.model_copy(update={"confirm": few})})
    assert paired_forecast(services, fewer).smallest > ahead.smallest
    assert ahead.text.replace("\u00a0", " ").endswith("in up to 6 draws of two clouds")


def _digits(ahead: Forecast) -> str:
    width = 100 * ahead.widths[TASK]
    return f"{width:.1f}" if width < 1 else f"{int(width) + 1}"


def test_more_runs_and_quieter_nights_show_more():
    loud = [0.0, 0.1, -0.1, 0.05, 0.0, 0.1]
    assert half_width(loud, 24) < half_width(loud, 6)
    assert half_width([one / 10 for one in loud], 24) < half_width(loud, 24)
    many = Forecast(24, 35, {str(number): 0.02 + number / 1000 for number in range(10)}, 10)
    assert many.text.replace("\u00a0", " ") == "±3 % on 9 of 10 tasks in 35 min (24 runs)"
    assert "not known yet" in replace(many, widths={}).text
