import pytest

from perfci.results.canaries import NodeCanaries
from perfci.results.counters import NodeShares
from perfci.results.model import Validity
from perfci.results.validity import EarlierRun, ValidityLimits, validity

LIMITS = ValidityLimits(
    foreign_cpu_share=0.1, steal_share=0.05, canary_change=0.05, spreads=5, least_history=5
)
QUIET = (NodeShares("node-1", 0.02, 0.0),)


def node(before, after=None, name="node-1"):
    return NodeCanaries(name, {"disk": before}, {"disk": before if after is None else after})


def history(*levels, environment="env", valid=True):
    return [EarlierRun(environment, valid, (node(level),)) for level in levels]


def judge(canaries, earlier, shares=QUIET, limits=LIMITS):
    return validity(environment="env", canaries=canaries, shares=shares, earlier=earlier, limits=limits)


STEADY = history(0.22, 0.221, 0.219, 0.22, 0.222, 0.22)


def test_a_usual_canary_is_valid():
    assert judge([node(0.22)], STEADY) == Validity(valid=True)


def test_the_reason_says_what_was_seen_and_what_is_usual():
    found = judge([node(0.41)], STEADY)
    assert not found.valid
    assert found.reasons == ("canary disk on node-1 took 0.41 s, usual is 0.22 s (±11 ms over 6 runs)",)


def test_faster_than_usual_is_suspect_too():
    assert "took 0.12 s" in judge([node(0.12)], STEADY).reasons[0]


@pytest.mark.parametrize(
    ("level", "valid"), [(0.2305, True), (0.2315, False), (0.2095, True), (0.2085, False)]
)
def test_the_floor_holds_where_the_spread_is_smaller(level, valid):
    assert judge([node(level)], STEADY).valid is valid


def test_the_spread_holds_where_it_is_larger_than_the_floor():
    noisy = history(0.20, 0.22, 0.24, 0.21, 0.23, 0.22)  # MAD 0.01, so ±0.074 s
    assert judge([node(0.29)], noisy).valid
    assert not judge([node(0.30)], noisy).valid


def test_without_enough_history_only_the_limits_on_shares_apply():
    assert judge([node(9.9, 20.0)], STEADY[:4]).valid
    assert not judge([node(9.9, 20.0)], STEADY[:5]).valid
    assert not judge([], [], shares=(NodeShares("node-1", 0.11, 0.0),)).valid


def test_only_valid_runs_of_this_environment_and_node_are_history():
    nines = [9.0] * 20
    for others in (
        history(*nines, environment="other"),
        history(*nines, valid=False),
        [EarlierRun("env", valid=True, canaries=(node(9.0, name="node-2"),))] * 10,
    ):
        assert judge([node(0.22)], [*STEADY, *others]).valid
        assert not judge([node(9.0)], [*STEADY, *others]).valid
        assert judge([node(0.5, name="node-3")], [*STEADY, *others]).valid


def test_only_the_last_runs_are_looked_at():
    limits = ValidityLimits(history=6, least_history=5)
    assert judge([node(0.5)], [*STEADY, *history(*[0.5] * 6)], limits=limits).valid
    assert not judge([node(0.5)], [*history(*[0.5] * 6), *STEADY], limits=limits).valid


def test_a_change_during_the_run_is_judged_against_the_usual_change():
    assert judge([node(0.215, 0.23)], STEADY).valid, "7 % is within the scatter of two short rounds"
    (reason,) = judge([node(0.205, 0.235)], STEADY).reasons
    assert (
        reason
        == "canary disk on node-1 changed by +14.6% from before to after the load, usual is +0.0% (±10.0% over 6 runs)"
    )
    warming = [EarlierRun("env", valid=True, canaries=(node(0.205, 0.235),))] * 6
    assert judge([node(0.205, 0.235)], warming).valid


def test_a_missing_round_is_judged_by_the_other_one():
    assert judge([NodeCanaries("node-1", {"disk": 0.22})], STEADY).valid
    assert len(judge([NodeCanaries("node-1", {}, {"disk": 0.5})], STEADY).reasons) == 1


@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        (
            NodeShares("n1", 0.101, 0.0),
            "processes that are not the lab's used 10.1% of the CPU time of n1 during the load, the limit is 10.0%",
        ),
        (
            NodeShares("n1", 0.0, 0.06),
            "the hypervisor took 6.0% of the CPU time of n1 during the load, the limit is 5.0%",
        ),
    ],
)
def test_shares_have_limits(shares, reason):
    assert judge([], [], shares=(*QUIET, shares)).reasons == (reason,)
