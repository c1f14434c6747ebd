"""The course of a bisect: ends, search, proofs; broken revisions, budgets, and being killed anywhere."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from perfci.analysis.bisect.codec import as_dict, from_dict
from perfci.analysis.bisect.machine import BisectResult, BisectState, End, Measure, next_move
from perfci.analysis.bisect.model import BisectPoint, BisectQuestion, Costs, Kind, Observation
from perfci.analysis.variance import VarianceLevels

DEVIATION = 0.03
NOISE = VarianceLevels(0.0, DEVIATION**2 * 0.8, DEVIATION**2 * 0.2)

TENTH = math.log(1.1)


def question(steps=8, effect=TENTH, **changes):
    usual = {"plausibility": (1.0,) * steps, "noise": NOISE, "effect": effect, "effect_error": 0.028}
    return BisectQuestion(**usual | changes)


def play(state, jumps, rng, *, broken=(), unrevertable=False, revert_helps=True, stop=None):
    """Measure what is asked for until there is an answer, or `stop` measurements were made."""
    levels = np.concatenate([[0.0], np.cumsum(jumps)])
    while isinstance(move := next_move(state), Measure):
        if stop is not None and len(state.seen) == stop:
            break
        point = move.point
        if point in broken or (unrevertable and point.kind is Kind.REVERTED):
            state = state.without(point)
            continue
        level = levels[-1]
        if point.kind is Kind.REVERTED:
            level -= jumps[point.index - 1] * revert_helps
        elif point.kind is not Kind.HEAD:
            level = levels[point.index - (point.kind is Kind.PARENT)]
        state = state.observe(
            Observation(point, float(rng(point, len(state.seen), level)), runs=move.runs), 1.0
        )
    return state, move


def noisy(seed):
    """Noise that depends on the number of the measurement alone, so that a resumed bisect sees the same."""

    def value(point, number, level):
        return level + np.random.default_rng([seed, number]).normal(0, DEVIATION)

    return value


def exact(point, number, level):
    return level


def steps(count, **sizes):
    jumps = np.zeros(count)
    for name, size in sizes.items():
        jumps[int(name[1:]) - 1] = math.log1p(size)
    return jumps


def kinds(state):
    return [one.point.kind for one in state.seen]


def test_the_whole_course():
    state, answer = play(BisectState(question()), steps(8, s5=0.1), exact)
    assert answer.end is End.CULPRIT
    assert answer.steps == (5,)
    assert answer.reverted
    assert answer.probability >= 0.99
    assert answer.low < 0.1 < answer.high
    order = kinds(state)
    assert [one.point.index for one in state.seen[:2]] == [0, 8]
    assert order.index(Kind.PARENT) < order.index(Kind.REVERTED)
    assert Counter(order)[Kind.PARENT] >= 2
    assert Counter(order)[Kind.CHANGE] >= 2
    assert Counter(order)[Kind.REVERTED] >= 2
    assert Counter(order)[Kind.HEAD] >= 2


@pytest.mark.parametrize("guilty", [1, 2, 4, 7, 8])
def test_every_place_is_found(guilty):
    _, answer = play(BisectState(question()), steps(8, **{f"s{guilty}": 0.1}), exact)
    assert answer.steps == (guilty,)


def test_nothing_between_the_ends():
    state, answer = play(BisectState(question()), steps(8), exact)
    assert answer.end is End.NONE
    assert Kind.PARENT not in kinds(state)


def test_two_steps_are_several_or_the_larger_one():
    _, answer = play(BisectState(question(effect=math.log(1.12))), steps(8, s2=0.06, s6=0.06), exact)
    assert answer.end is End.SEVERAL
    assert answer.steps == (2, 6)


def test_a_revision_that_does_not_deploy_is_gone_round():
    broken = {BisectPoint(Kind.REVISION, 4)}
    state, answer = play(BisectState(question()), steps(8, s7=0.1), exact, broken=broken)
    assert answer.steps == (7,)
    assert all(one.point not in broken for one in state.seen)


def test_steps_beside_a_revision_that_does_not_deploy_are_named_together():
    broken = {BisectPoint(Kind.REVISION, 4)}
    _, answer = play(BisectState(question()), steps(8, s5=0.1), exact, broken=broken)
    assert answer.end is End.CULPRIT
    assert answer.steps == (4, 5)
    assert not answer.reverted


def test_an_end_that_does_not_deploy_ends_it():
    _, answer = play(BisectState(question()), steps(8, s5=0.1), exact, broken={BisectPoint(Kind.REVISION, 8)})
    assert answer.end is End.NOTHING_LEFT
    assert answer.reason == "the bad end does not deploy"


def test_a_step_that_does_not_revert_is_told_without():
    _, answer = play(BisectState(question()), steps(8, s5=0.1), exact, unrevertable=True)
    assert answer.end is End.CULPRIT
    assert answer.steps == (5,)
    assert not answer.reverted


def test_a_revert_that_changes_nothing_is_no_proof():
    _, answer = play(BisectState(question(most_runs=120)), steps(8, s5=0.1), exact, revert_helps=False)
    assert answer.end is End.UNPROVEN
    assert "revert" in answer.reason


def test_a_refused_step_makes_the_search_go_on():
    state, answer = play(BisectState(question()).refuse(5), steps(8, s5=0.1), exact)
    assert answer.end is not End.CULPRIT or answer.steps != (5,)
    everything = BisectState(question(), tuple(state.seen))
    for one in range(1, 9):
        everything = everything.refuse(one)
    assert next_move(everything).end is End.NOTHING_LEFT


def test_a_budget_that_is_too_small_is_said_with_what_would_do():
    state, answer = play(
        BisectState(question(effect=math.log(1.03), effect_error=0.01, most_runs=12)),
        steps(8, s5=0.03),
        exact,
    )
    assert answer.end is End.TOO_NOISY
    assert answer.needed > 0
    assert state.runs <= 12


def test_minutes_are_a_budget_too():
    state, answer = play(BisectState(question(most_minutes=5.0)), steps(8, s5=0.1), exact)
    assert answer.end is End.TOO_NOISY
    assert state.minutes <= 5


def test_dear_deployments_get_several_runs_each():
    asked = question(costs=Costs(run=1.0, deployment=20.0, build=0.0))
    move = next_move(BisectState(asked))
    assert move.runs > 3


def test_a_single_suspect_still_needs_both_proofs():
    state, answer = play(BisectState(question(steps=1)), steps(1, s1=0.1), exact)
    assert answer.end is End.CULPRIT
    assert answer.reverted
    assert Counter(kinds(state))[Kind.PARENT] >= 2


def test_an_improvement_is_found_as_well():
    _, answer = play(BisectState(question(effect=math.log(0.9))), steps(8, s3=-0.1), exact)
    assert answer.steps == (3,)
    assert answer.effect == pytest.approx(-0.1, abs=0.03)


def test_killed_anywhere_it_gives_the_same_answer():
    asked, jumps = BisectState(question(steps=6)), steps(6, s4=0.1)
    whole, answer = play(asked, jumps, noisy(3))
    for stop in range(len(whole.seen)):
        half, _ = play(asked, jumps, noisy(3), stop=stop)
        again = from_dict(json.loads(json.dumps(as_dict(half))))
        assert again == half
        if stop % 4 == 0:
            assert play(again, jumps, noisy(3)) == (whole, answer)


def test_a_state_of_every_kind_comes_back():
    state = (
        BisectState(question(most_minutes=math.inf))
        .observe(Observation(BisectPoint(Kind.REVISION, 0), 1.0, 0.01, 3), 2.5)
        .without(BisectPoint(Kind.REVISION, 3), 1.0)
        .without(BisectPoint(Kind.REVERTED, 5))
        .refuse(2)
    )
    assert from_dict(json.loads(json.dumps(as_dict(state)))) == state
    assert state.minutes == 3.5
    assert state.unrevertable == (5,)


@pytest.mark.parametrize("garbage", [{}, {"question": {}}, {"question": None}])
def test_garbage_is_no_state(garbage):
    with pytest.raises((KeyError, TypeError, ValueError)):
        from_dict(garbage)


def test_the_order_in_which_it_was_seen_does_not_change_the_search():
    state, _ = play(BisectState(question()), steps(8, s5=0.1), noisy(1), stop=6)
    turned = replace(state, seen=tuple(reversed(state.seen)))
    assert next_move(turned) == next_move(state)


def rate(cases, jumps_of, asked, wanted):
    found = Counter()
    for case in range(cases):
        jumps, guilty = jumps_of(case)
        _, answer = play(BisectState(asked(len(jumps))), jumps, noisy(1000 + case))
        found[wanted(answer, guilty)] += 1
    return found


def test_error_rates_with_a_step():
    """A small number of cases; benchmarks/bisect_table.py has the real one."""

    def jumps_of(case):
        rng = np.random.default_rng(case)
        count = int(rng.integers(2, 13))
        guilty = int(rng.integers(1, count + 1))
        return steps(count, **{f"s{guilty}": 0.1}), guilty

    def wanted(answer, guilty):
        if answer.end is End.CULPRIT:
            return "right" if answer.steps == (guilty,) else "wrong"
        return str(answer.end)

    found = rate(40, jumps_of, question, wanted)
    assert found["wrong"] == 0
    assert found["right"] >= 36


def test_error_rates_without_one():
    found = rate(
        12,
        lambda case: (steps(6), 0),
        question,
        lambda answer, _: "none" if answer.end is End.NONE else str(answer.end),
    )
    assert found["none"] >= 11
    assert found["culprit"] == 0


def test_an_answer_is_no_measurement():
    assert not isinstance(next_move(BisectState(question(most_runs=0))), Measure)
    assert isinstance(next_move(BisectState(question(most_runs=0))), BisectResult)
