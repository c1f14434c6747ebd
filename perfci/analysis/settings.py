"""What a lab may set about its verdicts. One object, so that a run's verdict can be repeated later."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """The knobs of the analysis. All effects are relative: 0.05 is 5 %.

    The defaults are for a nightly job. None of them is meant to be set per series: a series that
    needs its own number is a series whose noise should be looked at.
    """

    min_baseline: int = 8
    """Runs that a baseline needs before anything is judged, 2 or more."""
    max_baseline: int = 60
    """Older runs of a baseline are forgotten; at least `min_baseline` are kept."""
    false_discovery_rate: float = 0.05
    """Share of the newly reported changes that may be false, over `memory` nights (`multiple.q_values`)."""
    memory: int = 7
    """Nights over which false discoveries are counted. The longest window is about as long: further nights
    hold much the same runs against each other, so more tests than these are not independent."""
    largest_p: float = 0.005
    """And no change is reported on weaker evidence than this, however few series the night has."""
    confidence: float = 0.95
    """Level of the published intervals."""
    latency_floor: float = 0.05
    """Smaller changes of a timing are never reported, however sure they are."""
    tail_floor: float = 0.15
    """Likewise of a timing's slow requests, where the middle has not changed."""
    sql_floor: float = 0.02
    cpu_floor: float = 0.05
    memory_floor: float = 0.05
    failure_floor: float = 0.05
    """Failure rates: in points of the rate, not relative. Not where no run of the baseline had a failure."""
    useful_mde: float = 0.15
    """A series that can't show a change of this size is `too noisy to tell`."""
    wander: float = 0.2
    """Share of the run-to-run variance that neighbouring nights have in common, so that averaging
    them does not remove it. 0.2 is above what repeated measurements of one revision showed on
    dedicated hosts."""
    windows: tuple[int, ...] = (2, 3, 5, 8)
    """How many of the latest runs are held against the runs before them. One run alone proves
    nothing for a timing: outlier nights are more frequent than regressions."""
    settle: int = 8
    """An improvement that has held for this many runs is the baseline from then on. A regression
    never becomes the baseline by lasting: somebody accepts it, or it is fixed."""
    steady_scale: float = 0.01
    """A counter whose run-to-run scale is below this is nearly deterministic: one run proves."""

    def __post_init__(self) -> None:
        if self.min_baseline < 2:  # noqa: PLR2004
            raise ValueError("min_baseline must be 2 or more: one run has no deviation")

    @property
    def longest_baseline(self) -> int:
        """How many runs a baseline keeps."""
        return max(self.min_baseline, self.max_baseline)
