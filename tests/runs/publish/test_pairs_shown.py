"""What a paired night's page shows is what its pairs say."""

from __future__ import annotations

import archives
import pytest
from paired_runs import paired_night, write_sides

from perfci import config, pages
from perfci.report.run_page import code_differences
from perfci.results.model import TOTAL
from perfci.results.pairs import PAIRS
from perfci.runs.publish.pairs_shown import pairs_shown
from perfci.runs.publish.site_data import write_site
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.verdicts.ingest import ingest
from perfci.runs.verdicts.lab_services import LabServices

NEW = "bbbbbbbbbbbb"


def test_each_timing_has_its_ratio_in_its_interval_and_the_seconds_of_both_sides(tmp_path):
    view = pairs_shown(ArchivedRun(paired_night(tmp_path, 1, factor=1.3, code=NEW)))
    assert {row.key.action for row in view.rows} > {TOTAL, "neutron.create_port"}
    whole = view.rows[0]
    assert whole.key.action == TOTAL
    assert whole.low < 0.3 < whole.high
    assert whole.effect == pytest.approx(0.3, abs=0.03)
    assert whole.new / whole.old == pytest.approx(1.3, abs=0.1)
    assert 0 < whole.mde < 0.2
    assert whole.pairs == len(whole.old_values) == len(whole.new_values)
    assert sum(bool(row.old_values) for row in view.rows) <= 3
    ((name, old, new),) = code_differences(view.reference, ArchivedRun(next(tmp_path.iterdir())).record.code)
    assert (name, old, new) == ("neutron", "29.0.0 (wheel)", "29.0.0+bbbb (wheel)")


def test_what_slows_both_sides_changes_no_ratio(tmp_path):
    alike, slow = (
        pairs_shown(ArchivedRun(paired_night(tmp_path / str(both), 1, both=both))).rows[0]
        for both in (1.0, 3.0)
    )
    assert slow.effect == pytest.approx(alike.effect, abs=1e-6)
    assert slow.old == pytest.approx(3 * alike.old, rel=0.01)


def test_too_few_pairs_show_nothing(tmp_path):
    folder = archives.night(tmp_path, 1, reference="aaaaaaaaaaaa")
    write_sides(folder, count=7)
    assert pairs_shown(ArchivedRun(folder)).rows == ()


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_night_without_a_reference_or_with_damaged_pairs_has_none(tmp_path, content):
    folder = archives.night(tmp_path, 1)
    assert pairs_shown(ArchivedRun(folder)) is None
    (folder / PAIRS).write_text(content)
    assert pairs_shown(ArchivedRun(folder)) is None


def test_a_paired_night_has_its_pairs_on_its_page(tmp_path):
    controller = LabServices(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path / "state")}))
    run = ingest(controller, paired_night(tmp_path / "elsewhere", 1, factor=1.3, code=NEW)).record.run_id
    other = ingest(controller, archives.night(tmp_path / "elsewhere", 2)).record.run_id
    site = write_site(controller).parent
    text = (site / pages.run_page(run)).read_text()
    section = text[text.index('id="pairs"') : text.index("<h2>Series</h2>")]
    assert text.index("<h2>What you can do</h2>") < text.index('id="pairs"'), "the table has many rows"
    assert "neutron: 29.0.0 (wheel) → 29.0.0+bbbb (wheel)" in section
    assert section.count("<svg") == 3
    assert '<tr class="certain">' in section
    assert "+30" in section or "+29" in section or "+31" in section
    assert 'id="term-pair"' in text
    assert 'id="pairs"' not in (site / pages.run_page(other)).read_text()
