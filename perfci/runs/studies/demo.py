"""`perfci demo`: the proof that a small real slow-down is found, reported once, and closed once.

A short job is run unchanged, beside a reference of the same code. One night is enough: both sides are equal
where the code is. Then a WSGI filter that does extra database queries is put into neutron's API. That makes
it another revision of the code under test, about 8 % slower. After the first night that sees it both
revisions are deployed again side by side, and their pairs confirm it. Then it is taken out. Every number
comes from a cloud that ran. What the demo checks is worked out a second time here, in a simpler way, from
the archived iterations.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from perfci.alerts.mail_sections import is_confirmed
from perfci.alerts.model import NotificationKind
from perfci.lab.sql import open_ledger
from perfci.results.archive import read_archive
from perfci.results.model import TOTAL, Metric
from perfci.runs.jobs.load import load_job
from perfci.runs.jobs.sources import Filter, Source
from perfci.runs.night.assemble import night
from perfci.runs.night.reference import check_room
from perfci.runs.state.run_folder import utc_now
from perfci.runs.state.state_folder import RERUNS
from perfci.wording import change, counted, quantity, reruns, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from perfci.alerts.model import Alert, MovedSeries, Notification
    from perfci.config import Settings
    from perfci.results.model import RunRecord, SeriesKey
    from perfci.runs.jobs.model import Job
    from perfci.runs.publish.after_run import NightOutcome
    from perfci.runs.state.progress import Progress

JOB = "demo"
SLOW_DOWN = Filter(name="slow-lists", source="jobs/demo/slow_lists.py", factory="slow_lists:factory")
BASELINE, SLOW, FIXED = "baseline", "slow-down", "fix"
RUNS = {BASELINE: 1, SLOW: 2, FIXED: 2}
"""How many nights each phase has at most. Those after the first end once their mail is there."""
ENDS = {SLOW: NotificationKind.REGRESSION, FIXED: NotificationKind.CLOSED}
MIDDLES = 0.02
"""How far median and midmean of the same iterations may lie apart, relative."""
AGAIN = 4
"""How often one run is repeated where the lab was not fit to measure."""


_ABOUT_CODE = frozenset({NotificationKind.REGRESSION, NotificationKind.CLOSED, NotificationKind.RUN_FAILED})
"""Mails to the people of the job; those on the lab's own state go to its admins."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that should be so, and what was found."""

    expected: str
    ok: bool
    found: str


@dataclass(slots=True)
class Demo:
    """The three phases, and what was said in each."""

    settings: Settings
    holder: str
    progress: Progress
    outcomes: dict[str, list[NightOutcome]] = field(default_factory=dict)

    def run(self) -> DemoResult:
        """Run all phases, then check."""
        # A lab name of its own keeps every demo's series apart from all others.
        lab = f"{self.settings.lab}-demo-{utc_now():%Y%m%d%H%M%S}"
        job = load_job(JOB, self.settings.jobs_dir)
        check_room(job, open_ledger(self.settings).nodes)
        for phase, runs in RUNS.items():
            filters = [SLOW_DOWN] if phase == SLOW else []
            self.outcomes[phase] = []
            for _ in range(runs):
                outcome = self._counted(with_filters(job, filters), lab, phase)
                if outcome.failure or not outcome.record.validity.valid:
                    return DemoResult(self.outcomes, checks(self.outcomes))
                if any(one.kind is ENDS.get(phase) for one in outcome.told):
                    break
        return DemoResult(self.outcomes, checks(self.outcomes))

    def _counted(self, job: Job, lab: str, phase: str) -> NightOutcome:
        """Run once; a run on an unfit lab says nothing, so it is run again, a few times."""
        number = 1 + sum(one.record.validity.valid for one in self.outcomes[phase])
        for attempt in range(1 + AGAIN):
            again = " again: the lab was not fit to measure" if attempt else ""
            most = "at most " if phase in ENDS else ""
            self.progress.say(f"\n{phase}, run {number} of {most}{RUNS[phase]}{again}")
            outcome = self._once(job, lab)
            self.outcomes[phase].append(outcome)
            if outcome.failure or outcome.record.validity.valid:
                break
        return outcome

    def _once(self, job: Job, lab: str) -> NightOutcome:
        return night(job, self.settings, holder=self.holder, progress=self.progress, label=lab).run()


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo showed."""

    outcomes: dict[str, list[NightOutcome]]
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """0 where all was as expected."""
        return int(not all(check.ok for check in self.checks))

    def as_dict(self) -> dict[str, Any]:
        """Return the result for `--json`."""
        return {
            "runs": {phase: [o.record.run_id for o in done] for phase, done in self.outcomes.items()},
            "checks": [{"expected": c.expected, "ok": c.ok, "found": c.found} for c in self.checks],
            "noise": noise(self.outcomes),
        }


def with_filters(job: Job, filters: Sequence[Filter]) -> Job:
    """Return the job with these filters in neutron's API: another revision of the code under test."""
    neutron = (job.sources.neutron or Source()).model_copy(update={"filters": tuple(filters)})
    return job.model_copy(update={"sources": job.sources.model_copy(update={"neutron": neutron})})


