"""Nights that are confirmed by re-runs on made up nodes: every way in which that can go."""

from __future__ import annotations

import email
import email.policy
import json
import mailbox
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

import archives
import pytest
import reruns

from perfci import config
from perfci.alerts.model import NotificationKind
from perfci.analysis.decision import Decision
from perfci.analysis.run_order import LONGEST
from perfci.analysis.sequential_test import Side
from perfci.analysis.types import Basis, Outcome
from perfci.database.engine import Database
from perfci.database.schema import confirmation
from perfci.results.archive import read_archive
from perfci.results.model import Metric, Purpose, Validity
from perfci.runs.publish.after_run import Aftermath
from perfci.runs.state import unreported
from perfci.runs.state.archive import find_run, rerun_folders, run_folders
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.progress import Silent
from perfci.runs.state.stages import Stages
from perfci.runs.state.state_folder import StateFolder
from perfci.runs.state.unreported import left_owing, owe, owing
from perfci.runs.verdicts.confirmation_store import ConfirmationsUnreadable, read_answers
from perfci.runs.verdicts.lab_services import LabServices
from perfci.runs.verdicts.rerun_round import scenarios_of

SLOW = {"factor": 2.0, "code": "bbbbbbbbbbbb", "changes": ("slow-lists@1f2e3d4c",)}
BASELINE = 9
REAL = {Side.OLD: 1.0, Side.NEW: 2.0}
NOTHING = {Side.OLD: 1.0, Side.NEW: 1.0}
UNFIT = {"validity": Validity(valid=False, reasons=("the disk is slow",))}


@pytest.fixture
def controller(tmp_path):
    return made(tmp_path)


def made(state):
    return LabServices(
        config.load(environ={"PERFCI_STATE_DIR": str(state), "PERFCI_INFLUX__URL": "http://127.0.0.1:9"})
    )


def a_night(controller, number, factors=None, **how):
    lab = {key: how.pop(key) for key in ("spoil", "on_run", "until") if key in how}
    limits = how.pop("limits", None)
    folder = archives.night(controller.state.archive, number, **how)
    if limits is not None:
        job = (folder / "job.yml").read_text() + f"analysis: {{confirm: {json.dumps(limits)}}}\n"
        (folder / "job.yml").write_text(job)
    fake = reruns.FakeLab(controller.state.archive, folder, factors or {}, **lab)
    nodes = fake.nodes() if factors is not None else None
    outcome = Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()), nodes)
    return outcome, fake


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """The state folder after the nights that make a baseline. Tests begin with copies of it."""
    lab = made(tmp_path_factory.mktemp("baseline"))
    for number in range(1, BASELINE + 1):
        quiet, fake = a_night(lab, number, NOTHING)
        assert fake.sides == [], "nothing stands out"
        assert quiet.told == ()
    return lab.state.root


@pytest.fixture
def play(controller, baseline):
    """Play a night that is slower than the baseline; re-runs find what `factors` say."""

    def go(factors, **how):
        shutil.copytree(baseline, controller.state.root, dirs_exist_ok=True)
        return go.night(BASELINE + 1, factors, **{**SLOW, **how})

    go.night = partial(a_night, controller)
    return go


def confirmations(outcome):
    return {one.key.action: one.confirmation for one in outcome.judgements if one.confirmation is not None}


def timing(outcome):
    """What came out for the whole iteration."""
    return next(
        one for one in outcome.judgements if (one.key.action, one.key.metric) == ("total", Metric.SECONDS)
    )


def mails(controller):
    with closing(mailbox.Maildir(controller.state.mail)) as box:
        return [email.message_from_bytes(m.as_bytes(), policy=email.policy.default) for m in box]


def later(outcome):
    return [type(one).__name__ for one in outcome.later if type(one).__name__ != "InfluxUnreachable"]


