"""A service stands out where its scenarios do so together; simulated nights have no noise but what is said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perfci.analysis.evidence import RunValue
from perfci.analysis.facts import TrackKey
from perfci.analysis.pairs import DRAW_DEVIATION
from perfci.analysis.service_suspicion import ASKED, SHARED, services_off
from perfci.analysis.types import Outcome, RunPoint, SeriesHistory
from perfci.analysis.verdict import judge
from perfci.results.model import TOTAL, Metric, SeriesKey

FLOOR, ERROR = 0.05, 0.012
NAMES = [f"NeutronNetworks.list_{number}" for number in range(6)]


def part(name, action=TOTAL, metric=Metric.RATIO):
    return TrackKey(SeriesKey("lab", "job", name, "a", action, metric), "e", tail=False)


def night(steps, **how):
    return {part(name, **how): RunValue("r", step, ERROR) for name, step in steps.items()}


def test_scenarios_that_are_off_together_are_asked_about_those_that_are_most_off_first():
    steps = {name: 0.03 + 0.002 * number for number, name in enumerate(NAMES)}
    found = services_off(night(steps), FLOOR)
    assert {one.key.scenario for one in found} == set(NAMES[-ASKED:])
    assert {(one.service, one.scenarios) for one in found.values()} == {("neutron", 6)}
    assert next(iter(found.values())).effect == pytest.approx(math.expm1(0.035))


def test_swapping_the_sides_asks_about_the_same():
    steps = {name: 0.03 + 0.002 * number for number, name in enumerate(NAMES)}
    turned = services_off(night({name: -step for name, step in steps.items()}), FLOOR)
    assert set(turned) == set(services_off(night(steps), FLOOR))


@pytest.mark.parametrize(
    "tonight",
    [
        night(dict.fromkeys(NAMES[:2], 0.05)),
        night(dict.fromkeys(NAMES, 0.02)),
        night({name: 0.05 if number % 2 else -0.05 for number, name in enumerate(NAMES)}),
        night(dict.fromkeys(NAMES, 0.05), action="neutron.list_networks"),
        night(dict.fromkeys(NAMES, 0.05), metric=Metric.SECONDS),
        night({f"{name}.a": 0.05 for name in ("Nova", "Glance", "Keystone", "Cinder", "Heat")}),
    ],
    ids=["few", "small", "either way", "actions", "seconds", "a service each"],
)
def test_nothing_else_is(tonight):
    assert services_off(tonight, FLOOR) == {}


def test_unchanged_services_are_asked_about_no_more_often_than_was_said():
    rng = np.random.default_rng(1)
    asked = 0
    for _ in range(1000):
        shared = math.sqrt(SHARED) * rng.normal()
        luck = [DRAW_DEVIATION * (shared + math.sqrt(1 - SHARED) * rng.normal()) for _ in NAMES]
        asked += bool(
            services_off(
                night({n: one + ERROR * rng.normal() for n, one in zip(NAMES, luck, strict=True)}), 0.0
            )
        )
    assert asked <= 60


def test_the_judgement_says_that_the_service_stands_out():
    rng = np.random.default_rng(2)
    histories = []
    for name in NAMES:
        scatter = rng.normal(0, 0.08, 40)
        values = tuple(np.exp(0.032 + scatter - scatter.mean()).tolist())
        point = RunPoint("20261101T000000Z-job-0000", "e, beside r", "c", values, 40, 0, valid=True)
        histories.append(SeriesHistory(part(name).key, (point,)))
    suspects = [one for one in judge(histories) if one.suspect]
    assert suspects
    assert all(one.outcome in {Outcome.NO_CHANGE, Outcome.TOO_NOISY} for one in suspects)
    assert any("the 6 scenarios of neutron" in one.reason for one in suspects)
