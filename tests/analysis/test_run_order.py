"""The order of deployments: blocks, and never more than two of a side in a row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci.analysis.run_order import LONGEST, next_deployment
from perfci.analysis.sequential_test import Side

OLD, NEW = Side.OLD, Side.NEW
WISHES = st.lists(st.sampled_from([OLD, NEW]), max_size=5)


def played(nights):
    done = []
    for wishes in nights:
        side = next_deployment(done, wishes)
        if side is None:
            break
        done.append(side)
    return done


def test_nobody_wants_anything():
    assert next_deployment([OLD, NEW], []) is None


def test_the_new_side_alone_while_the_histories_stand_for_the_old_one():
    assert played([[NEW]] * 4) == [NEW] * 4


def test_even_wishes_make_blocks():
    assert "".join(side[0] for side in played([[OLD, NEW]] * 12)) == "noonnoonnoon"


def test_most_wishes_win():
    assert next_deployment([NEW, OLD], [OLD, OLD, NEW]) is OLD
    assert next_deployment([NEW, OLD], [NEW, OLD, NEW]) is NEW


@given(st.lists(WISHES, max_size=40))
def test_never_more_than_two_in_a_row_once_both_sides_are_needed(nights):
    done = played(nights)
    needed = next((i for i, side in enumerate(done) if side is OLD), len(done))
    for end in range(max(needed, LONGEST), len(done)):
        assert len(set(done[end - LONGEST : end + 1])) == 2


@given(st.lists(WISHES.filter(bool), max_size=40))
def test_what_is_run_was_wanted_or_keeps_the_balance(nights):
    done = []
    for wishes in nights:
        side = next_deployment(done, wishes)
        forced = len(done) >= LONGEST and len(set(done[-LONGEST:])) == 1
        assert side in wishes or (forced and side is not done[-1])
        done.append(side)


@pytest.mark.parametrize("runs", [4, 8, 12])
def test_a_lab_that_drifts_evenly_harms_both_sides_alike(runs):
    done = np.array(played([[OLD, NEW]] * runs))
    drift = np.arange(runs)
    assert drift[done == OLD].mean() == drift[done == NEW].mean()
