"""Names and numbers of a virtual lab."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from virtual_labs import plan

from perfci.lab.virtual.errors import VirtualLabTooLarge
from perfci.lab.virtual.plan import Firmware, MachineKind, Plan, mac_of, site_name, unknown_mac


def test_every_state_folder_has_a_lab_of_its_own(tmp_path):
    assert site_name(tmp_path) == site_name(tmp_path / "x" / "..")
    assert site_name(tmp_path) != site_name(tmp_path / "x")
    assert len(site_name(tmp_path)) == 10


def test_a_folder_and_a_link_to_it_are_one_lab(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert site_name(tmp_path / "link") == site_name(tmp_path / "real")


def test_nothing_of_a_node_is_shared_with_another():
    nodes = plan(size=200).nodes
    for field in ("number", "name", "bmc_address", "mac", "address"):
        assert len({getattr(node, field) for node in nodes}) == 200
    assert (nodes[0].name, nodes[0].bmc_address, nodes[0].mac, nodes[0].address) == (
        "node-1",
        "127.90.0.1",
        "52:54:00:00:00:01",
        "192.168.240.11",
    )


def test_the_last_node_that_fits():
    small = plan(size=4, network="10.1.0.0/28")
    assert small.nodes[-1].address == "10.1.0.14"
    with pytest.raises(VirtualLabTooLarge, match=r"10\.1\.0\.0/28 has addresses for 4 nodes; wanted: 5"):
        _ = plan(size=5, network="10.1.0.0/28").nodes


def test_null_nodes_have_no_network_and_may_be_many():
    nodes = plan(size=5000, kind=MachineKind.NULL).nodes
    assert nodes[-1].bmc_address == "127.90.19.136"
    assert {node.address for node in nodes} == {""}
    with pytest.raises(VirtualLabTooLarge):
        _ = plan(size=70_000, kind=MachineKind.NULL).nodes


@pytest.mark.parametrize(
    ("firmwares", "words"),
    [((Firmware.UEFI,), "uefi"), ((Firmware.BIOS, Firmware.UEFI), "bios and uefi")],
)
def test_a_plan_outlives_json(firmwares, words):
    network = IPv4Network("10.0.0.0/24")
    whole = Plan(Path("/srv"), Path("/srv/state"), MachineKind.QEMU, 3, network, firmwares)
    assert Plan.from_dict(json.loads(json.dumps(whole.as_dict()))) == whole
    assert whole.describe() == f"3 qemu nodes in 10.0.0.0/24 with {words} firmware"


def test_nodes_have_firmwares_in_turn():
    mixed = replace(plan(3, kind=MachineKind.QEMU), firmwares=(Firmware.BIOS, Firmware.UEFI))
    assert [node.firmware for node in mixed.nodes] == ["bios", "uefi", "bios"]
    assert {node.firmware for node in plan(3).nodes} == {"bios"}


def test_macs():
    assert mac_of(70_000) == "52:54:00:01:11:70"
    assert unknown_mac(mac_of(1)) == "5e:54:00:00:00:01"
