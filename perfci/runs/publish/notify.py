"""Who hears of a run: the mails about it go into the outbox, and the outbox to the mail server."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfci.alerts.mail import compose
from perfci.alerts.mail_context import MailContext
from perfci.alerts.mail_sections import recipients
from perfci.alerts.mail_suspects import SuspectList
from perfci.alerts.maildir import MaildirTransport
from perfci.alerts.model import Audience, Notification, NotificationKind
from perfci.alerts.settings import MailSettings, SmtpSettings
from perfci.alerts.smtp import SmtpTransport
from perfci.changes.model import REQUIREMENTS
from perfci.changes.super_repository import SUPER
from perfci.changes.suspects import SlowTarget
from perfci.errors import InternalError, PerfciError
from perfci.logs import FILE
from perfci.results.errors import ArchiveError
from perfci.results.model import Metric
from perfci.results.validity import comparable
from perfci.runs.publish.calibration_store import read_calibration
from perfci.runs.publish.lab_condition import lab_state
from perfci.runs.publish.suspect_store import keep_suspects
from perfci.runs.state.digests import code_under_test
from perfci.runs.state.run_folder import utc_now
from perfci.runs.verdicts.judge import histories_of
from perfci.runs.verdicts.judgement_store import read_judgements
from perfci.runs.verdicts.repositories import repositories
from perfci.runs.verdicts.run_changes import between_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from email.message import EmailMessage

    from perfci.alerts.bisect_story import BisectStory
    from perfci.alerts.model import Alert
    from perfci.alerts.outbox import Delivery, Transport
    from perfci.analysis.types import Judgement
    from perfci.config import Settings
    from perfci.results.model import RunRecord, ServiceRevision
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.state.state_folder import StateFolder
    from perfci.runs.verdicts.lab_services import LabServices

_HISTORY_RUNS = 60
_logger = logging.getLogger(__name__)


def mail_settings(services: LabServices, record: RunRecord | None) -> MailSettings:
    """Return who hears of a run; without any address in the settings, the sender."""
    mail = services.settings.mail
    job = services.job(record.run_id) if record is not None else None
    to = (job.mail.to if job is not None and job.mail else mail.to) or (mail.from_address,)
    return MailSettings(
        from_address=mail.from_address,
        to=to,
        admins=mail.admins,
        base_url=mail.base_url,
    )


@dataclass(frozen=True, slots=True)
class ComposedLetter:
    """A mail that is ready for the outbox; `id` is that of its notification."""

    id: str
    message: EmailMessage
    sender: str
    recipients: tuple[str, ...]


def compose_letters(
    services: LabServices,
    notifications: Sequence[Notification],
    record: RunRecord | None,
    judgements: Sequence[Judgement],
) -> tuple[ComposedLetter, ...]:
    """Write the mails for these notifications of a run with these judgements. Nothing is kept or sent.

    `record` is None where the run's own can't be read.
    """
    os.environ.setdefault("MPLCONFIGDIR", str(services.state.root / "cache" / "matplotlib"))
    settings = mail_settings(services, record)
    return tuple(
        ComposedLetter(
            id=one.id,
            message=compose(one, _context(services, one, record, judgements), settings, now=utc_now()),
            sender=settings.from_address,
            recipients=recipients(one.audience, settings),
        )
        for one in notifications
        if one.by_mail
    )


def put(services: LabServices, letters: Sequence[ComposedLetter]) -> None:
    """Put mails into the outbox, in the transaction around this if there is one. A known mail stays."""
    for one in letters:
        services.outbox.put(one.id, one.message, sender=one.sender, recipients=one.recipients, now=utc_now())


def post(services: LabServices, notifications: Sequence[Notification], record: RunRecord) -> None:
    """Put the mails for these notifications of a judged run into the outbox. Raises JudgementDamaged."""
    judgements = read_judgements(services.database, record.run_id)
    put(services, compose_letters(services, notifications, record, judgements))


def post_bisect(services: LabServices, alert: Alert, story: BisectStory) -> bool:
    """Put the mail about a bisect into the outbox, in the thread of its alert; False where it is known.

    Its author gets it only with `mail.authors`, and only of a change that is proven.
    """
    record = services.local.record(alert.since)
    settings = mail_settings(services, record)
    if services.settings.mail.authors and story.proven and story.address is not None:
        settings = replace(settings, to=tuple(dict.fromkeys((*settings.to, story.address))))
    os.environ.setdefault("MPLCONFIGDIR", str(services.state.root / "cache" / "matplotlib"))
    told = bisect_told(alert)
    message = compose(told, MailContext(record=record, bisect=story), settings, now=utc_now())
    return services.outbox.put(
        told.id, message, sender=settings.from_address, recipients=settings.to, now=utc_now()
    )


def has_bisect(services: LabServices, alert: Alert) -> bool:
    """Tell whether the mail about an alert's bisect was written."""
    return services.outbox.knows(bisect_told(alert).id)


