"""What each notification says. Pure: notification and evidence in, document out.

A regression's mail answers, in this order: what is slower, what changed, how was it determined, what
can the reader do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.alerts.bisect_mail import bisect_document
from perfci.alerts.document import FactList, Log, MailDocument, MailTone, Paragraph, Section, Steps
from perfci.alerts.fix import found_fix
from perfci.alerts.mail_sections import (
    alert_steps,
    back_table,
    determined,
    felt_levels,
    felt_name,
    is_confirmed,
    page_steps,
    pictures,
    recipients,
    regression_steps,
    slower,
    trend_step,
    what_changed,
    what_fixed,
)
from perfci.alerts.mail_suspects import suspect_blocks
from perfci.alerts.model import Alert, Audience, Closing, Notification, NotificationKind, interest
from perfci.alerts.noise_digest import noise_story
from perfci.analysis.types import Outcome
from perfci.errors import FailureClass
from perfci.redaction import redacted
from perfci.results.model import COUNTERS, Metric
from perfci.wording import (
    MINUS,
    action_name,
    change,
    counted,
    is_or_are,
    run_day,
    run_moment,
    shown,
)

if TYPE_CHECKING:
    from perfci.alerts.document import Block
    from perfci.alerts.mail_context import MailContext
    from perfci.alerts.model import MovedSeries, RunFailure
    from perfci.alerts.settings import MailSettings

_SUBJECT = 110
_EXCERPT_LINES = 40
_CAUSES = {
    FailureClass.PRODUCT: (
        "the code under test",
        "Read the excerpt first: it comes from the code under test.",
    ),
    FailureClass.TEST: ("the job or its scenarios", "Correct the job file or its arguments."),
    FailureClass.LAB: ("the lab", "No change is to blame. Repair the lab; the next night runs as usual."),
    FailureClass.UNKNOWN: ("not known", "The logs do not show the cause. Please investigate."),
}


def tell(notification: Notification, evidence: MailContext, settings: MailSettings) -> MailDocument:
    """Return what is to be said. Raises ValueError for an improvement, of which no mail is sent."""
    match notification.kind:
        case NotificationKind.REGRESSION if notification.alert:
            return _regression(notification.alert, evidence, settings)
        case NotificationKind.CLOSED if notification.alert:
            return _closed(notification.alert, notification.run_id, evidence, settings)
        case NotificationKind.RUN_FAILED if notification.failure:
            return _failed(notification.failure, settings)
        case NotificationKind.LAB_INVALID | NotificationKind.LAB_VALID as kind:
            lab = _lab_invalid if kind is NotificationKind.LAB_INVALID else _lab_valid
            return lab(notification, settings)
        case NotificationKind.BISECT if notification.alert and evidence.bisect:
            return bisect_document(
                evidence.bisect, notification.alert, recipients(notification.audience, settings)
            )
        case NotificationKind.NOISE if notification.growing:
            return noise_story(notification, settings)
        case _:
            msg = f"no mail is sent for {notification.kind}"
            raise ValueError(msg)


def _regression(alert: Alert, evidence: MailContext, settings: MailSettings) -> MailDocument:
    leading = alert.headline
    effect = change(leading.effect, leading.key.metric)
    scenarios = counted(len({one.key.scenario for one in alert.series}), "scenario")
    name = _short_name(leading)
    paired = leading.key.metric is Metric.RATIO
    verdict = (
        f"{felt_name(leading.key)} {is_or_are(leading.key)} {_size(leading)} than "
        f"{'on the reference beside it' if paired else 'the baseline'} since the run of "
        f"{run_moment(alert.since)} UTC ({felt_levels(leading, evidence)}); "
        f"{counted(len(alert.series), 'series')} in {scenarios} moved together."
        f"{_counter_sentence(alert)}{_rerun_sentence(alert)}"
    )
    return MailDocument(
        subject=_subject(alert, f"{name} {effect} ({scenarios}) since {run_day(alert.since)}"),
        tone=MailTone.BAD,
        verdict=verdict,
        sections=(
            Section("What is slower", tuple(slower(alert, evidence))),
            Section("What changed", (*what_changed(alert), *_suspects(alert, evidence))),
            Section("How it was determined", tuple(determined(alert, evidence))),
            Section("What you can do", (regression_steps(alert, settings),)),
        ),
        foot=_foot(alert.lab, alert.job, f"alert {alert.id}", recipients(Audience.JOB, settings)),
        page=alert_steps(alert, settings)[0] if settings.base_url is not None else ("", ""),
    )


def _suspects(alert: Alert, evidence: MailContext) -> list[Block]:
    if evidence.suspects is None:
        return []
    return suspect_blocks(evidence.suspects, alert.last_good, alert.since)


def _counter_sentence(alert: Alert) -> str:
    """Say of the clearest counter that it moved too, where the mail leads with a timing."""
    found = min((one for one in alert.series if one.key.metric in COUNTERS), key=interest, default=None)
    if found is None or alert.headline.key.metric in COUNTERS:
        return ""
    name = action_name(found.key)
    return f" {name} {is_or_are(found.key)} {_size(found)}, too."


def _rerun_sentence(alert: Alert) -> str:
    """Say for how many of the series re-runs confirm it, and by how much for the clearest of those."""
    first = min((one for one in alert.series if is_confirmed(one)), key=interest, default=None)
    if first is None or first.confirmation is None:
        return ""
    size = shown(first.confirmation, first.key.metric)
    if first.key == alert.headline.key:
        return f" Re-runs of the old and the new code confirm it: {size}."
    return f" Re-runs of the old and the new code confirm {action_name(first.key)}: {size}."


def _closed(alert: Alert, run_id: str, evidence: MailContext, settings: MailSettings) -> MailDocument:
    leading, fix = alert.headline, None
    if alert.closing is Closing.ACCEPTED:
        word = "accepted"
        verdict = (
            f"The change of {action_name(leading.key)} ({change(leading.effect, leading.key.metric)} since "
            f"{run_moment(alert.since)} UTC) was accepted as the new normal; new baselines start there."
        )
    elif alert.closing is Closing.KNOWN:
        word = "known"
        verdict = (
            f"{action_name(leading.key)} ({change(leading.effect, leading.key.metric)} since "
            f"{run_moment(alert.since)} UTC) is a known exception of the job as of the run of "
            f"{run_moment(run_id)} UTC. "
            "It may still be slower: a new alert opens if the job no longer names it."
        )
    else:
        word = "back to normal"
        now = evidence.by_key.get(leading.key)
        fix = found_fix(alert, evidence.histories, evidence.records)
        noisy = now is not None and now.outcome is Outcome.TOO_NOISY
        level = "level of the reference" if leading.key.metric is Metric.RATIO else "baseline"
        state = "no longer measurably slower" if noisy else f"back at the {level}"
        when = (
            f"since the run of {run_moment(fix.run_id)}" if fix else f"as of the run of {run_moment(run_id)}"
        )
        verdict = (
            f"{felt_name(leading.key)} {is_or_are(leading.key)} {state} {when} UTC; "
            f"it had been {_size(leading)} since {run_moment(alert.since)} UTC."
        )
    sections = [Section("Then and now", (*pictures(alert, evidence, fix), back_table(alert, evidence)))]
    if fix is not None:
        sections.insert(0, Section("What fixed it", tuple(what_fixed(fix))))
    steps = Steps(
        (
            ("See every verdict of the run:", f"perfci analyse {run_id} --full"),
            trend_step(leading.key, settings),
        )
    )
    sections.append(Section("What you can do", (Paragraph("You need not do anything."), steps)))
    return MailDocument(
        subject=_subject(
            alert, f"{_short_name(leading)} {word} (was {change(leading.effect, leading.key.metric)})"
        ),
        tone=MailTone.GOOD,
        verdict=verdict,
        sections=tuple(sections),
        foot=_foot(alert.lab, alert.job, f"alert {alert.id}", recipients(Audience.JOB, settings)),
    )


def _failed(failure: RunFailure, settings: MailSettings) -> MailDocument:
    cause, hint = _CAUSES[failure.failure_class]
    error = redacted(failure.error)
    blocks: list[Block] = [
        FactList(
            (
                ("stage", failure.stage),
                ("class", f"{failure.failure_class} ({cause})"),
                ("error", " ".join(error.split())),
            )
        )
    ]
    sections = [Section("What failed", tuple(blocks))]
    if failure.excerpt:
        excerpt = "\n".join(redacted(failure.excerpt).splitlines()[-_EXCERPT_LINES:])
        sections.append(Section("What the log says", (Log(failure.source or "log", excerpt),)))
    todo: list[Block] = [Paragraph(hint)]
    if failure.advice:
        todo.append(Paragraph(redacted(failure.advice)))
    todo.append(
        Steps(
            (
                (
                    "See what ran, how each stage ended and where its logs are:",
                    f"perfci run show {failure.run_id}",
                ),
                ("Run the same again:", f"perfci run reproduce {failure.run_id}"),
                *page_steps(failure.run_id, settings),
            )
        )
    )
    sections.append(Section("What you can do", tuple(todo)))
    first = error.strip().splitlines()[0] if error.strip() else "no message"
    audience = recipients(
        Audience.JOB
        if failure.failure_class in (FailureClass.PRODUCT, FailureClass.TEST)
        else Audience.ADMINS,
        settings,
    )
    return MailDocument(
        subject=_short(
            f"[perfci] {failure.job}: run failed in {failure.stage} ({failure.failure_class}): {first}"
        ),
        tone=MailTone.LAB if failure.failure_class is FailureClass.LAB else MailTone.BAD,
        verdict=(
            f"The run of {run_moment(failure.run_id)} UTC failed at the stage {failure.stage}; the fault is "
            f"{_fault(failure.failure_class)}. It says nothing about performance."
        ),
        sections=tuple(sections),
        foot=_foot(failure.lab, failure.job, f"run {failure.run_id}", audience),
    )


def _lab_invalid(notification: Notification, settings: MailSettings) -> MailDocument:
    reasons = tuple(Paragraph(f"* {redacted(reason)}") for reason in notification.reasons)
    return MailDocument(
        subject=_short(
            f"[perfci] lab {notification.lab}: not fit to measure since {run_day(notification.run_id)}"
        ),
        tone=MailTone.LAB,
        verdict=(
            f"The lab {notification.lab} was not fit to measure during the run of "
            f"{run_moment(notification.run_id)} UTC. Its results are archived; perfci reports no "
            f"regressions until the lab is fit again."
        ),
        sections=(
            Section("What was off", reasons or (Paragraph("No reason was recorded."),)),
            Section(
                "What you can do",
                (
                    Steps(
                        (
                            (
                                "See why, what ran, and where its files are:",
                                f"perfci run show {notification.run_id}",
                            ),
                            ("See who uses the nodes:", "perfci lab nodes"),
                            *page_steps(notification.run_id, settings),
                        )
                    ),
                    Paragraph("The next mail about this comes when a run is valid again."),
                ),
            ),
        ),
        foot=_foot(
            notification.lab,
            notification.job,
            f"run {notification.run_id}",
            recipients(Audience.ADMINS, settings),
        ),
    )


def _lab_valid(notification: Notification, settings: MailSettings) -> MailDocument:
    return MailDocument(
        subject=_short(f"[perfci] lab {notification.lab}: fit to measure again"),
        tone=MailTone.GOOD,
        verdict=(
            f"The lab {notification.lab} is fit to measure again as of the run of "
            f"{run_moment(notification.run_id)} UTC ({'; '.join(notification.reasons)})."
        ),
        sections=(
            Section(
                "What you can do",
                (
                    Paragraph("You need not do anything."),
                    Steps((("Look at the run:", f"perfci run show {notification.run_id}"),)),
                ),
            ),
        ),
        foot=_foot(
            notification.lab,
            notification.job,
            f"run {notification.run_id}",
            recipients(Audience.ADMINS, settings),
        ),
    )


def _size(series: MovedSeries) -> str:
    """Say how much worse, in the words of the metric: `31 % slower`."""
    metric = series.key.metric
    timing = metric in {Metric.SECONDS, Metric.RATIO}
    word = "slower" if timing else "lower" if metric.higher_is_better else "higher"
    return f"{change(series.effect, metric).lstrip(f'+{MINUS}')} {word}"


def _short_name(series: MovedSeries) -> str:
    """Name a series in a subject: `neutron create_port`."""
    if series.key.metric in {Metric.SECONDS, Metric.RATIO} and "." in series.key.action:
        return series.key.action.replace(".", " ", 1)
    if series.key.metric in COUNTERS:
        return action_name(series.key)
    return f"{series.key.scenario} {action_name(series.key)}"


def _fault(failure_class: FailureClass) -> str:
    return "not known" if failure_class is FailureClass.UNKNOWN else f"with {_CAUSES[failure_class][0]}"


def _subject(alert: Alert, text: str) -> str:
    return _short(f"[perfci] {alert.job}: {text}")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SUBJECT else f"{line[: _SUBJECT - 1].rstrip()}…"


def _foot(lab: str, job: str, about: str, to: tuple[str, ...]) -> str:
    return f"perfci · lab {lab} · job {job} · {about} · sent to {', '.join(to) or 'nobody'}"
