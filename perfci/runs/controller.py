"""The controller's side of perfci: stores, alerts, mail and pages of one state folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import yaml

from perfci.alerts.evidence import Evidence
from perfci.alerts.mail import compose
from perfci.alerts.maildir import MaildirTransport
from perfci.alerts.outbox import Outbox
from perfci.alerts.repository import AlertFile
from perfci.alerts.sections import recipients
from perfci.alerts.settings import MailSettings, SmtpSettings
from perfci.alerts.smtp import SmtpTransport
from perfci.analysis.settings import AnalysisSettings
from perfci.results.ledger import DeliveryLedger
from perfci.results.stores.influx import InfluxStore
from perfci.results.stores.influx_http import InfluxSettings
from perfci.results.stores.local import LocalStore
from perfci.results.sync import Synced, pending, sync
from perfci.runs.calibrated import read_calibration
from perfci.runs.folders import StateFolder
from perfci.runs.job import Job
from perfci.runs.judging import read_judgements, series_history
from perfci.runs.labstate import lab_state
from perfci.runs.projects import playbooks
from perfci.runs.publishing import write_site
from perfci.runs.services import controller_runs, start_controller, stop_controller
from perfci.runs.work import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from perfci.alerts.model import Notification
    from perfci.alerts.outbox import Delivery, Transport
    from perfci.config import Settings
    from perfci.results.model import RunRecord

_HISTORY_RUNS = 60


@dataclass(frozen=True)
class Controller:
    """What the controller keeps, and the services beside the lab that it talks to."""

    settings: Settings

    @cached_property
    def state(self) -> StateFolder:
        """The state folder."""
        return StateFolder(self.settings.state_dir)

    @cached_property
    def local(self) -> LocalStore:
        """The index of the archive that all analysis reads."""
        return LocalStore(self.state.index)

    @cached_property
    def alerts(self) -> AlertFile:
        """The alerts."""
        return AlertFile(self.state.alerts)

    @cached_property
    def outbox(self) -> Outbox:
        """The mail that waits."""
        return Outbox(self.state.outbox)

    @cached_property
    def influx(self) -> InfluxStore:
        """The InfluxDB that dashboards read. Raises SecretUnreadable and InfluxSettingsInvalid."""
        influx = self.settings.influx
        return InfluxStore(
            InfluxSettings(
                url=self.settings.influx_address,
                database=influx.database,
                bucket=influx.bucket or "",
                org=influx.org,
                token=influx.secret_token() or "",
                username=influx.username or "",
                password=influx.secret_password() or "",
                timeout_seconds=influx.timeout_seconds,
            )
        )

    def job(self, run_id: str) -> Job | None:
        """Return the job that a run ran; None where the archive has none that can be read."""
        try:
            return Job.model_validate(yaml.safe_load((self.state.archive / run_id / "job.yml").read_text()))
        except (OSError, ValueError, yaml.YAMLError):
            return None

    def analysis_settings(self, record: RunRecord) -> AnalysisSettings:
        """Return how a run's job wants to be judged."""
        job = self.job(record.run_id)
        return AnalysisSettings() if job is None else self.job_settings(job)

    def job_settings(self, job: Job) -> AnalysisSettings:
        """Return how a job wants to be judged."""
        return AnalysisSettings(
            min_baseline=job.analysis.baseline_runs, latency_floor=job.analysis.minimum_effect
        )

    def mail_settings(self, record: RunRecord) -> MailSettings:
        """Return who is told about a run; without any address in the settings, the sender's own."""
        mail = self.settings.mail
        job = self.job(record.run_id)
        to = (job.mail.to if job is not None and job.mail else mail.to) or (mail.from_address,)
        return MailSettings(
            from_address=mail.from_address,
            to=to,
            admins=mail.admins,
            base_url=mail.base_url,
            site=str(self.state.site),
        )

    def post(self, notifications: Sequence[Notification], record: RunRecord) -> None:
        """Put the mails for these notifications into the outbox; what is there already stays as it is."""
        os.environ.setdefault("MPLCONFIGDIR", str(self.state.root / "cache" / "matplotlib"))
        settings = self.mail_settings(record)
        for notification in notifications:
            if notification.by_mail:
                message = compose(notification, self._evidence(notification, record), settings, now=utc_now())
                self.outbox.put(
                    notification.id,
                    message,
                    sender=settings.from_address,
                    recipients=recipients(notification.audience, settings),
                    now=utc_now(),
                )

    def _evidence(self, notification: Notification, record: RunRecord) -> Evidence:
        """Gather what the mail shows beside the notification itself."""
        if notification.alert is None:
            return Evidence(record=record)
        moved = {series.key for series in notification.alert.series}
        histories = self.local.histories(record.run_id, _HISTORY_RUNS)
        calibration = read_calibration(self.state.root, record.lab, record.job)
        return Evidence(
            record=record,
            judgements=read_judgements(self.state.judgements, record.run_id),
            histories=tuple(series_history(one) for one in histories if one.key in moved),
            lab_state=lab_state(self.state.archive / record.run_id),
            calibrations={one.key: one for one in calibration.series} if calibration is not None else {},
        )

    def deliver(self) -> Delivery:
        """Send the mail that waits."""
        return self.outbox.deliver(self._transport())

    def sync(self, on_step: Callable[[str], None] = lambda _: None) -> Synced:
        """Deliver to InfluxDB what it does not have yet; the embedded one is started for that.

        Raises EmbeddedInfluxDown, or what the store raises; what was delivered before stays delivered.
        """
        started = False
        if self.settings.influx.url is None and not controller_runs(self.state):
            start_controller(playbooks(self.settings), self.state, on_step)
            started = True
        try:
            return sync(self.state.archive, self.influx, DeliveryLedger(self.state.delivered))
        finally:
            if started:
                stop_controller(self.state)

    def pending(self) -> tuple[str, ...]:
        """Return the ids of archived runs that InfluxDB does not have yet."""
        return pending(self.state.archive, self.influx, DeliveryLedger(self.state.delivered))

    def publish(self) -> Path:
        """Write the pages anew, and return the first one."""
        return write_site(self)

    def _transport(self) -> Transport:
        smtp = self.settings.mail.smtp
        if self.settings.mail.transport == "maildir":
            return MaildirTransport(self.state.mail)
        return SmtpTransport(
            SmtpSettings(
                host=smtp.host,
                port=smtp.port,
                security=smtp.security,
                username=smtp.username,
                password=smtp.secret_password(),
                timeout_seconds=smtp.timeout_seconds,
            )
        )