def test_the_first_slow_night_is_confirmed_and_told(play, controller):
    outcome, lab = play(REAL)
    assert [one.kind for one in outcome.told] == [NotificationKind.REGRESSION]
    found = confirmations(outcome)["total"]
    assert (found.decision, found.basis) == (Decision.DIFFERENT, Basis.RERUNS)
    assert found.low < 1.0 < found.high
    assert (found.old_runs, found.new_runs) == (lab.sides.count(Side.OLD), lab.sides.count(Side.NEW))
    assert found.asked == outcome.record.run_id
    assert "29.0.0+bbbb" in found.new
    assert "slow-lists@1f2e3d4c" in found.new
    assert "29.0.0" in found.old
    assert "+bbbb" not in found.old
    alert = outcome.told[0].alert
    assert (alert.since, alert.last_good) == (outcome.record.run_id, found.good)
    assert outcome.exit_code == 1
    (mail,) = mails(controller)
    text = " ".join(mail.get_body(("plain",)).get_content().split())
    assert "Re-runs of the old and the new code confirm it: +" in text
    assert f"Confirmed by re-runs: {found.new_runs} fresh deployments of neutron 29.0.0+bbbb" in text
    assert later(outcome) == []


def test_re_runs_are_in_the_archive_and_no_nights(play, controller):
    outcome, lab = play(REAL)
    folders = rerun_folders(controller.state.archive)
    assert len(folders) == len(lab.sides)
    records = [read_archive(folder).record for folder in folders]
    assert {record.purpose for record in records} == {Purpose.CONFIRM}
    assert {record.confirms for record in records} == {outcome.record.run_id}
    assert {job.name for job in lab.jobs} == {"nightly-confirm"}
    assert len(run_folders(controller.state.archive)) == BASELINE + 1
    assert controller.local.run_ids("embedded", "nightly-confirm") == ()
    assert len(controller.local.run_ids("embedded", "nightly")) == BASELINE + 1
    assert not [run for run in controller.pending() if "confirm" in run]
    assert "confirm" not in "".join(page.read_text() for page in outcome.site.parent.rglob("index.html"))
    assert find_run(controller.state.archive, folders[0].name) == folders[0]
    assert find_run(controller.state.archive, "last").name == outcome.record.run_id


def test_the_two_sides_take_turns(play):
    _, lab = play(REAL)
    first = lab.sides.index(Side.OLD)
    assert set(lab.sides) == {Side.OLD, Side.NEW}
    for end in range(max(first, LONGEST), len(lab.sides)):
        assert len(set(lab.sides[end - LONGEST : end + 1])) == 2


def test_the_confirmed_change_lasts_without_more_re_runs_and_closes_once(play, controller):
    play(REAL)
    for number in (11, 12):
        outcome, lab = play.night(number, REAL, **SLOW)
        assert lab.sides == []
        assert outcome.told == ()
        total = timing(outcome)
        assert total.outcome is Outcome.REGRESSION
        assert total.confirmation.decision is Decision.DIFFERENT
    fixed = [play.night(number, NOTHING)[0] for number in (13, 14, 15)]
    assert [one.kind for outcome in fixed for one in outcome.told] == [NotificationKind.CLOSED]
    assert len(mails(controller)) == 2


def test_what_re_runs_refute_is_not_told(play, controller):
    outcome, lab = play(NOTHING)
    assert outcome.told == ()
    assert lab.sides
    found = confirmations(outcome)["total"]
    assert found.decision is Decision.SAME
    total = timing(outcome)
    assert total.outcome is Outcome.NO_CHANGE
    assert "refuted" in total.reason
    again, lab = play.night(11, NOTHING, **SLOW)
    assert again.told == (), "two nights make a claim, which re-runs refute again"
    assert lab.sides
    assert mails(controller) == []


def test_a_claim_that_re_runs_can_not_settle_is_too_noisy_to_tell_and_asked_again(play, controller):
    play(None)  # nobody can ask on the first slow night
    outcome, lab = play.night(11, REAL, **SLOW, limits={"most_runs": 2})
    assert len(lab.sides) == 2
    assert outcome.told == ()
    total = timing(outcome)
    assert total.outcome is Outcome.TOO_NOISY
    assert "the 2 re-runs of a night were not enough" in total.reason
    assert mails(controller) == []
    assert outcome.exit_code == 0
    outcome, lab = play.night(12, REAL, **SLOW)
    assert [one.kind for one in outcome.told] == [NotificationKind.REGRESSION]
    assert outcome.told[0].alert.since < outcome.record.run_id


