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
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from perfci.analysis.calibration import SeriesCalibration
    from perfci.analysis.noise_trend import Growth
    from perfci.analysis.types import Judgement
    from perfci.report.points import SeriesTrend
    from perfci.results.dataplane import Rate
    from perfci.results.density import Curve
    from perfci.results.leftovers import Swept
    from perfci.results.model import CodeUnderTest, Measurement, Metric, RunRecord, SeriesKey


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
class AlertAtRun:
    """An alert as it stood at one run: the run lies between `since`, its first slow run, and its end.

    `key` is its clearest series. `effect` is the size that the run itself shows, else the one that opened the
    alert. `opened` is the run that found it, later than `since` as a rule. `ending` says why it ended with
    this very run; empty where it did not.
    """

    id: str
    key: SeriesKey
    effect: float | None
    since: str
    opened: str
    ending: str = ""


@dataclass(frozen=True, slots=True)
class PairedRow:
    """One timing of a paired night: the code under test against the reference beside it.

    `effect` is the relative change pair by pair, `low` to `high` its 95 % interval with the luck of the two
    deployments in it, `mde` the smallest change that this night alone shows in 8 of 10 cases. `old` and `new`
    are median seconds on the reference and on the code under test. `dropped` pairs lack a timing on one side.
    `old_values` and `new_values` are all seconds of a timing that is drawn, empty for the others.
    """

    key: SeriesKey
    effect: float
    low: float
    high: float
    mde: float
    old: float
    new: float
    pairs: int
    dropped: int
    old_values: tuple[float, ...] = ()
    new_values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PairedView:
    """What a night measured against the reference beside it; `notes` say what went wrong in the lock-step."""

    reference: CodeUnderTest
    rows: tuple[PairedRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything about one run that people look at.

    `alerts` are those that concern it, `curves` how the cloud behaved while it was filled,
    `swept` what its tasks left in the cloud, `rates` how fast its data plane was, and whether
    `on_hardware`, so that what others have published may stand beside it. `suspects` are those of the
    alerts that it opened, as far as they are known. `measurements` is all that it measured, `versions` the
    packages of its services, `before` the record of the job's run before it, `paired` what it measured
    against a reference.
    """

    record: RunRecord
    stages: tuple[ReportedStage, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    canaries: tuple[Canary, ...] = ()
    failure: ReportedFailure | None = None
    alerts: tuple[AlertAtRun, ...] = ()
    curves: tuple[Curve, ...] = ()
    swept: tuple[Swept, ...] = ()
    rates: tuple[Rate, ...] = ()
    on_hardware: bool = False
    suspects: tuple[AlertSuspects, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    before: RunRecord | None = None
    before_has_page: bool = True
    paired: PairedView | None = None


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run that is read only where its page has to be made: `inputs` differs whenever its report would."""

    run_id: str
    inputs: str
    load: Callable[[], RunReport]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that began with a run in one series: a regression, its end, an improvement."""

    key: SeriesKey
    run_id: str
    label: str
    tone: PageTone


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """Code of one service that differs: both revisions; `link` shows what is between them, if known."""

    service: str
    before: str
    after: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class MovedRow:
    """A series of an alert, in words for people: effect, interval and q as when it was found."""

    key: SeriesKey
    effect: float | None
    low: float | None
    high: float | None
    before: float | None
    after: float | None
    q_value: float | None
    mde: float | None
    proof: str = ""


@dataclass(frozen=True, slots=True)
class DistributionPair:
    """The iterations of one series before and after a change, in the unit of its metric.

    `before` is from the last good run and `after` from the first slow one. With `paired`, both are from the
    first slow run: `before` from the reference beside the code under test.
    """

    key: SeriesKey
    before: tuple[float, ...]
    after: tuple[float, ...]
    paired: bool = False


@dataclass(frozen=True, slots=True)
class AlertFix:
    """The first run back at the old level, the last slow one, and the code that differs between the two.

    `code_known` is False where the code of one of them is not known.
    """

    run_id: str
    last_bad: str
    changes: tuple[ServiceChange, ...]
    code_known: bool = True


@dataclass(frozen=True, slots=True)
class AlertEvidence:
    """What only an alert's own page shows, as it takes time to read.

    `seconds` holds the median seconds on the code under test behind each ratio to a reference.
    """

    distributions: tuple[DistributionPair, ...] = ()
    seconds: Mapping[SeriesKey, float] = field(default_factory=dict)
    fix: AlertFix | None = None


@dataclass(frozen=True, slots=True)
class BisectCulprit:
    """A change that a bisect names. Strangers wrote subject and author."""

    name: str
    subject: str
    author: str
    link: str


@dataclass(frozen=True, slots=True)
class BisectPlace:
    """One place of a bisect that was measured, or left out (`note` says why).

    `place` counts revisions from 0, the good end. `level` and its 95 % interval `low` to `high` are in the
    unit of the metric, None where nothing was measured. `at_head`: at the newest revision, behind all others.
    """

    place: int
    what: str
    subject: str
    runs: int
    level: float | None
    low: float | None
    high: float | None
    at_head: bool
    note: str


@dataclass(frozen=True, slots=True)
class AlertBisect:
    """What the bisect of an alert has found so far: in words, and each place that was measured in order.

    `culprit_at` is the place with which it became worse, `inside` the bisect within a change of requirements.
    """

    title: str
    series: str
    metric: Metric
    end: str
    verdict: str
    command: str
    culprits: tuple[BisectCulprit, ...]
    culprit_at: int | None
    places: tuple[BisectPlace, ...]
    remarks: tuple[str, ...]
    inside: AlertBisect | None = None


@dataclass(frozen=True, slots=True)
class AlertSummary:
    """An alert: its clearest series `key`, since when and by how much it has moved.

    `effect` is relative, `before` and `after` are levels in the unit of the metric. `series` counts those
    that moved together, `moved` has them. `changes` is the code that differs between `last_good` and `since`;
    `code_known` is False where that can't be said. `closed` is the run that closed it, `ending` why.
    `looked_into_by` is who acknowledged it, where that is known. `bisect` is what has been measured to find
    the change. `seconds` is the median on the code under test where `before` and `after` are ratios to a
    reference. `evidence` reads the rest, and `evidence_from` differs whenever it would read something else.
    """

    id: str
    since: str
    opened: str
    key: SeriesKey
    effect: float | None
    before: float | None
    after: float | None
    series: int
    changes: tuple[ServiceChange, ...] = ()
    code_known: bool = True
    acknowledged: bool = False
    looked_into_by: str = ""
    closed: str | None = None
    ending: str = ""
    last_good: str | None = None
    moved: tuple[MovedRow, ...] = ()
    suspects: AlertSuspects | None = None
    bisect: AlertBisect | None = None
    seconds: float | None = None
    evidence: Callable[[], AlertEvidence] = AlertEvidence
    evidence_from: str = ""


@dataclass(frozen=True, slots=True)
class SiteData:
    """All that the pages show: runs in any order, each series with its trend and latest judgement.

    A run has a page as long as it is among `runs`. `calibrations` say what series can show; `growing` are
    those whose noise grows, the worst first. `alerts` are all that are known, open and ended. `codes`
    explains digests of code.
    """

    runs: Sequence[RunReport | StoredRun]
    series: Sequence[SeriesTrend]
    judgements: Mapping[SeriesKey, Judgement] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    calibrations: Mapping[SeriesKey, SeriesCalibration] = field(default_factory=dict)
    growing: tuple[Growth, ...] = ()
    alerts: tuple[AlertSummary, ...] = ()
    codes: Mapping[str, CodeUnderTest] = field(default_factory=dict)


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
BY_RATIO = "judged by its ratio"
"""The seconds of a timing that has pairs: the verdict is that of its ratio to the reference."""
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
    if worst is Outcome.TOO_NOISY and (calm := count.get(Outcome.NO_CHANGE, 0)):
        noisy = count[worst]
        share = f"{noisy} of {counted(noisy + calm, 'series')} too noisy"
        if noisy <= calm:
            return Verdict(PageTone.QUIET, f"no change, {share}")
        return Verdict(PageTone.LAB, f"{share} to tell")
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
