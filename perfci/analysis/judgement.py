"""What is said of a series: its judgement, with the reason in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.analysis.failures import FailureTrack
from perfci.analysis.level_track import LevelTrack
from perfci.analysis.tracks import open_change, parts_of
from perfci.analysis.types import Judgement, Outcome
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfci.analysis.evidence import Evidence
    from perfci.analysis.facts import TrackKey
    from perfci.analysis.replay import Replay
    from perfci.analysis.tracks import Track
    from perfci.analysis.types import RunPoint, SeriesHistory
    from perfci.results.model import SeriesKey


def judgement(
    point: RunPoint, part: TrackKey, track: Track, evidence: Evidence, limits: tuple[float, float]
) -> Judgement:
    """Say what came out; `limits` are the part's q-value and its MDE."""
    q_value, mde = limits
    worse, since, kind = open_change(track)
    if worse is not None:
        outcome = Outcome.REGRESSION if worse else Outcome.IMPROVEMENT
    elif (
        isinstance(track, LevelTrack)
        # Of a counter near zero, changes below its unit don't matter: that is no noise.
        and mde > max(track.settings.useful_mde, evidence.reach.floor)
        and not track.settled
    ):
        outcome = Outcome.TOO_NOISY
    else:
        outcome = Outcome.NO_CHANGE
    return Judgement(
        key=part.key,
        run_id=point.run_id,
        outcome=outcome,
        reason=_reason(outcome, evidence, since, mde, track=track, part=part) + _aside(track),
        baseline=evidence.baseline,
        location=evidence.location,
        baseline_location=evidence.baseline_location,
        effect=evidence.effect,
        low=evidence.low,
        high=evidence.high,
        mde=mde,
        p_value=evidence.p_value,
        q_value=q_value,
        since=since,
        kind=kind,
        suspect=evidence.suspect and worse is None,
        level=evidence.level,
    )


def _aside(track: Track) -> str:
    """Say of a change that re-runs have refuted it, or that the latest run no longer shows it."""
    if isinstance(track, FailureTrack) or track.change is None:
        return ""
    if track.change.refuted:
        return f"; re-runs have refuted the change since {track.change.after[0].run_id}"
    return "; the latest run alone was back at the baseline" if track.seems_back() else ""


def _reason(
    outcome: Outcome, evidence: Evidence, since: str | None, mde: float, *, track: Track, part: TrackKey
) -> str:
    """Say in a sentence how the answer was found."""
    unit = "points" if isinstance(track, FailureTrack) else "%"
    ends = f"{_signed(evidence.low)} … {_signed(evidence.high)}"
    interval = f"{_signed(evidence.effect)} {unit} ({ends} {unit})"
    number = len(evidence.baseline)
    against = f"against {number} baseline run{'s' * (number != 1)}"
    if part.key.metric is Metric.RATIO:
        against = "against the reference beside it"
    if outcome in (Outcome.REGRESSION, Outcome.IMPROVEMENT):
        what = "only the slow requests: " if part.tail else ""
        return f"{what}{interval} {against}, since {since}"
    if track.settled:
        return f"the change of {interval} has lasted; its level is the baseline from now on"
    if evidence.suspect_with:
        return f"{evidence.suspect_with}, which is worth a look; {interval} {against} is not proof yet"
    if evidence.suspect:
        return f"only the latest run stands out; {interval} {against} is not proof yet"
    if outcome is Outcome.TOO_NOISY:
        return f"{interval} {against}; only changes above {100 * mde:.0f} % would have been reported"
    small = mde > track.settings.useful_mde and isinstance(track, LevelTrack)
    rest = "; smaller ones are too small to matter" if small else ""
    return f"{interval} {against}; changes above {100 * mde:.1f} {unit} would have been reported{rest}"


def _signed(share: float) -> str:
    """Return a share in percent with its sign, as mails and pages write it (`wording` is a floor above)."""
    return f"{100 * share:+.1f}".replace("-", "\u2212")


def without_evidence(
    history: SeriesHistory, replay: Replay, environments: Mapping[SeriesKey, set[str]]
) -> Judgement:
    """Answer for a series whose last run could not be held against anything.

    `environments` are those in which each series has run.
    """
    if not history.points:
        return Judgement(history.key, "", Outcome.NO_DATA, "the series has no runs")
    last = history.points[-1]
    if not last.valid:
        return Judgement(history.key, last.run_id, Outcome.INVALID, "the lab was not fit to measure")
    track = replay.track(parts_of(history.key, last.environment)[0])
    if track.value_of(last) is None:
        reason = f"{last.failures} of {last.attempts} iterations failed; none gave a value"
        return Judgement(history.key, last.run_id, Outcome.NO_DATA, reason)
    start = "the environment is new: " if environments[history.key] > {last.environment} else ""
    reason = f"{start}run {len(track.runs)} of the {replay.settings.min_baseline} that a baseline needs"
    return Judgement(history.key, last.run_id, Outcome.NO_BASELINE, reason)
