"""The simulation behind benchmarks/README.md: what must hold of it whatever its figures are."""

from __future__ import annotations

import importlib
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from perfci.analysis.pairs import draw_effect
from perfci.analysis.settings import AnalysisSettings
from perfci.results.model import TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parent.parent.parent
SETTINGS = AnalysisSettings()
USED = ("Authenticate", "NeutronNetworks.create_and_list_networks", "NeutronSecurity")


@pytest.fixture(scope="module")
def nights() -> Iterator[ModuleType]:
    path = list(sys.path)
    sys.path.insert(0, str(ROOT))
    yield importlib.import_module("benchmarks.paired_nights")
    sys.path[:] = path


@pytest.fixture(scope="module")
def noise(nights) -> ModuleType:
    return importlib.import_module("benchmarks.paired_noise")


@pytest.fixture
def few(noise):
    return tuple(one for one in noise.SCENARIOS if one.name.startswith(USED))


@pytest.fixture
def lab(nights, noise, few):
    def made(seed, **luck):
        known = noise.Noise(few, replace(noise.LUCK, **luck))
        return nights.Lab(known, np.random.default_rng(seed), SETTINGS)

    return made


def test_unchanged_code_alerts_nobody_and_costs_what_its_draws_cost(nights, lab):
    found = nights.quiet(lab(1), 12)
    assert not any(night.alerts for night in found)
    assert all((night.seconds > 0) == (night.draws > 0) for night in found)
    assert all(night.asked or not night.draws for night in found)


def test_a_large_step_is_found_next_morning_in_every_scenario_of_its_service_and_nowhere_else(
    nights, noise, lab
):
    found, totals = nights.stepped([lab(2)], 0.25, 4, seed=3)
    assert len(totals) == 2
    for first, second in found:
        assert totals <= first.alerts
        assert totals <= second.alerts
        assert {noise.service_of(*one) for one in first.alerts | second.alerts} == {"neutron"}


def test_a_step_far_below_the_floor_is_never_told(nights, lab):
    found, _ = nights.stepped([lab(4, deviation=0.0)], 0.01, 3, seed=5)
    assert not any(first.alerts | second.alerts for first, second in found)


@pytest.mark.parametrize("df", [math.inf, 4.0])
def test_draws_scatter_by_their_luck(noise, few, df):
    luck = replace(noise.LUCK, deviation=0.02, df=df)
    rng = np.random.default_rng(6)
    calm = noise.Noise(tuple(replace(one, scatter=dict.fromkeys(one.scatter, 1e-4)) for one in few), luck)
    names = [(one.name, TOTAL) for one in few]
    draws = [calm.draw(rng, {}) for _ in range(1500)]
    seen = np.array([[np.mean(draw[name]) for name in names] for draw in draws])
    assert seen.std(axis=0) == pytest.approx([0.02] * len(names), rel=0.15)
    together = np.corrcoef(seen.T)
    services = [noise.service_of(*name) for name in names]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        wanted = noise.LUCK.service if services[i] == services[j] else 0.0
        assert together[i, j] == pytest.approx(wanted, abs=0.12)


def test_archived_pairs_keep_their_scatter_and_lose_their_location(noise, few):
    one, rng = few[0], np.random.default_rng(7)
    table = 0.2 + rng.normal(0, 0.05, (60, len(one.scatter)))
    archived = noise.ArchivedDraw(
        "r", unchanged=True, pairs={one.name: (tuple(one.scatter), table)}, seconds={}
    )
    known = noise.noise_of([archived], replace(noise.LUCK, deviation=0.0), (one,))
    drawn = known.draw(rng, {noise.service_of(one.name, TOTAL): 0.1})[one.name, TOTAL]
    assert draw_effect(drawn.tolist()).log == pytest.approx(math.log(1.1), abs=0.04)
    assert drawn.std() == pytest.approx(0.05, rel=0.4)


def test_a_draw_of_fewer_scenarios_is_shorter(nights, noise, few):
    known = noise.Noise(few, noise.LUCK)
    assert nights.draw_seconds(known, {few[0].name}) < nights.draw_seconds(known, {one.name for one in few})


def test_shares_have_wilsons_interval(nights):
    assert nights.share(0, 20) == "0 % [0, 16]"
