"""The noise of paired nights: how pairs scatter, and what a deployment happens to get.

Taken from archived runs of two sides, or, without any, from `SCENARIOS` and `LUCK`, which were measured.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perfci.analysis.pairs import draw_effect
from perfci.projects import project
from perfci.results.archive import RunFiles
from perfci.results.model import FINISHED, TOTAL
from perfci.results.pairs import is_paired
from perfci.results.record import read_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

Series = tuple[str, str]
"""Scenario and action."""
BLOCK = 5
"""Pairs that follow each other are drawn together, so that what lasts for seconds stays in the noise."""
TAIL_DF = 4.0
"""Degrees of freedom of t: of single pairs without an archive, and of the luck where it is heavy-tailed."""
LEAST_POOL = 16
"""Fewer pairs of an archived draw are not drawn from again."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario of the job: its actions, and how single pairs of each scatter (log, without spikes).

    `common` is the share of an action's variance that all actions of an iteration have in common, `seconds`
    what an iteration takes on one side.
    """

    name: str
    pairs: int
    seconds: float
    common: float
    scatter: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Luck:
    """What a draw happens to get, as the standard deviation of log(new / old) of one series.

    `service` and `scenario` are the shares of its variance that all series of a service, and all of a
    scenario, have in common. `df`: of Student's t, scaled to that deviation; infinite is normal.
    """

    deviation: float
    service: float
    scenario: float
    df: float = np.inf

    def values(self, rng: np.random.Generator, size: int) -> NDArray[np.float64]:
        """Return numbers of unit variance."""
        if np.isinf(self.df):
            return rng.standard_normal(size)
        found: NDArray[np.float64] = rng.standard_t(self.df, size) / np.sqrt(self.df / (self.df - 2))
        return found


SCENARIOS = (
    Scenario("Authenticate.keystone", 101, 0.04, 1.0, {"total": 0.09, "authenticate.keystone": 0.09}),
    Scenario(
        "GlanceImages.create_and_delete_image",
        33,
        0.18,
        0.5,
        {
            "total": 0.08,
            "glance_v2.create_image": 0.09,
            "glance_v2.delete_image": 0.14,
            "glance_v2.get_image": 0.10,
            "glance_v2.upload_data": 0.14,
        },
    ),
    Scenario(
        "NeutronNetworks.create_and_delete_ports",
        21,
        1.11,
        0.7,
        {
            "total": 0.05,
            "neutron.create_network": 0.16,
            "neutron.create_port": 0.07,
            "neutron.delete_port": 0.07,
        },
    ),
    Scenario(
        "NeutronNetworks.create_and_list_networks",
        81,
        0.16,
        0.8,
        {"total": 0.16, "neutron.create_network": 0.17, "neutron.list_networks": 0.20},
    ),
    Scenario(
        "NeutronNetworks.create_and_list_ports",
        40,
        0.85,
        0.6,
        {
            "total": 0.17,
            "neutron.create_network": 0.21,
            "neutron.create_port": 0.15,
            "neutron.list_ports": 0.53,
        },
    ),
    Scenario(
        "NeutronNetworks.create_and_list_routers",
        25,
        0.73,
        0.6,
        {
            "total": 0.10,
            "neutron.add_interface_router": 0.09,
            "neutron.create_network": 0.11,
            "neutron.create_router": 0.13,
            "neutron.create_subnet": 0.10,
            "neutron.list_routers": 0.17,
        },
    ),
    Scenario(
        "NeutronNetworks.create_and_list_subnets",
        39,
        0.38,
        0.6,
        {
            "total": 0.12,
            "neutron.create_network": 0.12,
            "neutron.create_subnet": 0.15,
            "neutron.list_subnets": 0.21,
        },
    ),
    Scenario(
        "NeutronSecurityGroup.create_and_list_security_groups",
        41,
        0.12,
        0.7,
        {"total": 0.07, "neutron.create_security_group": 0.10, "neutron.list_security_groups": 0.13},
    ),
    Scenario(
        "NovaServers.boot_and_delete_server",
        32,
        1.52,
        0.7,
        {"total": 0.13, "nova.boot_server": 0.11, "nova.delete_server": 0.11},
    ),
    Scenario(
        "NovaServers.boot_and_list_server",
        23,
        1.43,
        0.6,
        {"total": 0.06, "nova.boot_server": 0.05, "nova.list_servers": 0.09},
    ),
)
"""Of jobs/nightly.yml, medians over archived runs of two sides (2026-11-30, virtual machine, 2 cores)."""
LUCK = Luck(0.015, service=0.4, scenario=0.3)
"""The deviation was measured (docs/statistics.md); ten archived draws of unchanged code have 1.6 %. The
shares are a guess: three whole nights say little of them."""


@dataclass(slots=True)
class Noise:
    """What draws of unchanged code show. `pools` are the pairs of archived draws, less their location."""

    scenarios: Sequence[Scenario]
    luck: Luck
    pools: Mapping[str, Sequence[NDArray[np.float64]]] = field(default_factory=dict)

    @property
    def series(self) -> list[Series]:
        """All timings of the job."""
        return [(one.name, action) for one in self.scenarios for action in one.scatter]

    def draw(
        self, rng: np.random.Generator, effects: Mapping[str, float], kept: Iterable[str] | None = None
    ) -> dict[Series, NDArray[np.float64]]:
        """Return log(new / old) of the pairs of a fresh deployment of both sides.

        `effects` are changes by service, relative; `kept` the scenarios that run, all if left out.
        """
        wanted = {one.name for one in self.scenarios} if kept is None else set(kept)
        services = sorted({service_of(*one) for one in self.series})
        of_service = dict(zip(services, self.luck.values(rng, len(services)), strict=True))
        found = {}
        for one in self.scenarios:
            of_scenario = self.luck.values(rng, 1)[0]
            own = self.luck.values(rng, len(one.scatter))
            if one.name not in wanted:
                continue
            pairs = self._pairs(rng, one)
            for place, action in enumerate(one.scatter):
                service = service_of(one.name, action)
                shares = (self.luck.service, self.luck.scenario)
                shared = np.sqrt(shares[0]) * of_service[service] + np.sqrt(shares[1]) * of_scenario
                luck = shared + np.sqrt(max(0.0, 1 - sum(shares))) * own[place]
                shift = np.log1p(effects.get(service, 0.0)) + self.luck.deviation * luck
                found[one.name, action] = shift + pairs[:, place]
        return found

    def _pairs(self, rng: np.random.Generator, one: Scenario) -> NDArray[np.float64]:
        """Return the scatter of the pairs of one draw, of the shape (pairs, actions)."""
        pools = self.pools.get(one.name, ())
        if pools:
            pool = pools[rng.integers(len(pools))]
            starts = rng.integers(0, len(pool), -(-one.pairs // BLOCK))
            rows = (starts[:, None] + np.arange(BLOCK)).ravel()[: one.pairs] % len(pool)
            return pool[rows]
        scale = np.array(list(one.scatter.values())) / np.sqrt(TAIL_DF / (TAIL_DF - 2))
        common = rng.standard_t(TAIL_DF, (one.pairs, 1))
        own = rng.standard_t(TAIL_DF, (one.pairs, len(scale)))
        return scale * (np.sqrt(one.common) * common + np.sqrt(1 - one.common) * own)


def service_of(scenario: str, action: str) -> str:
    """Return the service that a series is about."""
    return project(scenario if action == TOTAL else action)


@dataclass(frozen=True, slots=True)
class ArchivedDraw:
    """One archived run of two sides: log(new / old) pair by pair, in columns by action, by scenario."""

    run_id: str
    unchanged: bool
    pairs: Mapping[str, tuple[tuple[str, ...], NDArray[np.float64]]]
    seconds: Mapping[str, float]


def archived(folders: Iterable[Path]) -> list[ArchivedDraw]:
    """Return the draws of some archives (or of single runs) that finished."""
    runs = sorted({
        run.parent
        for folder in folders
        for run in (*folder.glob("run.json"), *folder.glob("*/run.json"), *folder.glob("reruns/*/run.json"))
    })  # fmt: skip
    return [_draw(run) for run in runs if is_paired(run) and read_record(run / "run.json").status == FINISHED]


def _draw(folder: Path) -> ArchivedDraw:
    record = read_record(folder / "run.json")
    tables: dict[str, dict[str, dict[float, float]]] = {}
    seconds = {}
    for one in RunFiles(folder, record).paired.series:
        if one.differences:
            column = dict(zip(one.times, one.differences, strict=True))
            tables.setdefault(one.key.scenario, {})[one.key.action] = column
            if one.key.action == TOTAL:
                seconds[one.key.scenario] = float(np.exp(np.median(one.old_logs)))
    pairs = {}
    for scenario, columns in tables.items():
        actions = tuple(sorted(columns, key=lambda action: (action != TOTAL, action)))
        times = sorted(set.intersection(*(set(column) for column in columns.values())))
        pairs[scenario] = actions, np.array([[columns[action][time] for action in actions] for time in times])
    return ArchivedDraw(record.run_id, record.reference == record.code.digest, pairs, seconds)


def noise_of(draws: Sequence[ArchivedDraw], luck: Luck, known: Sequence[Scenario]) -> Noise:
    """Return the noise of archived draws; what they don't have is as in `known`."""
    pools: dict[str, list[NDArray[np.float64]]] = {}
    for one in known:
        for draw in draws:
            actions, table = draw.pairs.get(one.name, ((), np.empty((0, 0))))
            if len(table) >= LEAST_POOL and set(one.scatter) <= set(actions):
                chosen = table[:, [actions.index(action) for action in one.scatter]]
                middle = [draw_effect(column.tolist()) for column in chosen.T]
                pools.setdefault(one.name, []).append(
                    chosen - [found.log if found else 0.0 for found in middle]
                )
    return Noise(known, luck, pools)


