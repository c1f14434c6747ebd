"""What two sides have shown, in words."""

from __future__ import annotations

import math

import pytest

from perfci.analysis.decision import Decision
from perfci.analysis.pair_decision import PairReading, PairSettings
from perfci.results.model import TOTAL, Metric, SeriesKey
from perfci.results.pairs import PairedCounter
from perfci.runs.studies.pair_texts import answer, moved_counters, pairs_review_text
from perfci.runs.studies.side_by_side import SideBySide, SideFinding

SCENARIO = "NeutronNetworks.create_and_list_ports"


def key(action=TOTAL, metric=Metric.SECONDS):
    return SeriesKey("lab", "job", SCENARIO, "aa", action, metric)


def finding(decision, size=0.0, action=TOTAL):
    log = math.log1p(size)
    reading = PairReading(decision, log, log - 0.01, log + 0.01, 2)
    return SideFinding(key(action), reading, 0.02, 40, 0, 1.0, 1 + size, (0, 40), (0, 40), ())


def counter(of, old, new, metric=Metric.CPU_SECONDS):
    return PairedCounter(key(of, metric), old, new)


def showing(*findings, counters=(), ended=""):
    return SideBySide(PairSettings(within=0.05), findings, counters, ("run-1", "run-2"), ("a note",), ended)


@pytest.mark.parametrize(
    ("findings", "text"),
    [
        (
            [
                finding(Decision.DIFFERENT, 0.051),
                finding(Decision.DIFFERENT, 0.12, "neutron.list_ports"),
                finding(Decision.SAME),
            ],
            f"{SCENARIO}, neutron.list_ports is slower by 12 % (3 timings: 2 slower, 1 same within 5 %)",
        ),
        (
            [finding(Decision.DIFFERENT, -0.3), finding(Decision.UNKNOWN, 0.04, "neutron.create_port")],
            "nothing is proven to be slower (2 timings: 1 faster, 1 unknown)",
        ),
        ([finding(Decision.SAME)], "nothing is slower (1 timing: 1 same within 5 %)"),
        ([], "nothing is proven to be slower: nothing was paired"),
    ],
    ids=["slower", "unknown", "same", "nothing"],
)
def test_the_answer_names_the_slowest_timing_and_counts_the_others(findings, text):
    assert answer(showing(*findings)).replace("\u00a0", " ") == text


def test_a_counter_moved_if_it_differs_and_is_not_next_to_nothing():
    moved = counter("neutron-api", 1.6, 1.4)
    counters = (
        moved,
        counter("keystone", 0.30, 0.31),  # by less than 5 %
        counter("nova-scheduler", 0.002, 0.004),  # twice as much of nothing
        counter("neutron", 100.0, 94.0, Metric.SQL_STATEMENTS),
        counter("nova", 0.0, 0.4, Metric.SQL_STATEMENTS),
        counter("glance", 0.0, 2.0, Metric.SQL_STATEMENTS),
    )
    assert moved_counters(showing(counters=counters)) == (moved, counters[3], counters[5])


def test_text_for_a_review_has_the_answer_every_timing_and_no_table():
    found = showing(
        finding(Decision.DIFFERENT, 0.051),
        counters=(counter("neutron-api", 1.6, 2.4),),
        ended="20 min were not enough",
    )
    assert pairs_review_text(found, ["old side: a; new side: b"]).splitlines() == [
        f"perfci: {SCENARIO}, whole iteration is slower by 5.1 % (1 timing: 1 slower)",
        "Measured on 2 deployments of two clouds side by side.",
        "",
        f"* {SCENARIO}, whole iteration: slower, +5.1 % (+4.1 … +6.2 %), 40 pairs",
        f"* {SCENARIO}, CPU seconds of neutron-api: +50 %",
        "",
        "old side: a; new side: b",
        "a note",
        "It ended early: 20 min were not enough.",
    ]
