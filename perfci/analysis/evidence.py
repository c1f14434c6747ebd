"""What one series shows tonight, before the night's other series are considered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from scipy import special

from perfci.analysis.robust import level_and_scale, median

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.p_calibration import FalseAlarms
    from perfci.analysis.settings import AnalysisSettings
    from perfci.analysis.variance import VariancePrior


@dataclass(frozen=True, slots=True)
class RunValue:
    """One run of one series as a single number: `log` of its location, with the standard error of that.

    `shape` are the quantiles of its iterations (`kinds.shape_of`), `code` the digest of the code that ran.
    `measured` is the location as people see it, where the analysis counts a value as more than was measured
    (`LevelRule.unit`); None where both are the same.
    """

    run_id: str
    log: float
    error: float
    shape: tuple[float, ...] = ()
    code: str = ""
    measured: float | None = None

    @property
    def location(self) -> float:
        """What was measured, in the unit of the metric."""
        return math.exp(self.log) if self.measured is None else self.measured


def measured_level(runs: Sequence[RunValue], log: float) -> float:
    """Return the level of runs as people see it; `log` is the one that the analysis works with."""
    if any(run.measured is not None for run in runs):
        return median([run.location for run in runs])
    return math.exp(log)


class Reach(Protocol):
    """What evidence must look like to be reported."""

    @property
    def floor(self) -> float:
        """Smaller effects are not reported, however sure they are: they don't matter."""

    def at(self, p_value: float) -> float:
        """Return the smallest effect that is reported where p-values up to `p_value` are."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Tonight's runs against the baseline; effects as in `Judgement`.

    `window` is the number of latest runs that were held against the baseline, the first of which is
    `since`. `proves` says whether so few runs may prove a change at all. `suspect` says that the latest
    run alone stands out, `suspect_with`, in words, that its service does. `reach` is that of the runs that
    spoke, `shortest` that of the fewest that can speak. `level` is that of the runs which `effect` describes,
    `location` the latest run's alone; both and `baseline_location` are as measured. `proofs` are the p-values
    of all windows that look like a change, before the lab's history corrects them.
    """

    p_value: float
    effect: float
    low: float
    high: float
    location: float
    level: float
    baseline_location: float
    baseline: tuple[str, ...]
    since: str
    window: int
    proves: bool
    suspect: bool
    reach: Reach
    shortest: Reach
    proofs: Mapping[int, float]
    suspect_with: str = ""


LARGEST = 50.0
"""Differences of logarithms beyond this (a factor of 5e21) are not told apart."""
AGREEMENT = 0.4
"""Nearly every run of a change shows at least this share of the whole."""
NEAR_MODE = 1.3
"""A shift within this factor of that of a known mode is that mode."""
PULL = 1.5
"""Of two runs the farther one counts at most as this many deviations beyond the nearer one."""


def relative(difference: float) -> float:
    """Return a difference of logarithms as a relative change: log 1.05 -> 0.05."""
    return math.expm1(min(difference, LARGEST))


@dataclass(frozen=True, slots=True)
class Contrast:
    """Latest runs minus baseline, in logarithms, with its standard error and degrees of freedom.

    `difference` is the median of the latest runs', the best estimate; `agreed` the part of it that
    the runs agree on (`agreed_shift`), which is what is tested. `scale` is the
    run-to-run deviation.
    """

    baseline: tuple[RunValue, ...]
    latest: tuple[RunValue, ...]
    level: float
    difference: float
    agreed: float
    scale: float
    error: float
    df: float

    @property
    def p_value(self) -> float:
        """Two-sided p-value of Student's t."""
        return float(2 * special.stdtr(self.df, -abs(self.agreed) / self.error))

    def half_width(self, confidence: float) -> float:
        """Half the width of the confidence interval of the difference."""
        return float(special.stdtrit(self.df, 0.5 + confidence / 2)) * self.error


