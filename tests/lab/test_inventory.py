"""Nodes from real Ansible inventories."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perfci.config import SecretUnreadable
from perfci.lab.bmc.base import BmcProtocol, Target, plain_address
from perfci.lab.bmc.errors import BmcUnknown
from perfci.lab.errors import InventoryInvalid, VirtualInventoryMissing
from perfci.lab.inventory import _resolved, _target, _Variables, nodes, ssh_arguments, targets
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


WRONG = ("nothing", "empty", "long", "wrong", "bare", "impatient", "smoke", "folder", *UNQUOTED)


@pytest.fixture(scope="module")
def resolved(bmcs: Path) -> dict[str, dict[str, Any]]:
    """What Ansible says of all nodes that something is wrong with, asked once: it takes a second."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(bmcs.parents[1])
        return {one["node"]: one for one in _resolved(bmcs, WRONG, _Variables.model_fields)}


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
    bmcs: Path, resolved: dict[str, dict[str, Any]], node: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        _target(bmcs, dict(resolved[node]))
    assert not re.search("123456|42798|45296|7982", str(caught.value)), "no part of a secret is told"


def test_what_ini_takes_for_a_number_is_refused(tmp_path: Path) -> None:
    """One look at all of them: Ansible takes a second for each."""
    passwords = ["1234e567", "000000", "12E45", "True", "0x1F2E", "1_000"]
    lab = tmp_path / "rack"
    lab.mkdir()
    line = "bmc_address=192.0.2.1 bmc_username=quads bmc_password="
    hosts = [f"bare{n} {line}{one}\nquoted{n} {line}'\"{one}\"'\n" for n, one in enumerate(passwords)]
    (lab / "hosts").write_text(f"[nodes]\n{''.join(hosts)}")
    names = [f"{kind}{n}" for kind in ("quoted", "bare") for n in range(len(passwords))]
    found = list(_resolved(lab, names, _Variables.model_fields))
    quoted, bare = found[: len(passwords)], found[len(passwords) :]
    assert [_target(lab, one).password for one in quoted] == passwords
    for one in bare:
        with pytest.raises(BmcUnknown, match="bmc_password: quote it"):
            _target(lab, one)


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


def test_the_virtual_inventory_has_nodes_while_a_virtual_lab_is_up(tmp_path: Path) -> None:
    folder = tmp_path / "inventory" / "virtual"
    (folder / "group_vars").mkdir(parents=True)
    with pytest.raises(VirtualInventoryMissing, match="no virtual lab is up") as caught:
        nodes(folder)
    assert "perfci virtual up --nodes 4" in caught.value.advice
    (folder / "hosts.yml").write_text("nodes: {hosts: {node-1: {}}}\n")
    assert [node.name for node in nodes(folder)] == ["node-1"]


def test_ssh_arguments_that_can_not_be_split(tmp_path: Path) -> None:
    node = 'node-1: {ansible_ssh_common_args: "-o \'ProxyCommand"}'
    with pytest.raises(InventoryInvalid, match="ansible_ssh_common_args of node-1: No closing quotation"):
        ssh_arguments(inventory(tmp_path, f"nodes: {{hosts: {{{node}}}}}\n"), ["node-1"])


@pytest.mark.parametrize("said", ["[" * 100_000, "warning: no cache\n{}", "9" * 5000, "[1]", ""])
def test_what_ansible_says_and_is_no_inventory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr("perfci.lab.inventory._ansible", lambda *_, **__: said)
    with pytest.raises(InventoryInvalid, match="gives no JSON"):
        nodes(tmp_path)
    with pytest.raises(InventoryInvalid, match="gives no JSON"):
        targets(tmp_path, ["node-1"])


def test_bytes_that_are_no_text_in_what_ansible_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of a plugin or a script of the lab come in any encoding."""
    program = tmp_path / "ansible-inventory"
    program.write_text("#!/bin/sh\nprintf '[ERROR]: r\\344tselhaft\\n' >&2\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(InventoryInvalid, match=r"r.tselhaft"):
        nodes(tmp_path)
