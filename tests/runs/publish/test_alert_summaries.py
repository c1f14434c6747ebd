"""An alert's page says in seconds what moved, shows both distributions, and names the run that fixed it."""

from __future__ import annotations

import re
from dataclasses import replace
from statistics import median

import archives
import pytest
from paired_runs import paired_night

from perfci import config, pages
from perfci.alerts.lifecycle import process
from perfci.alerts.model import JudgedRun
from perfci.results.archive import read_archive
from perfci.results.model import Metric
from perfci.runs.publish import alert_summaries
from perfci.runs.publish.site_data import write_site
from perfci.runs.verdicts.judge import judge_run
from perfci.runs.verdicts.judgement_store import keep_judgements
from perfci.runs.verdicts.lab_services import LabServices
from perfci.wording import TIMES, seconds

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


class Lab:
    """A lab whose nights are judged and whose alerts are kept, without its mails."""

    def __init__(self, state):
        self.services = LabServices(config.load(environ={"PERFCI_STATE_DIR": str(state)}))
        self.records, self.folders = {}, []

    def night(self, make, **how):
        folder = make(self.services.state.archive, len(self.folders), **how)
        results = read_archive(folder)
        self.services.local.write(results)
        judgements = judge_run(self.services, results.record)
        keep_judgements(self.services.database, folder.name, judgements)
        self.records[folder.name] = results.record
        self.folders.append(folder)
        state, _ = process(self.services.alerts.load(), JudgedRun(results.record, judgements, self.records))
        self.services.alerts.save(state)
        return results

    @property
    def alert(self):
        (found,) = self.services.alerts.load().alerts
        return found

    def page(self):
        site = write_site(self.services).parent
        text = (site / pages.alert_page(self.alert.id)).read_text().replace("\u00a0", " ")
        return text, (site / pages.INDEX).read_text().replace("\u00a0", " ")


def part(text, begin, end):
    return text[text.index(begin) : text.index(end)]


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    """Return a lab in the night after a change was found beside the reference, and what that night measured."""
    lab = Lab(tmp_path_factory.mktemp("paired"))
    lab.night(paired_night)
    return lab, lab.night(paired_night, factor=1.3, code=NEW)


def test_a_change_against_the_reference_is_shown_in_seconds_with_both_distributions(paired):
    lab, slow = paired
    text, index = lab.page()
    key = lab.alert.headline.key
    assert key.metric is Metric.RATIO
    taken = next(one.values for one in slow.measurements if one.key == replace(key, metric=Metric.SECONDS))
    now = seconds(median(taken)).replace("\u00a0", " ")
    for head in (part(text, "<h1>", "</h1>"), part(index, '<article class="alert"', "</article>")):
        assert f"→ {now}" in head
        assert TIMES not in head
    shown = part(text, 'id="distribution"', 'id="do"')
    assert shown.count('class="share ') == 2 * shown.count("<details")
    assert "Dashed line: the reference" in shown
    first = shown[: shown.index("</details>")]
    assert first.count("<tr") == 10
    assert "perfci try nightly --change neutron=fix.patch" in text


def test_what_an_alerts_page_shows_is_read_once(paired, monkeypatch):
    lab, _ = paired
    wanted = lab.page()

    def refuse(*_):
        pytest.fail("it was read again")

    monkeypatch.setattr(alert_summaries, "_evidence", refuse)
    assert lab.page() == wanted
    (lab.services.state.site / pages.alert_page(lab.alert.id)).unlink()
    with pytest.raises(pytest.fail.Exception, match="read again"):
        lab.page()


def test_a_fixed_alert_names_the_run_and_the_code_that_fixed_it(tmp_path):
    lab = Lab(tmp_path)
    for _ in range(10):
        lab.night(archives.night)
    for _ in range(3):
        lab.night(archives.night, factor=1.4, code=NEW)
    slow, fixing = lab.folders[-1], len(lab.folders)
    while lab.alert.closed is None:
        assert len(lab.folders) < 25, "it should have ended by now"
        lab.night(archives.night)
    assert lab.alert.closed != lab.folders[fixing].name, "it ended only after some calm nights"
    text, _ = lab.page()
    fixed = part(text, "<dt>fixed by</dt>", "<dt>state</dt>")
    assert pages.run_page(lab.folders[fixing].name) in fixed
    assert "neutron: 29.0.0+bbbb (wheel) → 29.0.0 (wheel)" in fixed
    assert pages.run_page(slow.name) not in fixed
    shown = part(text, 'id="distribution"', 'id="do"')
    assert "Dashed line: before, " in shown
    before, after = (float(one) for one in re.findall(r"around ([\d.]+) s", shown)[:2])
    assert after / before == pytest.approx(1.4, rel=0.03)
