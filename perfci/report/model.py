"""What the pages and tables are made from. Whoever knows runs, results and alerts fills it in."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING

from perfci.analysis.types import WORST_FIRST, Outcome
from perfci.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from perfci.analysis.calibration import SeriesCalibration
    from perfci.analysis.noise_trend import Growth
    from perfci.analysis.types import Judgement, SeriesHistory
    from perfci.results.dataplane import Rate
    from perfci.results.density import Curve
    from perfci.results.leftovers import Swept
    from perfci.results.model import RunRecord, SeriesKey


class PageTone(StrEnum):
    """How something is to be looked at; each has a colour and never a colour alone."""

    BAD = "bad"
    GOOD = "good"
    LAB = "lab"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class ReportedStage:
    """One stage of a run: how long it took, and whether it went well."""

    name: str
    seconds: float
    ok: bool = True


@dataclass(frozen=True, slots=True)
class Canary:
    """One canary on one node, in seconds; None where that round was not run or nothing is usual yet."""

    node: str
    name: str
    before: float | None
    after: float | None
    usual: float | None = None


@dataclass(frozen=True, slots=True)
class ReportedFailure:
    """Why a run failed; `excerpt` is from the log `source`."""

    stage: str
    failure_class: str
    error: str
    source: str = ""
    excerpt: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class SuspectRow:
    """One change that can have caused an alert; `share` is its plausibility. Strangers wrote these texts."""

    project: str
    commit: str
    subject: str
    author: str
    link: str
    share: float


@dataclass(frozen=True, slots=True)
class AlertSuspects:
    """All suspects of an alert; `acquitted`: nothing that the cloud runs had changed."""

    alert: str
    rows: tuple[SuspectRow, ...]
    remarks: tuple[str, ...] = ()
    acquitted: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything about one run that people look at.

    `alerts` are ids of the alerts that it opened, `curves` how the cloud behaved while it was filled,
    `swept` what its tasks left in the cloud, `rates` how fast its data plane was, and whether
    `on_hardware`, so that what others have published may stand beside it. `suspects` are those of its
    alerts, as far as they are known.
    """

    record: RunRecord
    stages: tuple[ReportedStage, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    canaries: tuple[Canary, ...] = ()
    failure: ReportedFailure | None = None
    alerts: tuple[str, ...] = ()
    curves: tuple[Curve, ...] = ()
    swept: tuple[Swept, ...] = ()
    rates: tuple[Rate, ...] = ()
    on_hardware: bool = False
    suspects: tuple[AlertSuspects, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that began with a run in one series: a regression, its end, an improvement."""

    key: SeriesKey
    run_id: str
    label: str
    tone: PageTone


@dataclass(frozen=True, slots=True)
class AlertSummary:
    """An alert on the overview: its clearest series `key`, since when and by how much it has moved.

    `effect` is relative, `before` and `after` are levels in the unit of the metric. `series` counts those
    that moved together. `changes` is the code that differs, a line for each service; `code_known` is False
    where that can't be said. `closed` is the run that closed it, `ending` why.
    """

    id: str
    since: str
    opened: str
    key: SeriesKey
    effect: float | None
    before: float | None
    after: float | None
    series: int
    changes: tuple[str, ...] = ()
    code_known: bool = True
    acknowledged: bool = False
    closed: str | None = None
    ending: str = ""


@dataclass(frozen=True, slots=True)
class SiteData:
    """All that the pages show: runs in any order, each series with its history and latest judgement.

    `calibrations` say what series can show; `growing` are those whose noise grows, the worst first. `alerts`
    are all that are known, open and ended.
    """

    runs: tuple[RunReport, ...]
    histories: tuple[SeriesHistory, ...]
    judgements: Mapping[SeriesKey, Judgement] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    calibrations: Mapping[SeriesKey, SeriesCalibration] = field(default_factory=dict)
    growing: tuple[Growth, ...] = ()
    alerts: tuple[AlertSummary, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A run in a few words."""

    tone: PageTone
    text: str


TONES = {
    Outcome.REGRESSION: PageTone.BAD,
    Outcome.KNOWN: PageTone.LAB,
    Outcome.IMPROVEMENT: PageTone.GOOD,
    Outcome.NO_CHANGE: PageTone.QUIET,
    Outcome.TOO_NOISY: PageTone.LAB,
    Outcome.INVALID: PageTone.LAB,
    Outcome.NO_BASELINE: PageTone.QUIET,
    Outcome.NO_DATA: PageTone.LAB,
}
NOT_JUDGED = "not judged"
"""Where no analysis has seen a run: one that was ingested, or a calibration's."""
_USUAL_RUNS, _LEAST_USUAL = 20, 5
_ORDER = tuple(TONES)
_COUNTED = {
    Outcome.REGRESSION: "slower",
    Outcome.KNOWN: "slower, all of them known",
    Outcome.IMPROVEMENT: "faster",
    Outcome.TOO_NOISY: "too noisy to tell",
}


def verdict(run: RunReport) -> Verdict:
    """Return a run's verdict: what failed comes before what is invalid, that before what is slower."""
    if run.failure:
        tone = PageTone.LAB if run.failure.failure_class == "lab" else PageTone.BAD
        return Verdict(tone, f"failed in {run.failure.stage} ({run.failure.failure_class})")
    if not run.record.validity.valid:
        return Verdict(PageTone.LAB, str(Outcome.INVALID))
    return worst_of(Counter(judgement.outcome for judgement in run.judgements))


def worst_of(count: Mapping[Outcome, int]) -> Verdict:
    """Return the verdict of a valid run, given how many of its series have each outcome; none: not judged."""
    if not any(count.values()):
        return Verdict(PageTone.QUIET, NOT_JUDGED)
    found = {outcome for outcome, number in count.items() if number}
    worst = next((one for one in (*WORST_FIRST, Outcome.NO_BASELINE) if one in found), Outcome.NO_DATA)
    if worst in _COUNTED and not found <= {Outcome.TOO_NOISY, Outcome.NO_BASELINE}:
        return Verdict(TONES[worst], f"{counted(count[worst], 'series')} {_COUNTED[worst]}")
    return Verdict(TONES[worst], str(worst))


def with_usual_canaries(runs: Iterable[RunReport]) -> tuple[RunReport, ...]:
    """Return runs, oldest first, with what each of their canaries usually takes.

    That is the median of the same canary on the same node in up to 20 earlier valid runs of the same
    environment, each by the mean of its rounds; unknown before the fifth.
    """
    past: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    found = []
    for run in sorted(runs, key=lambda one: one.record.run_id):
        place = (run.record.lab, run.record.environment)
        canaries = []
        for canary in run.canaries:
            known = past[*place, canary.node, canary.name]
            usual = median(known[-_USUAL_RUNS:]) if len(known) >= _LEAST_USUAL else None
            canaries.append(replace(canary, usual=usual))
            rounds = [one for one in (canary.before, canary.after) if one is not None]
            if rounds and run.record.validity.valid and not run.failure:
                known.append(sum(rounds) / len(rounds))
        found.append(replace(run, canaries=tuple(canaries)))
    return tuple(found)


def tally(judgements: Iterable[Judgement], outcome: Outcome) -> int:
    """Return how many series have an outcome."""
    return sum(judgement.outcome is outcome for judgement in judgements)


def by_interest(judgements: Iterable[Judgement]) -> list[Judgement]:
    """Sort judgements: regressions first, the clearest of them on top; then by name."""
    return sorted(judgements, key=interest_rank)


def interest_rank(one: Judgement) -> tuple[int, float, SeriesKey]:
    """Sort key of `by_interest`."""
    clear = one.outcome in (Outcome.REGRESSION, Outcome.KNOWN, Outcome.IMPROVEMENT)
    return (_ORDER.index(one.outcome), -abs(one.effect or 0.0) if clear else 0.0, one.key)
