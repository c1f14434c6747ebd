"""A lab that is made of inventory/example has every variable that a virtual lab has, on which nights are tested."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

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