def test_no_time_left_on_the_nodes_is_told_in_the_mail(play, controller):
    play(None)
    outcome, lab = play.night(11, REAL, **SLOW, until=datetime.now(UTC) - timedelta(minutes=1))
    assert lab.sides == []
    assert [one.kind for one in outcome.told] == [NotificationKind.REGRESSION]
    (mail,) = mails(controller)
    assert "Not confirmed by re-runs: there was no time" in " ".join(
        mail.get_body(("plain",)).get_content().split()
    )


def test_a_job_that_wants_no_re_runs(play, controller):
    play(None)
    outcome, lab = play.night(11, REAL, **SLOW, limits={"enabled": False})
    assert lab.sides == []
    assert [one.kind for one in outcome.told] == [NotificationKind.REGRESSION]
    assert {one.basis for one in confirmations(outcome).values()} == {Basis.NOTHING}


def test_the_same_code_is_never_a_regression(play, controller):
    same = {"factor": 2.0}
    play(None, **same, code="aaaaaaaaaaaa", changes=())
    outcome, lab = play.night(11, REAL, **same)
    assert lab.sides == []
    assert outcome.told == ()
    total = timing(outcome)
    assert total.outcome is Outcome.INVALID
    assert "so the lab changed" in total.reason
    assert mails(controller) == []
    assert play.night(12, REAL, **same)[0].told == ()


def test_invalid_re_runs_are_no_observations(play):
    outcome, lab = play(REAL, spoil=lambda number, _: UNFIT if number in (1, 2, 4) else {})
    found = confirmations(outcome)["total"]
    assert found.decision is Decision.DIFFERENT
    assert len(found.runs) == len(lab.sides) - 3


def test_three_invalid_re_runs_in_a_row_are_the_end(play, controller):
    play(None)
    outcome, lab = play.night(11, REAL, **SLOW, spoil=lambda *_: UNFIT)
    assert len(lab.sides) == 3
    assert outcome.told == ()
    total = timing(outcome)
    assert total.outcome is Outcome.TOO_NOISY
    assert "the disk is slow" in total.reason


def test_an_old_revision_that_can_not_be_deployed_leaves_the_night_its_own_verdict(play, controller):
    play(None)
    broken = lambda _, side: {"status": "failed"} if side is Side.OLD else {}  # noqa: E731
    outcome, lab = play.night(11, REAL, **SLOW, spoil=broken)
    assert lab.sides[-3:] == [Side.OLD] * 3
    assert [one.kind for one in outcome.told] == [NotificationKind.REGRESSION]
    (mail,) = mails(controller)
    assert "nova-api did not answer" in mail.get_body(("plain",)).get_content()


def test_code_that_comes_out_as_another_one_is_no_observation(play):
    play(None)
    other = {"code": "cccccccccccc"}
    outcome, lab = play.night(11, REAL, **SLOW, spoil=lambda *_: other)
    assert len(lab.sides) == 3
    assert {one.basis for one in confirmations(outcome).values()} == {Basis.NOTHING}


def test_another_environment_is_no_observation(play):
    play(None)
    outcome, _ = play.night(11, REAL, **SLOW, spoil=lambda *_: {"environment": "fedcba987654"})
    total = timing(outcome)
    assert total.outcome is Outcome.TOO_NOISY


def test_told_to_stop_it_tells_what_is_known(play, controller):
    play(None)

    def stop_at_once(number, stop):
        if number == 2:
            stop.set()

    outcome, lab = play.night(11, REAL, **SLOW, on_run=stop_at_once)
    assert len(lab.sides) == 2
    assert [one.kind for one in outcome.told] == [NotificationKind.REGRESSION]
    (mail,) = mails(controller)
    assert "perfci was stopped" in mail.get_body(("plain",)).get_content()


class Killed(BaseException):
    """As if the process were gone."""


def test_a_night_that_was_killed_in_confirm_is_concluded_from_its_re_runs(play, controller):
    play(None)

    def kill(number, _stop):
        if number == 6:
            raise Killed

    with pytest.raises(Killed):
        play.night(11, REAL, **SLOW, on_run=kill)
    assert mails(controller) == []
    folder = run_folders(controller.state.archive)[-1]
    fresh = made(controller.state.root)
    outcome = Aftermath(fresh).of(ArchivedRun(folder), Stages(Silent()))
    assert [one.kind for one in outcome.told] == [NotificationKind.REGRESSION]
    assert len(rerun_folders(controller.state.archive)) == 5
    again = Aftermath(made(controller.state.root)).of(ArchivedRun(folder), Stages(Silent()))
    assert again.told == ()
    assert len(mails(controller)) == 1
    assert {one.key: one.outcome for one in again.judgements} == {
        one.key: one.outcome for one in outcome.judgements
    }


