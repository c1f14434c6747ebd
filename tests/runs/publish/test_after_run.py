"""After the archive: what is stored, said and shown, night by night, and what waits when a service is down."""

from __future__ import annotations

import email
import email.policy
import mailbox
import socket
from contextlib import closing

import archives
import pytest

from perfci import config
from perfci.alerts.lifecycle import acknowledge
from perfci.alerts.model import NotificationKind, SeriesStatus
from perfci.analysis.types import Outcome
from perfci.database import schema
from perfci.results.archive import read_archive
from perfci.results.errors import IndexUnavailable
from perfci.results.model import CALIBRATE, COMPARE, Validity
from perfci.runs.publish import after_run
from perfci.runs.publish.after_run import Aftermath
from perfci.runs.publish.site_data import write_site
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.progress import Silent
from perfci.runs.state.stages import Stages
from perfci.runs.state.unreported import owe, owing
from perfci.runs.verdicts.judgement_store import JudgementDamaged, read_judgements
from perfci.runs.verdicts.lab_services import ArchivedJobInvalid, LabServices
from perfci.runs.verdicts.rebuild import rebuild


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def controller(tmp_path):
    """A controller whose InfluxDB does not answer."""
    return LabServices(
        config.load(
            environ={
                "PERFCI_STATE_DIR": str(tmp_path),
                "PERFCI_INFLUX__URL": f"http://127.0.0.1:{free_port()}",
                "PERFCI_INFLUX__TIMEOUT_SECONDS": "2",
            }
        )
    )


@pytest.fixture
def after(controller):
    def go(number, **changed):
        folder = archives.night(controller.state.archive, number, **changed)
        return Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))

    return go


def subjects(controller):
    with closing(mailbox.Maildir(controller.state.mail)) as box:
        return [email.message_from_bytes(m.as_bytes(), policy=email.policy.default)["Subject"] for m in box]


def test_influxdb_down_costs_nothing_but_time(after, controller):
    outcome = after(1)
    assert outcome.exit_code == 0
    assert [type(error).__name__ for error in outcome.later] == ["InfluxUnreachable"]
    assert controller.local.run_ids("embedded", "nightly") == (outcome.record.run_id,)
    assert controller.pending() == (outcome.record.run_id,)
    assert outcome.site.is_file()


@pytest.mark.parametrize(
    "text", ["name: [", "name: nightly\nscenarios: 5\n", "\0\0", "", "[" * 5000, "name: !!bool maybe"]
)
def test_an_archived_job_that_can_not_be_read_is_reported_and_costs_no_verdict(controller, text):
    folder = archives.night(controller.state.archive, 1)
    (folder / "job.yml").write_text(text)
    outcome = Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))
    assert outcome.judgements
    (error,) = [one for one in outcome.later if isinstance(one, ArchivedJobInvalid)]
    assert folder.name in str(error)
    assert "mail.to" in error.advice


def test_a_run_without_a_job_file_has_no_job(controller):
    folder = archives.night(controller.state.archive, 1)
    (folder / "job.yml").unlink(missing_ok=True)
    outcome = Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))
    assert [one for one in outcome.later if isinstance(one, ArchivedJobInvalid)] == []


def test_a_slow_down_is_told_once_and_closed_once(after, controller):
    for number in range(1, 9):
        quiet = after(number)
        assert quiet.told == ()
    assert {one.outcome for one in quiet.judgements} <= {Outcome.NO_BASELINE, Outcome.NO_CHANGE}
    slow = [after(number, factor=1.4, code="bbbbbbbbbbbb") for number in (9, 10, 11)]
    told = [one for outcome in slow for one in outcome.told]
    assert [one.kind for one in told] == [NotificationKind.REGRESSION]
    alert = told[0].alert
    assert alert.since == slow[0].record.run_id
    assert [(c.service, c.after.version) for c in alert.changes] == [("neutron", "29.0.0+bbbb")]
    total = next(series for series in alert.series if series.key.action == "total")
    assert total.low < 0.4 < total.high
    assert slow[-1].exit_code == 1
    assert f'id="alert-{alert.id}"' in slow[-1].site.read_text()
    fixed = [after(number) for number in (12, 13, 14)]
    assert [one.kind for outcome in fixed for one in outcome.told] == [NotificationKind.CLOSED]
    assert fixed[-1].exit_code == 0
    assert "No alert is open." in fixed[-1].site.read_text()
    with closing(mailbox.Maildir(controller.state.mail)) as box:
        letters = [email.message_from_bytes(m.as_bytes(), policy=email.policy.default) for m in box]
    (end,) = [one.get_body(("plain",)).get_content() for one in letters if "back to normal" in one["Subject"]]
    assert f"The run {fixed[0].record.run_id} was the first at the old level" in end
    assert "before   29.0.0+bbbb (wheel)\nafter    29.0.0 (wheel)" in end
    assert len(subjects(controller)) == 2
    assert all("nightly: neutron" in subject for subject in subjects(controller))


