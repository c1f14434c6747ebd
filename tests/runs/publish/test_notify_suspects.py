"""Which changes a regression's mail suspects, from two archived runs and local repositories."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from git_repositories import Landscape

from perfci import config
from perfci.results.model import CodeUnderTest, RunRecord, ServiceRevision, Validity
from perfci.results.record import record_to_dict
from perfci.runs.publish.notify import suspects_of
from perfci.runs.publish.suspect_store import kept_suspects
from perfci.runs.verdicts.lab_services import LabServices


@pytest.fixture
def land(tmp_path):
    found = Landscape(tmp_path / "base")
    found.project("neutron")
    return found


@pytest.fixture
def services(land, tmp_path):
    environ = {"PERFCI_STATE_DIR": str(tmp_path / "state"), "PERFCI_GIT_BASE": str(land.base)}
    return LabServices(config.load(environ=environ))


def archived(services, run_id, step, head):
    folder = services.state.archive / run_id
    folder.mkdir(parents=True)
    at = datetime(2026, 11, 1, 2, 15, tzinfo=UTC)
    code = CodeUnderTest("a" * 12, (ServiceRevision("neutron", "1", "/mirror", head),))
    record = RunRecord(
        run_id, "embedded", "nightly", "embedded", at, at, "0" * 12, code, Validity(valid=True)
    )
    document = {**record_to_dict(record), "versions": {}, "step": step}
    (folder / "run.json").write_text(json.dumps(document))


def alert(*, last_good="one", code_known=True):
    key = SimpleNamespace(scenario="NeutronNetworks.create_and_list_ports", action="neutron.list_ports")
    return SimpleNamespace(
        id="3f2a",
        last_good=last_good,
        since="two",
        code_known=code_known,
        service="neutron",
        changes=(),
        leading=SimpleNamespace(key=key),
    )


def two_runs(land, services, files):
    archived(services, "one", land.steps[-1], land.repos["neutron"].head)
    land.change("neutron", files, "List ports")
    archived(services, "two", land.steps[-1], land.repos["neutron"].head)


def test_the_change_in_between_is_suspected(land, services):
    two_runs(land, services, {"neutron/db/ports.py": "1\n"})
    found = suspects_of(services, alert())
    assert [one.change.subject for one in found.suspects] == ["List ports"]
    assert kept_suspects(services.state.root, "3f2a").rows[0].subject == "List ports"
    assert not found.acquitted
    assert not found.problem


def test_documents_alone_acquit(land, services):
    two_runs(land, services, {"doc/ports.rst": "1\n"})
    assert suspects_of(services, alert()).acquitted


def test_a_commit_that_is_gone_is_said_and_the_mail_goes_out(land, services):
    archived(services, "one", "f" * 40, land.repos["neutron"].head)
    archived(services, "two", land.steps[-1], land.repos["neutron"].head)
    assert "no revision" in suspects_of(services, alert()).problem


def test_a_run_that_is_gone_is_said(services):
    assert suspects_of(services, alert()).problem


def test_a_fault_of_ours_is_said_in_place_of_them_and_logged(land, services, monkeypatch, caplog):
    two_runs(land, services, {"neutron/db/ports.py": "x = 1\n"})

    def broken(*_):
        raise KeyError("a bug")

    monkeypatch.setattr("perfci.runs.publish.notify.between_runs", broken)
    assert suspects_of(services, alert()).problem.startswith("unexpected KeyError: 'a bug'")
    assert "Traceback" in caplog.text


def test_without_a_base_or_a_good_run_nothing_is_said(land, services, tmp_path):
    assert suspects_of(services, alert(last_good=None)) is None
    assert suspects_of(services, alert(code_known=False)) is None
    nowhere = LabServices(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path / "state")}))
    assert suspects_of(nowhere, alert()) is None
