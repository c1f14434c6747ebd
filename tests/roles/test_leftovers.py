"""What a task leaves: found, removed, and told, against clouds that make it hard."""

from __future__ import annotations

import pytest
from leftovers import KINDS, InventoryFailed, Leftover, Leftovers


class Cloud:
    """Things by kind and id; some can only be removed after others, or never."""

    def __init__(self, **things: str) -> None:
        self.things = {(kind.replace("_", " "), f"{kind}-0"): name for kind, name in things.items()}
        self.after: dict[str, str] = {}
        """Kinds that can be removed only where there is nothing of the other kind."""
        self.stuck: set[str] = set()
        self.going: dict[tuple[str, str], int] = {}
        """Things that go by themselves, after so many sleeps."""
        self.unreachable = False
        self.removed: list[str] = []
        self.slept = 0.0

    def list(self, kind: str) -> dict[str, str]:
        if self.unreachable:
            raise InventoryFailed(f"list of every {kind}: connection refused")
        return {thing: name for (of, thing), name in self.things.items() if of == kind}

    def remove(self, kind: str, thing: str) -> None:
        blocked = self.after.get(kind)
        if kind in self.stuck or any(of == blocked for of, _ in self.things):
            raise InventoryFailed(f"removal of the {kind} {thing}: Conflict: in use")
        if self.things.pop((kind, thing), None) is not None:
            self.removed.append(kind)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        for key in list(self.going):
            self.going[key] -= 1
            if not self.going[key]:
                del self.going[key]
                self.things.pop(key, None)


def watching(cloud: Cloud) -> Leftovers:
    leftovers = Leftovers(cloud, sleep=cloud.sleep)
    leftovers.remember()
    return leftovers


def test_the_clouds_own_things_are_none_and_a_clean_cloud_costs_one_look() -> None:
    cloud = Cloud(network="public", image="cirros", project="c_rally_old")
    assert watching(cloud).sweep() == []
    assert cloud.slept == 0


def test_what_a_task_left_is_told_and_removed_in_an_order_that_works() -> None:
    cloud = Cloud(network="public")
    leftovers = watching(cloud)
    for kind in reversed(KINDS):
        cloud.things[kind, "new"] = f"s_rally_{kind}"
    cloud.after = {"network": "port", "project": "user"}
    found = leftovers.sweep()
    assert {one.kind for one in found} == set(KINDS)
    assert all(not one.error for one in found)
    assert list(cloud.things) == [("network", "network-0")]
    assert leftovers.sweep() == []


def test_what_others_keep_alive_goes_in_the_next_round() -> None:
    cloud = Cloud()
    leftovers = watching(cloud)
    cloud.things = {("router", "r"): "a", ("server", "s"): "b"}
    cloud.after = {"server": "router"}  # the other way round than the order of the kinds
    assert [one.error for one in leftovers.sweep()] == ["", ""]
    assert cloud.removed == ["router", "server"]


def test_what_cannot_be_removed_is_told_once_with_its_reason() -> None:
    cloud = Cloud()
    leftovers = watching(cloud)
    cloud.things["port", "p"] = "s_rally_x"
    cloud.stuck = {"port"}
    assert leftovers.sweep() == [
        Leftover("port", "p", "s_rally_x", "removal of the port p: Conflict: in use")
    ]
    assert leftovers.sweep() == []


def test_what_is_still_going_is_no_leftover() -> None:
    cloud = Cloud()
    leftovers = watching(cloud)
    cloud.things["server", "s"] = "s_rally_x"
    cloud.going = {("server", "s"): 1}
    assert leftovers.sweep() == []
    assert cloud.removed == []


def test_a_cloud_that_does_not_answer_is_no_clean_cloud() -> None:
    cloud = Cloud()
    leftovers = watching(cloud)
    cloud.unreachable = True
    with pytest.raises(InventoryFailed, match="connection refused"):
        leftovers.sweep()


def test_without_a_look_before_nothing_can_be_told() -> None:
    with pytest.raises(InventoryFailed, match="before the first task"):
        Leftovers(Cloud(), sleep=lambda _: None).sweep()


def test_why_the_look_before_failed_is_told_with_every_task() -> None:
    cloud = Cloud()
    cloud.unreachable = True
    leftovers = Leftovers(cloud, sleep=cloud.sleep)
    with pytest.raises(InventoryFailed):
        leftovers.remember()
    cloud.unreachable = False
    with pytest.raises(InventoryFailed, match=r"before the first task: .*connection refused"):
        leftovers.sweep()
