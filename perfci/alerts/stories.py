"""What each notification says. Pure: notification and evidence in, document out.

A regression's mail answers, in this order: what is slower, what changed, how was it determined, what
can the reader do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from perfci import pages
from perfci.alerts.causes import project
from perfci.alerts.chart import Trend, describe, draw
from perfci.alerts.document import Document, Facts, Log, Paragraph, Picture, Row, Section, Steps, Table, Tone
from perfci.alerts.model import Alert, Audience, Closing, Kind, Notification, interest
from perfci.errors import FailureClass
from perfci.redaction import redacted
from perfci.results.model import COUNTERS, Metric
from perfci.wording import (
    TIMES,
    action_name,
    change,
    counted,
    interval,
    probability,
    quantity,
    revision_name,
    run_day,
    run_moment,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.alerts.document import Block
    from perfci.alerts.model import MovedSeries, RevisionChange, RunFailure
    from perfci.alerts.settings import MailSettings
    from perfci.analysis.types import Judgement, SeriesHistory
    from perfci.results.model import RunRecord, SeriesKey

ROWS = 20
_SUBJECT = 110
_EXCERPT_LINES = 40
METHOD = (
    "The runs since the change are compared with the baseline's runs, each by the middle of its iterations; "
    "warm-up and failed iterations are left out. The interval is at 95 %. q is the share of false alarms to "
    "expect among findings as clear as this one, over all series of the night (Benjamini-Hochberg)."
)
_CAUSES = {
    FailureClass.PRODUCT: (
        "the code under test",
        "Look at the excerpt first: it is from the code under test.",
    ),
    FailureClass.TEST: ("the job or its scenarios", "Correct the job file or its arguments."),
    FailureClass.LAB: ("the lab", "Nobody's change is to blame. Repair the lab; the next night goes on."),
    FailureClass.UNKNOWN: ("not known", "The logs did not show whose fault it is. Somebody has to look."),
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known around a notification.

    `judgements` are those of the run, `histories` of (at least) the series of the alert, up to that run.
    `lab_state` is a sentence on canaries and foreign load; `method` is how verdicts are found.
    """

    record: RunRecord | None = None
    judgements: tuple[Judgement, ...] = ()
    histories: tuple[SeriesHistory, ...] = ()
    lab_state: str = ""
    method: str = METHOD
    by_key: Mapping[SeriesKey, Judgement] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_key", {judgement.key: judgement for judgement in self.judgements})


def tell(notification: Notification, evidence: Evidence, settings: MailSettings) -> Document:
    """Return what is to be said. Raises ValueError for an improvement, of which no mail is sent."""
    match notification.kind:
        case Kind.REGRESSION if notification.alert:
            return _regression(notification.alert, evidence, settings)
        case Kind.CLOSED if notification.alert:
            return _closed(notification.alert, notification.run_id, evidence, settings)
        case Kind.RUN_FAILED if notification.failure:
            return _failed(notification.failure, settings)
        case Kind.LAB_INVALID:
            return _lab_invalid(notification, settings)
        case Kind.LAB_VALID:
            return _lab_valid(notification, settings)
        case _:
            msg = f"no mail is sent for {notification.kind}"
            raise ValueError(msg)


def recipients(audience: Audience, settings: MailSettings) -> tuple[str, ...]:
    """Return who gets a mail; the admins' mail goes to the others where there are no admins."""
    return settings.admins or settings.to if audience is Audience.ADMINS else settings.to


def link(page: str, settings: MailSettings, fragment: str = "") -> str:
    """Return the address of a page: below the base URL, else a path."""
    hash_part = f"#{quote(fragment)}" if fragment else ""
    if settings.base_url:
        return f"{settings.base_url.rstrip('/')}/{quote(page)}{hash_part}"
    return f"{settings.site.rstrip('/')}/{page}{hash_part}"


def _regression(alert: Alert, evidence: Evidence, settings: MailSettings) -> Document:
    leading = alert.leading
    effect = change(leading.effect, leading.key.metric)
    scenarios = counted(len({one.key.scenario for one in alert.series}), "scenario")
    name = _short_name(leading)
    verdict = (
        f"{action_name(leading.key)} is {_size(leading)} than its baseline since the run of "
        f"{run_moment(alert.since)} UTC ({_from_to(leading)}); "
        f"{counted(len(alert.series), 'series')} in {scenarios} moved together."
    )
    return Document(
        subject=_subject(alert, f"{name} {effect} ({scenarios}) since {run_day(alert.since)}"),
        tone=Tone.BAD,
        verdict=verdict,
        sections=(
            Section("What is slower", tuple(_slower(alert, evidence))),
            Section("What changed", tuple(_what_changed(alert))),
            Section("How it was determined", tuple(_determined(alert, evidence))),
            Section("What you can do", (_regression_steps(alert, settings),)),
        ),
        foot=_foot(alert.lab, alert.job, f"alert {alert.id}", recipients(Audience.JOB, settings)),
    )


