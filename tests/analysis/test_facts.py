"""A verdict follows from histories and facts: whatever else is lost, it is the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from series import Histories, point, run_id, series_key

from perfci.analysis.decision import Decision
from perfci.analysis.facts import Facts, NightFacts, facts_as_dict, facts_from_dict
from perfci.analysis.replay import Replay
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import Basis, Confirmation, Outcome, SeriesHistory
from perfci.analysis.verdict import feed, follow
from perfci.results.model import Metric, SeriesKey

if TYPE_CHECKING:
    from perfci.analysis.types import Judgement

QUICK = AnalysisSettings(max_baseline=12)
"""A baseline of twelve runs, so that a window of 40 nights is as long as 120 are for one of 60."""
WINDOW = 40
NIGHTS = 75


def since(histories: list[SeriesHistory], first: int, last: int) -> list[SeriesHistory]:
    """The nights from `first` to `last`, both included."""
    found = (
        SeriesHistory(one.key, tuple(p for p in one.points if run_id(first) <= p.run_id <= run_id(last)))
        for one in histories
    )
    return [one for one in found if one.points and one.points[-1].run_id == run_id(last)]


class Controller:
    """Judges nights as `verdicts.judge` does: facts are kept for good, a replay only as long as it likes."""

    def __init__(self, histories: list[SeriesHistory], canaries: list[SeriesHistory]) -> None:
        self.histories, self.canaries = histories, canaries
        self.facts: dict[str, NightFacts] = {}
        self.accepted: dict[SeriesKey, str] = {}
        self.accepted_on: dict[SeriesKey, str] = {}
        self.settings = QUICK
        self.replay: Replay | None = None

    def judge(self, night: int, *, window: int = WINDOW) -> tuple[Judgement, ...]:
        first = max(0, night - window + 1)
        if self.replay is None:
            self.replay = Replay(self.settings)
        self.replay.facts = Facts(dict(self.facts), dict(self.accepted_on))
        self.replay.decided = []
        found = follow(
            self.replay,
            since(self.histories, first, night),
            self.accepted,
            since(self.canaries, first, night),
        )
        # Facts are documents: what is read back is what counts.
        self.facts |= {one.run_id: facts_from_dict(facts_as_dict(one)) for one in self.replay.decided}
        return found

    def forget(self) -> None:
        """Throw away everything but facts."""
        self.replay = None

    def accept(self, key: SeriesKey, change: str, night: int) -> None:
        self.accepted[key], self.accepted_on[key] = change, run_id(night)
        self.forget()


def verdicts(found: tuple[Judgement, ...]) -> list[tuple[object, ...]]:
    return [(one.key, one.outcome, one.since, one.effect, one.p_value, one.q_value, one.mde) for one in found]


def lab_of(seed: int) -> tuple[list[SeriesHistory], list[SeriesHistory]]:
    """Return series with steps, fixes, spikes and failures, and two canaries that may move: all by chance."""
    rng = np.random.default_rng(seed)
    made = Histories(rng)

    def levels() -> np.ndarray:
        level, out = 1.0, []
        for night in range(NIGHTS):
            if night >= 10 and rng.random() < 0.04:
                level = rng.choice([1.0, 1.0, 1.25, 0.8])
            out.append(level * (1.3 if rng.random() < 0.03 else 1.0))
        return np.array(out)

    flaky = rng.choice([0.02, 0.1])
    histories = [
        made.timings(levels(), action="a", between=0.01, iterations=12),
        made.timings(levels(), action="b", between=0.03, iterations=12),
        made.counters(20 * levels()),
        made.failures([40 if rng.random() < flaky or 50 < night < 55 else 0 for night in range(NIGHTS)]),
    ]
    moved = rng.integers(20, 3 * NIGHTS)
    canaries = []
    for node in ("a", "b"):
        values = np.exp(rng.normal(0, 0.003, NIGHTS)) * np.where(np.arange(NIGHTS) < moved, 1.0, 1.2)
        points = tuple(point(night, [value, value]) for night, value in enumerate(values))
        canaries.append(SeriesHistory(SeriesKey("lab", "job", "canary", node, "cpu", Metric.SECONDS), points))
    return histories, canaries


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    lost=st.sets(st.integers(45, NIGHTS - 1), max_size=4),
    accepts=st.sets(st.integers(20, NIGHTS - 1), max_size=2),
    changed=st.one_of(st.none(), st.integers(30, NIGHTS - 1)),
)
@example(
    seed=1938849020, lost={59, 60, 65}, accepts=set(), changed=None
)  # a change soon after runs were forgotten
def test_whatever_is_lost_but_facts_each_night_is_judged_the_same(seed, lost, accepts, changed) -> None:
    keeps, loses = Controller(*lab_of(seed)), Controller(*lab_of(seed))
    for night in range(NIGHTS):
        if night == changed:  # other settings: no replay that was kept can be used
            for one in (keeps, loses):
                one.settings = replace(QUICK, latency_floor=0.08, useful_mde=0.1)
                one.forget()
        if night in lost:  # the cache, or another version that can't read it
            loses.forget()
        found = keeps.judge(night)
        assert verdicts(loses.judge(night)) == verdicts(found)
        slower = next((one for one in found if one.outcome is Outcome.REGRESSION), None)
        if night in accepts and slower is not None:
            for one in (keeps, loses):
                one.accept(slower.key, slower.since, night)
    assert loses.facts == keeps.facts


def open_regressions(controller: Controller) -> dict[SeriesKey, str]:
    """Return since when which series are slower, as the replay knows; of the latest environment, without tails."""
    return {
        part.key: track.change.after[0].run_id
        for part, track in controller.replay.tracks.items()
        if not part.tail and getattr(track, "change", None) is not None and track.change.worse
    }


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, NIGHTS - 1))
@example(seed=160, cut=NIGHTS - 1)  # the lab moved for good before the replay begins, and after the change
@example(seed=160, cut=1)
@example(seed=364, cut=1)
def test_what_is_open_stays_open_wherever_a_replay_begins(seed, cut) -> None:
    keeps, loses = Controller(*lab_of(seed)), Controller(*lab_of(seed))
    for night in range(NIGHTS):
        if night == NIGHTS - 1:
            loses.facts, before = dict(keeps.facts), open_regressions(keeps)
        keeps.judge(night)
    shown = {one.key: one for one in loses.judge(NIGHTS - 1, window=NIGHTS - cut)}
    for key, since_run in open_regressions(keeps).items() & before.items():
        assert shown[key].outcome is Outcome.REGRESSION
        assert shown[key].since == since_run


def test_a_regression_older_than_the_window_stays_one_and_closes(histories: Histories) -> None:
    step, fixed = 40, 183
    levels = [0.4 * (1.2 if step <= night < fixed else 1.0) for night in range(186)]
    controller = Controller([histories.timings(levels, between=0.01)], [])
    controller.settings = AnalysisSettings()
    for night in range(179):
        controller.judge(night, window=120)
    controller.forget()
    (kept,) = controller.judge(179, window=120)
    assert (kept.outcome, kept.since) == (Outcome.REGRESSION, run_id(step))
    assert kept.effect == pytest.approx(0.2, abs=0.03)
    for night in range(180, 186):
        controller.forget()
        (found,) = controller.judge(night, window=120)
    assert found.outcome is Outcome.NO_CHANGE
    assert open_regressions(controller) == {}


def test_facts_that_are_none_are_refused() -> None:
    for damaged in (None, [], {}, {"format": 2}, {"format": 1, "found": "many"}):
        with pytest.raises(ValueError, match=r"facts|found"):
            facts_from_dict(damaged)


def test_nights_that_are_followed_are_not_decided_again(histories: Histories) -> None:
    history = histories.timings([1.0] * 12 + [2.0] * 4)
    silent = {run_id(night): NightFacts(run_id(night)) for night in range(15)}
    replay = Replay(QUICK, facts=Facts(silent))
    feed(replay, [history], tonight=run_id(15), until=run_id(14))
    assert replay.track(next(iter(replay.tracks))).change is None
    assert replay.decided == []
    assert series_key() == history.key


def test_a_refuted_level_is_asked_about_again_before_it_is_the_baseline(histories: Histories) -> None:
    history = histories.timings([1.0] * 12 + [1.3] * 20, between=0.01)
    refuted = Confirmation(
        Decision.SAME, Basis.RERUNS, "refuted", asked=run_id(13), since=run_id(12), claimed=True
    )
    again = replace(refuted, asked=run_id(20))

    def outcomes_of(*answers: Confirmation) -> list[Outcome]:
        replay = Replay(AnalysisSettings())
        replay.confirmations = {(history.key, one.asked): one for one in answers}
        return [one.outcome for one in feed(replay, [history]).values()][-20:]

    once, twice = outcomes_of(refuted), outcomes_of(refuted, again)
    assert Outcome.REGRESSION not in once[1:7]
    assert set(once[7:]) == {Outcome.REGRESSION}, "it has lasted: re-runs are asked, or it is reported"
    assert Outcome.REGRESSION not in twice[8:]