def checks(outcomes: dict[str, list[NightOutcome]]) -> tuple[Check, ...]:
    """Say what was expected and what was found, phase by phase."""
    failed = [o for done in outcomes.values() for o in done if o.failure]
    if failed:
        run = failed[0]
        return (Check("every run ends well", ok=False, found=f"{run.record.run_id} failed: {run.failure}"),)
    unfit = [done[-1] for done in outcomes.values() if done and not done[-1].record.validity.valid]
    if unfit:
        why = "; ".join(_unfit(unfit))
        return (Check("the lab is fit to measure", ok=False, found=f"too noisy to tell: {why}"),)
    told = {phase: _mails(done) for phase, done in outcomes.items()}
    first = next((n.alert for n in told[SLOW] if n.alert), None)
    found = [
        Check("no mail while nothing changes", not told[BASELINE], _subjects(told[BASELINE])),
        Check(
            "one alert for the slow-down",
            [n.kind for n in told[SLOW]] == [NotificationKind.REGRESSION],
            _subjects(told[SLOW]),
        ),
        Check(
            "one closing mail after the fix",
            [n.kind for n in told[FIXED]] == [NotificationKind.CLOSED],
            _subjects(told[FIXED]),
        ),
    ]
    return (*found, *(_alert_checks(first, outcomes) if first else ()))


def _alert_checks(alert: Alert, outcomes: dict[str, list[NightOutcome]]) -> tuple[Check, ...]:
    slow = [o.record for o in outcomes[SLOW] if o.record.validity.valid]
    since = slow[-1]
    changes = [f"{c.service} {', '.join(c.after.changes) if c.after else ''}" for c in alert.changes]
    sizes = {
        one.key: rerun_effect(one, since, outcomes[SLOW][0].folder.parent / RERUNS)
        if is_confirmed(one) and one.confirmation is not None and not one.confirmation.claimed
        else direct_effect(one.key, outcomes)
        for one in alert.series
    }
    wrong = [s for s in alert.series if not _covers(s, sizes[s.key])]
    strangers = [s.key.label for s in alert.series if not _is_neutrons(s.key)]
    told = ", ".join(
        f"{s.key.scenario} {s.key.action} {change(s.effect, s.key.metric)}" for s in alert.series[:4]
    )
    confirmed = [s for s in alert.series if is_confirmed(s) and s.key.metric is Metric.RATIO]
    return (
        Check("re-runs of both revisions confirm it", bool(confirmed), _confirmations(confirmed)),
        Check("the alert names neutron's series only", not strangers, "; ".join(strangers) or told),
        Check("it begins with a slow run", alert.since in {one.run_id for one in slow}, alert.since),
        Check(
            "it names the revision that changed", any("slow-lists@" in c for c in changes), "; ".join(changes)
        ),
        Check(
            "its sizes are those in the iterations",
            not wrong,
            "; ".join(_size(s, sizes[s.key]) for s in wrong or [alert.leading]),
        ),
    )