def test_killed_before_the_first_re_run_the_nights_own_verdict_is_told_once(play, controller):
    play(None)

    def kill(_number, _stop):
        raise Killed

    with pytest.raises(Killed):
        play.night(11, REAL, **SLOW, on_run=kill)
    folder = run_folders(controller.state.archive)[-1]
    for _ in range(2):
        Aftermath(made(controller.state.root)).of(ArchivedRun(folder), Stages(Silent()))
    (mail,) = mails(controller)
    assert "the night was cut short" in mail.get_body(("plain",)).get_content()


def test_mixed_answers(play, controller):
    """A counter that proves by itself, a timing that is confirmed, another that is not asked about."""
    outcome, _ = play(REAL)
    told = outcome.told[0].alert.series
    assert {one.key.action for one in told} >= {"total", "neutron.create_port"}
    unchanged = [one for one in outcome.judgements if one.outcome is Outcome.NO_CHANGE]
    assert all(one.confirmation is None for one in unchanged)


def test_damaged_answers_are_told_and_nothing_is_mailed(play, controller):
    outcome, _ = play(REAL)
    mine = confirmation.c.run_id == outcome.record.run_id

    def damage(text):
        with controller.database.transaction() as connection:
            connection.execute(confirmation.update().where(mine).values(document=text))

    damage("{")
    again, _ = play.night(11, REAL, **SLOW)
    assert "ConfirmationsUnreadable" in later(again)
    assert again.told == ()
    for text in ("[]", "{}", '{"key": 1}'):
        damage(text)
        with pytest.raises(ConfirmationsUnreadable, match=outcome.record.run_id):
            read_answers(controller.database, [outcome.record.run_id])


def test_which_scenarios_a_run_measured(tmp_path):
    folder = archives.night(tmp_path, 1)
    results = read_archive(folder)
    key = results.measurements[0].key
    assert scenarios_of(ArchivedRun(folder)) == {(key.scenario, key.arguments): [0]}


def test_what_a_dead_process_owes_is_found_once(controller, tmp_path):
    folder = archives.night(controller.state.archive, 1)
    database, state = controller.database, controller.state
    owe(database, state, folder.name)
    assert left_owing(database, state) == [], "this process lives"
    script = (
        "import sys; from pathlib import Path; from perfci.runs.state.state_folder import StateFolder;"
        "from perfci.database.engine import Database; from perfci.runs.state.unreported import owe;"
        "owe(Database(sys.argv[1]), StateFolder(Path(sys.argv[2])), sys.argv[3])"
    )
    archives.night(controller.state.archive, 2)
    for name in (run_folders(controller.state.archive)[1].name, "never-archived"):
        url = controller.settings.database_url
        subprocess.run([sys.executable, "-c", script, url, str(state.root), name], check=True)
    second = run_folders(state.archive)[1]
    assert [run.folder for run in left_owing(database, state)] == [second]
    assert owing(database, state) == (folder.name, second.name), "what was never archived owes nothing"
    assert left_owing(database, StateFolder(tmp_path / "elsewhere")) == [], "another controller's are its own"


def test_a_run_that_is_archived_while_we_look_is_still_owed(tmp_path, monkeypatch):
    """Another start archives it between the looks at the working folders and at the archive."""
    state, database = StateFolder(tmp_path), Database(f"sqlite:///{tmp_path}/lab.db")
    run_id = "20261121T041500Z-nightly-1f2e"
    owe(database, state, run_id)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE unreported SET owner_pid = 1, owner_started_ticks = 1")
    (state.runs / run_id).mkdir(parents=True)

    def moving(look):
        def looked(*folders):
            found = look(*folders)
            if (state.runs / run_id).exists():
                state.archive.mkdir(parents=True)
                (state.runs / run_id).rename(state.archive / run_id)
                (state.archive / run_id / "run.json").write_text("{}")
            return found

        return looked

    for name in ("unfinished", "run_folders"):
        monkeypatch.setattr(unreported, name, moving(getattr(unreported, name)))
    left_owing(database, state)
    assert owing(database, state) == (run_id,)
