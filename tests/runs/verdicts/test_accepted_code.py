"""Which code a paired night is held against, and when that moves forward."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import yaml
from paired_runs import paired_night

from perfci import config
from perfci.alerts.model import Alert, Closing, SeriesStatus
from perfci.results.archive import read_archive
from perfci.results.model import CodeUnderTest, RunRecord, Validity
from perfci.runs.jobs.model import Job
from perfci.runs.jobs.sources import Reference, Source, Sources
from perfci.runs.verdicts.accepted_code import Accepted, accepted_reference, last_accepted
from perfci.runs.verdicts.lab_services import ArchivedJobInvalid, LabServices

if TYPE_CHECKING:
    from pathlib import Path

SCENARIOS = [{"task": "ports", "times": 4}]
FIRST = datetime(2026, 11, 1, tzinfo=UTC)


def run_id(number: int) -> str:
    return f"202611{number:02}T000000Z-nightly-0000"


def night(number: int, reference: str | None = "a", **changed: object) -> RunRecord:
    at = FIRST + timedelta(days=number)
    fields = {
        "run_id": run_id(number), "lab": "lab", "job": "nightly", "cloud": "embedded", "started_at": at, "finished_at": at,
        "environment": "e", "code": CodeUnderTest(f"c{number}", ()), "validity": Validity(valid=True), "reference": reference,
    }  # fmt: skip
    return RunRecord(**{**fields, **changed})


def alert(closed: int | None, closing: Closing | None = Closing.ACCEPTED) -> Alert:
    return Alert(
        id="x", lab="lab", job="nightly", service="neutron", since=run_id(3), last_good=run_id(2), opened=run_id(3), series=(),
        changes=(), code_known=True, closed=None if closed is None else run_id(closed), closing=closing if closed else None,
        status=SeriesStatus.CLOSED if closed else SeriesStatus.OPEN,
    )  # fmt: skip


NIGHTS = [night(number) for number in range(1, 7)]


def test_the_first_night_has_its_own_code_beside_it() -> None:
    assert last_accepted([], [], []) is None
    assert last_accepted([night(1, reference=None), night(2, status="failed")], [], []) is None


def test_the_reference_stays_while_nothing_is_decided() -> None:
    assert last_accepted(NIGHTS, [], []) == Accepted(run_id(6), beside=True)
    without = [*NIGHTS, night(7, reference=None), night(8, status="failed")]
    assert last_accepted(without, [], []) == Accepted(run_id(6), beside=True)


@pytest.mark.parametrize("closing", [Closing.ACCEPTED, Closing.FIXED])
def test_it_moves_to_the_code_with_which_an_alert_was_closed(closing: Closing) -> None:
    assert last_accepted(NIGHTS, [alert(4, closing)], []) == Accepted(run_id(4), beside=False)


def test_an_alert_that_the_job_takes_as_an_exception_moves_nothing() -> None:
    assert last_accepted(NIGHTS, [alert(4, Closing.KNOWN)], []) == Accepted(run_id(6), beside=True)


def test_it_moves_to_an_improvement_that_lasted_and_to_the_newest_of_all() -> None:
    assert last_accepted(NIGHTS, [], [run_id(5)]) == Accepted(run_id(5), beside=False)
    assert last_accepted(NIGHTS, [alert(4)], [run_id(5)]) == Accepted(run_id(5), beside=False)


def test_it_never_moves_while_an_alert_is_open() -> None:
    assert last_accepted(NIGHTS, [alert(4), alert(None)], [run_id(5)]) == Accepted(run_id(6), beside=True)


def test_it_moves_once() -> None:
    moved = [*NIGHTS[:4], night(5, reference="b"), night(6, reference="b")]
    assert last_accepted(moved, [alert(4)], []) == Accepted(run_id(6), beside=True)


def test_the_word_is_read_and_archived_with_what_was_found() -> None:
    assert Reference.model_validate("accepted") == Reference(accepted=True)
    fixed = Sources(neutron=Source(git="https://example.org/neutron", ref="1f2e3d4c"))
    found = Reference.of(fixed, accepted=True)
    assert Reference.model_validate(found.model_dump(mode="json", exclude_none=True)) == found
    other = Sources(neutron=Source(version="29.0.0"), nova=Source(version="34.0.0"))
    assert found.over(other).neutron == fixed.neutron
    assert found.over(other).nova == Source(), (
        "what the reference does not name is the release in the constraints"
    )


def test_the_reference_of_a_night_is_that_of_the_night_before_commit_by_commit(tmp_path: Path) -> None:
    controller = LabServices(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path)}))
    job = Job.model_validate({"name": "nightly", "scenarios": SCENARIOS, "reference": "accepted"})
    assert accepted_reference(controller, job, "embedded") == Reference(accepted=True)
    for number in (1, 2):
        folder = paired_night(controller.state.archive, number, code="bbbbbbbbbbbb")
        controller.local.write(read_archive(folder))
    found = accepted_reference(controller, job, "embedded")
    assert found == Reference.of(Sources(neutron=Source()), accepted=True), (
        "the release, not the code under test"
    )


def test_what_is_not_named_in_a_reference_is_the_code_of_that_night(tmp_path: Path) -> None:
    controller = LabServices(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path)}))
    job = Job.model_validate({"name": "nightly", "scenarios": SCENARIOS, "reference": "accepted"})
    folder = paired_night(controller.state.archive, 1)
    source = {"git": "https://example.org/neutron", "ref": "master"}
    ran = {**job.resolved(), "sources": {"neutron": source}, "reference": {"accepted": True}}
    (folder / "job.yml").write_text(yaml.safe_dump(ran))
    document = json.loads((folder / "run.json").read_text())
    document["reference"]["services"][0] |= {"source": source["git"], "revision": "1f2e3d4c"}
    (folder / "run.json").write_text(json.dumps(document))
    controller.local.write(read_archive(folder))
    found = accepted_reference(controller, job, "embedded")
    assert found.neutron == Source(git=source["git"], ref="1f2e3d4c"), "not the head of the branch tomorrow"


@pytest.mark.parametrize(
    "text", [None, "[" * 5000, "name: nightly\nscenarios: 5\n"], ids=["none", "deep", "other"]
)
def test_where_the_accepted_code_can_not_be_read_no_other_takes_its_place(
    tmp_path: Path, text: str | None
) -> None:
    """Tonight's code in its place would be held against itself, and each regression would vanish."""
    controller = LabServices(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path)}))
    job = Job.model_validate({"name": "nightly", "scenarios": SCENARIOS, "reference": "accepted"})
    folder = paired_night(controller.state.archive, 1)
    controller.local.write(read_archive(folder))
    (folder / "job.yml").unlink()
    if text is not None:
        (folder / "job.yml").write_text(text)
    with pytest.raises(ArchivedJobInvalid, match=folder.name):
        accepted_reference(controller, job, "embedded")
