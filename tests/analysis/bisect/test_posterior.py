"""What observations say about steps: against sums over every hypothesis, in any order."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfci.analysis.bisect.choice import deployments_needed, information, outlook
from perfci.analysis.bisect.grid import broad_steps, single_steps
from perfci.analysis.bisect.model import BisectPoint, BisectQuestion, Kind, Observation
from perfci.analysis.bisect.posterior import infer, step_size
from perfci.analysis.bisect.proof import bayes_factor, interval
from perfci.analysis.variance import VarianceLevels

NOISE = VarianceLevels(0.0, 0.03**2 * 0.8, 0.03**2 * 0.2)

TENTH = math.log(1.1)


def question(steps=4, effect=TENTH, **changes):
    return BisectQuestion(
        **{"plausibility": (1.0,) * steps, "noise": NOISE, "effect": effect, "effect_error": 0.03} | changes
    )


def seen(*pairs):
    return [Observation(BisectPoint(Kind.REVISION, revision), log) for revision, log in pairs]


def brute(asked, observations):
    """Sum over every hypothesis one by one, with loops: slow, and nothing clever."""
    posterior = infer(asked, observations)
    grid = posterior.grid
    size, count = grid.levels.size, asked.steps + 1
    logs = np.array(
        [
            grid.log_density([one for one in observations if one.point.index == revision], asked)
            for revision in range(count)
        ]
    )
    likelihood = np.exp(logs - logs.max())
    # The same base for all hypotheses: each has one factor for each revision.
    single, broad = (
        grid.transition(single_steps(grid.shifts, asked)),
        grid.transition(broad_steps(grid.shifts, asked)),
    )
    none = likelihood.prod(axis=0).sum()
    singles = [
        likelihood[:step].prod(axis=0) @ single @ likelihood[step:].prod(axis=0) for step in range(1, count)
    ]
    pairs = [
        np.einsum(
            "a,ab,b,bc,c->",
            likelihood[:first].prod(axis=0), broad, likelihood[first:second].prod(axis=0), broad,
            likelihood[second:].prod(axis=0), optimize=True,
        )
        for first, second in itertools.combinations(range(1, count), 2)
    ]  # fmt: skip
    prior = asked.settings
    shares = np.array(
        [
            prior.none * none,
            prior.several * np.mean(pairs),
            *((1 - prior.none - prior.several) * np.array(singles) / asked.steps),
        ]
    )
    assert size == likelihood.shape[1]
    return shares / shares.sum()


@pytest.mark.parametrize(
    "pairs",
    [
        [(0, 1.0), (4, 1.1)],
        [(0, 1.0), (4, 1.1), (2, 1.0), (2, 1.02), (3, 1.09)],
        [(0, 1.0), (4, 1.0), (2, 1.1)],
        [(1, 2.0)],
    ],
)
def test_it_is_the_sum_over_all_hypotheses(pairs):
    asked, observations = question(), seen(*pairs)
    posterior = infer(asked, observations)
    expected = brute(asked, observations)
    assert [posterior.none, posterior.several, *posterior.steps] == pytest.approx(list(expected), abs=1e-9)


def test_two_ends_that_differ_say_that_there_is_a_step_but_not_which():
    posterior = infer(question(), seen((0, 1.0), (0, 1.01), (0, 1.0), (4, 1.1), (4, 1.09), (4, 1.1)))
    assert posterior.none < 0.02
    assert posterior.steps == pytest.approx(np.full(4, posterior.steps[0]), rel=1e-6)


def test_a_revision_between_the_ends_splits_the_steps():
    posterior = infer(question(), seen(*[(0, 1.0)] * 4, *[(4, 1.1)] * 4, *[(2, 1.0)] * 4))
    assert posterior.steps[:2].sum() < 0.02
    assert posterior.steps[2:].sum() > 0.9


def test_the_same_everywhere_is_none():
    posterior = infer(question(), seen(*[(one, 1.0) for one in range(5)] * 4))
    assert posterior.none > 0.99


def test_up_and_up_again_is_several():
    rows = [(0, 1.0), (1, 1.0), (2, 1.08), (3, 1.08), (4, 1.16)] * 5
    posterior = infer(question(effect=math.log(1.17)), seen(*rows))
    assert posterior.several > 0.95
    assert sorted(int(one) + 1 for one in posterior.among.argsort()[-2:]) == [2, 4]
    assert posterior.involved[[1, 3]] == pytest.approx([1, 1], abs=0.05)


def test_plausibility_decides_where_nothing_else_does():
    posterior = infer(question(plausibility=(1.0, 8.0, 1.0, 1.0)), seen((0, 1.0), (4, 1.1)))
    assert int(posterior.steps.argmax()) == 1


def test_a_refused_step_is_out():
    rows = seen(*[(0, 1.0)] * 4, *[(1, 1.0)] * 4, *[(2, 1.1)] * 4, *[(4, 1.1)] * 4)
    asked = question()
    assert infer(asked, rows).steps[1] > 0.9
    assert infer(asked, rows, [2]).steps[1] == 0
    assert infer(asked, rows, [1, 2, 3, 4]).none == 1


def test_one_step_alone_knows_no_several():
    posterior = infer(question(steps=1), seen((0, 1.0), (1, 1.1), (1, 1.1)))
    assert posterior.several == 0
    assert posterior.steps[0] + posterior.none == pytest.approx(1)


def test_one_outlier_proves_nothing():
    posterior = infer(question(), seen((0, 1.0), (4, 1.0), (2, 1.0), (3, 1.5), (4, 1.0), (0, 1.0)))
    assert posterior.none > 0.5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0.9, 1.3)), min_size=1, max_size=12), st.randoms())
def test_the_order_of_observations_does_not_matter(rows, random):
    asked = question()
    one = infer(asked, seen(*rows))
    random.shuffle(rows)
    other = infer(asked, seen(*rows))
    assert other.none == one.none
    assert other.several == one.several
    assert np.array_equal(other.steps, one.steps)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-30, 30)), min_size=1, max_size=12))
def test_probabilities_stay_probabilities_whatever_is_seen(rows):
    posterior = infer(question(), seen(*rows))
    whole = np.array([posterior.none, posterior.several, *posterior.steps])
    assert np.isfinite(whole).all()
    assert whole.sum() == pytest.approx(1)
    assert np.isfinite(information(posterior, outlook(posterior, question()))).all()


def test_no_noise_at_all_is_no_error():
    exact = VarianceLevels(0.0, 0.0, 0.0)
    rows = seen((0, 5.0), (1, 5.0), (2, 5.1), (3, 5.1), (4, 5.1))
    assert infer(question(noise=exact), rows).steps[1] > 0.9


def test_the_middle_tells_most_once_the_ends_are_known():
    posterior = infer(question(steps=8), seen(*[(0, 1.0)] * 6, *[(8, 1.1)] * 6))
    told = information(posterior, outlook(posterior, question(steps=8)))
    assert int(told.argmax()) == 4
    assert told[[0, 8]].max() < told[1:8].min()


def test_more_noise_needs_more_deployments():
    rows = seen(*[(0, 1.0)] * 3, *[(4, 1.1)] * 3)

    def needed(deviation):
        asked = question(noise=VarianceLevels(0.0, deviation**2, 0.0))
        posterior = infer(asked, rows)
        return deployments_needed(posterior, asked, outlook(posterior, asked))

    assert 0 < needed(0.02) < needed(0.05) < needed(0.1)


def test_the_size_of_a_step():
    rows = seen(
        *[(0, 1.0)] * 8, *[(1, 1.0)] * 8, *[(2, 1.0 + math.log(1.1))] * 8, *[(4, 1.0 + math.log(1.1))] * 8
    )
    middle, low, high = interval(*step_size(question(), rows, 2))
    assert low < 0.1 < high
    assert middle == pytest.approx(0.1, abs=0.015)
    assert high - low < 0.06


@pytest.mark.parametrize("deviation", [0.0, 0.001, 0.03, 0.1])
@pytest.mark.parametrize("times", [1.5, 4.8, 10.0, 0.1])
def test_a_step_may_be_as_large_as_it_likes(times, deviation):
    whole = math.log(times)
    asked = question(effect=whole, effect_error=0.05, noise=VarianceLevels(0.0, deviation**2, 0.0))
    rows = seen((0, 5.0), (1, 5.001), (2, 5.0 + whole), (4, 5.001 + whole))
    posterior = infer(asked, rows)
    assert posterior.steps[1] > 0.9
    _, low, high = interval(*step_size(asked, rows, 2))
    assert low < times - 1 < high
    assert math.log1p(high) - math.log1p(low) < 0.5
    sizes, shares = step_size(asked, rows, 2)
    factor = bayes_factor(
        seen((1, 5.0), (1, 5.001)), seen((2, 5.0 + whole), (2, 5.0 + whole)), asked, sizes, shares
    )
    assert factor > 20


def test_a_proof_grows_with_the_difference_and_shrinks_without_one():
    asked = question()
    sizes, shares = step_size(asked, seen((0, 1.0), (4, 1.1)), 2)

    def factor(first, second):
        return bayes_factor(
            seen(*((0, one) for one in first)), seen(*((0, one) for one in second)), asked, sizes, shares
        )

    assert factor([], [1.0]) == 1
    assert factor([1.0] * 3, [1.1] * 3) > 20
    assert factor([1.0] * 6, [1.0] * 6) < 0.05
    assert factor([1.1] * 3, [1.0] * 3) < 0.05
    assert factor([1.0, 1.01], [1.1, 1.5]) == pytest.approx(factor([1.01, 1.0], [1.5, 1.1]))
