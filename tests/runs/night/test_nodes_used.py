"""Which nodes a run works on once it is known who came up."""

from __future__ import annotations

from itertools import permutations

import pytest

from perfci.runs.night.nodes_used import NodesUsed, TooFewNodes, choose, lost_nodes

UP = {"ok": True, "failure": None}
LOST = {"ok": False, "failure": {"stage": "netboot", "reason": "its BMC says off"}}
WHY = "netboot: its BMC says off"


def test_a_spare_takes_the_place_of_a_node_that_did_not_come_up():
    came = {"node-1": UP, "node-2": LOST, "node-3": UP, "node-4": UP}
    for taken in permutations(came):
        used = choose(came, taken, 3)
        assert used == NodesUsed(("node-1", "node-3", "node-4"), {"node-2": WHY})
    assert used.note == f"did not come up: node-2: {WHY}; the run is on node-1, node-3, node-4"


def test_spares_that_are_not_needed_stay_out_of_it():
    used = choose({"node-1": UP, "node-2": UP, "node-3": UP}, ("node-3", "node-2", "node-1"), 2)
    assert used == NodesUsed(("node-1", "node-2"))
    assert used.note == ""


def test_without_spares_nothing_needs_to_be_known():
    assert choose(None, ("node-2", "node-1"), 2).nodes == ("node-1", "node-2")


@pytest.mark.parametrize("found", [None, [], {"node-1": UP, "node-2": LOST}, {"node-1": 3}])
def test_too_few_are_told_by_name(found):
    with pytest.raises(TooFewNodes, match=r"[01] of the 2 nodes .*node-3: nothing is known of it"):
        choose(found, ("node-1", "node-2", "node-3"), 2)


@pytest.mark.parametrize("found", [None, "x", {}, {"node-1": None}, {"node-1": UP}, {"other": LOST}])
def test_no_node_is_lost_that_is_not_known_to_be(found):
    assert lost_nodes(found, ("node-1",)) == {}


def test_a_failure_without_words_is_one():
    assert lost_nodes({"node-1": {"failure": {}}}, ("node-1",)) == {"node-1": "?: ?"}
