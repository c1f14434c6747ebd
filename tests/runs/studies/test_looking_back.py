"""The archive looked back at: states of the verdict, what-if, change points, calibration from history."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict

import archives
import pytest
from typer.testing import CliRunner

from perfci import config
from perfci.analysis.types import Outcome
from perfci.cli import analyse as command
from perfci.cli.tables import calibration_table, what_if_lines
from perfci.database import schema
from perfci.results.archive import read_archive
from perfci.results.model import CALIBRATE, Purpose, Validity
from perfci.results.record import read_record, record_to_dict
from perfci.runs.publish.after_run import Aftermath
from perfci.runs.publish.calibration_store import CalibrationDamaged, read_calibration
from perfci.runs.publish.site_data import write_site
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.progress import Silent
from perfci.runs.state.stages import Stages
from perfci.runs.studies.calibrate import from_history
from perfci.runs.studies.job_history import NoPast, past
from perfci.runs.studies.what_if import StepInvalid, parse_step, what_if
from perfci.runs.verdicts import judge as judging
from perfci.runs.verdicts.judgement_store import read_judgements
from perfci.runs.verdicts.lab_services import LabServices
from perfci.runs.verdicts.verdict_cache import CacheRow, forget_all

NIGHTS = 13


@pytest.fixture
def controller(tmp_path):
    return LabServices(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path)}))


def night(controller, number, **changed):
    folder = archives.night(controller.state.archive, number, **changed)
    results = read_archive(folder)
    controller.local.write(results)
    return results.record


def judged(controller, record):
    return [asdict(one) for one in judging.judge_run(controller, record)]


def cache(controller):
    return CacheRow(controller.database, "embedded", "nightly")


def fresh(controller, record):
    """The answers of a controller that knows no state."""
    forget_all(controller.database)
    return judged(controller, record)


def test_a_kept_state_gives_the_answers_of_a_full_replay(controller):
    for number in range(1, NIGHTS):
        record = night(controller, number, factor=1.5 if number >= 10 else 1.0, code=f"{number:012x}")
        found = judged(controller, record)
    assert Outcome.REGRESSION in {one["outcome"] for one in found}
    kept = cache(controller).content()
    assert judged(controller, record) == found, "again, from the state before it"
    assert cache(controller).content() == kept
    assert fresh(controller, record) == found
    assert kept["replay"]["latest"] < record.run_id


@pytest.mark.parametrize("damage", ["{", "[]", '{"rules": 1}', ""])
def test_a_damaged_state_costs_time_only(controller, damage):
    for number in range(1, 10):
        record = night(controller, number)
        judged(controller, record)
    found = judged(controller, record)
    with controller.database.transaction() as connection:
        packed = zlib.compress(damage.encode()) if damage else b"garbage"
        connection.execute(schema.verdict_cache.update().values(document=packed))
    assert judged(controller, record) == found
    assert cache(controller).content()["nights"]


def test_a_run_that_comes_in_later_makes_the_state_invalid(controller):
    for number in (*range(1, 9), 10):
        judged(controller, night(controller, number))
    night(controller, 9)
    record = night(controller, 11)
    found = judged(controller, record)
    assert len(found[0]["baseline"]) >= 8
    assert found == fresh(controller, record)


def test_judging_an_old_run_again_does_not_turn_the_state_back(controller):
    records = [night(controller, number) for number in range(1, 11)]
    for record in records:
        judged(controller, record)
    kept = cache(controller).content()
    judged(controller, records[3])
    assert cache(controller).content() == kept


def test_a_lab_that_changed_for_good_is_a_new_environment_from_its_first_such_run(controller):
    for number in range(1, 10):
        judged(controller, night(controller, number))
    since = archives.FIRST_NIGHT.replace(day=archives.FIRST_NIGHT.day + 10)
    first = f"{since:%Y%m%dT%H%M%SZ}-nightly-000a"
    reasons = ("canary cpu on node-0 took 0.50 s, usual is 0.40 s (±20 ms over 9 runs)",)
    for number in (10, 11, 12, 13):
        record = night(controller, number, factor=1.3, validity=Validity(valid=False, reasons=reasons))
        assert {one["outcome"] for one in judged(controller, record)} == {Outcome.INVALID}
    for number in range(14, 18):
        record = night(controller, number, factor=1.3, validity=Validity(valid=True, level_since=first))
        assert read_record(controller.state.archive / record.run_id / "run.json") == record
        found = judged(controller, record)
        assert {one["outcome"] for one in found} <= {
            Outcome.NO_BASELINE,
            Outcome.NO_CHANGE,
            Outcome.TOO_NOISY,
        }
    assert "run 8 of the 8" in found[0]["reason"], "the four unfit runs count among the new level"
    assert "environment is new" in found[0]["reason"]


def test_steps_are_put_into_the_archived_history(controller):
    for number in range(1, 21):
        night(controller, number)
    report = what_if(controller, "+40 %", on_step=Silent().step)
    ports = next(one for one in report.series if one.key.action == "neutron.create_port")
    assert ports.trials > 0
    assert (ports.share, ports.median_nights) == (1.0, 2.0)
    assert 0 < report.found < report.tried, "some of its actions differ too much from iteration to iteration"
    assert report.alerts == 0
    text = "\n".join(what_if_lines(report))
    assert "without re-runs" in text
    assert "steps found" in text
    assert report.as_dict()["untouched"]["series_nights"] == report.judged
    small = what_if(controller, "+0.1 %", on_step=Silent().step)
    assert small.found == 0


@pytest.mark.parametrize(
    ("text", "relative", "seconds"),
    [("+5 %", 0.05, None), ("5%", 0.05, None), ("-5 %", -0.05, None), ("\u22125 %", -0.05, None),
     ("20ms", None, 0.02), ("+0.3 s", None, 0.3)],
)  # fmt: skip
def test_steps_as_people_write_them(text, relative, seconds):
    step = parse_step(text)
    assert step.relative == pytest.approx(relative) if relative is not None else step.relative is None
    assert step.seconds == pytest.approx(seconds) if seconds is not None else step.seconds is None


@pytest.mark.parametrize("text", ["", "5", "fast", "5 min", "0 %", "-100 %", "+-5 %", "nan %"])
def test_what_is_no_step_is_refused(text):
    with pytest.raises(StepInvalid, match="not a step"):
        parse_step(text)


def test_a_calibration_from_history_is_written_and_read(controller):
    for number in range(1, 12):
        night(controller, number)
    found = from_history(controller, "embedded", "nightly")
    assert found.series
    assert all(set(one.mde) == {1, 2, 3, 5, 8} for one in found.series if one.key.metric == "seconds")
    assert read_calibration(controller.database, "embedded", "nightly") == found
    assert len(calibration_table(found).rows[0]) == len(calibration_table(found).columns)
    pages = write_site(controller).parent / "scenarios"
    (page,) = pages.glob("*.html")
    assert "with one night" in page.read_text()


def write_calibration(controller, text):
    with controller.database.transaction() as connection:
        row = {"lab": "embedded", "job": "nightly", "document": text}
        connection.execute(schema.calibration.insert().values(row))


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', "[]"])
def test_a_damaged_calibration_says_so(controller, text):
    write_calibration(controller, text)
    with pytest.raises(CalibrationDamaged, match="embedded/nightly") as caught:
        read_calibration(controller.database, "embedded", "nightly")
    assert "perfci calibrate nightly --from-history" in caught.value.advice


def test_a_calibration_of_another_perfci_is_none(controller):
    write_calibration(controller, '{"schema": 99}')
    assert read_calibration(controller.database, "embedded", "nightly") is None


def test_a_calibrations_run_is_stored_and_neither_judged_nor_told(controller):
    folder = archives.night(controller.state.archive, 1, job=f"nightly{CALIBRATE}")
    record = read_record(folder / "run.json")
    assert record.purpose is Purpose.CALIBRATE
    assert record_to_dict(record)["purpose"] == "calibrate"
    outcome = Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))
    assert outcome.judgements == ()
    assert outcome.told == ()
    assert controller.local.run_ids("embedded", f"nightly{CALIBRATE}") == (record.run_id,)
    assert read_judgements(controller.database, record.run_id) == ()
    assert controller.outbox.status().waiting == 0
    with pytest.raises(NoPast):
        past(controller)


def test_nothing_to_look_back_at_is_said(controller):
    with pytest.raises(NoPast, match="any job"):
        past(controller)
    with pytest.raises(NoPast, match="'weekly'"):
        past(controller, "weekly")
    with pytest.raises(NoPast):
        from_history(controller, "embedded", "nightly")


@pytest.fixture
def run(controller, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(controller.state.root))

    def go(*words):
        return CliRunner().invoke(command.app, list(words))

    return go


def test_change_points_of_the_labs_own_series_on_the_command_line(controller, run):
    for number in range(1, 19):
        night(controller, number, factor=1.4 if number >= 10 else 1.0)
    found = json.loads(run("changepoints", "create_and_list", "--json").stdout)
    assert found
    assert {one["since"][:8] for one in found} == {"20261111"}
    assert "no series of nightly" in run("changepoints", "cinder").stderr
    assert "at most one of" in run("changepoints", "a", "--csv", "b").stderr


def test_words_and_options_of_analyse(controller, run):
    for number in range(1, 16):
        night(controller, number)
    assert run().exit_code == 0
    assert run("last", "--full").exit_code == 0
    shown = run("--what-if", "-30 %")
    assert shown.exit_code == 0
    assert "steps found" in shown.stdout
    assert json.loads(run("--what-if", "+30 %", "--json").stdout)["tried"] > 0
    assert run("--what-if", "much").exit_code == 2


def test_a_run_that_failed_before_its_environment_was_known_has_a_page(controller):
    folder = archives.night(controller.state.archive, 1)
    document = json.loads((folder / "run.json").read_text())
    document["environment"]["facts"] = None
    (folder / "run.json").write_text(json.dumps(document))
    site = write_site(controller).parent
    assert (site / "runs" / f"{document['run_id']}.html").exists()
