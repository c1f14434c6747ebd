"""An alert's page says in seconds what moved, shows both distributions, and names the run that fixed it."""

from __future__ import annotations

import re
from dataclasses import replace
from statistics import median

import archives
import pytest
from paired_runs import paired_night
from typer.testing import CliRunner

from perfci import config, pages
from perfci.alerts.lifecycle import process
from perfci.alerts.model import JudgedRun
from perfci.cli.run import app
from perfci.results.archive import read_archive
from perfci.results.model import Metric
from perfci.runs.publish import alert_summaries
from perfci.runs.publish.site_data import write_site
from perfci.runs.verdicts.judge import judge_run
from perfci.runs.verdicts.judgement_store import keep_judgements
from perfci.runs.verdicts.lab_services import LabServices
from perfci.wording import TIMES, run_moment, seconds

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

    def run_pages(self):
        """Return the pages of the runs that have one, in the order of the nights."""
        files = (self.services.state.site / pages.run_page(one.name) for one in self.folders)
        return [one.read_text().replace("\u00a0", " ") for one in files if one.is_file()]

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


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Return a lab whose alert has ended; where its slow nights begin and end; its run pages before the end."""
    lab = Lab(tmp_path_factory.mktemp("ended"))
    for _ in range(10):
        lab.night(archives.night)
    for _ in range(3):
        lab.night(archives.night, factor=1.4, code=NEW)
    begin, fixing = 10, len(lab.folders)
    lab.page()
    before = lab.run_pages()
    while lab.alert.closed is None:
        assert len(lab.folders) < 25, "it should have ended by now"
        lab.night(archives.night)
    assert lab.alert.closed != lab.folders[fixing].name, "it ended only after some calm nights"
    lab.page()
    return lab, begin, fixing, before


def test_a_fixed_alert_names_the_run_and_the_code_that_fixed_it(ended):
    lab, _, fixing, _ = ended
    slow = lab.folders[fixing - 1]
    text, _ = lab.page()
    fixed = part(text, "<dt>fixed by</dt>", "<dt>state</dt>")
    assert pages.run_page(lab.folders[fixing].name) in fixed
    assert "neutron: 29.0.0+bbbb (wheel) → 29.0.0 (wheel)" in fixed
    assert pages.run_page(slow.name) not in fixed
    shown = part(text, 'id="distribution"', 'id="do"')
    assert "Dashed line: before, " in shown
    before, after = (float(one) for one in re.findall(r"around ([\d.]+) s", shown)[:2])
    assert after / before == pytest.approx(1.4, rel=0.03)


def test_the_page_of_a_run_links_each_alert_that_it_lies_in(ended):
    lab, begin, _, before = ended
    alert, shown = lab.alert, lab.run_pages()
    names = [one.name for one in lab.folders]
    found, closed = names.index(alert.opened), names.index(alert.closed)
    assert begin < found < closed - 1
    for number, text in enumerate(shown):
        linked = pages.alert_page(alert.id) in text
        assert linked == (begin <= number <= closed), number
    words = [
        " ".join(re.sub(r"<[^>]+>", " ", part(one, "<h2>Verdict</h2>", "<dt>new code</dt>")).split())
        for one in shown
    ]
    since = f"since {run_moment(alert.since)} UTC"
    assert "alert found later" in words[begin]
    assert f"since this run, found by the run of {run_moment(alert.opened)} UTC" in words[begin]
    for number in (found, closed - 1):
        assert "open alert" in words[number]
        assert since in words[number]
        assert re.search(r"\+(39|4[01]) %", words[number])
    assert "found by this run" in words[found]
    assert "found by" not in words[closed - 1]
    assert "alert that ended" in words[closed]
    assert "fixed with this run" in words[closed]
    # What happens to an alert later does not change the pages of earlier runs.
    assert shown[:found] == before[:found]


def test_a_run_in_a_terminal_names_the_alerts_that_it_lies_in(ended, monkeypatch):
    lab, *_ = ended
    monkeypatch.setenv("PERFCI_STATE_DIR", str(lab.services.state.root))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    names = [one.name for one in lab.folders]
    last_slow = names[names.index(lab.alert.closed) - 1]
    text = CliRunner().invoke(app, ["show", last_slow]).stdout
    (line,) = [one for one in text.splitlines() if one.startswith("alert ")]
    assert text.index("\nverdict ") < text.index("\nalert ") < text.index("\nstarted ")
    assert line.startswith(f"alert        {lab.alert.id} (open): ")
    assert line.endswith(f" since {run_moment(lab.alert.since)} UTC")
    assert "alert  " not in CliRunner().invoke(app, ["show", names[0]]).stdout