def test_growing_noise_is_told_once_a_week(after, controller):
    """Two weeks in which runs scatter by 8 %, after three in which they hardly did; a Monday and a Tuesday."""
    for number in range(1, 36):
        factor = 1.0 if number <= 20 else 1.08 ** (-1) ** number
        folder = archives.night(controller.state.archive, number, factor=factor)
        controller.local.write(read_archive(folder))
    told = [one for number in (36, 37) for one in after(number, factor=1.08 ** (-1) ** number).told]
    noise = [one for one in told if one.kind is NotificationKind.NOISE]
    assert len({one.id for one in noise}) == 1
    assert any(series.key.action == "total" for series in noise[0].growing)
    assert noise[0].growing[0].low > 1.25
    assert [subject for subject in subjects(controller) if "noise" in subject] == [
        f"[perfci] nightly: the noise of {len(noise[0].growing)} series grows on embedded"
    ]


@pytest.mark.parametrize("job", [f"nightly{CALIBRATE}", f"nightly{COMPARE}"])
@pytest.mark.parametrize("status", ["finished", "failed"])
def test_what_is_no_night_is_stored_and_owes_nothing_whoever_makes_up_for_it(controller, job, status):
    """A calibration that was killed after its run was archived: the next plain night finds it owed."""
    folder = archives.night(controller.state.archive, 1, job=job, status=status)
    owe(controller.database, controller.state, folder.name)
    outcome = Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))
    assert (outcome.judgements, outcome.told, outcome.site) == ((), (), None)
    assert controller.local.record(folder.name) == outcome.record
    assert read_judgements(controller.database, folder.name) == ()
    assert controller.outbox.letters() == ()
    assert not controller.state.mail.exists()
    assert owing(controller.database, controller.state) == ()


def test_the_same_run_twice_sends_nothing_twice(after, controller):
    after(1, status="failed")
    assert len(subjects(controller)) == 1
    folder = next(controller.state.archive.iterdir())
    again = Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))
    assert again.delivery.sent == ()
    assert len(subjects(controller)) == 1


def test_a_failed_run_is_told_with_its_excerpt_and_measures_nothing(after, controller):
    outcome = after(1, status="failed")
    assert outcome.exit_code == 1
    assert outcome.judgements == ()
    with closing(mailbox.Maildir(controller.state.mail)) as box:
        (message,) = [email.message_from_bytes(m.as_bytes(), policy=email.policy.default) for m in box]
    assert message["To"] == "team@example.org"
    assert "ValueError: broken" in message.get_body(("plain",)).get_content()


def test_a_damaged_report_is_told_and_the_night_goes_on(controller):
    folder = archives.night(controller.state.archive, 1)
    (folder / "rally" / "01-ports.json").write_text('{"info": {"format_version": "1.2"}, "tasks": [')
    outcome = Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))
    assert "ReportError" in [type(error).__name__ for error in outcome.later]
    assert outcome.exit_code == 1
    assert outcome.site.is_file()


def test_an_unfit_lab_is_never_a_regression(after):
    for number in range(1, 9):
        after(number)
    unfit = after(9, factor=2.0, validity=Validity(valid=False, reasons=("the disk is slow",)))
    assert {one.outcome for one in unfit.judgements} == {Outcome.INVALID}
    assert [one.kind for one in unfit.told] == [NotificationKind.LAB_INVALID]
    assert unfit.exit_code == 0


