"""The state of a replay, written down and read again."""

from __future__ import annotations

import contextlib
import gc
import json
from dataclasses import replace

import numpy as np
import pytest
from series import Histories, run_id

from perfci.analysis.evidence import RunValue
from perfci.analysis.level_rule import tail_rule
from perfci.analysis.level_track import LevelTrack
from perfci.analysis.replay import Replay
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.state import VERSION, dump, load
from perfci.analysis.types import SeriesHistory
from perfci.analysis.variance import VariancePrior
from perfci.analysis.verdict import feed, follow, judge

NIGHTS = 34


def lab(seed: int = 4) -> list[SeriesHistory]:
    """Steps, fixes, improvements, spikes, a new environment, counters and failures."""
    made = Histories(np.random.default_rng(seed))
    slow = [1.0] * 12 + [1.3] * 6 + [1.0] * (NIGHTS - 18)
    series = [made.timings(slow, action=f"slow{i}", between=0.02) for i in range(3)]
    series += [made.timings([1.0] * 14 + [0.8] * (NIGHTS - 14), action="better", between=0.01)]
    series += [made.timings([1.0] * 15 + [1.5] * 2 + [1.0] * (NIGHTS - 17), action="spike", between=0.02)]
    series += [made.timings([1.0] * NIGHTS, action=f"same{i}") for i in range(4)]
    moved = made.timings([1.0] * 20 + [1.4] * (NIGHTS - 20), action="moved")
    points = tuple(replace(p, environment="e1") if n >= 20 else p for n, p in enumerate(moved.points))
    return [
        *series,
        SeriesHistory(moved.key, points),
        made.counters([20.0] * 16 + [24.0] * (NIGHTS - 16)),
        made.counters([0.4] * 16 + [3.0] * (NIGHTS - 16), action="from-nothing"),
        made.failures([0] * 20 + [9] * 3 + [1] * (NIGHTS - 23)),
    ]


def canaries() -> list[SeriesHistory]:
    made = Histories(np.random.default_rng(5))
    levels = [1.0] * 24 + [1.1] * (NIGHTS - 24)
    return [made.timings(levels, action=f"canary{i}", between=0.003) for i in range(3)]


def until(histories: list[SeriesHistory], night: int) -> list[SeriesHistory]:
    return [SeriesHistory(h.key, tuple(p for p in h.points if p.run_id <= run_id(night))) for h in histories]


def tonight(histories: list[SeriesHistory], night: int) -> list[SeriesHistory]:
    return [SeriesHistory(h.key, tuple(p for p in h.points if p.run_id == run_id(night))) for h in histories]


def test_a_lab_that_goes_on_from_its_state_judges_as_one_that_replays_every_night() -> None:
    series, own, state = lab(), canaries(), None
    for night in range(NIGHTS):
        replay = Replay(AnalysisSettings()) if state is None else load(state, AnalysisSettings())
        answers = follow(replay, tonight(series, night), {}, tonight(own, night))
        state = json.loads(json.dumps(dump(replay)))
        if night % 5 == 3 or night in (12, 13, 14, 17, 18, 24, 25):
            assert answers == judge(until(series, night), canaries=until(own, night))


def test_the_same_nights_give_the_same_state() -> None:
    series = lab()
    states = []
    for order in (series, series[::-1]):
        replay = Replay(AnalysisSettings())
        feed(replay, order)
        state = dump(replay)
        states.append((state["found"], sorted(json.dumps(one["key"]) for one in state["tracks"])))
    assert states[0] == states[1]


def test_nights_that_are_known_are_not_fed_again() -> None:
    series, replay = lab(), Replay(AnalysisSettings())
    feed(replay, series)
    before = dump(replay)
    assert feed(replay, series) == {}
    assert dump(replay) == before


def test_series_that_are_long_gone_are_left_out() -> None:
    replay = Replay(AnalysisSettings())
    feed(replay, lab())
    assert all(
        one["environment"] != "e0" or one["key"][4] != "moved"
        for one in dump(replay, since=run_id(21))["tracks"]
    )
    assert dump(replay, since=run_id(NIGHTS + 1))["tracks"] == []


def test_a_fork_leaves_its_origin_alone() -> None:
    series, replay = lab(), Replay(AnalysisSettings())
    feed(replay, until(series, 16))
    before = dump(replay)
    feed(replay.fork(), series)
    assert dump(replay) == before


