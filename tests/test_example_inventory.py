"""A lab that is made of inventory/example has every variable that a virtual lab has, on which nights are tested."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from perfci.lab import inventory

INVENTORY = Path(__file__).parents[1] / "inventory"
ONLY_VIRTUAL = {
    "netboot_folder": "its DHCP and HTTP go with the lab; a real lab's stay, in the state folder",
    "os_image_kernel": "no drivers of hardware; the example names the kernel for servers",
    "ansible_control_path_dir": "labs with the same addresses may follow each other on one machine",
    "preflight_memory_gib": "simulated machines share one machine's memory",
    "preflight_disk_gib": "and its disk",
}


def variables(*files: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for file in files:
        found |= yaml.safe_load(file.read_text()) or {}
    return found


def of_group(lab: str, group: str) -> dict[str, object]:
    folder = INVENTORY / lab / "group_vars"
    return variables(*sorted([*folder.glob(f"{group}.yml"), *folder.glob(f"{group}/*.yml")]))


@pytest.mark.parametrize("group", ["all", "cloud", "controller", "nodes"])
def test_the_example_lacks_no_variable_of_a_virtual_lab(group):
    missing = of_group("virtual", group).keys() - of_group("example", group).keys() - ONLY_VIRTUAL.keys()
    assert missing == set()


@pytest.mark.parametrize("group", ["all", "cloud"])
def test_what_both_say_of_the_cloud_is_the_same(group):
    example, virtual = of_group("example", group), of_group("virtual", group)
    shared = (example.keys() & virtual.keys()) - ONLY_VIRTUAL.keys()
    assert {name: example[name] for name in shared} == {name: virtual[name] for name in shared}


def test_every_group_of_the_example_has_variables_or_is_made_of_others():
    hosts = yaml.safe_load((INVENTORY / "example" / "hosts.yml").read_text())
    assert hosts["all"]["children"]["cloud"] == {"children": {"nodes": None}}


def test_groups_of_machines_mean_what_the_operators_guide_says(tmp_path):
    guide = (INVENTORY.parent / "docs" / "operator.md").read_text()
    (block,) = re.findall(r"```yaml\n(    nodes:\n      children:\n.*?)```", guide, re.DOTALL)
    lab = tmp_path / "rack"
    shutil.copytree(INVENTORY / "example", lab)
    hosts = yaml.safe_load((lab / "hosts.yml").read_text())
    hosts["all"]["children"]["nodes"] |= yaml.safe_load(block)["nodes"]
    (lab / "hosts.yml").write_text(yaml.safe_dump(hosts))
    for group, line in (("slow", "bmc_power_seconds: 180"), ("redfish_only", "bmc_protocol: redfish")):
        assert f"`group_vars/{group}.yml` with" in guide
        assert f"`{line}`" in guide
        (lab / "group_vars" / f"{group}.yml").write_text(line + "\n")
    listed = subprocess.run(
        [Path(sys.executable).with_name("ansible-inventory"), "-i", lab, "--list"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = json.loads(listed.stdout)["_meta"]["hostvars"]
    assert [found[node]["bmc_power_seconds"] for node in ("node-1", "node-7", "node-8")] == [120, 180, 120]
    assert [found[node]["bmc_protocol"] for node in ("node-1", "node-7", "node-8")] == [
        "ipmi",
        "ipmi",
        "redfish",
    ]
    nodes = {node.name: node for node in inventory.nodes(lab)}
    assert nodes.keys() == {"node-1", "node-2", "node-3", "node-7", "node-8"}
    assert all(node.has_bmc and node.in_cloud for node in nodes.values())


def test_the_controller_of_machines_gets_what_stores_results():
    (play,) = yaml.safe_load((INVENTORY.parent / "playbooks" / "controller.yml").read_text())
    assert [one["role"] for one in play["roles"]] == ["packages", "influxdb"]
    assert play["roles"][0]["packages_services"] == ["influxdb"]
    assert not play["roles"][0]["packages_from_image"], "its image has none"