def direct_effect(key: SeriesKey, outcomes: dict[str, list[NightOutcome]]) -> float | None:
    """Return the relative change of a series, worked out simply: medians of the runs' medians."""
    before, after = (_medians(key, outcomes[phase]) for phase in (BASELINE, SLOW))
    return median(after) / median(before) - 1 if before and after and median(before) else None


def rerun_effect(series: MovedSeries, slow: RunRecord, reruns: Path) -> float | None:
    """Return the relative change that only re-runs have proven, as simply: the median of their medians."""
    found = []
    for run_id in series.confirmation.runs if series.confirmation else ():
        results = read_archive(reruns / run_id)
        key = replace(series.key, job=results.record.job)
        values = next((m.values for m in results.measurements if m.key == key), ())
        if values:
            ratio = median(values)
            found.append(ratio if results.record.code.digest == slow.code.digest else 1 / ratio)
    return median(found) - 1 if found else None


def noise(outcomes: dict[str, list[NightOutcome]]) -> list[str]:
    """Say how far the unchanged runs differed, per scenario, and which change could have been shown."""
    lines = ["", "Unchanged runs, median of the ratios to the reference:"]
    base = outcomes.get(BASELINE, [])
    judged = [one for done in outcomes.values() for o in done for one in o.judgements]
    for key in sorted(
        {one.key for one in judged if one.key.action == TOTAL and one.key.metric is Metric.RATIO}
    ):
        values = _medians(key, base)
        mde = next((one.mde for one in reversed(judged) if one.key == key and one.mde is not None), None)
        spread = (
            f"{quantity(min(values), key.metric)} to {quantity(max(values), key.metric)}" if values else "-"
        )
        can = f"changes above {mde:.0%} could be shown" if mde is not None else "no baseline"
        if len(values) == 1:
            spread = quantity(values[0], key.metric)
        lines.append(f"  {key.scenario}: {spread} in {counted(len(values), 'run')}; {can}")
    return lines


def _mails(outcomes: Iterable[NightOutcome]) -> list[Notification]:
    return [one for outcome in outcomes for one in outcome.told if one.kind in _ABOUT_CODE]


def _subjects(mails: Sequence[Notification]) -> str:
    return ", ".join(f"{one.kind} in {one.run_id}" for one in mails) or "none"


def _unfit(outcomes: Sequence[NightOutcome]) -> list[str]:
    return [f"{o.record.run_id}: {', '.join(o.record.validity.reasons)}" for o in outcomes]


def _is_neutrons(key: SeriesKey) -> bool:
    return key.scenario.startswith("Neutron") or key.action.startswith("neutron")


def _covers(series: MovedSeries, size: float | None) -> bool:
    """Tell whether the alert's interval agrees with the size in the iterations.

    The alert is written when one slow run and its re-runs are known, the size is worked out with all slow
    runs and from medians, so the interval is widened by half, and by what lies between two ways to
    take the middle.
    """
    if size is None or series.low is None or series.high is None:
        return False
    slack = (series.high - series.low) / 2 + MIDDLES * (1 + size)
    return series.low - slack <= size <= series.high + slack


def _confirmations(series: Sequence[MovedSeries]) -> str:
    if not series or series[0].confirmation is None:
        return "no timing was confirmed"
    told = ", ".join(
        f"{s.key.scenario} {s.key.action} {shown(s.confirmation, s.key.metric)}"
        for s in series[:4]
        if s.confirmation is not None
    )
    return f"{told}; {reruns(series[0].confirmation)}"


def _size(series: MovedSeries, size: float | None) -> str:
    told = change(series.effect, series.key.metric)
    return f"{series.key.label}: the mail says {told}, the iterations {change(size, series.key.metric)}"


def _medians(key: SeriesKey, outcomes: Iterable[NightOutcome]) -> list[float]:
    found = []
    for outcome in outcomes:
        values = _values(key, outcome.folder) if outcome.record.validity.valid else ()
        if values:
            found.append(median(values))
    return found


def _values(key: SeriesKey, folder: Path) -> tuple[float, ...]:
    return next((m.values for m in read_archive(folder).measurements if m.key == key), ())
