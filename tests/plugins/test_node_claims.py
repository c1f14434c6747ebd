"""The Ansible module that asks who holds the nodes, with a real book."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from perfci import config
from perfci.database.engine import open_database
from perfci.lab import owners, people
from perfci.lab.model import Node
from perfci.lab.sql import SqlLedger


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path / "state"))
    return SqlLedger(open_database(config.load()), "rack", [Node(name) for name in ("node-1", "node-2")])


@pytest.fixture
def ask(plugin, ledger, tmp_path, capsys):
    module = plugin("node_claims")

    def asked(*nodes, check=False, **arguments):
        given = {"nodes": list(nodes), "lab": "rack", "record": str(tmp_path / "forced.jsonl"), **arguments}
        with patch_module_args({**given, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    return asked


def reserve(ledger, holder, *nodes, owner=None):
    until = datetime.now(UTC) + timedelta(hours=1)
    return ledger.reserve(nodes=frozenset(nodes), holder=holder, purpose="tuning", until=until, owner=owner)


def test_free_nodes_and_those_of_the_caller(ask, ledger):
    reserve(ledger, people.me(), "node-1")
    told = ask("node-1", "node-2")
    assert ("failed" not in told, told["changed"], told["against"]) == (True, False, [])


def test_a_run_may_provision_the_nodes_that_it_leased(ask, ledger):
    reserve(ledger, "somebody", "node-1", owner=owners.me())
    assert "failed" not in ask("node-1")


def test_a_colleagues_machine_and_a_broken_one_are_left_alone(ask, ledger, tmp_path):
    reserve(ledger, "ann", "node-1")
    ledger.quarantine("node-2", "fan broken")
    told = ask("node-1", "node-2")
    assert told["failed"] is True
    assert "node-1: held by ann (tuning)" in told["msg"]
    assert "node-2: in quarantine: fan broken" in told["msg"]
    assert "failed" not in ask()
    assert not (tmp_path / "forced.jsonl").exists()


def test_force_needs_a_reason_and_is_recorded(ask, ledger, tmp_path):
    reserve(ledger, "ann", "node-1")
    assert "needs a reason" in ask("node-1", force=True, reason=" ")["msg"]
    assert ask("node-1", force=True, reason="ann left", check=True)["changed"] is True
    assert not (tmp_path / "forced.jsonl").exists()
    assert ask("node-1", force=True, reason="ann left")["changed"] is True
    (entry,) = [json.loads(line) for line in (tmp_path / "forced.jsonl").read_text().splitlines()]
    assert (entry["who"], entry["why"], entry["nodes"]) == (people.me(), "ann left", ["node-1"])


def test_a_book_that_cannot_be_read_is_no_leave(ask, tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_DATABASE__URL", f"sqlite:///{tmp_path}")
    told = ask("node-1")
    assert told["failed"] is True
    assert "nothing was done" in told["msg"]


def test_its_documentation_can_be_read(plugin):
    module = plugin("node_claims")
    for text in (module.DOCUMENTATION, module.EXAMPLES, module.RETURN):
        assert yaml.safe_load(text)