def _closed(alert: Alert, run_id: str, evidence: Evidence, settings: MailSettings) -> Document:
    leading = alert.leading
    if alert.closing is Closing.ACCEPTED:
        word = "accepted"
        verdict = (
            f"The change of {action_name(leading.key)} ({change(leading.effect, leading.key.metric)} since "
            f"{run_moment(alert.since)} UTC) was accepted as the new normal; baselines start there."
        )
    else:
        word = "back to normal"
        verdict = (
            f"{action_name(leading.key)} is back at its baseline as of the run of {run_moment(run_id)} UTC; "
            f"it was {_size(leading)} since {run_moment(alert.since)} UTC."
        )
    sections = [Section("Then and now", (*_pictures(alert, evidence), _back_table(alert, evidence)))]
    steps = Steps(
        (
            ("Look at the run:", f"perfci run show {run_id}"),
            ("Look at the trend:", _trend_link(leading.key, settings)),
        )
    )
    sections.append(Section("What you can do", (Paragraph("Nothing has to be done."), steps)))
    return Document(
        subject=_subject(
            alert, f"{_short_name(leading)} {word} (was {change(leading.effect, leading.key.metric)})"
        ),
        tone=Tone.GOOD,
        verdict=verdict,
        sections=tuple(sections),
        foot=_foot(alert.lab, alert.job, f"alert {alert.id}", recipients(Audience.JOB, settings)),
    )


