"""From archive, index and alerts to the pages: what is read, what is written again, what is kept."""

from __future__ import annotations

import re
import shutil

import archives
import pytest
from nights import record

from perfci import pages
from perfci.config import load
from perfci.results.archive import read_archive
from perfci.results.model import Validity
from perfci.results.stores.local import LocalStore
from perfci.runs.publish.retention import KEPT_RUNS, kept_runs
from perfci.runs.publish.site_data import growing_noise, write_site
from perfci.runs.verdicts.judge import judge_run
from perfci.runs.verdicts.judgement_store import keep_judgements, read_judgements
from perfci.runs.verdicts.lab_services import LabServices
from perfci.wording import MISSING


@pytest.fixture
def services(tmp_path):
    return LabServices(load(environ={"PERFCI_STATE_DIR": str(tmp_path / "state")}))


def add(services, number, **fields):
    """Archive, index and judge a night; return its id."""
    results = read_archive(archives.night(services.state.archive, number, **fields))
    services.local.write(results)
    run_id = results.record.run_id
    keep_judgements(services.database, run_id, judge_run(services, results.record))
    return run_id


def content(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def times(folder):
    return {
        str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()
    }


def test_one_more_night_leaves_the_pages_of_earlier_ones_alone(services):
    for number in range(3):
        add(services, number)
    site = write_site(services).parent
    before = times(site)
    new = add(services, 3, code="bbbbbbbbbbbb")
    write_site(services)
    after = times(site)
    assert {name for name in before if before[name] != after[name] and name.startswith("runs/")} == set()
    assert {name for name in after if name not in before and name.startswith("runs/")} == {
        pages.run_page(new),
        pages.run_data(new),
    }
    text = (site / pages.run_page(new)).read_text()
    assert "neutron: 29.0.0 (wheel) → 29.0.0+bbbb" in text


def test_the_iterations_of_earlier_nights_are_not_read_again(services, monkeypatch):
    runs = [add(services, number) for number in range(3)]
    write_site(services)
    asked = []
    real = LocalStore.measurements

    def measurements(self, records, key=None):
        asked.extend(one.run_id for one in records)
        return real(self, records, key)

    new = add(services, 3)
    monkeypatch.setattr(LocalStore, "measurements", measurements)
    write_site(services)
    # The overview says what the last two brought.
    assert set(asked) <= {new, runs[-1]}


def test_noise_is_looked_for_in_the_numbers_of_earlier_nights_not_in_their_iterations(services, monkeypatch):
    for number in range(36):
        factor = 1.0 if number <= 20 else 1.08 ** (-1) ** number
        services.local.write(read_archive(archives.night(services.state.archive, number, factor=factor)))
    record = services.local.records("embedded", "nightly")[-1]
    found = growing_noise(services, record)
    assert "total" in {one.key.action for one in found}
    asked = []
    monkeypatch.setattr(LocalStore, "measurements", lambda *_: asked.append("measurements"))
    monkeypatch.setattr(LocalStore, "_samples", lambda *_, **__: asked.append("samples"))
    assert growing_noise(services, record) == found
    assert asked == []


def test_the_same_pages_come_out_whatever_is_lost(services):
    for number in range(12):
        add(services, number, factor=1.4 if number > 9 else 1.0)
    site = write_site(services).parent
    wanted = content(site)
    for lost in (services.state.page_numbers, site):
        for file in [one for one in lost.rglob("*") if one.is_file()][::2]:
            file.unlink()
        write_site(services)
        assert content(site) == wanted
    write_site(services, afresh=True)
    assert content(site) == wanted


def test_a_night_of_an_unfit_lab_does_not_hide_what_was_found_before(services):
    for number in range(12):
        add(services, number, factor=1.4 if number > 9 else 1.0)
    site = write_site(services).parent
    (slow,) = site.glob("scenarios/*ports*.html")
    before = slow.read_text()
    assert ">regression +4" in before
    add(services, 12, validity=Validity(valid=False, reasons=("canary disk on node-0 was slow",)))
    write_site(services)
    assert ">regression +4" in slow.read_text()
    text = (site / pages.INDEX).read_text()
    assert "the lab was not fit to measure" in text[: text.index(">Scenarios</h3>")]
    assert ">regression<" in text[text.index(">Scenarios</h3>") :]


def test_a_page_says_what_canaries_usually_take(services):
    for number in range(7):
        folder = archives.night(services.state.archive, number)
        shutil.copytree(archives.SAMPLE / "canaries", folder / "canaries")
        services.local.write(read_archive(folder))
    site = write_site(services).parent
    first, last = (one.name for one in sorted(services.state.archive.iterdir())[:: 7 - 1])
    usual = []
    for run_id in (first, last):
        text = (site / pages.run_page(run_id)).read_text()
        table = text[text.index("<h2>Canaries</h2>") :]
        rows = [re.findall(r'<td class="number">(.*?)</td>', row) for row in table.split("</tr>")[1:-1]]
        assert {len(row) for row in rows} == {3}
        usual.append({row[2] == MISSING for row in rows})
    assert usual == [{True}, {False}]


def test_another_verdict_makes_the_page_of_its_run_again(services):
    runs = [add(services, number) for number in range(10)]
    site = write_site(services).parent
    before = content(site)
    judgements = read_judgements(services.database, runs[9])
    keep_judgements(services.database, runs[9], judgements[1:])
    write_site(services)
    changed = {name for name, text in content(site).items() if before[name] != text}
    assert pages.run_data(runs[9]) in changed
    assert not {pages.run_page(one) for one in runs[:9]} & changed


def test_a_run_that_is_not_indexed_has_a_page_and_its_series_once_it_is(services):
    add(services, 0)
    folder = archives.night(services.state.archive, 1)
    site = write_site(services).parent
    assert '"rows":[]' in (site / pages.run_data(folder.name)).read_text()
    services.local.write(read_archive(folder))
    write_site(services)
    assert '"rows":[[' in (site / pages.run_data(folder.name)).read_text()


def test_the_newest_runs_of_each_job_keep_a_page_and_those_of_alerts():
    from dataclasses import dataclass

    @dataclass
    class Told:
        since: str
        opened: str
        last_good: str | None = None
        closed: str | None = None

    records = [record(night) for night in range(KEPT_RUNS + 5)]
    kept = kept_runs(records[::-1], [])
    assert kept == {one.run_id for one in records[5:]}
    told = Told(records[2].run_id, records[3].run_id, records[1].run_id)
    assert kept_runs(records, [told]) - kept == {one.run_id for one in records[1:4]}
    gone = Told("20200101T000000Z-nightly-0000", "20200101T000000Z-nightly-0000")
    assert kept_runs(records, [gone]) == kept
