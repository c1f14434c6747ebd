"""Taking in archived runs of another controller."""

from __future__ import annotations

import archives
import pytest

from perfci import config, pages
from perfci.results.errors import ReportError
from perfci.runs.publish.site_data import write_site
from perfci.runs.verdicts.ingest import ingest
from perfci.runs.verdicts.judgement_store import read_judgements
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


def test_a_damaged_run_is_refused_before_anything_is_copied(controller, tmp_path):
    folder = archives.night(tmp_path / "elsewhere", 1)
    (folder / "rally" / "01-ports.json").write_text("{")
    with pytest.raises(ReportError):
        ingest(controller, folder)
    assert not controller.state.archive.exists()


def test_nights_that_were_taken_in_are_not_judged_until_somebody_asks(controller, tmp_path):
    runs = [ingest(controller, archives.night(tmp_path / "elsewhere", n)).record.run_id for n in range(1, 11)]
    index = write_site(controller)
    assert index.read_text().count(">not judged<") == 10
    assert "no data" not in index.read_text()
    assert "perfci analyse --all" in (index.parent / pages.run_page(runs[0])).read_text()
    assert judge_all(controller) == tuple(runs)
    assert all(read_judgements(controller.database, run_id) for run_id in runs)
    assert "not judged" not in write_site(controller).read_text()
    assert judge_all(controller) == ()
