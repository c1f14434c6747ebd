"""Filling a cloud until a limit, against clouds that reach each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from density_steps import (
    BOOT,
    BOOT_TIME,
    END,
    ERRORS,
    MEMORY,
    PER_SERVER,
    QUOTA,
    SAMPLES,
    STEPS,
    TARGET,
    TIME,
    Booted,
    CloudFailed,
    Fill,
    Limits,
    QuotaReached,
    outputs,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Cloud:
    """Boots a server in `boot(number of servers)` seconds of a clock that only it moves."""

    def __init__(self, boot: Callable[[int], float] = lambda _: 1.0) -> None:
        self.now = 1000.0
        self.boot_seconds = boot
        self.servers: list[str] = []
        self.networks = 0
        self.quota = 10**9
        self.failing_from = 10**9
        self.broken_from = 10**9
        self.memory_of_one = 0.0
        self.requests: list[tuple[str, int]] = []

    def add_network(self) -> str:
        self.networks += 1
        return f"net-{self.networks}"

    def boot(self, network: str, count: int, limit_seconds: float) -> Booted:
        if len(self.servers) + count > self.quota:
            raise QuotaReached("Quota exceeded for instances")
        if len(self.servers) >= self.broken_from:
            raise CloudFailed("boot: 500")
        self.requests.append((network, count))
        seconds = self.boot_seconds(len(self.servers)) * count
        self.now += min(seconds, limit_seconds)
        if seconds > limit_seconds:
            return Booted(limit_seconds, 0, waiting=count)
        failed = count if len(self.servers) >= self.failing_from else 0
        self.servers += [network] * (count - failed)
        return Booted(seconds, count - failed, failed, fault="No valid host was found" if failed else "")

    def answer_seconds(self) -> dict[str, float]:
        return {"authenticate": 0.1, "list": len(self.servers) / 1000}

    def memory_share(self) -> float:
        return 1.0 - self.memory_of_one * len(self.servers)


def fill(cloud: Cloud, **changed: Any) -> Fill:
    limits = {
        "servers": 100,
        "budget_seconds": 10_000,
        "boot_seconds": 60,
        "error_share": 0.1,
        "memory_share": 0.05,
    }
    shape = {"networks": 4, "step": 10, "probes": 2}
    for name in list(changed):
        (limits if name in limits else shape)[name] = changed[name]
    return Fill(cloud, Limits(**limits), **shape, clock=lambda: cloud.now, say=lambda _: None)


def test_the_target_is_reached_over_all_networks_evenly() -> None:
    cloud = Cloud()
    one = fill(cloud)
    end = one.run()
    assert (end.reason, end.text) == (TARGET, "100 servers on 4 networks")
    assert [cloud.servers.count(f"net-{n}") for n in range(1, 5)] == [25] * 4
    # No step goes over two networks, so their sizes are 10, 10, 5.
    assert [step.servers for step in one.steps][:4] == [10, 20, 25, 35]
    assert [step.networks for step in one.steps][:4] == [1, 1, 1, 2]


def test_a_target_that_does_not_divide_evenly_is_not_passed() -> None:
    cloud = Cloud()
    assert fill(cloud, servers=33, networks=5).run().reason == TARGET
    assert len(cloud.servers) == 33
    assert cloud.networks == 5


def test_the_last_servers_of_a_step_are_booted_and_timed_one_by_one() -> None:
    cloud = Cloud(lambda servers: 1.0 + servers)
    one = fill(cloud, servers=10)
    one.run()
    assert [count for _, count in cloud.requests][:3] == [1, 1, 1]
    boots = [sample.seconds for sample in one.samples if sample.quantity == BOOT]
    assert boots[:2] == [2.0, 3.0]


def test_what_was_measured_goes_by_the_servers_after_the_step() -> None:
    cloud = Cloud(lambda servers: 1.0 + servers / 100)
    one = fill(cloud, networks=1, servers=20)
    one.run()
    assert [(s.servers, s.quantity, round(s.seconds, 3)) for s in one.samples if s.servers == 20] == [
        (20, PER_SERVER, 1.1),
        (20, BOOT, 1.18),
        (20, BOOT, 1.19),
        (20, "authenticate", 0.1),
        (20, "list", 0.018),
        (20, "authenticate", 0.1),
        (20, "list", 0.019),
    ]
    last = one.steps[-1]
    assert (last.batch_servers, round(last.batch_seconds, 3)) == (8, 8.8)
    assert last.started_at == one.steps[0].finished_at


@pytest.mark.parametrize(
    ("change", "limits", "reason", "servers", "text"),
    [
        ({"quota": 45}, {}, QUOTA, 45, "Quota exceeded for instances"),
        ({"memory_of_one": 0.02}, {}, MEMORY, 50, "0 % of the memory are left with 50 servers"),
        ({"failing_from": 50}, {}, ERRORS, 50, "10 of 60 servers failed; the first says: No valid host"),
        ({"broken_from": 50}, {}, ERRORS, 50, "a request failed with 50 servers: boot: 500"),
        ({}, {"budget_seconds": 55}, TIME, 50, "spent on 50 servers"),
        ({"boot_seconds": lambda n: 1 + n / 10}, {"boot_seconds": 4}, BOOT_TIME, 35, "a boot takes 4."),
        (
            {"boot_seconds": lambda n: 1 if n < 50 else 99},
            {},
            BOOT_TIME,
            50,
            "8 of 8 servers were not ACTIVE",
        ),
    ],
    ids=["quota", "memory", "failed servers", "failed request", "time", "slow boots", "a batch that hangs"],
)
def test_each_limit_ends_the_fill_and_is_named(change, limits, reason, servers, text) -> None:
    cloud = Cloud()
    for name, value in change.items():
        setattr(cloud, name, value)
    end = fill(cloud, **limits).run()
    assert end.reason == reason
    assert text in end.text
    assert len(cloud.servers) == servers


def test_a_few_failed_servers_end_nothing() -> None:
    cloud = Cloud()
    cloud.failing_from = 95
    one = fill(cloud, error_share=0.2)
    assert one.run().reason == ERRORS  # in the end nothing boots any more
    assert one.steps[-1].failed > 10


def test_the_outputs_have_all_steps_and_samples_by_their_columns() -> None:
    one = fill(Cloud(), servers=20, networks=1)
    found = {output["title"]: output for output in outputs(one, one.run())}
    steps, samples = found[STEPS]["data"], found[SAMPLES]["data"]
    assert steps["cols"][:3] == ["servers", "networks", "failed"]
    assert [row[0] for row in steps["rows"]] == [10, 20]
    assert samples["cols"] == ["servers", "quantity", "seconds"]
    assert len(samples["rows"]) == len(one.samples)
    assert found[END]["data"] == [TARGET, "20 servers on 1 networks"]
    lines = dict(found["Seconds by number of servers"]["data"])
    assert lines[BOOT] == [[10, 1.0], [20, 1.0]]