def _failed(failure: RunFailure, settings: MailSettings) -> Document:
    cause, hint = _CAUSES[failure.failure_class]
    error = redacted(failure.error)
    blocks: list[Block] = [
        Facts(
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
                ("See everything that the run left:", f"perfci run show {failure.run_id}"),
                ("Run the same again:", f"perfci run reproduce {failure.run_id}"),
                ("Its page:", link(pages.run_page(failure.run_id), settings)),
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
    return Document(
        subject=_short(
            f"[perfci] {failure.job}: run failed in {failure.stage} ({failure.failure_class}): {first}"
        ),
        tone=Tone.LAB if failure.failure_class is FailureClass.LAB else Tone.BAD,
        verdict=(
            f"The run of {run_moment(failure.run_id)} UTC failed at the stage {failure.stage}; the fault is "
            f"{_fault(failure.failure_class)}. Nothing is said about performance."
        ),
        sections=tuple(sections),
        foot=_foot(failure.lab, failure.job, f"run {failure.run_id}", audience),
    )


def _lab_invalid(notification: Notification, settings: MailSettings) -> Document:
    reasons = tuple(Paragraph(f"* {redacted(reason)}") for reason in notification.reasons)
    return Document(
        subject=_short(
            f"[perfci] lab {notification.lab}: not fit to measure since {run_day(notification.run_id)}"
        ),
        tone=Tone.LAB,
        verdict=(
            f"The lab {notification.lab} was not fit to measure during the run of "
            f"{run_moment(notification.run_id)} UTC. Its results are archived, but nobody is told of "
            f"regressions until the lab is well again."
        ),
        sections=(
            Section("What was off", reasons or (Paragraph("No reason was noted."),)),
            Section(
                "What you can do",
                (
                    Steps(
                        (
                            (
                                "Look at the canaries and counters of the run:",
                                f"perfci run show {notification.run_id}",
                            ),
                            ("See who uses the nodes:", "perfci lab nodes"),
                            ("Its page:", link(pages.run_page(notification.run_id), settings)),
                        )
                    ),
                    Paragraph("You get one more mail when a run is valid again, and none in between."),
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


def _lab_valid(notification: Notification, settings: MailSettings) -> Document:
    return Document(
        subject=_short(f"[perfci] lab {notification.lab}: fit to measure again"),
        tone=Tone.GOOD,
        verdict=(
            f"The lab {notification.lab} is fit to measure again as of the run of "
            f"{run_moment(notification.run_id)} UTC ({'; '.join(notification.reasons)})."
        ),
        sections=(
            Section(
                "What you can do",
                (
                    Paragraph("Nothing has to be done."),
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


def _slower(alert: Alert, evidence: Evidence) -> list[Block]:
    blocks: list[Block] = [*_pictures(alert, evidence), _moved_table(alert, evidence)]
    if len(alert.series) > ROWS:
        rest = len(alert.series) - ROWS
        blocks.append(
            Paragraph(f"{rest} more series moved less; `perfci run show {alert.opened}` has them all.")
        )
    return blocks


def _moved_table(alert: Alert, evidence: Evidence) -> Table:
    runs = {key: len(judgement.baseline) for key, judgement in evidence.by_key.items()}
    rows = tuple(
        Row(
            action_name(one.key),
            one.key.scenario,
            (
                _from_to(one),
                change(one.effect, one.key.metric),
                interval(one.low, one.high, one.key.metric),
                probability(one.q_value),
                _sample(runs.get(one.key), _iterations(one.key, evidence.histories)),
            ),
        )
        for one in _shown(alert)
    )
    return Table(
        "series",
        ("baseline → now", "effect", "95 % interval", "q", f"runs {TIMES} iterations"),
        rows,
        strong=1,
    )


def _from_to(one: MovedSeries) -> str:
    metric = one.key.metric
    return f"{quantity(one.baseline_location, metric)} → {quantity(one.location, metric)}"


def _back_table(alert: Alert, evidence: Evidence) -> Table:
    rows = []
    for one in _shown(alert):
        now = evidence.by_key.get(one.key)
        rows.append(
            Row(
                action_name(one.key),
                one.key.scenario,
                (
                    quantity(one.baseline_location, one.key.metric),
                    f"{quantity(one.location, one.key.metric)} ({change(one.effect, one.key.metric)})",
                    quantity(now.location if now else None, one.key.metric),
                    str(now.outcome) if now else "not measured",
                ),
            )
        )
    return Table("series", ("baseline", "alert", "now", "verdict"), tuple(rows), strong=2)


def _shown(alert: Alert) -> list[MovedSeries]:
    return sorted(alert.series, key=interest)[:ROWS]


def _what_changed(alert: Alert) -> list[Block]:
    if not alert.code_known:
        return [Paragraph("The code of the last good run is not known, so it can't be compared.")]
    span = f"between the last good run ({alert.last_good}) and the first bad one ({alert.since})"
    if not alert.changes:
        return [
            Paragraph(
                f"Nothing changed in the code under test {span}. That suggests something around it: a "
                f"dependency, data that grew, or a machine that drifts too slowly for the canaries. A run of "
                f"the same code on other nodes would tell."
            )
        ]
    rows = tuple(
        Row(one.service, "", (_revision(one, before=True), _revision(one, before=False)))
        for one in alert.changes
    )
    blocks: list[Block] = [Paragraph(f"Code {span}:")]
    blocks += [
        Facts((("service", row.title), ("before", row.cells[0]), ("after", row.cells[1]))) for row in rows
    ]
    if alert.service not in {project(one.service) for one in alert.changes}:
        blocks.append(
            Paragraph(f"The series that moved belong to {alert.service}, which did not change itself.")
        )
    return blocks


def _revision(one: RevisionChange, *, before: bool) -> str:
    revision = one.before if before else one.after
    return revision_name(revision) if revision else "not deployed"


def _determined(alert: Alert, evidence: Evidence) -> list[Block]:
    leading = alert.leading
    judgement = evidence.by_key.get(leading.key)
    facts = []
    if judgement and judgement.baseline:
        first, last = min(judgement.baseline), max(judgement.baseline)
        runs = counted(len(judgement.baseline), "run")
        facts.append(("baseline", f"{runs} in the same environment, {run_day(first)} to {run_day(last)}"))
    if leading.kind is not None:
        facts.append(("kind", f"{leading.kind}"))
    if leading.mde is not None:
        least = change(leading.mde, leading.key.metric).lstrip("+")
        facts.append(("could show", f"changes of {least} or more in this series (MDE)"))
    facts.append(("lab", evidence.lab_state or "valid: canaries and foreign load within their limits"))
    facts.append(("found in", f"{alert.opened}"))
    return [Paragraph(evidence.method), Facts(tuple(facts))]


def _regression_steps(alert: Alert, settings: MailSettings) -> Steps:
    items = [
        ("Reproduce it: the same code, environment and job again.", f"perfci run reproduce {alert.since}"),
        ("See everything that was measured:", f"perfci run show {alert.opened}"),
        ("Look at the trend:", _trend_link(alert.leading.key, settings)),
        ("Say that you look into it, so that others don't:", f"perfci alerts acknowledge {alert.id}"),
        ("If it is meant to be so, make it the new normal:", f"perfci alerts accept {alert.id}"),
    ]
    if alert.last_good:
        items.insert(1, ("The last good run, to compare with:", f"perfci run show {alert.last_good}"))
    return Steps(tuple(items))


def _trend_link(key: SeriesKey, settings: MailSettings) -> str:
    return link(pages.scenario_page(key), settings, pages.anchor(key))


def _pictures(alert: Alert, evidence: Evidence) -> tuple[Picture, ...]:
    histories = {history.key: history for history in evidence.histories}
    trends = tuple(Trend(one, histories[one.key]) for one in _shown(alert) if one.key in histories)
    if not trends:
        return ()
    fixed = alert.closed if alert.closing is Closing.FIXED else None
    return (Picture(draw(trends, since=alert.since, fixed=fixed), describe(trends, alert.since)),)


def _iterations(key: SeriesKey, histories: Sequence[SeriesHistory]) -> int | None:
    found = next((history for history in histories if history.key == key), None)
    return len(found.points[-1].values) if found and found.points else None


def _sample(runs: int | None, iterations: int | None) -> str:
    return f"{runs or '?'} {TIMES} {iterations or '?'}"


def _size(series: MovedSeries) -> str:
    """Say how much worse, in the words of the metric: `31 % slower`."""
    word = "slower"
    if series.key.metric in COUNTERS or series.key.metric is Metric.FAILURE_RATE:
        word = "higher"
    return f"{change(series.effect, series.key.metric).lstrip('+')} {word}"


def _short_name(series: MovedSeries) -> str:
    """Name a series in a subject: `neutron create_port`."""
    if series.key.metric is Metric.SECONDS and "." in series.key.action:
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