@dataclass(frozen=True, slots=True)
class SeenLuck:
    """What archived draws of unchanged code say of a draw's luck: moments about 0, which is the truth.

    `variances` by series and draw, less what the pairs leave open; `together` the mean product of two series
    of one draw: of one scenario, of one service in two scenarios, of two services.
    """

    draws: int
    deviation: float
    together: tuple[float, float, float]
    effects: Mapping[str, Mapping[Series, tuple[float, float]]]


def seen_luck(draws: Iterable[ArchivedDraw], known: Sequence[Scenario]) -> SeenLuck | None:
    """Return what draws of unchanged code say; None without any."""
    effects: dict[str, dict[Series, tuple[float, float]]] = {}
    for draw in draws:
        if draw.unchanged:
            for scenario, (actions, table) in draw.pairs.items():
                for place, action in enumerate(actions):
                    found = draw_effect(table[:, place].tolist())
                    if found is not None and any(one.name == scenario for one in known):
                        effects.setdefault(draw.run_id, {})[scenario, action] = found.log, found.error
    if not effects:
        return None
    logs = [one for draw in effects.values() for one in draw.values()]
    weights = np.array([1 / (0.015**2 + error**2) for _, error in logs])
    variance = float(np.average([log**2 - error**2 for log, error in logs], weights=weights**2))
    kinds: tuple[list[float], list[float], list[float]] = ([], [], [])
    for draw in effects.values():
        for (one, (a, e)), (other, (b, f)) in combinations(draw.items(), 2):
            if TOTAL in {one[1], other[1]} and one[0] == other[0]:
                continue  # a whole iteration holds its actions
            services = {service_of(*one), service_of(*other)}
            place = 0 if one[0] == other[0] else 1 if len(services) == 1 else 2
            kinds[place].append(a * b / (0.015**2 + e**2) / (0.015**2 + f**2))
            kinds[place].append(1 / (0.015**2 + e**2) / (0.015**2 + f**2))
    together = tuple(sum(k[::2]) / sum(k[1::2]) if k else 0.0 for k in kinds)
    return SeenLuck(len(effects), float(np.sqrt(max(variance, 0.0))), together, effects)
