"""Nodes from real Ansible inventories."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from perfci.config import SecretUnreadable
from perfci.lab.bmc.base import Target
from perfci.lab.bmc.errors import BmcUnknown
from perfci.lab.errors import InventoryInvalid
from perfci.lab.inventory import nodes, targets
from perfci.lab.model import Node

BMCS = """\
nodes:
  vars:
    bmc_address: "192.0.2.{{ number + 10 }}"
    bmc_username: perfci
    secret: "{{ lookup('ansible.builtin.file', inventory_dir ~ '/secret') }}"
  hosts:
    plain: {number: 1, bmc_password: 12345}
    template: {number: 2, bmc_password: "{{ secret }}", bmc_port: 6230, bmc_cipher_suite: 3}
    file: {number: 3, bmc_password_file: secret, pdu_outlet: 7, pdu_command: "pdu {outlet}"}
    vault: {number: 4}
    nothing: {number: 5}
    empty: {number: 6, bmc_password_file: none}
    long: {number: 7, bmc_password: 123456789012345678901}
    wrong: {number: 8, bmc_password: x, bmc_port: 0, bmc_cipher_suite: 1}
    bare: {bmc_address: ""}
"""


@pytest.fixture(scope="module")
def bmcs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inventory with a BMC of every kind; the Vault's password is in ansible.cfg beside it."""
    root = tmp_path_factory.mktemp("bmcs")
    (root / "vault").write_text("vault password")
    (root / "ansible.cfg").write_text(
        f"[defaults]\nvault_password_file = {root}/vault\nlog_path = {root}/log\n"
    )
    program = Path(sys.executable).with_name("ansible-vault")
    command = [program, "encrypt_string", "--vault-password-file", root / "vault", "v@ult"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    encrypted = done.stdout[done.stdout.index("!vault") :].strip()
    lab = inventory(root, BMCS)
    (lab / "secret").write_text("s3cret\n")
    (lab / "host_vars").mkdir()
    (lab / "host_vars" / "vault.yml").write_text(f"bmc_password: {encrypted}\n")
    return lab


def test_how_bmcs_are_reached(bmcs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bmcs.parents[1])
    plain, template, file, vault = targets(bmcs, ["plain", "template", "file", "vault"])
    assert plain == Target("plain", "192.0.2.11", "perfci", "12345")
    assert template == Target("template", "192.0.2.12", "perfci", "s3cret", port=6230, cipher_suite=3)
    assert file == Target("file", "192.0.2.13", "perfci", "s3cret", outlet="7", outlet_command="pdu {outlet}")
    assert vault == Target("vault", "192.0.2.14", "perfci", "v@ult")
    assert not (bmcs.parents[1] / "log").exists(), "no secret stands in Ansible's log"


@pytest.mark.parametrize(
    ("node", "error", "words"),
    [
        ("nothing", BmcUnknown, "neither bmc_password nor bmc_password_file"),
        ("empty", SecretUnreadable, "bmc_password_file of empty: can't read a secret"),
        ("long", BmcUnknown, "longer than 20 bytes"),
        ("wrong", BmcUnknown, "bmc_port: expected .*; bmc_cipher_suite: expected 3 or 17"),
        ("bare", BmcUnknown, "its bmc_address is not set"),
    ],
)
def test_what_is_missing_or_wrong(
    bmcs: Path, monkeypatch: pytest.MonkeyPatch, node: str, error: type[Exception], words: str
) -> None:
    monkeypatch.chdir(bmcs.parents[1])
    with pytest.raises(error, match=words) as caught:
        targets(bmcs, [node])
    assert "123456" not in str(caught.value)


def test_a_vault_without_its_password(bmcs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InventoryInvalid, match=r"(?i)vault"):
        targets(bmcs, ["vault"])


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
