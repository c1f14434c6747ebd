"""Who hears of a run: the mails about it go into the outbox, and the outbox to the mail server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from perfci.alerts.mail import compose
from perfci.alerts.mail_context import MailContext
from perfci.alerts.mail_sections import recipients
from perfci.alerts.maildir import MaildirTransport
from perfci.alerts.settings import MailSettings, SmtpSettings
from perfci.alerts.smtp import SmtpTransport
from perfci.runs.publish.calibration_store import read_calibration
from perfci.runs.publish.lab_condition import lab_state
from perfci.runs.state.run_folder import utc_now
from perfci.runs.verdicts.judge import read_judgements, series_history

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.alerts.model import Notification
    from perfci.alerts.outbox import Delivery, Transport
    from perfci.config import Settings
    from perfci.results.model import RunRecord
    from perfci.runs.state.state_folder import StateFolder
    from perfci.runs.verdicts.lab_services import LabServices

_HISTORY_RUNS = 60


def mail_settings(services: LabServices, record: RunRecord) -> MailSettings:
    """Return who hears of a run; without any address in the settings, the sender."""
    mail = services.settings.mail
    job = services.job(record.run_id)
    to = (job.mail.to if job is not None and job.mail else mail.to) or (mail.from_address,)
    return MailSettings(
        from_address=mail.from_address,
        to=to,
        admins=mail.admins,
        base_url=mail.base_url,
        site=str(services.state.site),
    )


def post(services: LabServices, notifications: Sequence[Notification], record: RunRecord) -> None:
    """Put the mails for these notifications into the outbox. A mail that is there already stays."""
    os.environ.setdefault("MPLCONFIGDIR", str(services.state.root / "cache" / "matplotlib"))
    settings = mail_settings(services, record)
    for notification in notifications:
        if notification.by_mail:
            message = compose(notification, _context(services, notification, record), settings, now=utc_now())
            services.outbox.put(
                notification.id,
                message,
                sender=settings.from_address,
                recipients=recipients(notification.audience, settings),
                now=utc_now(),
            )


def deliver(services: LabServices) -> Delivery:
    """Send the mail that waits."""
    return services.outbox.deliver(_transport(services.settings, services.state))


def _context(services: LabServices, notification: Notification, record: RunRecord) -> MailContext:
    """Gather what the mail shows beside the notification itself."""
    if notification.alert is None:
        return MailContext(record=record)
    moved = {series.key for series in notification.alert.series}
    histories = services.local.histories(record.run_id, _HISTORY_RUNS)
    calibration = read_calibration(services.state.root, record.lab, record.job)
    return MailContext(
        record=record,
        judgements=read_judgements(services.state.judgements, record.run_id),
        histories=tuple(series_history(one) for one in histories if one.key in moved),
        lab_state=lab_state(services.state.archive / record.run_id),
        calibrations={one.key: one for one in calibration.series} if calibration is not None else {},
    )


def _transport(settings: Settings, state: StateFolder) -> Transport:
    smtp = settings.mail.smtp
    if settings.mail.transport == "maildir":
        return MaildirTransport(state.mail)
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
