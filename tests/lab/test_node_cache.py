"""The nodes of an inventory, kept between commands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from perfci import config
from perfci.lab import inventory
from perfci.lab.errors import InventoryInvalid
from perfci.lab.node_cache import FOLDER, nodes_of

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = """nodes:
  hosts:
    a: {bmc_address: 192.0.2.1, bmc_password: s3cret, node_labels: {model: r640}}
    b: {}
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    (tmp_path / "inventory" / "rack").mkdir(parents=True)
    (tmp_path / "inventory" / "rack" / "hosts.yml").write_text(HOSTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return config.load(
        environ={
            "PERFCI_ROOT_DIR": str(tmp_path),
            "PERFCI_STATE_DIR": str(tmp_path / "state"),
            "PERFCI_LAB": "rack",
        }
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Ansible is asked for this many inventories."""
    found: list[Path] = []
    nodes = inventory.nodes
    monkeypatch.setattr(inventory, "nodes", lambda folder: found.append(folder) or nodes(folder))
    return found


def test_ansible_is_asked_once(lab: config.Settings, asked: list[Path]) -> None:
    first = nodes_of(lab)
    again = nodes_of(lab)
    assert [(one.name, one.has_bmc, dict(one.labels), one.in_cloud) for one in again] == [
        ("a", True, {"model": "r640"}, False),
        ("b", False, {}, False),
    ]
    assert [(one.name, one.labels) for one in first] == [(one.name, one.labels) for one in again]
    assert len(asked) == 1


def test_no_secret_is_kept(lab: config.Settings) -> None:
    nodes_of(lab)
    (file,) = (lab.state_dir / FOLDER).iterdir()
    assert "r640" in file.read_text()
    assert "s3cret" not in file.read_text()


@pytest.mark.parametrize(
    "file", ["inventory/rack/hosts.yml", "inventory/rack/group_vars/nodes.yml", "ansible.cfg"]
)
def test_whatever_changes_ansible_is_asked_again(lab: config.Settings, asked: list[Path], file: str) -> None:
    nodes_of(lab)
    path = lab.root_dir / file
    path.parent.mkdir(exist_ok=True)
    was = path.read_text() if path.exists() else ""
    path.write_text(was.replace("b: {}", "c: {}") or ("[defaults]\n" if file == "ansible.cfg" else "x: 1\n"))
    found = nodes_of(lab)
    assert len(asked) == 2
    assert ("c" in {one.name for one in found}) == (file == "inventory/rack/hosts.yml")


def test_a_variable_of_ansible_counts(
    lab: config.Settings, asked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes_of(lab)
    monkeypatch.setenv("ANSIBLE_HASH_BEHAVIOUR", "merge")
    nodes_of(lab)
    assert len(asked) == 2


def test_what_a_program_says_is_not_kept(lab: config.Settings, asked: list[Path]) -> None:
    program = lab.inventory_dir / "more.sh"
    program.write_text('#!/bin/sh\necho \'{"nodes": {"hosts": ["c"]}}\'\n')
    program.chmod(0o755)
    for _ in range(2):
        assert [one.name for one in nodes_of(lab)] == ["a", "b", "c"]
    assert len(asked) == 2
    assert not (lab.state_dir / FOLDER).exists()


def test_what_a_plugin_says_is_not_kept(lab: config.Settings, asked: list[Path]) -> None:
    (lab.inventory_dir / "z.yml").write_text("plugin: ansible.builtin.constructed\ngroups: {nodes: true}\n")
    for _ in range(2):
        nodes_of(lab)
    assert len(asked) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": 1}', '{"key": "KEY", "nodes": [{"no": 1}]}'])
def test_what_is_damaged_does_not_count(lab: config.Settings, asked: list[Path], damage: str) -> None:
    good = nodes_of(lab)
    (file,) = (lab.state_dir / FOLDER).iterdir()
    file.write_text(damage.replace("KEY", json.loads(file.read_text())["key"]))
    assert nodes_of(lab) == good
    assert len(asked) == 2


def test_an_inventory_that_is_not_there_is_said_to_be_missing(lab: config.Settings) -> None:
    nodes_of(lab)
    (lab.inventory_dir / "hosts.yml").unlink()
    lab.inventory_dir.rmdir()
    with pytest.raises(InventoryInvalid, match="does not exist"):
        nodes_of(lab)
