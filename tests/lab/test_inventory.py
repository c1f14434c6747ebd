"""Nodes from real Ansible inventories."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from perfci.config import SecretUnreadable
from perfci.lab.bmc.base import BmcProtocol, Target, plain_address
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
    plain: {number: 1, bmc_password: "000000", bmc_power_seconds: 90}
    template: {number: 2, bmc_password: "{{ secret }}", bmc_port: 6230, bmc_cipher_suite: 3}
    file: {number: 3, bmc_password_file: secret, pdu_outlet: "07", pdu_command: "pdu {outlet}"}
    vault: {number: 4}
    nothing: {number: 5}
    empty: {number: 6, bmc_password_file: none}
    long: {number: 7, bmc_password: "123456789012345678901"}
    wrong: {number: 8, bmc_password: x, bmc_port: 0, bmc_cipher_suite: 1}
    bare: {bmc_address: ""}
    nameless: {number: 9, bmc_username: "", bmc_password: x}
    impatient: {number: 10, bmc_password: x, bmc_power_seconds: 0}
    octal: {number: 11, bmc_password: 0123456}
    sexagesimal: {number: 12, bmc_password: 12:34:56}
    truth: {number: 13, bmc_password: yes}
    real: {number: 14, bmc_password: 1.50}
    user: {number: 15, bmc_username: 007, bmc_password: x}
    outlet: {number: 16, bmc_password: x, pdu_outlet: 010}
    address: {bmc_address: 10.10, bmc_password: x}
    redfish: {number: 18, bmc_protocol: redfish, bmc_password: longer-than-IPMI-takes,
              bmc_redfish_url: "https://192.0.2.28:8443", bmc_redfish_system: Blade1, bmc_redfish_verify: ca.pem}
    unchecked: {number: 19, bmc_protocol: auto, bmc_password: x, bmc_redfish_verify: false}
    smoke: {number: 20, bmc_protocol: smoke, bmc_password: x}
    folder: {number: 21, bmc_protocol: redfish, bmc_password: x, bmc_redfish_url: "https://192.0.2.28/redfish"}
    vaulted: {number: 17, from_vault: 0x1F2E, bmc_password: "{{ from_vault }}"}
"""
UNQUOTED = ("octal", "sexagesimal", "truth", "real", "user", "outlet", "address", "vaulted")


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
    names = ["plain", "template", "file", "vault", "nameless"]
    plain, template, file, vault, nameless = targets(bmcs, names)
    assert plain == Target("plain", "192.0.2.11", "perfci", "000000", power_seconds=90)
    assert template == Target("template", "192.0.2.12", "perfci", "s3cret", port=6230, cipher_suite=3)
    assert file == Target(
        "file", "192.0.2.13", "perfci", "s3cret", outlet="07", outlet_command="pdu {outlet}"
    )
    assert vault == Target("vault", "192.0.2.14", "perfci", "v@ult")
    assert nameless == Target("nameless", "192.0.2.19", "", "x")
    redfish, unchecked = targets(bmcs, ["redfish", "unchecked"])
    assert redfish == Target(
        "redfish",
        "192.0.2.28",
        "perfci",
        "longer-than-IPMI-takes",
        protocol=BmcProtocol.REDFISH,
        redfish_url="https://192.0.2.28:8443",
        redfish_system="Blade1",
        redfish_verify=str(bmcs / "ca.pem"),
    )
    assert (unchecked.protocol, unchecked.redfish_verify) == (BmcProtocol.AUTO, False)
    assert not (bmcs.parents[1] / "log").exists(), "no secret stands in Ansible's log"


@pytest.mark.parametrize(
    ("node", "error", "words"),
    [
        ("nothing", BmcUnknown, "neither bmc_password nor bmc_password_file"),
        ("empty", SecretUnreadable, "bmc_password_file of empty: can't read a secret"),
        ("long", BmcUnknown, "longer than 20 bytes"),
        ("wrong", BmcUnknown, "bmc_port: expected .*; bmc_cipher_suite: expected 3 or 17"),
        ("bare", BmcUnknown, "its bmc_address is not set"),
        ("impatient", BmcUnknown, "bmc_power_seconds: expected"),
        ("smoke", BmcUnknown, "bmc_protocol: expected 'ipmi' or 'redfish' or 'auto'"),
        ("folder", BmcUnknown, "bmc_redfish_url: expected"),
        *((node, BmcUnknown, "quote it: without quotes it is read as") for node in UNQUOTED),
    ],
)
def test_what_is_missing_or_wrong(
    bmcs: Path, monkeypatch: pytest.MonkeyPatch, node: str, error: type[Exception], words: str
) -> None:
    monkeypatch.chdir(bmcs.parents[1])
    with pytest.raises(error, match=words) as caught:
        targets(bmcs, [node])
    assert not re.search("123456|42798|45296|7982", str(caught.value)), "no part of a secret is told"


@pytest.mark.parametrize("password", ["1234e567", "000000", "12E45", "True", "0x1F2E", "1_000"])
def test_what_ini_takes_for_a_number_is_refused(tmp_path: Path, password: str) -> None:
    lab = tmp_path / "rack"
    lab.mkdir()
    line = "bmc_address=192.0.2.1 bmc_username=quads bmc_password="
    (lab / "hosts").write_text(f"[nodes]\nbare {line}{password}\nquoted {line}'\"{password}\"'\n")
    (quoted,) = targets(lab, ["quoted"])
    assert quoted.password == password
    with pytest.raises(BmcUnknown, match="bmc_password: quote it"):
        targets(lab, ["bare"])


def test_a_vault_without_its_password(bmcs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InventoryInvalid, match=r"(?i)vault"):
        targets(bmcs, ["vault"])


def inventory(folder: Path, text: str) -> Path:
    lab = folder / "inventory" / "rack"
    lab.mkdir(parents=True)
    (lab / "hosts.yml").write_text(text)
    return lab


def test_an_ipv6_address_may_have_brackets() -> None:
    assert plain_address("[fd00::11]") == plain_address("fd00::11") == "fd00::11"
    assert plain_address("bmc-1.example.org") == "bmc-1.example.org"


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


def test_which_nodes_a_cloud_is_deployed_on(tmp_path: Path) -> None:
    text = "nodes: {hosts: {node-0: {}, node-1: {}}}\ncloud: {hosts: {node-0: {}}}\n"
    assert [node.in_cloud for node in nodes(inventory(tmp_path, text))] == [True, False]


def test_all_nodes_of_the_example_can_have_a_cloud() -> None:
    example = Path(__file__).parents[2] / "inventory" / "example"
    assert [(node.has_bmc, node.in_cloud) for node in nodes(example)] == [(True, True)] * 3


def test_what_nodes_are_told_apart_by(tmp_path: Path) -> None:
    text = 'nodes: {hosts: {node-0: {node_labels: {model: r640, rack: "03"}}, node-1: {}}}\n'
    assert [node.labels for node in nodes(inventory(tmp_path, text))] == [
        {"model": "r640", "rack": "03"},
        {},
    ]


@pytest.mark.parametrize(
    ("labels", "words"), [("{rack: 03}", "node_labels of node-0: rack: quote it"), ("r640", "a mapping")]
)
def test_labels_that_are_not_what_was_written(tmp_path: Path, labels: str, words: str) -> None:
    with pytest.raises(InventoryInvalid, match=words):
        nodes(inventory(tmp_path, f"nodes: {{hosts: {{node-0: {{node_labels: {labels}}}}}}}\n"))


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
