"""The Ansible module against simulated BMCs: idempotent, check mode, diff, partial success."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from redfish_emulator import emulated
from simulated_bmcs import PASSWORD, Thread

from perfci import config
from perfci.lab.bmc import session as sessions
from perfci.lab.health import OperationTally, open_health
from perfci.lab.sql import open_ledger

NODES = ("node-0", "node-1")


@pytest.fixture(scope="module")
def rack():
    with Thread(*NODES).running() as thread:
        yield thread


@pytest.fixture
def call(plugin, rack, monkeypatch, capsys):
    """Call the module as Ansible does; return what it printed."""
    module = plugin("bmc")
    monkeypatch.setattr(sessions, "RETRY_SECONDS", (0.1, 0.1, 0.2, 0.4))

    def called(*, check=False, password=PASSWORD, **arguments):
        nodes = [
            {
                "name": node,
                "address": one.target.address,
                "port": one.target.port,
                "username": "perfci",
                "password": password,
            }
            for node, one in rack.bmcs.items()
        ]
        given = {"nodes": nodes, **arguments, "_ansible_check_mode": check, "_ansible_diff": True}
        with patch_module_args(given), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    yield called
    for node in NODES:
        rack.faults(node, hang=False, ok_without_effect=False)
    assert rack.sessions() == 0


def test_once_changed_then_ok(call, rack):
    check = call(boot_device="network", persistent=True, power="on", check=True)
    assert check["changed"] is True
    assert not any(one.machine.is_on for one in rack.bmcs.values())
    first = call(boot_device="network", persistent=True, power="on")
    assert first["changed"] is True
    assert first["diff"] == check["diff"]
    assert first["diff"]["before"].splitlines()[0] == "node-0: power off, boot default"
    assert first["diff"]["after"].splitlines()[0] == "node-0: power on, boot network always"
    assert all(one.machine.is_on for one in rack.bmcs.values())
    again = call(boot_device="network", persistent=True, power="on")
    assert (again["changed"], again["succeeded"]) == (False, 2)
    assert again["diff"] == {"before": "", "after": ""}
    assert again["nodes"]["node-1"] | {"seconds": 0} == {
        "ok": True,
        "changed": False,
        "power": "on",
        "boot_device": "network",
        "error": None,
        "error_kind": None,
        "seconds": 0,
        "steps": [],
        "outlet_withheld": False,
        "quarantined": False,
    }


def test_passwords_are_not_told(call):
    told = call(password="an-uncommon-word")
    assert told["failed"] is True
    assert "an-uncommon-word" not in json.dumps(told)
    assert told["nodes"]["node-0"]["error_kind"] == "BmcCredentialsWrong"


def test_a_password_that_yaml_read_as_a_number_is_refused(call):
    told = call(password=42798)
    assert told["failed"] is True
    assert "node-0: password of its BMC: quote it" in told["msg"]
    assert "42798" not in json.dumps(told)


def test_how_many_must_succeed(call, rack):
    rack.faults("node-1", hang=True)
    enough = call(power="on", least=1)
    assert "failed" not in enough
    assert (enough["succeeded"], enough["nodes"]["node-1"]["ok"]) == (1, False)
    missing = call(power="on")
    assert missing["failed"] is True
    assert missing["msg"].startswith("1 of 2 nodes are as wanted, 2 must be\nnode-1: the BMC at ")


@pytest.mark.slow
def test_the_ladder_and_what_is_written_down(call, rack, tmp_path, monkeypatch, project_with_nodes):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path))
    monkeypatch.chdir(project_with_nodes)
    rack.faults("node-1", hang=True)
    told = call(power="on", recover=True, least=1, lab="rack")
    assert told["nodes"]["node-1"]["quarantined"] is True
    assert [step["rung"] for step in told["nodes"]["node-1"]["steps"]] == ["retry", "retry", "quarantine"]
    settings = config.load().model_copy(update={"lab": "rack"})
    assert open_health(settings).tallies() == {"node-0": OperationTally(1, 0), "node-1": OperationTally(1, 1)}
    assert [entry.node for entry in open_ledger(settings).quarantined()] == ["node-1"]


@pytest.fixture
def project_with_nodes(tmp_path):
    root = tmp_path / "project"
    (root / "playbooks").mkdir(parents=True)
    (root / "inventory" / "rack").mkdir(parents=True)
    (root / "inventory" / "rack" / "hosts.yml").write_text("nodes: {hosts: {node-0: {}, node-1: {}}}\n")
    return root


def test_documentation_and_arguments_agree(plugin):
    module = plugin("bmc")
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert set(documented) == set(module.ARGUMENTS)
    nodes = documented["nodes"]["suboptions"]
    assert set(nodes) == set(module.ARGUMENTS["nodes"]["options"])
    for name, option in module.ARGUMENTS.items():
        told = documented[name]
        assert (told["type"], told.get("default")) == (option["type"], option.get("default"))
        assert [str(one) for one in told.get("choices", [])] == option.get("choices", [])
    assert module.ARGUMENTS["nodes"]["options"]["password"]["no_log"] is True
    assert yaml.safe_load(module.EXAMPLES)
    assert yaml.safe_load(module.RETURN)


def test_a_bmc_that_speaks_redfish(plugin, capsys):
    with emulated() as bmc:
        node = {
            "name": "node-1",
            "address": "127.0.0.1",
            "username": "perfci",
            "password": bmc.target.password,
            "protocol": "auto",
            "redfish_url": bmc.url,
        }
        given = {"nodes": [node], "power": "on", "boot_device": "network", "uefi": True}
        with patch_module_args(given), pytest.raises(SystemExit):
            plugin("bmc").main()
        said = json.loads(capsys.readouterr().out)
        assert (said["nodes"]["node-1"]["error"], said["succeeded"], bmc.power) == (None, 1, "On")
        assert bmc.sessions == {}
