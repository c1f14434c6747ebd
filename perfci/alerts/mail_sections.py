"""The parts of the mails on alerts: evidence, change of code, method, steps. Pure."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from perfci import pages
from perfci.alerts.chart import Trend, describe, draw
from perfci.alerts.document import FactList, Paragraph, Picture, Row, Steps, Table
from perfci.alerts.mail_context import METHOD, METHOD_OF_PAIRS
from perfci.alerts.model import Alert, Audience, Closing, felt_first, interest
from perfci.analysis.decision import Decision
from perfci.analysis.robust import median
from perfci.analysis.types import Basis
from perfci.projects import project
from perfci.results.model import TOTAL, Metric
from perfci.wording import (
    MISSING,
    TIMES,
    action_name,
    change,
    counted,
    detectable,
    interval,
    levels,
    probability,
    quantity,
    reruns,
    revision_name,
    run_day,
    scenario_name,
    seconds,
    several_arguments,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfci.alerts.document import Block
    from perfci.alerts.fix import Fix
    from perfci.alerts.mail_context import MailContext
    from perfci.alerts.model import MovedSeries, RevisionChange
    from perfci.alerts.settings import MailSettings
    from perfci.analysis.types import SeriesHistory
    from perfci.results.model import SeriesKey

ROWS = 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
_COMPARING = ("https://opendev.org/", "https://github.com/")
"""Where a page compares two commits."""
_ALONE = "If the night alone proves nothing, the effect and interval above come from the re-runs."
_PROOF = (
    "The proof is how much likelier the re-runs' results are if the new code is slower than if it is not."
)


_PAIRS_PROOF = (
    "The intervals of the re-runs stay valid however often perfci looks at them: one in 250 would "
    "miss the true difference."
)


def recipients(audience: Audience, settings: MailSettings) -> tuple[str, ...]:
    """Return who gets a mail; the admins' mail goes to the others where there are no admins."""
    return settings.admins or settings.to if audience is Audience.ADMINS else settings.to


def link(page: str, base_url: str, fragment: str = "") -> str:
    """Return the address of a page below the base URL."""
    hash_part = f"#{quote(fragment)}" if fragment else ""
    return f"{base_url.rstrip('/')}/{quote(page)}{hash_part}"


def page_steps(run_id: str, settings: MailSettings) -> tuple[tuple[str, str], ...]:
    """Return the step to a run's page; none where the pages are served nowhere."""
    if settings.base_url is None:
        return ()
    return (("Its page:", link(pages.run_page(run_id), settings.base_url)),)


def alert_steps(alert: Alert, settings: MailSettings) -> tuple[tuple[str, str], ...]:
    """Return the step to an alert's page: its address, else the command that shows the alert."""
    if settings.base_url is None:
        return (("See this alert as it is now:", f"perfci alerts show {alert.id}"),)
    page = link(pages.alert_page(alert.id), settings.base_url)
    return (("See what changed, before and after, and what to do:", page),)


def trend_step(key: SeriesKey, settings: MailSettings) -> tuple[str, str]:
    """Return the step to the trend of a series: its page, else the command that says when it changed."""
    if settings.base_url is None:
        name = key.scenario if key.action == TOTAL else key.action
        command = f"perfci analyse changepoints {shlex.quote(name)} --job {shlex.quote(key.job)}"
        return ("See when its level changed:", command)
    return ("Look at the trend:", link(pages.scenario_page(key), settings.base_url, pages.anchor(key)))


def slower(alert: Alert, evidence: MailContext) -> list[Block]:
    """Show what is slower: the picture, then each series with its evidence."""
    blocks: list[Block] = [*pictures(alert, evidence), _moved_table(alert, evidence)]
    if len(alert.series) > ROWS:
        rest = len(alert.series) - ROWS
        blocks.append(
            Paragraph(f"{rest} more series moved less; `perfci analyse {alert.opened}` has them all.")
        )
    return blocks