@dataclass(frozen=True, slots=True)
class LevelReach:
    """The smallest relative effect that `window` runs can prove.

    The decision limit of Student's t with `df` degrees of freedom and the standard error `error` of the
    difference (Currie 1968), `tests` windows paid for, at the p-value that the lab's history asks for
    (`alarms`), and not below `floor`.
    """

    window: int
    df: float
    error: float
    tests: int
    floor: float
    alarms: FalseAlarms

    def at(self, p_value: float) -> float:
        """See Reach."""
        needed = self.alarms.needed(self.window, p_value / self.tests)
        return max(relative(limit(self.df, self.error, needed)), self.floor)


def limit(df: float, error: float, p_value: float) -> float:
    """Return the difference of logarithms whose two-sided p-value is `p_value`; at most `LARGEST`."""
    found = -float(special.stdtrit(df, p_value / 2)) * error if p_value > 0 else math.inf
    return min(LARGEST, found)


class Spread(NamedTuple):
    """Level and run-to-run standard deviation of a baseline, in logarithms, and what that is known from."""

    level: float
    scale: float
    df: float


MOST_DF = 30.0
"""The iterations of a baseline never make its deviation known better than this."""


def baseline_scale(baseline: Sequence[RunValue], scale_floor: float) -> Spread:
    """Return level and run-to-run standard deviation of a baseline, in logarithms.

    The run-to-run deviation is the unit of evidence. It can't be smaller than what the iterations
    of a run leave open, which is the typical standard error of a run's location, nor than
    `scale_floor`: eight equal numbers don't mean that the ninth must be equal.

    n runs have n - 1 degrees of freedom. Where they differ by less than their iterations leave open, the
    deviation is the iterations' own, which is far better known: then (n - 1) within / deviation. With that
    the t test keeps its level however much runs really differ (`tests/analysis/test_evidence.py`).
    """
    level, scale = level_and_scale([run.log for run in baseline])
    within = median([run.error for run in baseline])
    df = len(baseline) - 1.0
    if within > scale:
        df = max(df, min(df * within / max(scale, within / MOST_DF), MOST_DF))
    return Spread(level, max(scale, within, scale_floor), df)


def agreed_shift(shifts: Sequence[float], scale: float) -> float:
    """Return the shift of the latest runs of which no single outlier night can be the cause.

    Of two runs the mean, with the farther one pulled to within 1.5 deviations of the nearer; of more
    the median. 0 if they disagree in sign.
    """
    ordered = sorted(shifts)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    if low * high <= 0:
        return 0.0
    near, far = sorted((low, high), key=abs)
    return (near + math.copysign(min(abs(far), abs(near) + PULL * scale), near)) / 2


