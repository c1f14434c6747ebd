"""What a bisect asks: from an alert, or from a job and two moments, to suspects, noise and course."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfci.alerts.lifecycle import find
from perfci.analysis.bisect.model import BisectQuestion
from perfci.analysis.variance import VarianceLevels
from perfci.changes.effect import why_without_effect
from perfci.changes.errors import GitFailed
from perfci.changes.model import REQUIREMENTS, MergeOrder
from perfci.changes.pin_moves import read_pins
from perfci.changes.super_repository import SUPER, state_at
from perfci.changes.suspects import Installed, SlowTarget, reaches
from perfci.errors import UsageError
from perfci.results.model import BISECT, TOTAL, Metric
from perfci.runs.jobs.load import load_job
from perfci.runs.jobs.sources import Source
from perfci.runs.night.reference import two_fit
from perfci.runs.studies.bisect_course import BisectCourse, BisectStep, CodeState, walked
from perfci.runs.studies.bisect_noise import (
    USUAL_PAIR_ERROR,
    MeasuredSeries,
    claimed,
    draw_variance_of,
    night_logs,
    pair_error_of,
    rally_name,
    variance_of,
)
from perfci.runs.studies.change_sets import exact_commits
from perfci.runs.verdicts.repositories import address, repositories
from perfci.runs.verdicts.rerun_jobs import exact, named
from perfci.runs.verdicts.rerun_round import scenarios_of
from perfci.runs.verdicts.run_changes import between_runs
from perfci.runs.verdicts.what_changed import CONSTRAINTS, changes_of
from perfci.validation import nearest
from perfci.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perfci.alerts.model import Alert
    from perfci.changes.clones import Clones
    from perfci.changes.model import ChangeHistory
    from perfci.config import Settings
    from perfci.runs.jobs.model import Job, Scenario
    from perfci.runs.verdicts.lab_services import LabServices
    from perfci.runs.verdicts.run_changes import RunChanges

MOST_RUNS = 60
TIMINGS = frozenset({Metric.SECONDS, Metric.RATIO})
COUNTS = frozenset({Metric.FAILURE_RATE, Metric.LEFTOVERS, Metric.WARNINGS})
"""Metrics that may be 0: a bisect compares ratios."""
_FEW = 5


class BisectImpossible(UsageError):
    """There is nothing that a bisect could find, or no way to measure it."""

    template = "{what} can't be bisected: {reason}"
    help = "`perfci changes` lists the changes between the ends; docs/bisect.md says what a bisect needs."


@dataclass(frozen=True, slots=True)
class AskedBisect:
    """One question. `job_name` is that of the nights; `command` asks it again; `notes` are for people."""

    title: str
    command: str
    job_name: str
    label: str
    series: MeasuredSeries
    question: BisectQuestion
    course: BisectCourse
    notes: tuple[str, ...] = ()
    alert: Alert | None = None


def of_alert(services: LabServices, alert_id: str, *, most_runs: int = MOST_RUNS) -> AskedBisect:
    """Return the question of an alert: which change made its clearest series worse.

    Raises UnknownAlert, BisectImpossible, and what git raises.
    """
    alert = find(services.alerts.load(), alert_id)
    what = f"alert {alert.id}"
    if alert.last_good is None or not alert.code_known:
        raise BisectImpossible(what=what, reason="the last good run or its code is not known")
    moved = alert.headline
    key = moved.key
    if key.metric in COUNTS:
        raise BisectImpossible(what=what, reason=f"a {key.metric} may be 0, and only ratios are compared")
    good, bad = (services.archived(one) for one in (alert.last_good, alert.since))
    job = services.job(alert.since)
    if job is None:
        raise BisectImpossible(what=what, reason=f"the archive lacks the job of {alert.since}")
    clones = repositories(
        services.settings, fresh=(SUPER, REQUIREMENTS, *(one.service for one in alert.changes))
    )
    target = SlowTarget(alert.service, (key.scenario, key.action))
    found = between_runs(clones, good.document, bad.document, target)
    kept = [
        index
        for index in scenarios_of(bad).get((key.scenario, key.arguments), ())
        if index < max(1, len(job.scenarios))
    ]
    if not kept:
        raise BisectImpossible(what=what, reason=f"no task of the job measures {key.scenario}")
    job = _renamed(job, [job.scenarios[index] for index in kept if job.scenarios])
    job = job.model_copy(update={"sources": exact(job.sources, bad.record.code.services)})
    measuring = _measuring(services, job, MeasuredSeries(key.scenario, key.arguments, key.action, key.metric))
    series = measuring.series
    effect, error = claimed(moved)
    nights = night_logs(services, bad.record.lab, alert.job, series, before=alert.since)
    pair_error = pair_error_of(bad, series) if measuring.paired else 0.0
    return AskedBisect(
        title=what,
        command=f"perfci bisect {alert.id}",
        job_name=alert.job,
        label=bad.record.lab,
        series=series,
        question=replace(
            _question(found, measuring.variance(nights, pair_error), most_runs, pair_error),
            effect=effect,
            effect_error=error,
        ),
        course=_course(services.settings, clones, job, found, what, paired=measuring.paired),
        notes=tuple(_notes(found, nights, measuring)),
        alert=alert,
    )


def of_words(
    services: LabServices,
    name: str,
    good: str,
    bad: str,
    *,
    scenario: str | None = None,
    action: str = TOTAL,
    metric: Metric = Metric.SECONDS,
    most_runs: int = MOST_RUNS,
) -> AskedBisect:
    """Return the question which change between two moments made a job's task worse.

    `good` and `bad` are what `perfci changes` takes. Raises BisectImpossible, and as `changes_of`.
    """
    settings = services.settings
    job = load_job(name, settings.jobs_dir)
    what = f"{job.name} between {good} and {bad}"
    if metric in COUNTS:
        raise BisectImpossible(what=what, reason=f"a {metric} may be 0, and only ratios are compared")
    task = _task(job, scenario, what)
    words = (task.task, action) if action != TOTAL else (task.task,)
    found = changes_of(settings, services.state.archive, good, bad, scenario=" ".join(words))
    clones = repositories(settings)
    fixed = _fixed(job, found.history, settings, clones)
    asked = MeasuredSeries(*rally_name(services, job, task), action, metric)
    measuring = _measuring(services, _renamed(job, [task]), asked)
    series = measuring.series
    nights = night_logs(services, settings.lab, job.name, series)
    pair_error = USUAL_PAIR_ERROR if measuring.paired else 0.0
    options = [f"--scenario {shlex.quote(task.task)}"] if len(job.scenarios) > 1 else []
    options += [f"--action {shlex.quote(action)}"] if action != TOTAL else []
    options += [f"--metric {metric}"] if metric is not Metric.SECONDS else []
    return AskedBisect(
        title=what,
        command=" ".join(["perfci bisect", *map(shlex.quote, (name, good, bad)), *options]),
        job_name=job.name,
        label=settings.lab,
        series=series,
        question=_question(found, measuring.variance(nights, pair_error), most_runs, pair_error),
        course=_course(settings, clones, _renamed(fixed, [task]), found, what, paired=measuring.paired),
        notes=tuple(_notes(found, nights, measuring)),
    )


def _task(job: Job, wanted: str | None, what: str) -> Scenario:
    known = [one.task for one in job.scenarios]
    if wanted is None and len(known) == 1:
        return job.scenarios[0]
    if not known:
        raise BisectImpossible(what=what, reason="only jobs with Rally's tasks can be")
    if wanted is None:
        raise BisectImpossible(what=what, reason=f"say which task with --scenario: {', '.join(known)}")
    if wanted not in known:
        raise BisectImpossible(what=what, reason=f"no task {wanted!r} in the job; {nearest(wanted, known)}")
    return job.scenarios[known.index(wanted)]


def _renamed(job: Job, scenarios: Sequence[Scenario]) -> Job:
    return job.model_copy(
        update={"name": named(job, BISECT), "scenarios": tuple(scenarios) or job.scenarios, "reference": None}
    )


def _fixed(job: Job, history: ChangeHistory, settings: Settings, clones: Clones) -> Job:
    """Return the job with exact commits for what it takes from git; those of the newer end, if there."""
    found: dict[str, Source] = {}
    for service in job.cloud.services:
        known: Source | None = getattr(job.sources, service)
        commit = history.new.get(service)
        if commit is None or not (job.sources.all or (known is not None and known.git)):
            continue
        source = known or Source()
        git = source.git or address(settings, service, clones)
        found[service] = source.model_copy(update={"version": None, "git": git, "ref": commit})
    sources = job.sources.model_copy(update={**found, "all": None})
    return exact_commits(job.model_copy(update={"sources": sources}), settings)


@dataclass(frozen=True, slots=True)
class _Measuring:
    """How a bisect measures: which series, and whether each revision has the good end beside it."""

    series: MeasuredSeries
    paired: bool

    def variance(self, nights: Sequence[float], pair_error: float) -> float:
        """Return the variance from deployment to deployment."""
        return draw_variance_of(nights, pair_error) if self.paired else variance_of(nights)


def _measuring(services: LabServices, job: Job, series: MeasuredSeries) -> _Measuring:
    """Measure timings in pairs, where the lab has room for two clouds at a time; all else alone."""
    if series.metric not in TIMINGS:
        return _Measuring(series, paired=False)
    paired = two_fit(job, services.settings)
    return _Measuring(replace(series, metric=Metric.RATIO if paired else Metric.SECONDS), paired)


def _question(found: RunChanges, variance: float, most_runs: int, pair_error: float) -> BisectQuestion:
    ordered = sorted(found.suspects, key=lambda one: one.place)
    return BisectQuestion(
        plausibility=tuple(one.plausibility for one in ordered) or (1.0,),
        # Each run is a deployment of its own, so all of the scatter comes with the deployment.
        noise=VarianceLevels(0.0, 0.0, variance),
        most_runs=most_runs,
        usual_error=pair_error,
    )


def _course(
    settings: Settings, clones: Clones, job: Job, found: RunChanges, what: str, *, paired: bool
) -> BisectCourse:
    """Return where the bisect can measure. Raises BisectImpossible without suspects."""
    history = found.history
    if not found.suspects:
        raise BisectImpossible(what=what, reason=f"no change can have reached the cloud ({found.summary})")
    if job.cloud.kind == "devstack" and any(one.change.project == REQUIREMENTS for one in found.suspects):
        raise BisectImpossible(what=what, reason="clouds by devstack take their pins from elsewhere")
    steps = {one.place: BisectStep(one.change, one.plausibility) for one in found.suspects}
    deployed = frozenset(job.cloud.services)
    moving = sorted({one.project for one in history.changes} & deployed)
    if lost := [one for one in moving if one not in history.old or one not in history.new]:
        reason = f"of {', '.join(lost)} only one end is known"
        raise BisectImpossible(what=what, reason=reason)
    installed = _installed(found, settings, deployed)
    start = CodeState({one: history.old[one] for one in moving}, dict(_pins_before(history, installed)))
    revisions, before, after = walked(start, history.changes, steps, installed)
    ordered = tuple(steps[place] for place in sorted(steps))
    return BisectCourse(
        settings=settings,
        clones=clones,
        job=job,
        steps=ordered,
        revisions=revisions,
        before=before,
        after=after,
        head=replace(revisions[-1], services=_newest(clones, history, job, revisions[-1].services)),
        addresses={one: _address(settings, job, one, clones) for one in moving},
        installed=installed,
        refused=dict(_refused(clones, ordered, installed)),
        beside=start if paired else None,
    )


def _installed(found: RunChanges, settings: Settings, services: frozenset[str]) -> Installed:
    """Return what the cloud installs; between two runs only packages that differ can matter."""
    if found.packages is not None:
        return Installed(services, frozenset(one.package for one in found.packages))
    pins = read_pins((settings.root_dir / CONSTRAINTS).read_text(encoding="utf-8"))
    return Installed(services, frozenset(pins))


def _pins_before(history: ChangeHistory, installed: Installed) -> Iterator[tuple[str, str | None]]:
    seen: set[str] = set()
    for change in history.changes:
        for pin in change.pins:
            if pin.package not in seen and reaches(pin, installed):
                seen.add(pin.package)
                yield pin.package, pin.before


def _address(settings: Settings, job: Job, service: str, clones: Clones) -> str:
    source: Source | None = getattr(job.sources, service)
    return source.git if source is not None and source.git else address(settings, service, clones)


def _newest(clones: Clones, history: ChangeHistory, job: Job, bad: Mapping[str, str]) -> Mapping[str, str]:
    """Return today's commit of each service whose branch leads on from the bad end; else the bad end's."""
    if history.order is MergeOrder.STEPS and history.changes:
        top, step = clones.get(SUPER), history.changes[-1].step
        for branch in (job.sources.all, "HEAD"):
            head = top.find(branch) if branch else None
            if head is not None and step is not None and top.is_ancestor(step, head):
                state = state_at(top, head)
                return {one: _known(clones, one, state.get(one), commit) for one, commit in bad.items()}
    found = {}
    for service, commit in bad.items():
        repository = clones.find(service)
        head = repository.find("HEAD") if repository is not None else None
        newer = repository is not None and head is not None and repository.is_ancestor(commit, head)
        found[service] = head if newer and head is not None else commit
    return found


def _known(clones: Clones, service: str, newest: str | None, bad: str) -> str:
    """Return the newest commit, where the copy of its repository has it."""
    repository = clones.find(service)
    return newest if newest and repository is not None and repository.find(newest) else bad


def _refused(clones: Clones, steps: Sequence[BisectStep], installed: Installed) -> Iterator[tuple[int, str]]:
    """Say which steps can't be the culprit, after another look at what they change."""
    for number, step in enumerate(steps, start=1):
        repository = clones.find(step.change.project)
        if repository is None or step.change.project == REQUIREMENTS:
            continue
        with contextlib.suppress(GitFailed):  # what the copy has not got stays a suspect
            why = why_without_effect(repository, step.change, installed)
            if why is not None:
                yield number, why


def _notes(found: RunChanges, nights: Sequence[float], measuring: _Measuring) -> Iterator[str]:
    yield found.summary + "."
    yield from (f"{one}." for one in found.history.notes)
    if not found.history.ordered:
        yield "Merge dates do not order all changes of different projects: perfci took one possible order."
    if measuring.paired:
        yield "Each run measures a revision in pairs with the good end, which is deployed beside it."
    elif len(nights) < _FEW:
        known = counted(len(nights), "night") if nights else "no night"
        yield f"The scatter of single runs is known from {known}; perfci assumes 3 % besides."
    if measuring.series.metric is Metric.SECONDS:
        yield "Two clouds at a time do not fit here: each run measures one revision alone, less precisely."