def _moved_table(alert: Alert, evidence: MailContext) -> Table:
    runs = {key: len(judgement.baseline) for key, judgement in evidence.by_key.items()}
    several = several_arguments(one.key for one in alert.series)
    rows = tuple(
        Row(
            action_name(one.key),
            scenario_name(one.key, several),
            (
                change(one.effect, one.key.metric),
                felt_levels(one, evidence),
                interval(one.low, one.high, one.key.metric),
                probability(one.q_value),
                _sample(runs.get(one.key), _iterations(one.key, evidence.histories)),
            ),
        )
        for one in _shown(alert)
    )
    return Table(
        "series",
        ("effect", "before → since", "95 % interval", "q", f"runs {TIMES} iterations"),
        rows,
        strong=0,
    )


def felt_name(key: SeriesKey) -> str:
    """Name a series in a sentence that says itself what it was compared with."""
    return action_name(replace(key, metric=Metric.SECONDS) if key.metric is Metric.RATIO else key)


def felt_levels(one: MovedSeries, evidence: MailContext) -> str:
    """Return a series' level before and since the change; of a ratio to a reference the seconds behind it.

    The seconds are those of the latest run with both; what the reference took follows from the ratio.
    """
    metric = one.key.metric
    took = _seconds_of(one.key, evidence) if metric is Metric.RATIO else None
    return levels(one.baseline_location, one.after, metric, took)


def _seconds_of(key: SeriesKey, evidence: MailContext) -> float | None:
    """Return the median seconds behind a ratio in the last run of its history; None where it has none."""
    timing = replace(key, metric=Metric.SECONDS)
    points = next((one.points for one in evidence.histories if one.key == timing), ())
    return median(points[-1].values) if points and points[-1].values else None


def back_table(alert: Alert, evidence: MailContext) -> Table:
    """Show each series of an alert then and now."""
    rows = []
    several = several_arguments(one.key for one in alert.series)
    for one in _shown(alert):
        now = evidence.by_key.get(one.key)
        last, before, then = _levels_now(one, now.location if now else None, evidence)
        rows.append(
            Row(
                action_name(one.key),
                scenario_name(one.key, several),
                (
                    last,
                    before,
                    f"{then} ({change(one.effect, one.key.metric)})",
                    str(now.outcome) if now else "not measured",
                ),
            )
        )
    return Table("series", ("last run", "baseline", "alert", "verdict"), tuple(rows), strong=0)


def _levels_now(one: MovedSeries, now: float | None, evidence: MailContext) -> list[str]:
    """Return a series' level in the last run, in the baseline and in the alert.

    Of a ratio to a reference they are seconds: those of the last run, and what its reference makes of the
    other two.
    """
    levels, metric = (now, one.baseline_location, one.after), one.key.metric
    took = _seconds_of(one.key, evidence) if metric is Metric.RATIO else None
    if took is None or not now:
        return [quantity(level, metric) for level in levels]
    return [seconds(None if level is None else took / now * level) for level in levels]


def _shown(alert: Alert) -> list[MovedSeries]:
    return sorted(alert.series, key=felt_first)[:ROWS]


def what_changed(alert: Alert) -> list[Block]:
    """Say which code differs between the last good and the first bad run."""
    if not alert.code_known:
        return [Paragraph("The code of the last good run is not known, so it can't be compared.")]
    span = f"between the last good run ({alert.last_good}) and the first bad one ({alert.since})"
    if not alert.changes:
        return [
            Paragraph(
                f"Nothing changed in the code under test {span}. That suggests a cause around it: a "
                f"dependency, data that grew, or a machine that drifts too slowly for the canaries. A run of "
                f"the same code on other nodes would show whether it is the machine."
            )
        ]
    blocks: list[Block] = [Paragraph(f"Code {span}:"), *_code(alert.changes)]
    if alert.service not in {project(one.service) for one in alert.changes}:
        blocks.append(
            Paragraph(f"The series that moved belong to {alert.service}, which itself did not change.")
        )
    return blocks