def bisect_told(alert: Alert) -> Notification:
    """Return the notification of a bisect that has ended."""
    return Notification(
        id=f"bisect-{alert.id}",
        kind=NotificationKind.BISECT,
        audience=Audience.JOB,
        lab=alert.lab,
        job=alert.job,
        run_id=alert.since,
        alert=alert,
    )


def deliver(services: LabServices) -> Delivery:
    """Send the mail that waits."""
    return services.outbox.deliver(_transport(services.settings, services.state))


def _context(
    services: LabServices,
    notification: Notification,
    record: RunRecord | None,
    judgements: Sequence[Judgement],
) -> MailContext:
    """Gather what the mail shows beside the notification itself."""
    if notification.alert is None or record is None:
        return MailContext(record=record)
    moved = {series.key for series in notification.alert.series}
    moved |= {replace(key, metric=Metric.SECONDS) for key in moved if key.metric is Metric.RATIO}
    records = services.local.records(record.lab, record.job, until=record.run_id, limit=_HISTORY_RUNS)
    calibration = read_calibration(services.database, record.lab, record.job)
    run = services.archived(record.run_id)
    return MailContext(
        record=record,
        judgements=tuple(judgements),
        histories=tuple(histories_of(services, moved, records, comparable(records))),
        lab_state=lab_state(run),
        reference=_reference(run) if record.reference is not None else (),
        calibrations={one.key: one for one in calibration.series} if calibration is not None else {},
        suspects=suspects_of(services, notification.alert),
        records={one.run_id: one for one in records},
    )


def _reference(run: ArchivedRun) -> tuple[ServiceRevision, ...]:
    """Return the code that a run was held against; nothing where it had none, or its archive is gone."""
    try:
        reference = run.document.get("reference") or {}
        return code_under_test(reference.get("services", ())).services
    except (ArchiveError, KeyError, TypeError, AttributeError):
        _logger.warning("%s: its run.json does not say which code it was held against", run.run_id)
        return ()


def suspects_of(services: LabServices, alert: Alert) -> SuspectList | None:
    """Return which changes can have caused a regression; None where no repositories are known.

    They are kept for the pages. A mail never waits for more than one git server that hangs, and goes
    without them then.
    """
    settings = services.settings
    if settings.git_base is None or alert.last_good is None or not alert.code_known:
        return None
    leading = alert.leading.key
    try:
        before, after = (services.archived(one).document for one in (alert.last_good, alert.since))
        clones = repositories(settings, fresh=(SUPER, REQUIREMENTS, *(one.service for one in alert.changes)))
        target = SlowTarget(alert.service, (leading.scenario, leading.action))
        found = between_runs(clones, before, after, target)
    except (PerfciError, OSError, ValueError) as error:
        return SuspectList(problem=str(error))
    except Exception as error:
        # A fault of ours in what explains a regression must not keep people from hearing of it.
        _logger.exception("the suspects of the alert %s can't be worked out", alert.id)
        return SuspectList(problem=str(InternalError.of(error, log=services.state.logs / FILE)))
    told = SuspectList(found.suspects, found.remarks, found.product_is_out)
    keep_suspects(services.state.root, alert.id, told)
    return told


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
