from dataclasses import replace

import nights
import pytest

from perfci.results.canaries import NodeCanaries
from perfci.results.counters import NodeShares
from perfci.results.model import Validity
from perfci.results.validity import EarlierRun, ValidityLimits, comparable, only_canaries, validity

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
            "processes outside the lab used 10.1% of the CPU time of n1 during the load; the limit is 10.0%",
        ),
        (
            NodeShares("n1", 0.0, 0.06),
            "the hypervisor took 6.0% of the CPU time of n1 during the load; the limit is 5.0%",
        ),
    ],
)
def test_shares_have_limits(shares, reason):
    assert judge([], [], shares=(*QUIET, shares)).reasons == (reason,)


def unfit(*levels, first=10, environment="env"):
    return [
        EarlierRun(
            environment, valid=False, canaries=(node(level),), run_id=f"r{first + n:02d}", only_canaries=True
        )
        for n, level in enumerate(levels)
    ]


def test_a_lab_that_changed_for_good_gets_a_new_level_after_five_runs():
    earlier = [*STEADY, *unfit(0.30, 0.302, 0.299, 0.301)]
    for known in range(4):
        assert not judge([node(0.30)], earlier[: len(STEADY) + known]).valid
    assert judge([node(0.30)], earlier) == Validity(valid=True, level_since="r10")


def test_runs_of_the_new_level_are_compared_with_each_other():
    first = EarlierRun("env", valid=True, canaries=(node(0.30),), run_id="r14", level_since="r10")
    earlier = [*STEADY, *unfit(0.30, 0.302, 0.299, 0.301), first]
    assert judge([node(0.301)], earlier) == Validity(valid=True, level_since="r10")
    back = judge([node(0.22)], earlier)
    assert not back.valid
    assert back.level_since == "r10"
    assert "usual is 0.30 s" in back.reasons[0]


def test_a_second_change_is_a_second_level():
    first = EarlierRun("env", valid=True, canaries=(node(0.30),), run_id="r14", level_since="r10")
    earlier = [*STEADY, *unfit(0.30, 0.302, 0.299, 0.301), first, *unfit(0.22, 0.221, 0.219, 0.22, first=15)]
    assert judge([node(0.22)], earlier) == Validity(valid=True, level_since="r15")


@pytest.mark.parametrize(
    "levels",
    [
        pytest.param((0.30, 0.35, 0.30, 0.30), id="they do not agree"),
        pytest.param((0.30, 0.30, 0.30), id="too few"),
        pytest.param((0.30, 0.30, 0.30, 0.22 * 1.2), id="it moves on"),
    ],
)
def test_a_lab_that_wobbles_stays_unfit(levels):
    assert not judge([node(0.30)], [*STEADY, *unfit(*levels)]).valid


def test_only_runs_in_a_row_that_had_nothing_but_their_canaries_wrong_make_a_level():
    busy = EarlierRun("env", valid=False, canaries=(node(0.30),), run_id="r12")
    usual = EarlierRun("env", valid=True, canaries=(node(0.22),), run_id="r12")
    for between in (busy, usual):
        assert not judge(
            [node(0.30)], [*STEADY, *unfit(0.30, 0.30), between, *unfit(0.30, 0.30, first=13)]
        ).valid
    earlier = [*STEADY, *unfit(0.30, 0.302, 0.299, 0.301)]
    assert not judge([node(0.30)], earlier, shares=(NodeShares("node-1", 0.5, 0.0),)).valid
    elsewhere = [*STEADY, *unfit(0.30, 0.302, 0.299, 0.301, environment="other")]
    assert not judge([node(0.30)], elsewhere).valid


def test_every_canary_of_every_node_has_to_agree():
    def both(one, two):
        return (node(one), node(two, name="node-2"))

    steady = [EarlierRun("env", valid=True, canaries=both(0.22, 0.22))] * 6
    first = [EarlierRun("env", valid=False, canaries=both(0.30, x), run_id=f"r{n}", only_canaries=True)
             for n, x in enumerate((0.22, 0.40, 0.22, 0.22))]  # fmt: skip
    assert not judge(both(0.30, 0.22), [*steady, *first]).valid
    agreed = [replace(run, canaries=both(0.30, 0.22)) for run in first]
    assert judge(both(0.30, 0.22), [*steady, *agreed]).level_since == "r0"
    assert not judge((node(0.30),), [*steady, *agreed[:3], replace(agreed[3], canaries=())]).valid


def test_what_runs_can_be_compared_within():
    reasons = ("canary cpu on node-1 took 0.30 s",)

    def run(number, *, valid=True, reasons=(), since=None, environment="env"):
        return replace(
            nights.record(number, environment=environment), validity=Validity(valid, reasons, since)
        )

    since = nights.run_id(2)
    records = [
        run(0), run(1, valid=False, reasons=reasons), run(2, valid=False, reasons=reasons),
        run(3, valid=False, reasons=reasons), run(4, valid=False, reasons=("busy",)),
        run(5, since=since), run(6, valid=False, reasons=reasons, since=since), run(7, since=since),
        run(8, environment="other"),
    ]  # fmt: skip
    found = [comparable(records)[one.run_id] for one in records]
    level = f"env, lab as since {since}"
    assert found == [
        ("env", True), ("env", False), (level, True), (level, True), ("env", False),
        (level, True), (level, False), (level, True), ("other", True),
    ]  # fmt: skip
    assert [comparable(records[::-1])[one.run_id] for one in records] == found


def test_a_service_that_was_restarted_during_the_load_makes_it_invalid():
    found = validity(
        environment="env",
        canaries=[node(0.22)],
        shares=QUIET,
        earlier=STEADY,
        limits=LIMITS,
        restarts=["nova-api on node-1"],
    )
    reason = "nova-api on node-1 was restarted during the load: it crashed, or something ended it"
    assert found == Validity(valid=False, reasons=(reason,))
    assert not only_canaries(found)
