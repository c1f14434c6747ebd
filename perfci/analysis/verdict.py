"""The nightly entry: histories in, one judgement per series out.

The nights are replayed from the oldest run to the latest, with the decisions that would have been
taken then. So everything that a verdict depends on (which runs are the baseline, which change is
open, since when) follows from the histories, from what re-runs have shown and from what people
accepted. `Replay` is where a lab's nights have led.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from perfci.analysis.facts import Facts
from perfci.analysis.judgement import without_evidence
from perfci.analysis.replay import Replay
from perfci.analysis.settings import AnalysisSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.types import Confirmation, Judgement, RunPoint, SeriesHistory
    from perfci.results.model import SeriesKey


def judge(  # noqa: PLR0917 - all of them are what a verdict follows from
    histories: Sequence[SeriesHistory],
    settings: AnalysisSettings = AnalysisSettings(),  # noqa: B008 - immutable
    accepted: Mapping[SeriesKey, str] | None = None,
    canaries: Sequence[SeriesHistory] = (),
    confirmations: Mapping[tuple[SeriesKey, str], Confirmation] | None = None,
    facts: Facts = Facts(),  # noqa: B008 - immutable
) -> tuple[Judgement, ...]:
    """Judge the last run of every series; the answers are in the order of the histories.

    `histories` are all series of the night, so that false discoveries can be controlled over them:
    a series judged alone may get another answer than among its night. Run ids must sort by time.
    `accepted` names, per series, the first run of a change that somebody accepted: the runs before
    it are no longer part of the baseline. `canaries` are the histories of the lab's own fixed
    workloads (a node and a workload each, metric seconds). A lasting step in half of them starts every
    baseline anew, as a new environment digest does; what they move tonight is added to the uncertainty
    of all timings and CPU seconds. `confirmations` are what re-runs have shown, by series and the run
    that raised the question: from that run on a change is what they say, real or noise. `facts` are what
    earlier nights have decided: those nights are followed, so the histories need not go back to where a
    change that is still open began.

    The order of the series does not matter, nor does the unit of a timing. Invalid runs, runs in
    another environment and failed iterations are never compared with.
    """
    replay = Replay(settings, confirmations=confirmations or {}, facts=facts)
    return follow(replay, histories, accepted, canaries)


def follow(
    replay: Replay,
    histories: Sequence[SeriesHistory],
    accepted: Mapping[SeriesKey, str] | None = None,
    canaries: Sequence[SeriesHistory] = (),
) -> tuple[Judgement, ...]:
    """Feed the nights that a replay has not seen yet, and judge the last run of every series.

    As `judge`, for a replay that knows the nights up to `replay.latest`: `histories` need not hold them.
    """
    answers = feed(replay, histories, accepted, canaries)
    environments: dict[SeriesKey, set[str]] = defaultdict(set)
    for part in replay.tracks:
        environments[part.key].add(part.environment)
    return tuple(
        (h.points and answers.get((h.key, h.points[-1].run_id))) or without_evidence(h, replay, environments)
        for h in histories
    )


def feed(
    replay: Replay,
    histories: Sequence[SeriesHistory],
    accepted: Mapping[SeriesKey, str] | None = None,
    canaries: Sequence[SeriesHistory] = (),
    *,
    tonight: str | None = None,
    until: str | None = None,
) -> dict[tuple[SeriesKey, str], Judgement]:
    """Feed the nights that a replay has not seen yet; return the answers of those that were decided.

    The night to be judged is `tonight`, left out the last of the histories; facts of earlier nights are
    followed. Nights up to the run `until` are fed; left out, all of them. The nights of a long history can be
    fed some at a time.
    """
    nights, lab = by_night(histories, accepted or {}), by_night(canaries, {}, valid=False)
    answers: dict[tuple[SeriesKey, str], Judgement] = {}
    last = max(nights, default="") if tonight is None else tonight
    known = {run_id: facts for run_id, facts in replay.facts.nights.items() if run_id < last}
    for run_id in sorted({*nights, *known}):
        if run_id > replay.latest and (until is None or run_id <= until):
            if run_id in known:
                replay.follow_night(known[run_id], nights.get(run_id, {}), lab.get(run_id))
            else:
                found = replay.night(nights[run_id], lab.get(run_id), run_id)
                answers |= {(key, run_id): one for key, one in found.items()}
            replay.latest = run_id
    return answers


def by_night(
    histories: Sequence[SeriesHistory], accepted: Mapping[SeriesKey, str], *, valid: bool = True
) -> dict[str, dict[SeriesKey, RunPoint]]:
    """Return the runs of many series by run, those before an accepted change left out.

    With `valid` also those in which the lab was not fit to measure.
    """
    nights: dict[str, dict[SeriesKey, RunPoint]] = {}
    for history in histories:
        for point in _kept_points(history, accepted):
            if point.valid or not valid:
                nights.setdefault(point.run_id, {})[history.key] = point
    return nights


def _kept_points(history: SeriesHistory, accepted: Mapping[SeriesKey, str]) -> list[RunPoint]:
    first = accepted.get(history.key, "")
    return [p for p in history.points if p.run_id >= first]