def test_a_mail_server_that_is_down_gets_it_later(tmp_path):
    settings = {
        "PERFCI_STATE_DIR": str(tmp_path),
        "PERFCI_INFLUX__URL": f"http://127.0.0.1:{free_port()}",
        "PERFCI_MAIL__TRANSPORT": "smtp",
        "PERFCI_MAIL__SMTP__HOST": "127.0.0.1",
        "PERFCI_MAIL__SMTP__PORT": str(free_port()),
    }
    controller = LabServices(config.load(environ=settings))
    folder = archives.night(controller.state.archive, 1, status="failed")
    outcome = Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))
    assert len(outcome.delivery.waiting) == 1
    assert controller.outbox.status().waiting == 1


def test_a_run_whose_verdict_failed_is_still_owed_and_told_once_when_it_can_be_judged(
    after, controller, monkeypatch
):
    for number in range(1, 9):
        after(number)
    assert after(9, factor=1.4, code="bbbbbbbbbbbb").told == ()
    alerts = controller.alerts.load()
    folder = archives.night(controller.state.archive, 10, factor=1.4, code="bbbbbbbbbbbb")
    owe(controller.database, controller.state, folder.name)

    def locked(*_):
        raise IndexUnavailable(path="results.db", reason="it is locked")

    with monkeypatch.context() as patch:
        patch.setattr("perfci.runs.publish.after_run.judging.judge_run", locked)
        failed = Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))
    assert "IndexUnavailable" in [type(error).__name__ for error in failed.later]
    assert failed.told == ()
    assert failed.exit_code != 0
    assert controller.alerts.load() == alerts, "the alerts have not seen the run"
    assert owing(controller.database, controller.state) == (folder.name,)

    later = [Aftermath(controller).of(ArchivedRun(folder), Stages(Silent())) for _ in range(2)]
    assert controller.alerts.load().processed == {"embedded/nightly": folder.name}
    assert owing(controller.database, controller.state) == ()
    assert [[one.kind for one in outcome.told] for outcome in later] == [[NotificationKind.REGRESSION], []]
    assert len(subjects(controller)) == 1


def test_judgements_alerts_letters_and_what_is_owed_change_together(after, controller, monkeypatch):
    for number in range(1, 9):
        after(number)
    folder = archives.night(controller.state.archive, 9, status="failed")
    owe(controller.database, controller.state, folder.name)
    before = controller.alerts.load()

    def killed(*_):
        raise KeyboardInterrupt

    for at in ("settle", "put"):
        with monkeypatch.context() as patch:
            patch.setattr(f"perfci.runs.publish.after_run.{at}", killed)
            with pytest.raises(KeyboardInterrupt):
                Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))
        assert controller.outbox.letters() == ()
        assert controller.alerts.load() == before
        assert owing(controller.database, controller.state) == (folder.name,)
    Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))
    assert owing(controller.database, controller.state) == ()
    assert len(subjects(controller)) == 1


def test_what_a_person_says_while_a_run_is_reported_is_not_lost(after, controller, monkeypatch):
    for number in range(1, 12):
        after(number, factor=1.4 if number >= 9 else 1.0, code="b" * 12 if number >= 9 else "a" * 12)
    (alert,) = controller.alerts.load().alerts
    whole = after_run.compose_letters

    def acknowledged_meanwhile(*arguments):
        monkeypatch.setattr("perfci.runs.publish.after_run.compose_letters", whole)
        with controller.alerts.exclusive():
            controller.alerts.save(acknowledge(controller.alerts.load(), alert.id, "ann@lab"))
        return whole(*arguments)

    monkeypatch.setattr("perfci.runs.publish.after_run.compose_letters", acknowledged_meanwhile)
    outcome = after(12, factor=1.4, code="b" * 12)
    state = controller.alerts.load()
    assert [one.status for one in state.alerts] == [SeriesStatus.ACKNOWLEDGED]
    assert state.processed == {"embedded/nightly": outcome.record.run_id}


def test_damaged_judgements_are_an_error_and_no_empty_page(after, controller):
    outcome = after(1)
    with controller.database.transaction() as connection:
        connection.execute(schema.judgement.update().values(document=b"garbage"))
    with pytest.raises(JudgementDamaged, match=outcome.record.run_id) as caught:
        write_site(controller)
    assert "perfci results rebuild" in caught.value.advice
    assert rebuild(controller).judged == (outcome.record.run_id,)
    assert read_judgements(controller.database, outcome.record.run_id) == outcome.judgements
    assert write_site(controller).is_file()