def what_fixed(fix: Fix) -> list[Block]:
    """Say which run was the first at the old level, and which code came with it."""
    first = f"The run {fix.run_id} was the first at the old level"
    if not fix.code_known:
        return [Paragraph(f"{first}. Its code, or that of the run before, is not known.")]
    if not fix.changes:
        return [
            Paragraph(
                f"{first}. Its code is the same as that of the slow run before it ({fix.last_bad}), so "
                "something around the code changed back."
            )
        ]
    return [
        Paragraph(f"{first}. Code of the slow run before it ({fix.last_bad}) and of this run:"),
        *_code(fix.changes),
    ]


def _code(changes: Sequence[RevisionChange]) -> Iterator[Block]:
    for one in changes:
        before, after = _revision(one, before=True), _revision(one, before=False)
        yield FactList((("service", one.service), ("before", before), ("after", after), *_range(one)))


def _range(one: RevisionChange) -> Iterator[tuple[str, str]]:
    """Name the commits in between, where both are commits of one repository."""
    if one.before is None or one.after is None or one.before.source != one.after.source:
        return
    old, new = one.before.revision, one.after.revision
    if old == new or not (_COMMIT.fullmatch(old) and _COMMIT.fullmatch(new)):
        return
    yield "commits", f"git log {old[:12]}..{new[:12]}"
    if one.after.source.startswith(_COMPARING):
        yield "online", f"{one.after.source.removesuffix('.git')}/compare/{old}...{new}"


def _revision(one: RevisionChange, *, before: bool) -> str:
    revision = one.before if before else one.after
    return revision_name(revision) if revision else "not deployed"


def determined(alert: Alert, evidence: MailContext) -> list[Block]:
    """Say how the verdict was found, and what the lab was like."""
    leading = alert.headline
    judgement = evidence.by_key.get(leading.key)
    facts = []
    paired = leading.key.metric is Metric.RATIO
    if paired:
        facts.append(("reference", _reference(alert, evidence)))
    elif judgement and judgement.baseline:
        first, last = run_day(min(judgement.baseline)), run_day(max(judgement.baseline))
        runs = counted(len(judgement.baseline), "run")
        days = first if first == last else f"{first} to {last}"
        facts.append(("baseline", f"{runs} in the same environment, {days}"))
    if leading.kind is not None:
        facts.append(("kind", f"{leading.kind}"))
    if leading.mde is not None:
        least = change(leading.mde, leading.key.metric).lstrip("+")
        facts.append(("can detect", f"changes of {least} or more in this series (MDE)"))
    if calibration := evidence.calibrations.get(leading.key):
        runs = counted(calibration.runs, "run")
        shows = detectable(calibration.mde, leading.key.metric)
        facts.append(("calibrated", f"{shows}, from {runs} of unchanged code"))
    facts.append(("lab", evidence.lab_state or "valid: canaries and foreign load within their limits"))
    facts.append(("found in", f"{alert.opened}"))
    return [*confirmed(alert), Paragraph(METHOD_OF_PAIRS if paired else METHOD), FactList(tuple(facts))]


def _reference(alert: Alert, evidence: MailContext) -> str:
    """Name the code of the cloud beside the one under test: that of the service to blame, else all of it."""
    blamed = [one for one in evidence.reference if project(one.service) == alert.service]
    names = [f"{one.service} {revision_name(one)}" for one in blamed or evidence.reference]
    return f"{', '.join(names) or 'code accepted before'}, on a second cloud beside the code under test"


def is_confirmed(one: MovedSeries) -> bool:
    """Tell whether re-runs confirmed that a series has changed."""
    return one.confirmation is not None and one.confirmation.decision is Decision.DIFFERENT