def common_shift(found: Contrast) -> float:
    """Return the shift that nearly every one of the latest runs shows, 0 if they disagree in sign.

    Of up to three runs the smallest, of five the second smallest, of eight the third.
    """
    sign = 1 if found.difference > 0 else -1
    signed = sorted((run.log - found.level) * sign for run in found.latest)
    return max(signed[len(signed) // 4], 0.0) * sign


def seen_before(found: Contrast) -> float:
    """Return how far single runs of the baseline strayed in the direction of the contrast.

    One run in twenty is allowed to have been an outlier, except if only two runs speak: two outlier
    nights in a row are not that rare.
    """
    sign = 1 if found.difference > 0 else -1
    strays = sorted((run.log - found.level) * sign for run in found.baseline) or [0.0]
    allowed = len(strays) // 20 if len(found.latest) > 2 else 0  # noqa: PLR2004
    return max(strays[-1 - allowed], 0.0)


def proves(found: Contrast, floor: float, needed: int, modes: Sequence[float] = ()) -> bool:
    """Say whether so few runs may prove a change at all, whatever their p-value.

    They are `needed` or more; nearly every one shows at least the floor, more than what single runs
    of the baseline have shown before, and a good part of what they show together. `modes` are levels
    that the series is known to visit; to be there again proves nothing.
    """
    common = abs(common_shift(found))
    least = max(seen_before(found), abs(found.difference) * AGREEMENT)
    known = any(
        1 / NEAR_MODE <= found.difference / (level - found.level) <= NEAR_MODE
        for level in modes
        if level != found.level
    )
    return len(found.latest) >= needed and relative(common) >= floor and common > least and not known


def shift_error(scale: float, wander: float, latest: int, baseline: int) -> float:
    """Return the standard error of a shift between so many runs, as in `contrast`."""
    price = math.pi / 2 if latest > 2 else 1.0  # noqa: PLR2004
    return scale * math.sqrt(wander + (1 - wander) * price / latest + 1 / baseline)


def contrast(
    baseline: Sequence[RunValue],
    latest: Sequence[RunValue],
    *,
    scale_floor: float,
    wander: float,
    prior: VariancePrior,
    lab: float = 0.0,
    known: Spread | None = None,
) -> Contrast:
    """Hold the latest runs against the baseline.

    The variance of the difference is s^2 (w + (1 - w) c / k + 1 / n) for k latest and n baseline runs
    with run-to-run deviation s: w is the share of the variance that neighbouring nights have in
    common, c = pi/2 the price of a median of three and more. s^2 is moderated by the night's other
    series, and the test is Student's t with the degrees of freedom of the baseline and those of the
    prior. `lab` (logarithm) is how far the lab itself is known to have moved: nothing of that size can
    be proven tonight, so it is added to the standard error. `known` is what `baseline_scale` gives, if the
    caller has it.
    """
    level, scale, df = known or baseline_scale(baseline, scale_floor)
    k, n = len(latest), len(baseline)
    variance, df = prior.moderate(scale**2, df)
    scale = math.sqrt(variance)
    shifts = [run.log - level for run in latest]
    error = math.hypot(shift_error(scale, wander, k, n), lab)
    return Contrast(
        baseline=tuple(baseline),
        latest=tuple(latest),
        level=level,
        difference=median(shifts),
        agreed=agreed_shift(shifts, scale),
        scale=scale,
        error=error,
        df=df,
    )


def describe(
    candidates: Sequence[Contrast],
    settings: AnalysisSettings,
    *,
    floor: float,
    needed: int,
    suspect: bool,
    alarms: FalseAlarms,
    modes: Sequence[float] = (),
) -> Evidence:
    """Turn the contrasts of several windows, shortest first, into what is published.

    The strongest window speaks, and pays for the choice (Bonferroni). Its p-value is calibrated by what
    the lab's history knows of evidence from so many nights (`alarms`). `needed` runs may prove; `modes`
    as in `proves`. Effects below `floor` (relative) are not reported.
    """
    tests = len(candidates)
    raw = [c.p_value for c in candidates]
    calibrated = [alarms.calibrated(len(c.latest), p) for c, p in zip(candidates, raw, strict=True)]
    strongest = min(range(tests), key=lambda i: (calibrated[i], raw[i]))
    found = candidates[strongest]
    half = found.half_width(settings.confidence)
    proofs = {
        len(c.latest): p
        for c, p in zip(candidates, raw, strict=True)
        if p * tests <= settings.largest_p and proves(c, floor, needed, modes)
    }

    def reach(contrast: Contrast) -> LevelReach:
        return LevelReach(len(contrast.latest), contrast.df, contrast.error, tests, floor, alarms)

    return Evidence(
        p_value=min(1.0, calibrated[strongest] * tests),
        effect=relative(found.difference),
        low=relative(found.difference - half),
        high=relative(found.difference + half),
        location=found.latest[-1].location,
        level=measured_level(found.latest, found.level + found.difference),
        baseline_location=measured_level(found.baseline, found.level),
        baseline=tuple(run.run_id for run in found.baseline),
        since=found.latest[0].run_id,
        window=len(found.latest),
        proves=len(found.latest) in proofs,
        suspect=suspect,
        reach=reach(found),
        shortest=reach(candidates[0]),
        proofs=proofs,
    )