def _damaged(change) -> object:
    replay = Replay(AnalysisSettings())
    feed(replay, until(lab(), 12))
    state = dump(replay)
    change(state)
    return state


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {},
        {"version": VERSION + 1},
        {"version": VERSION},
        {
            "version": VERSION,
            "latest": "",
            "found": [],
            "alarms": [],
            "tracks": [{"key": []}],
            "canaries": [],
            "runs": [],
            "codes": [],
            "values": {},
        },
        _damaged(lambda state: state["tracks"][0].update(runs=10**6)),
        _damaged(lambda state: state["tracks"].pop(0)),
        _damaged(lambda state: state["values"].update(log="AAAA")),
        _damaged(lambda state: state["values"].update(run=state["values"]["error"])),
        _damaged(lambda state: state.update(codes=[])),
    ],
)
def test_anything_else_is_refused(state: object) -> None:
    with pytest.raises(ValueError, match="state"):
        load(state, AnalysisSettings())


def test_the_state_of_an_old_lab_is_no_larger_and_gives_the_same_answers() -> None:
    """Half a year, in which some things change, is not kept: what a later night can need is."""
    made, nights = Histories(np.random.default_rng(6)), 180
    steps = [1.0] * 100 + [1.3] * 30 + [1.0] * 24 + [1.4] * (nights - 154)
    tail = made.timings([1.0] * nights, action="tail")
    slow = [
        replace(one, values=tuple(v * (1.5 if n % 6 == 0 and night >= 140 else 1.0) for n, v in enumerate(one.values)))
        for night, one in enumerate(tail.points)
    ]  # fmt: skip
    series = [
        made.timings(steps, action="slow", between=0.02),
        made.timings([1.0] * 120 + [0.8] * (nights - 120), action="better", between=0.01),
        replace(tail, points=tuple(slow)),
        made.counters([20.0] * 150 + [24.0] * (nights - 150)),
    ]
    whole, state = Replay(AnalysisSettings()), None
    for night in range(nights):
        replay = Replay(AnalysisSettings()) if state is None else load(state, AnalysisSettings())
        assert follow(replay, tonight(series, night)) == follow(whole, tonight(series, night))
        assert replay.decided[-1] == whole.decided[-1]
        state = json.loads(json.dumps(dump(replay)))
        assert max(one["runs"] for one in state["tracks"]) <= AnalysisSettings().longest_baseline + 28
    assert max(len(track.runs) for track in whole.tracks.values()) > AnalysisSettings().longest_baseline + 28
    assert any(facts.opened for facts in whole.decided[150:])


def test_a_state_is_read_without_a_search_for_garbage_and_the_collector_is_left_as_it_was() -> None:
    replay = Replay(AnalysisSettings())
    feed(replay, lab())
    state = dump(replay)
    searches: list[str] = []

    def seen(phase: str, _info: object) -> None:
        searches.append(phase)

    before = gc.get_threshold()
    gc.callbacks.append(seen)
    gc.set_threshold(1, 1, 1)  # else a small lab is read between two searches anyway
    try:
        searches.clear()
        load(state, AnalysisSettings())
        # Those before the collector is off and after it is on again: neither grows with the state.
        assert len(searches) < len(replay.tracks)
        for broken in ({**state, "tracks": [{}]}, state):
            with contextlib.suppress(ValueError):
                load(broken, AnalysisSettings())
            assert gc.isenabled()
        gc.disable()
        load(state, AnalysisSettings())
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.set_threshold(*before)
        gc.callbacks.remove(seen)


def test_what_a_tail_was_like_before_its_baseline_says_nothing_about_it() -> None:
    """A new lab's first nights have another shape: a state that has forgotten them agrees with one that knows."""
    settings = AnalysisSettings()
    shapes = {
        "early": (0.0, 0.1, 0.2, 0.3, 0.4),
        "usual": (0.0, 0.1, 0.2, 0.6, 0.9),
        "late": (0.4, 0.5, 0.6, 0.7, 1.4),
    }
    kinds = ["early"] * 90 + ["usual"] * settings.longest_baseline + ["late"] * 8
    track = LevelTrack(tail_rule(settings), settings)
    # Without `add`, which forgets as it likes.
    track.runs = [
        RunValue(run_id(n), 0.5 * (kind == "late") + 0.01 * (n % 5), 0.01, shapes[kind])
        for n, kind in enumerate(kinds)
    ]
    short = track.fork()
    short.runs = short.runs[-short.needed_later :]
    for one in (track, short):
        evidence = one.look(VariancePrior())
        assert evidence is not None
        assert evidence.proves
        assert one.could_report(evidence) is False