def confirmed(alert: Alert) -> list[Block]:
    """Say what re-runs have shown beside the nights, or why there were none."""
    moved = sorted(alert.series, key=interest)
    rerun = [one for one in moved if is_confirmed(one)]
    blocks: list[Block] = []
    if rerun and rerun[0].confirmation is not None:
        alone = any(one.confirmation is not None and not one.confirmation.claimed for one in rerun)
        proven = any(one.confirmation is not None and one.confirmation.log_proof is not None for one in rerun)
        rule = _PROOF if proven else _PAIRS_PROOF
        text = f"Confirmed by re-runs: {reruns(rerun[0].confirmation)}. {rule}"
        blocks.append(Paragraph(f"{text} {_ALONE}" if alone else text))
        blocks.append(_rerun_table(rerun[:ROWS]))
    reasons = {
        one.confirmation.reason: None
        for one in moved
        if one.confirmation is not None and one.confirmation.basis is Basis.NOTHING
    }
    blocks += [Paragraph(f"Not confirmed by re-runs: {reason}.") for reason in reasons]
    return blocks


def _rerun_table(moved: Sequence[MovedSeries]) -> Table:
    """Show what nights and re-runs say. Only where it has a number, the proof: pairs decide by intervals."""
    proven = any(one.confirmation is not None and one.confirmation.log_proof is not None for one in moved)
    rows = tuple(
        Row(
            action_name(one.key),
            one.key.scenario,
            (
                change(_nightly(one), one.key.metric),
                shown(one.confirmation, one.key.metric) if one.confirmation else MISSING,
                *((_odds(one.confirmation.log_proof if one.confirmation else None),) if proven else ()),
            ),
        )
        for one in moved
    )
    return Table("series", ("the nights", "the re-runs", *(("proof",) if proven else ())), rows, strong=1)


def _nightly(one: MovedSeries) -> float | None:
    """Return the change that the nights show; of one that only re-runs have proven, the latest night's."""
    if one.confirmation is None or one.confirmation.claimed:
        return one.effect
    if not one.location or not one.baseline_location:
        return None
    return one.location / one.baseline_location - 1


def _odds(log_proof: float | None) -> str:
    """Write a Bayes factor, which means little beyond a million."""
    if log_proof is None:
        return MISSING
    most = 1_000_000
    return f"> {most} : 1" if log_proof > math.log(most) else f"{math.exp(log_proof):.0f} : 1"


def regression_steps(alert: Alert, settings: MailSettings) -> Steps:
    """Say what the reader can do, with the page that has it all, and the commands."""
    fix = f"{alert.changes[0].service if alert.changes else alert.service}=fix.patch"
    items = [
        *(alert_steps(alert, settings) if settings.base_url is None else ()),
        ("Try a fix before it is merged:", f"perfci try {alert.job} --change {fix}"),
        ("Reproduce it with the same code, environment and job:", f"perfci run reproduce {alert.since}"),
        ("See every verdict of the run:", f"perfci analyse {alert.opened} --full"),
        ("See everything that the run measured:", f"perfci results show {alert.opened}"),
        trend_step(alert.headline.key, settings),
        ("Tell others that you are looking into it:", f"perfci alerts acknowledge {alert.id}"),
        ("If the change is intended, accept it as the new normal:", f"perfci alerts accept {alert.id}"),
    ]
    if alert.last_good:
        compare = f"perfci run compare {alert.last_good} \\\n  {alert.since}"
        items.insert(3, ("Compare the last good run with the first slow one:", compare))
    return Steps(tuple(items))


def pictures(alert: Alert, evidence: MailContext, fix: Fix | None = None) -> tuple[Picture, ...]:
    """Draw the trends of the clearest series; nothing where no history is at hand."""
    histories = {history.key: history for history in evidence.histories}
    trends = tuple(Trend(one, histories[one.key]) for one in _shown(alert) if one.key in histories)
    if not trends:
        return ()
    fixed = fix.run_id if fix else alert.closed if alert.closing is Closing.FIXED else None
    return (Picture(draw(trends, since=alert.since, fixed=fixed), describe(trends, alert.since)),)


def _iterations(key: SeriesKey, histories: Sequence[SeriesHistory]) -> int | None:
    found = next((history for history in histories if history.key == key), None)
    return len(found.points[-1].values) if found and found.points else None


def _sample(runs: int | None, iterations: int | None) -> str:
    return f"{runs or '?'} {TIMES} {iterations or '?'}"
