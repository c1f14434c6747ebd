"""`perfci alerts`: what a person says about an alert, and who hears of it."""

from __future__ import annotations

import email
import email.policy
import mailbox
import socket
from contextlib import closing
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest
from aiosmtpd.controller import Controller
from typer.testing import CliRunner

from perfci.alerts.model import Alert, AlertState, Closing, MovedSeries
from perfci.cli.access import lab_services
from perfci.cli.alerts import app
from perfci.results.model import CodeUnderTest, Metric, RunRecord, RunResults, SeriesKey, Validity

NIGHTLY, UPGRADE = "20261120T041500Z-nightly-aaaa", "20261121T220000Z-upgrade-bbbb"


@pytest.fixture
def services(tmp_path, monkeypatch):
    """A controller with an open alert of the job nightly; a run of another job was processed after it."""
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    services = lab_services()
    when = datetime(2026, 11, 20, tzinfo=UTC)
    for run_id, job in ((NIGHTLY, "nightly"), (UPGRADE, "upgrade")):
        code, fit = CodeUnderTest("c", ()), Validity(valid=True)
        record = RunRecord(run_id, "embedded", job, "embedded", when, when, "e", code, fit)
        services.local.write(RunResults(record))
        folder = services.state.archive / run_id
        folder.mkdir(parents=True)
        folder.joinpath("job.yml").write_text(
            f"name: {job}\nscenarios: [{{task: t, times: 1}}]\nmail: {{to: ['{job}-team@example.org']}}\n"
        )
    key = SeriesKey("embedded", "nightly", "S", "a", "total", Metric.SECONDS)
    moved = MovedSeries(key, NIGHTLY, NIGHTLY, 0.2, 0.1, 0.3, 0.001, 0.05, 0.4, 0.5, None)
    alert = Alert("abc1234567", "embedded", "nightly", "nova", NIGHTLY, None, NIGHTLY, (moved,), (), False)  # noqa: FBT003
    processed = {"embedded/nightly": NIGHTLY, "embedded/upgrade": UPGRADE}
    services.alerts.save(AlertState((alert,), processed))
    return services


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Rejecting:
    """Takes no mail without a login."""

    words = "530 5.7.1 Authentication required"

    async def handle_MAIL(self, server, session, envelope, address, options):  # noqa: N802
        return self.words


def test_mail_that_a_wrong_setting_keeps_is_shown_in_the_servers_words(services, monkeypatch):
    message = EmailMessage()
    message["To"] = "team@example.org"
    services.outbox.put(
        "a", message, sender="p@example.org", recipients=("team@example.org",), now=datetime.now(UTC)
    )
    controller = Controller(Rejecting(), hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        monkeypatch.setenv("PERFCI_MAIL__TRANSPORT", "smtp")
        monkeypatch.setenv("PERFCI_MAIL__SMTP__PORT", str(controller.port))
        done = CliRunner().invoke(app, ["deliver"])
        assert (done.exit_code, done.stdout) == (4, "0 sent, 1 waiting, 0 refused\n")
        assert Rejecting.words in done.stderr
        monkeypatch.setattr(Rejecting, "words", "552 5.3.4 Message too big")
        done = CliRunner().invoke(app, ["deliver"])
        assert (done.exit_code, done.stdout) == (4, "0 sent, 0 waiting, 1 refused\n")
        assert Rejecting.words in done.stderr
    finally:
        controller.stop()


def mails(services):
    with closing(mailbox.Maildir(services.state.mail)) as box:
        return [email.message_from_bytes(one.as_bytes(), policy=email.policy.default) for one in box]


def test_an_alert_is_accepted_with_the_newest_run_of_its_own_job(services):
    done = CliRunner().invoke(app, ["accept", "abc"])
    assert done.exit_code == 0, done.output
    (alert,) = services.alerts.load().alerts
    assert (alert.closing, alert.closed) == (Closing.ACCEPTED, NIGHTLY)
    (mail,) = mails(services)
    assert mail["To"] == "nightly-team@example.org"
    assert NIGHTLY in mail.get_body(("plain",)).get_content()


def test_what_can_not_be_written_to_its_people_is_not_accepted(services, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("perfci.alerts.outbox.Outbox.put", broken)
    CliRunner().invoke(app, ["accept", "abc"])
    (alert,) = services.alerts.load().alerts
    assert alert.closed is None


def test_an_alert_is_accepted_once(services):
    assert CliRunner().invoke(app, ["accept", "abc"]).exit_code == 0
    again = CliRunner().invoke(app, ["accept", "abc"])
    assert again.exit_code == 2
    assert len(mails(services)) == 1


def test_where_the_people_of_a_job_are_not_known_it_is_said_who_got_the_mail(services):
    (services.state.archive / NIGHTLY / "job.yml").write_text("name: nightly\nscenarios: 5\n")
    done = CliRunner().invoke(app, ["accept", "abc"])
    assert done.exit_code == 0, done.output
    assert f"can't read job.yml of run {NIGHTLY}" in done.stderr
    assert "mails to `mail.to`" in done.stderr
    (mail,) = mails(services)
    assert mail["To"] != "nightly-team@example.org"
