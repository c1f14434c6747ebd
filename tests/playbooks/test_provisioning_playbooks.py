"""The playbooks of provisioning, and the inventory that shows how a real lab is described."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from programs import needs, needs_root, require

from perfci.database.engine import Database
from perfci.lab.model import Node
from perfci.lab.sql import SqlLedger

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "inventory" / "example"
OPERATOR = (PROJECT / "docs" / "operator.md").read_text()

pytestmark = pytest.mark.slow


def ansible(program, *words, **environment):
    return subprocess.run(
        [str(Path(sys.executable).with_name(program)), *words],
        cwd=PROJECT,
        env={
            **os.environ,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("playbook", ["netboot", "provision", "reclaim"])
def test_syntax(playbook):
    done = ansible("ansible-playbook", "--syntax-check", "-i", str(EXAMPLE), f"playbooks/{playbook}.yml")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def hosts():
    done = ansible("ansible-inventory", "-i", str(EXAMPLE), "--list")
    assert done.returncode == 0, done.stderr
    groups = json.loads(done.stdout)
    return {name: groups["_meta"]["hostvars"][name] for name in groups["nodes"]["hosts"]}


def test_the_example_is_a_good_inventory(hosts):
    spec = importlib.util.spec_from_file_location(
        "checking", PROJECT / "plugins/modules/provision_inventory.py"
    )
    checking = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checking)
    nodes = [
        {
            "name": name,
            **{key: said.get(key, "") for key in checking.NODE_OPTIONS},
            "bmc_port": said["bmc_port"],
        }
        for name, said in hosts.items()
    ]
    first = next(iter(hosts.values()))
    network, controller = first["provision_network"], first["provision_controller_address"]
    assert checking.problems(network, controller, nodes) == []


FOUND_OUT = {"provision_host_key_file", "provision_own"}
"""What is named after the node where the inventory says nothing, and what the role itself finds."""


def test_every_variable_that_is_asked_of_a_node_is_in_the_example(hosts):
    texts = [
        file.read_text()
        for role in ("provision", "netboot")
        for file in (PROJECT / "roles" / role).rglob("*.*")
    ]
    asked = {
        name
        for text in texts
        for name in re.findall(r"hostvars\[node\]\.((?:bmc|provision|pdu)_[a-z_]+)", text)
    }
    own = yaml.safe_load((PROJECT / "roles/provision/vars/main.yml").read_text())["provision_description"]
    asked |= set(re.findall(r"(?<!')\b(?:bmc|provision|pdu)_[a-z_]+\b(?!')", own))
    assert len(asked) > 12
    # What has a default in the role may be set for a node, and need not be.
    asked -= set(yaml.safe_load((PROJECT / "roles/provision/defaults/main.yml").read_text()))
    assert asked - FOUND_OUT - {name for said in hosts.values() for name in said} == set()


def test_the_operators_guide_explains_every_variable_of_the_example():
    shown = {
        name
        for file in EXAMPLE.rglob("*.yml")
        if not file.is_symlink()
        for name in re.findall(
            r"^\s*((?:bmc|pdu|provision|netboot|os_image)_[a-z_]+):", file.read_text(), re.MULTILINE
        )
    }
    assert len(shown) > 15
    assert [name for name in sorted(shown) if f"`{name}`" not in OPERATOR] == []


def netboot(folder, interface):
    """Return the folder with what the role writes for the example; dnsmasq itself has read it."""
    play = [
        {
            "hosts": "controller",
            "gather_facts": False,
            "vars": {
                "netboot_folder": str(folder / "netboot"),
                "netboot_images": str(folder / "images"),
                "netboot_range": {"network": "192.168.240.0", "netmask": "255.255.255.0"},
                "netboot_interface": interface,
            },
            "tasks": [{"ansible.builtin.import_role": {"name": "netboot", "tasks_from": "config"}}],
        }
    ]
    (folder / "play.yml").write_text(yaml.safe_dump(play))
    far = {"provision_mac": "52-54-00-AA-BB-04", "provision_address": "192.168.240.14"}
    more = {"nodes": {"hosts": {"node-4.rack2.example.org": far}}}
    (folder / "more.yml").write_text(yaml.safe_dump(more))
    inventories = ["-i", str(EXAMPLE), "-i", str(folder / "more.yml")]
    done = ansible("ansible-playbook", *inventories, str(folder / "play.yml"), PERFCI_STATE_DIR=str(folder))
    assert done.returncode == 0, done.stdout
    return folder / "netboot"


@pytest.fixture(scope="module")
def dhcp(tmp_path_factory):
    """The configuration of dnsmasq for the interface `srv`."""
    require("dnsmasq")
    return netboot(tmp_path_factory.mktemp("dhcp"), "srv") / "dnsmasq.conf"


ASK = """\
ip link set lo up
ip link add srv type veth peer name cli address {mac}
ip address add 192.168.240.1/24 dev srv
ip link set srv up
ip link set cli up
dnsmasq --keep-in-foreground --conf-file={configuration} &
trap 'kill %1' EXIT
busybox udhcpc -i cli -s {hook} -q -n -f -t 6 -T 1 -V {vendor} -O bootfile -x 93:{architecture}
"""


@needs_root
@needs("busybox", "dnsmasq", "ip", "unshare", "bash")
@pytest.mark.parametrize(
    ("architecture", "file"),
    [("0000", "undionly.kpxe"), ("0007", "ipxe.efi"), ("0009", "ipxe.efi"), ("000b", "")],
    ids=["bios", "uefi", "uefi-9", "arm64"],
)
def test_dhcp_tells_firmwares_apart_by_their_architecture(dhcp, tmp_path, architecture, file):
    hook = tmp_path / "hook"
    hook.write_text(
        f'#!/bin/sh\n[ "$1" = deconfig ] || echo "${{boot_file:-$bootfile}}" >{tmp_path}/offered\n'
    )
    hook.chmod(0o755)
    vendor = "PXEClient:Arch:00007:UNDI:003016"
    script = ASK.format(
        mac="52:54:00:aa:bb:01", configuration=dhcp, hook=hook, vendor=vendor, architecture=architecture
    )
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "offered").read_text().strip() == file


@needs("dnsmasq")
def test_the_configuration_of_dnsmasq_is_accepted(tmp_path):
    written = (netboot(tmp_path, "lo") / "dnsmasq.conf").read_text()
    assert "dhcp-host=52:54:00:aa:bb:03,set:node-3,192.168.240.13,node-3" in written
    assert (
        "dhcp-boot=tag:ipxe,tag:node-3,http://192.168.240.1:8480/boot/52-54-00-aa-bb-03/boot.ipxe" in written
    )
    assert "dhcp-host=52:54:00:aa:bb:04,set:node-4.rack2.example.org,192.168.240.14,node-4\n" in written
    assert json.loads((tmp_path / "netboot/nodes.json").read_text())["node-1"] == {
        "mac": "52:54:00:aa:bb:01",
        "address": "192.168.240.11",
    }
    assert (tmp_path / "netboot/netboot_server.py").read_bytes() == (
        PROJECT / "roles/netboot/files/netboot_server.py"
    ).read_bytes()


@pytest.mark.parametrize("playbook", ["provision", "reclaim"])
def test_nobodys_machine_is_touched_unasked(playbook, tmp_path):
    """Neither a colleague's, nor with --limit so that nobody can be asked; no BMC of the example is reached."""
    until = datetime.now(UTC) + timedelta(hours=1)
    url = f"sqlite:///{tmp_path / 'lab.db'}"
    ledger = SqlLedger(Database(url), "example", [Node("node-1"), Node("node-2")])
    ledger.reserve(nodes=frozenset({"node-2"}), holder="ann", purpose="tuning", until=until)
    command = ["ansible-playbook", "-i", str(EXAMPLE), f"playbooks/{playbook}.yml"]
    secret = ["-e", "vault_bmc_password=x"]
    state = {"PERFCI_STATE_DIR": str(tmp_path), "PERFCI_DATABASE__URL": url}

    refused = ansible(*command, *secret, **state)
    assert refused.returncode != 0
    assert "node-2: held by ann (tuning)" in refused.stdout
    assert re.findall(r"^PLAY \[(.*)\]", refused.stdout, re.MULTILINE) == ["Ask who holds the nodes"]

    unasked = ansible(*command, *secret, "--limit", "node-1", **state)
    assert unasked.returncode != 0
    assert "Nobody asked who holds the nodes" in unasked.stdout
