"""Taking in archived runs of another controller."""

from __future__ import annotations

import gzip
import io
import json
import os
from functools import partial

import archives
import pytest

from perfci import config, pages
from perfci.results.archive import run_folders
from perfci.results.errors import NotRallyResults, ReportError
from perfci.runs.publish.site_data import write_site
from perfci.runs.state.archive import rerun_folders
from perfci.runs.studies.change_points import column_of, find_changes
from perfci.runs.studies.job_history import past
from perfci.runs.verdicts.ingest import RallyFile, ingest, ingest_rally
from perfci.runs.verdicts.judgement_store import read_judgements, read_outcomes
from perfci.runs.verdicts.lab_services import LabServices
from perfci.runs.verdicts.rebuild import judge_all


@pytest.fixture
def controller(tmp_path):
    return LabServices(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path / "state")}))


def test_a_run_is_copied_and_indexed_and_the_second_time_changes_nothing(controller, tmp_path):
    folder = archives.night(tmp_path / "elsewhere", 1)
    first = ingest(controller, folder)
    assert (controller.state.archive / folder.name / "run.json").is_file()
    assert controller.local.results(first.record.run_id).record == first.record
    assert ingest(controller, folder) == first
    assert controller.local.run_ids("embedded", "nightly") == (first.record.run_id,)


def test_a_run_of_this_archive_is_only_indexed(controller):
    folder = archives.night(controller.state.archive, 1)
    ingest(controller, folder)
    assert [path.name for path in controller.state.archive.iterdir()] == [folder.name]


def test_a_re_run_is_put_where_re_runs_are_and_is_none_of_the_nights(controller, tmp_path):
    folder = archives.night(tmp_path / "elsewhere", 1, confirms="20261101T041500Z-nightly-0000")
    for _ in range(2):
        ingest(controller, folder)
    assert rerun_folders(controller.state.archive) == [controller.state.reruns / folder.name]
    assert run_folders(controller.state.archive) == []
    assert controller.local.run_ids("embedded", "nightly") == ()


def test_a_copy_that_fails_leaves_nothing_and_is_on_the_disk_before_it_has_its_name(
    controller, tmp_path, monkeypatch
):
    folder = archives.night(tmp_path / "elsewhere", 1)
    target = controller.state.archive / folder.name
    seen, real = [], os.fsync

    def fsync(handle):
        seen.append(target.exists())
        if len(seen) == 1:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        ingest(controller, folder)
    assert list(controller.state.archive.iterdir()) == []
    ingest(controller, folder)
    files = sum(1 for _ in folder.rglob("*"))
    assert seen.count(False) > files
    assert seen[-1], "the name is synced last"


def test_a_damaged_run_is_refused_before_anything_is_copied(controller, tmp_path):
    folder = archives.night(tmp_path / "elsewhere", 1)
    (folder / "rally" / "01-ports.json").write_text("{")
    with pytest.raises(ReportError):
        ingest(controller, folder)
    assert not controller.state.archive.exists()


def test_nights_that_were_taken_in_are_not_judged_until_somebody_asks(controller, tmp_path):
    runs = [ingest(controller, archives.night(tmp_path / "elsewhere", n)).record.run_id for n in range(1, 11)]
    index = write_site(controller)
    assert index.read_text().count(">not judged<") == 11  # of each run, and of the last one at the top
    assert "no data" not in index.read_text()
    assert "perfci analyse --all" in (index.parent / pages.run_page(runs[0])).read_text()
    assert judge_all(controller) == tuple(runs)
    assert all(read_judgements(controller.database, run_id) for run_id in runs)
    assert "not judged" not in write_site(controller).read_text()
    assert judge_all(controller) == ()


def old_results(factor=1.0, number=0):
    """Return a report that somebody made on another day."""
    report = archives.report(factor=factor, seed=number)
    for one in report["tasks"][0]["subtasks"][0]["workloads"][0]["data"]:
        one["timestamp"] += 86_400 * number
        for action in one["atomic_actions"]:
            action["started_at"] += 86_400 * number
            action["finished_at"] += 86_400 * number
    return json.dumps(report).encode()


def files(contents, *, required=True):
    return [
        RallyFile(name, partial(io.BytesIO, content), required=required) for name, content in contents.items()
    ]


def test_strangers_reports_become_runs_in_the_order_of_their_times_and_show_when_it_became_slower(controller):
    contents = {f"{n}.json": old_results(1.4 if n >= 10 else 1.0, n) for n in range(16)}
    backwards = dict(reversed(contents.items()))
    taken = ingest_rally(controller, files(backwards), lab="elsewhere", job="old").runs
    ids = [one.run_id for one in taken]
    assert ids == sorted(ids)
    assert ids[0].startswith("20231114T221320Z-old-")
    assert controller.local.run_ids("elsewhere", "old") == tuple(ids)
    assert [folder.name for folder in run_folders(controller.state.archive)] == ids
    columns = [column_of(one) for one in past(controller, "old").series]
    (total,) = (column for column in columns if "total · seconds" in column.name)
    (change,) = find_changes([total])
    assert change.since == ids[10]
    assert change.point.low < 0.4 < change.point.high
    assert read_outcomes(controller.database, ids).keys() == set(ids)
    assert f"{ids[-1]}" in "".join(page.read_text() for page in write_site(controller).parent.rglob("*.html"))
    assert ingest_rally(controller, files(contents), lab="elsewhere", job="old").runs == taken


def test_one_file_that_is_no_report_keeps_all_out_where_somebody_named_it(controller):
    contents = {"a.json": old_results(), "b.json": b"[]"}
    with pytest.raises(NotRallyResults, match=r"^b\.json: "):
        ingest_rally(controller, files(contents), lab="elsewhere", job="old")
    assert not controller.state.archive.exists()
    done = ingest_rally(controller, files(contents, required=False), lab="elsewhere", job="old")
    assert [error.fields["path"] for error in done.left_out] == ["b.json"]
    assert [folder.name for folder in run_folders(controller.state.archive)] == [done.runs[0].run_id]


def test_a_report_whose_numbers_are_none_is_refused_by_its_own_name(controller):
    report = json.loads(old_results())
    report["tasks"][0]["subtasks"][0]["workloads"][0]["data"][3]["duration"] = "long"
    with pytest.raises(NotRallyResults, match=r"^a\.json: .*duration: got 'long'"):
        ingest_rally(controller, files({"a.json": json.dumps(report).encode()}), lab="elsewhere", job="old")


def test_the_same_results_in_two_files_are_one_run(controller):
    contents = {"a.json": old_results(), "a.json.gz": gzip.compress(old_results())}
    assert len(ingest_rally(controller, files(contents), lab="elsewhere", job="old").runs) == 1


def test_pages_of_what_was_taken_in_claim_nothing_that_nobody_knows(controller):
    contents = {f"{n}.json": old_results(number=n) for n in range(2)}
    run = ingest_rally(controller, files(contents), lab="elsewhere", job="old").runs[-1].run_id
    index = write_site(controller)
    assert ">fit</span>" not in index.read_text()
    assert "no alert opened or closed, no other series changed</li>" in index.read_text()
    page = (index.parent / pages.run_page(run)).read_text()
    assert "<dt>new code</dt><dd>not known</dd>" in page
    assert "perfci does not know which code ran." in page
    assert "perfci run reproduce" not in page
    known = ingest(controller, archives.night(controller.state.root / "elsewhere", 1)).record.run_id
    page = (write_site(controller).parent / pages.run_page(known)).read_text()
    assert f"perfci run reproduce {known}" in page
    assert "not known" not in page
