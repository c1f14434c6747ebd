"""Nodes from real Ansible inventories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfci.lab.errors import InventoryInvalid
from perfci.lab.inventory import nodes
from perfci.lab.model import Node

if TYPE_CHECKING:
    from pathlib import Path


def inventory(folder: Path, text: str) -> Path:
    lab = folder / "inventory" / "rack"
    lab.mkdir(parents=True)
    (lab / "hosts.yml").write_text(text)
    return lab


def test_the_nodes_are_the_hosts_of_their_group(tmp_path: Path) -> None:
    lab = inventory(
        tmp_path,
        "all:\n  hosts: {controller: {}}\n  children:\n    nodes:\n      children:\n"
        "        left: {hosts: {node-1: {}, node-0: {}}}\n        right: {hosts: {node-2: {}}}\n",
    )
    assert nodes(lab) == (Node("node-0"), Node("node-1"), Node("node-2"))


def test_without_that_group_all_hosts_are_nodes(tmp_path: Path) -> None:
    lab = inventory(
        tmp_path, "all:\n  children:\n    cloud: {hosts: {node-0: {ansible_connection: local}}}\n"
    )
    assert nodes(lab) == (Node("node-0"),)


def test_a_missing_inventory_names_those_there_are(tmp_path: Path) -> None:
    inventory(tmp_path, "all: {hosts: {a: {}}}\n")
    with pytest.raises(InventoryInvalid, match="does not exist; there are: rack"):
        nodes(tmp_path / "inventory" / "none")


@pytest.mark.parametrize("text", ["all: [\n", "just text\n", "nodes: {hosts: [a]}\n"])
def test_an_inventory_that_cannot_be_parsed(tmp_path: Path, text: str) -> None:
    with pytest.raises(InventoryInvalid, match=r"hosts\.yml") as caught:
        nodes(inventory(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "ansible-inventory -i" in caught.value.advice


def test_an_inventory_without_nodes(tmp_path: Path) -> None:
    with pytest.raises(InventoryInvalid, match="has no nodes"):
        nodes(inventory(tmp_path, "nodes: {hosts: {}}\nother: {hosts: {a: {}}}\n"))
