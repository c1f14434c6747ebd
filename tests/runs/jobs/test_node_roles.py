"""Which node plays which part: decided from names alone, in any order."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci.runs.jobs.node_roles import (
    PARTS,
    assign,
    assign_devstack,
    possible_compute_nodes,
    usual_compute_nodes,
)


def nodes(count):
    return [f"node-{number}" for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("count", "wanted", "played"),
    [
        (1, None, ["controller network compute load"]),
        (2, None, ["controller network", "compute load"]),
        (3, None, ["controller network", "compute", "compute load"]),
        (3, 1, ["controller network", "compute", "load"]),
        (4, None, ["controller network", "compute", "compute", "load"]),
        (4, 1, ["controller", "network", "compute", "load"]),
        (4, 3, ["controller network", "compute", "compute", "compute load"]),
        (5, None, ["controller", "network", "compute", "compute", "load"]),
        (6, None, ["controller", "network", "compute", "compute", "compute", "load"]),
        (6, 4, ["controller network", "compute", "compute", "compute", "compute", "load"]),
    ],
)
def test_who_plays_what(count, wanted, played):
    parts = assign(nodes(count), computes=10, compute_nodes=wanted)
    assert [" ".join(parts.of(node)) for node in nodes(count)] == played


def test_the_order_of_the_names_given_does_not_matter():
    wanted = assign(nodes(4), computes=5)
    assert all(assign(names, computes=5) == wanted for names in permutations(nodes(4)))


@given(st.data())
def test_everything_is_played_and_all_computes_are_there(data):
    count = data.draw(st.integers(1, 12))
    possible = possible_compute_nodes(count)
    wanted = data.draw(st.none() | st.sampled_from(possible))
    computes = data.draw(st.integers(wanted or usual_compute_nodes(count), 300))
    parts = assign(nodes(count), computes=computes, compute_nodes=wanted)
    assert usual_compute_nodes(count) in possible
    assert set(parts.nodes) == set(nodes(count)), "a node without a part would be held for nothing"
    assert {part for node in parts.nodes for part in parts.of(node)} == set(PARTS)
    assert sum(parts.computes.values()) == computes
    assert max(parts.computes.values()) - min(parts.computes.values()) <= 1
    assert min(parts.computes.values()) >= 1


def inventory(parts):
    (several,) = parts.inventory()["all"]["children"].items()
    assert several[0] == "cloud_several"
    (of_kind,) = several[1]["children"].items()
    return of_kind


def test_what_ansible_is_told():
    kind, told = inventory(assign(nodes(3), computes=5))
    assert kind == "cloud_multinode"
    assert told["hosts"] == {
        "node-1": {"cloud_parts": ["controller", "network"]},
        "node-2": {"cloud_parts": ["compute"], "fake_compute_count": 3},
        "node-3": {"cloud_parts": ["compute", "load"], "fake_compute_count": 2},
    }
    assert {name: sorted(group["hosts"]) for name, group in told["children"].items()} == {
        "cloud_controller": ["node-1"],
        "cloud_network": ["node-1"],
        "cloud_compute": ["node-2", "node-3"],
        "cloud_load": ["node-3"],
    }


def test_a_hypervisor_that_does_not_pretend_is_the_node_itself():
    parts = assign(nodes(3), computes=None)
    assert parts.computes == {"node-2": 1, "node-3": 1}
    _, told = inventory(parts)
    assert all("fake_compute_count" not in host for host in told["hosts"].values())


def test_with_devstack_the_first_node_is_all_but_a_compute():
    parts = assign_devstack(["node-3", "node-1", "node-2"], computes=5)
    assert {node: parts.of(node) for node in parts.nodes} == {
        "node-1": ("controller", "network", "load"),
        "node-2": ("compute",),
        "node-3": ("compute",),
    }
    assert parts.computes == {"node-2": 3, "node-3": 2}
    kind, told = inventory(parts)
    assert kind == "cloud_devstack"
    assert told["hosts"]["node-3"] == {"cloud_parts": ["compute"], "fake_compute_count": 2}
    assert "fake_compute_count" not in told["hosts"]["node-1"]


def test_a_sub_node_under_libvirt_is_the_hypervisor_itself():
    parts = assign_devstack(nodes(3), computes=None)
    assert (parts.computes, parts.fake) == ({"node-2": 1, "node-3": 1}, False)
