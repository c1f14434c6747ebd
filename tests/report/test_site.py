from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from statistics import median
from urllib.parse import unquote

import pytest
from nights import BOOT, NETWORKS, PATCH, PORTS, run_id, seconds_key, statements_key
from site_data import alert, site_data

from perfci import pages, wording
from perfci.analysis.calibration import NoiseBudget, SeriesCalibration
from perfci.analysis.noise_trend import Growth
from perfci.analysis.types import Outcome, RunPoint, SeriesHistory
from perfci.report import overview
from perfci.report.alert_page import alert_page
from perfci.report.bisect_picture import bisect_picture
from perfci.report.levels import level_changes
from perfci.report.model import (
    AlertBisect,
    AlertEvidence,
    AlertSuspects,
    BisectCulprit,
    BisectPlace,
    Canary,
    DistributionPair,
    Mark,
    MovedRow,
    PageTone,
    PairedView,
    SiteData,
    StoredRun,
    SuspectRow,
    with_usual_canaries,
)
from perfci.report.points import MIDDLE, trend_of
from perfci.report.run_page import ALERTS_SHOWN, ROWS_SHOWN, run_pages
from perfci.report.site import Written, write
from perfci.report.svg import sparkline
from perfci.results.model import Metric, Validity
from perfci.wording import quantity

VOID = frozenset({"meta", "link", "br", "wbr", "input"})


class Page(HTMLParser):
    """Checks nesting; collects what is linked, loaded and named."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.links, self.loaded, self.ids, self.text = [], [], [], [], []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "a":
            self.links.append(values["href"])
        if tag in ("link", "script", "img", "iframe"):
            self.loaded.append(values.get("href") or values.get("src"))
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "svg":
            assert "aria-label" in values or values.get("aria-hidden") == "true"

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def data():
    return site_data()


@pytest.fixture(scope="module")
def site(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    write(folder, data)
    return folder


@pytest.fixture(scope="module")
def parsed(site):
    return {file: Page(file.read_text()) for file in site.rglob("*.html")}


def test_there_is_a_page_for_each_run_and_scenario(site, data, parsed):
    scenarios = {pages.scenario_page(one.key) for one in data.series}
    runs = {pages.run_page(run.record.run_id) for run in data.runs}
    job = pages.job_page("embedded", "nightly")
    assert {str(file.relative_to(site)) for file in parsed} == {
        "index.html",
        "compare.html",
        job,
        pages.alert_page(alert().id),
        *scenarios,
        *runs,
    }
    assert len(runs) == 30


def test_every_link_leads_to_a_page_and_a_place_on_it(parsed):
    seen = 0
    for file, page in parsed.items():
        for link in page.links:
            target, _, fragment = link.partition("#")
            there = (file.parent / unquote(target)).resolve() if target else file
            assert there in parsed, link
            if there.name == pages.COMPARE:
                assert all(
                    (there.parent / pages.run_page(one)).is_file()
                    for one in fragment.split("..")
                    if ".." in fragment
                )
            elif fragment:
                assert fragment in parsed[there].ids
                seen += 1
    assert seen > 30


def test_nothing_is_loaded_but_the_style_sheet_and_one_script(site, parsed):
    for file, page in parsed.items():
        assert [(file.parent / one).resolve().relative_to(site).name for one in page.loaded] == [
            "style.css",
            "pages.js",
        ]
        assert file.read_text().count("<script") == 1
        assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"url\(|@import|https?:", (site / "style.css").read_text())
    script = (site / "pages.js").read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|fetch\(|XMLHttpRequest|eval\(|import\(", script)


def test_the_overview_shows_verdicts_and_links_to_what_changed(site):
    text = (site / "index.html").read_text()
    assert text.count("3\u00a0series slower") == 4
    assert f'<a href="{pages.job_page("embedded", "nightly")}#runs">16\u00a0earlier runs</a>' in text
    text += (site / pages.job_page("embedded", "nightly")).read_text()
    assert "failed in deploy (product)" in text
    assert "invalid (lab)" in text
    assert "no baseline" in text
    assert (
        f'href="{pages.scenario_page(seconds_key("neutron.create_port", PORTS))}#neutron.create_port--seconds"'
        in text
    )
    assert text.index(run_id(29)) < text.index(run_id(0))


def test_a_run_page_says_verdict_code_and_what_to_do_before_the_rows_by_interest(site, data):
    text = (site / pages.run_page(run_id(20))).read_text()
    heads = [
        text.index(f"<h2>{one}</h2>")
        for one in ("Verdict", "What you can do", "Series", "What ran", "Stages")
    ]
    assert heads == sorted(heads)
    assert "regression: 3" in text[heads[0] : heads[1]]
    assert f"27.0.1 (wheel) with {PATCH}" in text[heads[0] : heads[1]]
    assert pages.alert_page("65af3750f0") in text[heads[0] : heads[1]]
    for command in ("analyse {} --full", "results show {}", "run show {}", "run reproduce {}"):
        assert f"perfci {command.format(run_id(20))}<" in text[heads[1] : heads[2]]
    table = text[heads[2] : heads[3]]
    assert table.index("neutron.create_port") < table.index("neutron.create_network")
    assert "neutron.list_ports" not in table  # nothing happened to it: it is in the data file
    assert "9\u00a0more series, none of which changed" in table
    assert "2\u00a0min 11\u00a0s" in text
    many = tuple(replace(data.runs[20].alerts[0], id=f"{number:010x}") for number in range(ALERTS_SHOWN + 3))
    text = run_pages(replace(data.runs[20], alerts=many))[pages.run_page(run_id(20))]
    assert "3\u00a0more alerts" in text
    assert pages.alert_page(many[-1].id) in text
    assert pages.alert_page(many[0].id) not in text


def test_a_run_with_more_news_than_its_page_has_room_for_says_how_much(data):
    """And tells series apart that differ in the arguments of their scenario alone."""
    report = data.runs[20]
    slower = next(one for one in report.judgements if one.outcome is Outcome.REGRESSION)
    rows = [
        replace(slower, key=replace(slower.key, action=f"a{number}", arguments=arguments))
        for number in range(ROWS_SHOWN - 10)
        for arguments in ("0a1b2c3d", "99ee88dd")
    ]
    noisy = replace(slower, key=replace(slower.key, scenario="Other"), outcome=Outcome.TOO_NOISY, since=None)
    text = run_pages(replace(report, judgements=(*rows, noisy)))[pages.run_page(report.record.run_id)]
    assert f"{ROWS_SHOWN} of {len(rows)}</summary>" in text
    assert len(text.encode()) < 100_000
    folded = len(rows) + 1 - ROWS_SHOWN
    assert f"{folded}\u00a0more series, {folded - 1} of which changed" in text
    shown = Page(text).text
    told = [one.rpartition(" ")[2] for one in shown if "· arguments" in one]
    assert len(told) == ROWS_SHOWN
    assert set(told) == {"0a1b2c3d", "99ee88dd"}
    few = run_pages(replace(report, judgements=(rows[0], noisy)))[pages.run_page(report.record.run_id)]
    assert " 1</summary>" in few
    assert "arguments" not in "".join(Page(few).text)


def test_an_alert_tells_apart_series_that_differ_in_arguments_alone():
    keys = [replace(seconds_key("total", PORTS), arguments=one) for one in ("0a1b2c3d", "99ee88dd")]
    keys.append(seconds_key("total", NETWORKS))
    moved = tuple(MovedRow(key, 0.2, 0.1, 0.3, 1.0, 1.2, 0.01, 0.1) for key in keys)
    (text,) = alert_page(alert(moved=moved), (), ()).values()
    shown = "".join(Page(text).text)
    assert shown.count(f"{PORTS} · arguments 0a1b2c3d") == shown.count(f"{PORTS} · arguments 99ee88dd") == 1
    assert f"{NETWORKS} · arguments" not in shown


def test_a_failed_run_shows_its_log_without_secrets(site):
    text = (site / pages.run_page(run_id(27))).read_text()
    assert "status 500 instead of 200" in text
    assert "password=********" in text
    assert "hunter22" not in text
    assert "perfci concludes nothing from a failed run." in text
    assert "perfci results show" not in text  # it has measured nothing
    assert "perfci analyse" not in text  # there is nothing to judge


def test_an_unfit_night_says_why(site):
    text = (site / pages.run_page(run_id(14))).read_text()
    assert "The lab was not fit to measure" in text
    assert text.count("canary disk on node-1") == 1
    assert "perfci concludes nothing from this run." in text
    assert 'data-file="runs/' in text
    assert text.count(">invalid (lab)</span>") == 1  # in the heading, and not in every row
    greyed = text[text.index('<table class="greyed">') :]
    assert greyed.index("NeutronNetworks.") < greyed.index("</table>")
    assert "perfci analyse " not in text  # it has no verdicts


def test_a_run_without_news_shows_what_whole_iterations_took(data):
    def told(outcome):
        run = data.runs[10]
        judged = [replace(one, outcome=outcome, since=None) for one in run.judgements] if outcome else []
        return run, run_pages(replace(run, judgements=tuple(judged)))[pages.run_page(run.record.run_id)]

    key = seconds_key("total", PORTS)
    for outcome, words in {
        Outcome.NO_BASELINE: "enough earlier runs in the same environment make a baseline",
        Outcome.NO_CHANGE: "No series changed.",
        None: "perfci analyse --all",
    }.items():
        run, text = told(outcome)
        assert words in text
        assert ("No series changed." in text) == (outcome is Outcome.NO_CHANGE)
        rows = text[text.index("The median time of whole iterations:") :]
        values = next(one.values for one in run.measurements if one.key == key)
        row = re.search(rf'{re.escape(pages.scenario_page(key))}">.*?</tr>', rows, re.DOTALL)[0]
        assert wording.quantity(median(values), key.metric) in row
        assert f"{len(run.measurements) - 4}\u00a0more series" in rows


def test_a_trend_marks_changes_environments_code_and_unfit_runs(site):
    text = (site / pages.scenario_page(seconds_key("total", PORTS))).read_text()
    picture = text[text.index('id="neutron.create_port--seconds"') :]
    picture = picture[: picture.index("</section>")]
    dots = dict(re.findall(r'class="dots ?(\w*)" d="([^"]*)"', picture))
    assert {tone: path.count("M") for tone, path in dots.items()} == {"": 19, "bad": 4, "good": 6, "off": 1}
    assert picture.count('class="env"') == 1
    assert picture.count('class="code"') == 2
    assert 'class="change bad"' in picture
    assert "+31 %" in picture
    assert 'class="band"' in picture
    assert PATCH in picture
    assert 'data-series="neutron.create_port--seconds"' in picture


def test_triangles_stand_only_where_code_changed_that_a_series_tests(site):
    def triangles(action, scenario):
        text = (site / pages.scenario_page(seconds_key(action, scenario))).read_text()
        picture = text[text.index(f'id="{action}--seconds"') :]
        return picture[: picture.index("</section>")].count('class="code"')

    assert triangles("neutron.list_ports", PORTS) == triangles("total", PORTS) == 2
    assert triangles("nova.boot_server", BOOT) == triangles("total", BOOT) == 0


def test_a_trend_shows_where_the_level_changed():
    key = seconds_key("total", NETWORKS)
    levels = [1.0] * 12 + [1.4] * 10
    points = tuple(
        RunPoint(run_id(n), "e", "c", (level * (1 + 0.01 * (n % 3)),), 1, 0, n != 5)
        for n, level in enumerate(levels)
    )
    (change,) = level_changes(trend_of(SeriesHistory(key, points)))
    assert change.index == 12
    assert level_changes(trend_of(SeriesHistory(key, points[:12]))) == ()


def test_what_a_series_can_show_stands_beside_it(data, tmp_path):
    key = seconds_key("total", NETWORKS)
    mde = {1: 0.12, 2: 0.08, 3: 0.061, 5: 0.05, 8: 0.05}
    found = SeriesCalibration(key, 9, 0.4, 0.02, mde, NoiseBudget(0.0001, None, 0.0003))
    write(tmp_path, replace(data, calibrations={key: found}))
    text = (tmp_path / pages.scenario_page(key)).read_text().replace("\u00a0", " ")
    assert "can detect 12 % with one night, 6.1 % with three" in text
    assert "noise from iterations 25 %, runs and deployments 75 %" in text


def test_noise_that_grows_is_listed_on_the_overview(data, tmp_path):
    key = seconds_key("total", NETWORKS)
    growth = Growth(key, 0.02, 0.05, 2.5, 1.6, 3.9, 0.001, run_id(10))
    write(tmp_path, replace(data, growing=(growth,)))
    page = Page((tmp_path / "index.html").read_text())
    assert "Growing noise" in page.text
    assert "2.5" in page.text
    assert "Growing noise" not in Page((tmp_path / pages.scenario_page(key)).read_text()).text


def test_a_new_level_of_the_lab_is_told_on_the_runs_page(data, tmp_path):
    run = data.runs[20]
    record = replace(run.record, validity=Validity(valid=True, level_since=run_id(15)))
    write(tmp_path, replace(data, runs=(replace(run, record=record),)))
    text = (tmp_path / pages.run_page(record.run_id)).read_text()
    assert "The lab has a new level" in text
    assert run_id(15) in text


def test_only_pages_that_changed_are_written(data, tmp_path):
    first = write(tmp_path, data)
    assert first == Written(first.pages, first.pages)
    index = tmp_path / "index.html"
    before = (index.stat().st_mtime_ns, index.stat().st_ino)
    assert write(tmp_path, data) == Written(0, first.pages)
    assert (index.stat().st_mtime_ns, index.stat().st_ino) == before
    mark = Mark(seconds_key("total", NETWORKS), run_id(25), "accepted", PageTone.QUIET)
    assert write(tmp_path, replace(data, marks=(*data.marks, mark))).changed == 1
    assert not list(tmp_path.rglob(".*"))


def test_the_order_of_what_is_given_does_not_matter(data, site, tmp_path):
    turned = SiteData(
        tuple(reversed(data.runs)),
        tuple(reversed(data.series)),
        dict(reversed(data.judgements.items())),
        tuple(reversed(data.marks)),
        alerts=data.alerts,
        codes=data.codes,
    )
    write(tmp_path, turned)
    for file in (*tmp_path.rglob("*.html"), *tmp_path.rglob("*.js")):
        assert file.read_text() == (site / file.relative_to(tmp_path)).read_text()


def test_a_paired_scenario_shows_its_seconds_and_the_trend_of_its_ratio(data, tmp_path):
    timing = next(one for one in data.series if one.key == seconds_key("total", NETWORKS))
    key = replace(timing.key, metric=Metric.RATIO)
    ratio = replace(timing, key=key, numbers=timing.numbers[::-1].copy())
    judgement = replace(data.judgements[timing.key], key=key)
    write(tmp_path, replace(data, series=(timing, ratio), judgements={key: judgement}))
    text = (tmp_path / "index.html").read_text()
    assert f">{quantity(timing.numbers[-1, MIDDLE], Metric.SECONDS)}</td>" in text
    assert sparkline(ratio) in text
    assert sparkline(timing) not in text
    page = (tmp_path / pages.scenario_page(timing.key)).read_text()
    assert f'href="#{pages.anchor(key)}">judged by its ratio</a>' in page
    assert "not judged" not in page


def test_an_empty_lab_has_an_overview(tmp_path):
    assert write(tmp_path, SiteData((), ())).pages == 4  # two pages, their style and their script
    assert "The archive has no runs yet." in (tmp_path / "index.html").read_text()


def test_what_comes_from_outside_cannot_break_a_page(data, tmp_path):
    nasty = '<script>alert("x")</script>&"\'`../../x'
    run = data.runs[20]
    service = replace(run.record.code.services[0], version=nasty, changes=(nasty,))
    key = seconds_key("total", PORTS)
    history = next(one for one in data.series if one.key == key)
    judgement = replace(data.judgements[key], key=replace(key, scenario=nasty, action=nasty), reason=nasty)
    record = replace(
        run.record,
        job=nasty,
        code=replace(run.record.code, services=(service,)),
        validity=replace(run.record.validity, valid=False, reasons=(nasty,)),
    )
    odd = replace(run, record=record, judgements=(judgement,))
    write(
        tmp_path / "site",
        SiteData(
            (odd,),
            (replace(history, key=judgement.key),),
            {judgement.key: judgement},
            (Mark(judgement.key, run_id(20), nasty, PageTone.BAD),),
        ),
    )
    files = list((tmp_path / "site").rglob("*.html"))
    assert len(files) == 5
    for file in files:
        assert file.read_text().count("<script") == 1
        Page(file.read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_the_levels_on_a_page_are_those_that_its_effect_compares(data, tmp_path):
    run = data.runs[21]
    first = next(one for one in run.judgements if one.since)
    judgement = replace(first, effect=0.15, baseline_location=0.761, level=0.875, location=0.82)
    write(tmp_path, replace(data, runs=(replace(run, judgements=(judgement,)),)))
    text = (tmp_path / pages.run_page(run.record.run_id)).read_text().replace("\u00a0", " ")
    assert "0.761 s → 0.875 s" in text
    assert "0.820 s" not in text


@pytest.mark.parametrize(
    ("levels", "changes"), [((0.0002, 0.0006), 0), ((0.0012, 0.0018), 0), ((0.2, 0.6), 1)]
)
def test_a_change_of_a_counter_below_its_unit_is_not_drawn(levels, changes):
    key = replace(seconds_key("nova-api", NETWORKS), metric=Metric.CPU_SECONDS)
    points = tuple(
        RunPoint(run_id(n), "e", "c", (levels[n >= 12] * (1 + 0.01 * (n % 3)),), 1, 0, valid=True)
        for n in range(24)
    )
    assert len(level_changes(trend_of(SeriesHistory(key, points)))) == changes


def test_the_lab_of_a_failed_run_is_not_called_fit(data, tmp_path):
    failed = next(run for run in data.runs if run.failure)
    write(tmp_path, replace(data, runs=(failed,)))
    assert ">fit</span>" not in (tmp_path / "index.html").read_text()


def test_the_foot_says_that_more_throughput_is_better(site):
    assert "Lower is better, except for throughput (Mbit/s)." in (site / "index.html").read_text()


def test_a_canary_stands_beside_what_is_usual_in_its_environment(data):
    runs = [replace(run, canaries=(Canary("n", "cpu", 0.4, 0.5),), failure=None) for run in data.runs]
    usual = {run.record.run_id: run.canaries[0].usual for run in with_usual_canaries(reversed(runs))}
    # Four nights in another environment, and an unfit one: those are compared with by none of the others.
    assert [usual[run_id(n)] for n in range(9)] == [None] * 9
    assert {usual[run_id(n)] for n in range(9, 30)} == {0.45}


def index_of(data, folder):
    write(folder, data)
    text = (folder / "index.html").read_text().replace("\u00a0", " ").replace("&nbsp;", " ")
    Page(text)
    return text


def test_the_overview_begins_with_open_alerts_then_what_is_new_then_the_runs(data, tmp_path):
    text = index_of(replace(data, alerts=(alert(), alert(id="0000closed", closed=run_id(25)))), tmp_path)
    heads = [
        text.index(f">{one}</h") for one in ("Open alerts", "New with the last run", "Runs", "Scenarios")
    ]
    assert heads == sorted(heads)
    top = text[heads[0] : heads[1]]
    assert "0000closed" not in top
    for said in (
        "+31 %",
        "0.938 s → 1.23 s",
        PATCH,
        "3 series together",
        f"{run_id(20)}.html",
        "nobody is looking into it",
    ):
        assert said in top
    assert "No alert is open." in index_of(data, tmp_path)


def test_alerts_that_nobody_looks_into_come_first_the_newest_of_them_on_top(data, tmp_path):
    alerts = (
        alert(id="a-seen", acknowledged=True, since=run_id(28)),
        alert(id="b-old", since=run_id(10)),
        alert(id="c-new", since=run_id(22)),
    )
    for order in (alerts, alerts[::-1]):
        text = index_of(replace(data, alerts=order), tmp_path)
        assert sorted(alerts, key=lambda one: text.index(f'id="alert-{one.id}"')) == [
            alerts[2],
            alerts[1],
            alerts[0],
        ]


def test_an_open_alert_names_the_likeliest_change(data, tmp_path):
    rows = (
        SuspectRow("nova", "b" * 40, "unlikely", "B", "https://x.org/b", 0.1),
        SuspectRow("neutron", "a" * 40, "Look up ports one by one", "A", "https://x.org/a", 0.62),
    )
    found = AlertSuspects(alert().id, rows)
    text = index_of(replace(data, alerts=(alert(suspects=found),)), tmp_path)
    assert '<a href="https://x.org/a">Look up ports one by one</a> <span class="soft">(neutron, 62 %)' in text
    assert "unlikely" not in text


def test_what_the_last_run_brought_is_told(data, tmp_path):
    last, before = run_id(20), data.runs[:21]
    text = index_of(
        replace(data, runs=before, alerts=(alert(), alert(id="0ther", closed=last, ending="fixed"))), tmp_path
    )
    news = text[text.index(">New with the last run</h3>") : text.index(">Runs</h3>")]
    assert 'alert <a href="alerts/65af3750f0.html">' in news
    assert 'alert <a href="alerts/0ther.html">0ther</a> ended (fixed)' in news
    assert "code of neutron: 27.0.1 (wheel) → 27.0.1 (wheel) with" in news
    assert news.count(">regression<") == 2  # the third is the alert's own
    text = index_of(replace(data, runs=data.runs[:22], alerts=(alert(),)), tmp_path)
    assert (
        "nothing new since the previous run: no alert opened or closed, no other series changed, and the code is the same"
        in text
    )


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (1, "this is the first run of the job: perfci judges later runs once"),
        (15, "nothing was judged, because the lab was not fit to measure"),
        (28, "nothing was judged, because the run failed"),
    ],
)
def test_a_last_run_that_judged_nothing_says_why_and_claims_no_calm(data, tmp_path, shown, said):
    text = index_of(replace(data, runs=data.runs[:shown]), tmp_path)
    assert said in text
    assert "nothing new since the previous run" not in text


def test_a_first_night_in_pairs_was_judged_and_a_failed_one_says_that_it_failed(data, tmp_path):
    first = replace(data.runs[0], paired=PairedView(data.runs[0].record.code, ()))
    text = index_of(replace(data, runs=(first,)), tmp_path)
    assert "its timings were compared with those of the reference cloud" in text
    assert "nothing was judged, because the run failed" in index_of(
        replace(data, runs=data.runs[27:28]), tmp_path
    )


def test_on_the_first_night_pages_show_what_was_measured(data, tmp_path):
    unjudged = {
        key: replace(one, outcome=Outcome.NO_BASELINE, location=None, since=None)
        for key, one in data.judgements.items()
    }
    write(tmp_path, replace(data, judgements=unjudged))
    key = seconds_key("total", PORTS)
    trend = next(one for one in data.series if one.key == key)
    shown = wording.quantity(float(trend.measured().numbers[-1, MIDDLE]), key.metric)
    overview = (tmp_path / "index.html").read_text()
    assert f'<td class="number">{shown}</td>' in overview[overview.index(">Scenarios</h3>") :]
    scenario = (tmp_path / pages.scenario_page(key)).read_text()
    assert f'<td class="number late">{shown}</td>' in scenario


def test_scenarios_are_sorted_by_verdict_and_told_apart_by_their_arguments(data, tmp_path):
    key = seconds_key("total", PORTS)
    slow = replace(data.judgements[key], outcome=Outcome.REGRESSION, since=run_id(20), effect=0.3)
    other = next(one for one in data.series if one.key == key)
    other = replace(other, key=replace(key, arguments="ffffffff"))
    text = index_of(
        replace(data, series=(*data.series, other), judgements={**data.judgements, key: slow}), tmp_path
    )
    table = text[text.index(">Scenarios</h3>") :]
    rows = re.findall(r'<th scope="row"><a href="(scenarios/[^"]+)">', table)
    assert rows[0] == pages.scenario_page(key)
    assert rows[-1] == pages.scenario_page(other.key)
    assert "arguments ffffffff" in table
    assert f"arguments {key.arguments}" in table
    assert table.count("arguments ") == 2


def data_of(site, name):
    """Return what a data file hands over."""
    text = (site / name).read_text()
    found = re.fullmatch(r"perfci\.put\((\"[^\"]*\"),(.*)\)\n", text)
    assert json.loads(found[1]) == name.removesuffix(".js")
    return json.loads(found[2])


def test_a_runs_data_file_has_every_series_with_its_verdict_and_its_distribution(site, data):
    run = data.runs[20]
    found = data_of(site, pages.run_data(run.record.run_id))
    table = data_of(site, f"{found['series']}.js")
    assert len(found["rows"]) == len(table["series"]) == len(run.judgements)
    by_name = {
        (table["scenarios"][one[0]][0], one[1]): row
        for one, row in zip(table["series"], found["rows"], strict=True)
    }
    row = by_name[PORTS, "neutron.create_port"]
    judgement = next(one for one in run.judgements if one.key == seconds_key("neutron.create_port", PORTS))
    assert table["outcomes"][row[0]] == "regression"
    assert row[1:] == [
        pytest.approx(one, rel=1e-3)
        for one in (
            judgement.effect, judgement.low, judgement.high, judgement.q_value, judgement.mde,
            judgement.baseline_location, judgement.location,
        )
    ]  # fmt: skip
    assert all(
        len(quantiles) == 21 and len(errors) == 9 for quantiles, errors in found["distributions"].values()
    )
    assert found["code"]["neutron"] == f"27.0.1 (wheel) with {PATCH}"
    assert data_of(site, f"{found['packages']}.js") == {"oslo.db": "17.2.0"}


def test_a_scenarios_data_file_has_what_pointing_at_a_run_shows(site, data):
    key = seconds_key("total", PORTS)
    found = data_of(site, pages.scenario_data(key))
    series = found["series"][pages.anchor(key)]
    job = data_of(site, f"{found['job']}.js")
    trend = next(one for one in data.series if one.key == key)
    assert series["middle"] == [pytest.approx(one, rel=1e-3) for one in trend.numbers[:, 0]]
    assert job["runs"] == [run.record.run_id for run in data.runs]
    assert job["unfit"] == [14]
    assert PATCH in job["codes"][job["code"][20]]


def test_counters_are_folded_and_their_pictures_wait_in_the_data_file(site):
    key = statements_key("neutron-api", PORTS)
    text = (site / pages.scenario_page(key)).read_text()
    folded = text[text.index('id="folded"') :]
    assert f'<details class="series" id="{pages.anchor(key)}" data-picture="{pages.anchor(key)}">' in folded
    assert "<svg" not in folded
    assert data_of(site, pages.scenario_data(key))["pictures"][pages.anchor(key)].startswith("<svg")


def test_pages_of_what_is_gone_are_removed_and_others_stay(data, tmp_path):
    write(tmp_path, replace(data, alerts=(alert(),)))
    old = run_id(0)
    (tmp_path / "runs" / "stray.html").write_text("of an older version")
    (tmp_path / "ours.txt").write_text("a person's")
    kept = replace(
        data, runs=data.runs[1:], alerts=(), series=[one for one in data.series if one.key.scenario != BOOT]
    )
    write(tmp_path, kept)
    assert not (tmp_path / pages.run_page(old)).exists()
    assert not (tmp_path / pages.run_data(old)).exists()
    assert not (tmp_path / pages.alert_page(alert().id)).exists()
    assert not (tmp_path / pages.scenario_page(seconds_key("total", BOOT))).exists()
    assert not (tmp_path / "runs" / "stray.html").exists()
    assert (tmp_path / "ours.txt").exists()
    assert (tmp_path / pages.run_page(run_id(1))).exists()


def test_a_run_whose_page_is_there_is_not_read_again(data, tmp_path):
    read = []

    def stored(run, inputs="1"):
        run_id = run.record.run_id
        return StoredRun(run_id, inputs, lambda: (read.append(run_id), run)[1])

    runs = [stored(run) for run in data.runs]
    write(tmp_path, replace(data, runs=runs))
    assert sorted(set(read)) == [run.run_id for run in runs]
    read.clear()
    runs[3] = stored(data.runs[3], "another judgement")
    write(tmp_path, replace(data, runs=runs))
    # The overview says what the last two brought.
    assert sorted(read) == [run_id(3), run_id(28), run_id(29)]
    read.clear()
    (tmp_path / pages.run_page(run_id(5))).unlink()
    write(tmp_path, replace(data, runs=runs))
    assert run_id(5) in read
    assert (tmp_path / pages.run_page(run_id(5))).is_file()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "another", "made": {}}'])
def test_what_was_remembered_may_be_lost_or_damaged(data, site, tmp_path, content):
    write(tmp_path, data)
    (tmp_path / "pages.json").write_text(content)
    write(tmp_path, data)
    assert (tmp_path / "pages.json").read_text() == (site / "pages.json").read_text()


def test_an_alerts_page_has_the_change_both_distributions_and_the_command_to_try_a_fix(data, tmp_path):
    key = seconds_key("neutron.create_port", PORTS)
    values = {
        run.record.run_id: one.values for run in data.runs for one in run.measurements if one.key == key
    }
    rows = (SuspectRow("neutron", "a" * 40, "Look up ports one by one", "A", "https://x.org/a", 0.62),)
    shown = alert(
        suspects=AlertSuspects(alert().id, rows),
        evidence=lambda: AlertEvidence((DistributionPair(key, values[run_id(19)], values[run_id(20)]),)),
    )
    write(tmp_path, replace(data, alerts=(shown,)))
    text = (tmp_path / pages.alert_page(shown.id)).read_text()
    Page(text)
    heads = [text.index(f"<h2>{one}</h2>") for one in ("What changed", "Before and after", "What you can do")]
    assert heads == sorted(heads)
    assert "Look up ports one by one" in text[heads[0] : heads[1]]
    assert text[heads[1] : heads[2]].count('class="share ') == 2
    assert text[heads[1] : heads[2]].count("<tr") == 10
    assert pages.comparison(run_id(19), run_id(20)) in text[heads[1] : heads[2]]
    assert "perfci try nightly --change neutron=fix.patch" in text[heads[2] :]
    assert f"perfci run compare {run_id(19)} {run_id(20)}" in text[heads[2] :]


def bisect(**changes):
    found = AlertBisect(
        title="alert 65af3750f0",
        series="create_port in NeutronNetworks",
        metric=Metric.SECONDS,
        end="culprit",
        verdict="neutron 2222222222 made create_port 30 % slower.",
        command="perfci bisect 65af3750f0",
        culprits=(BisectCulprit("neutron 2222222222", "Slow <it>", "Ada", "https://x.org/2"),),
        culprit_at=2,
        places=(
            BisectPlace(0, "good end", "", 3, 0.40, 0.39, 0.41, at_head=False, note=""),
            BisectPlace(
                1, "neutron 1111111111", "Calm", 0, None, None, None, at_head=False, note="no deploy"
            ),
            BisectPlace(2, "neutron 2222222222", "Slow <it>", 3, 0.52, 0.51, 0.53, at_head=False, note=""),
            BisectPlace(3, "newest revision", "", 2, 0.53, 0.51, 0.55, at_head=True, note=""),
        ),
        remarks=("A single run scatters by about 2 %.",),
    )
    return replace(found, **changes)


def test_an_alerts_page_shows_what_its_bisect_measured(data, tmp_path):
    inside = bisect(title="oslo.db 17.0 → 18.0", verdict="It is not finished.", culprits=(), places=())
    write(tmp_path, replace(data, alerts=(alert(bisect=bisect(inside=inside)),)))
    text = (tmp_path / pages.alert_page(alert().id)).read_text()
    Page(text)
    section = text[text.index('id="bisect"') : text.index('id="do"')]
    assert text.index('<a href="#bisect">neutron 2222222222</a>') < text.index('id="bisect"')
    assert '<a href="https://x.org/2">neutron 2222222222</a>: Slow &lt;it&gt;' in section
    table = section[section.index("<tbody>") : section.index("</tbody>")].split("<tr")[1:]
    assert ["certain" in row for row in table] == [False, False, True, False]
    assert f"{wording.quantity(0.4, Metric.SECONDS)}</td>" in table[0]
    levels = [wording.quantity(one, Metric.SECONDS) for one in (0.39, 0.41)]
    assert " … ".join(levels) in table[0]
    assert "no deploy" in table[1]
    picture = section[section.index("<svg") : section.index("</svg>")]
    assert picture.count("<circle") == 2
    assert picture.count("<rect") == 1
    assert [number for number in "1234" if f">{number}</text></g>" in picture] == ["1", "3", "4"]
    assert "<h3>Inside oslo.db 17.0 → 18.0</h3>" in section
    assert "perfci bisect 65af3750f0" in section


def test_the_line_of_a_bisects_picture_is_left_of_the_culprit():
    left = bisect_picture(bisect(culprit_at=1))
    assert bisect_picture(bisect()) == left, "nothing was measured between the two"
    line = float(re.search(r'class="change bad"><path d="M([0-9.]+) ', left)[1])
    points = [float(x) for x in re.findall(r'<text class="tick" x="([0-9.]+)" y="212"', left)]
    assert points[0] < line < points[1]
    assert "change bad" not in bisect_picture(bisect(culprit_at=None))
    assert bisect_picture(bisect(places=())) == ""


def test_an_alert_without_a_bisect_names_the_command_for_one(data, tmp_path):
    write(tmp_path, replace(data, alerts=(alert(),)))
    text = (tmp_path / pages.alert_page(alert().id)).read_text()
    assert "perfci bisect 65af3750f0" in text
    assert 'id="bisect"' not in text


def test_the_first_view_of_each_page_is_small(site):
    for page in ("index.html", pages.run_page(run_id(21)), pages.scenario_page(seconds_key("total", PORTS))):
        loaded = [site / page, site / "style.css", site / "pages.js"]
        assert sum(file.stat().st_size for file in loaded) < 100_000


def test_a_job_with_many_scenarios_has_pages_of_them_each_scenario_once(data, tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "SCENARIOS_A_PAGE", 3)
    write(tmp_path, data)
    key = seconds_key("total", PORTS)
    names = [pages.job_page(key.lab, key.job, part) for part in (1, 2)]
    assert sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "jobs").iterdir()) == sorted(names)
    texts = [(tmp_path / name).read_text() for name in names]
    listed = [Page(text).links for text in texts]
    scenarios = [
        [one for one in links if one.startswith("../scenarios/") and "#" not in one] for links in listed
    ]
    assert [len(one) for one in scenarios] == [3, 1]
    assert len({*scenarios[0], *scenarios[1]}) == 4
    assert f"../{names[1]}#scenarios" in listed[0]
    assert f"../{names[0]}#scenarios" in listed[1]
    assert ['id="runs"' in text for text in texts] == [True, False]
    assert "4 to 4" in texts[1]
    monkeypatch.undo()
    write(tmp_path, data)
    assert [file.name for file in (tmp_path / "jobs").iterdir()] == [names[0].removeprefix("jobs/")]


def test_a_page_of_a_jobs_scenarios_is_small_however_many_there_are(data, tmp_path):
    many = [
        replace(one, key=replace(one.key, arguments=f"{n:08x}"))
        for n in range(200)
        for one in data.series[:1]
    ]
    write(tmp_path, replace(data, series=tuple(many)))
    sizes = [file.stat().st_size for file in (tmp_path / "jobs").iterdir()]
    assert len(sizes) == 4
    assert max(sizes) + sum((tmp_path / name).stat().st_size for name in ("style.css", "pages.js")) < 100_000


def test_links_that_a_script_makes_lead_to_a_page_and_a_place_on_it(site, parsed):
    tables = [str(file.relative_to(site)) for file in (site / "data").glob("series-*.js")]
    assert tables
    for table in (data_of(site, one) for one in tables):
        for scenario, _, anchor, _, _ in table["series"]:
            assert anchor in parsed[site / table["scenarios"][scenario][2]].ids


def test_what_has_always_been_zero_is_folded(data, tmp_path):
    key = replace(seconds_key("total", PORTS), metric=Metric.FAILURE_RATE)
    points = tuple(RunPoint(run_id(n), "e", "c", (0.0,), 20, 0, valid=True) for n in range(30))
    series = trend_of(SeriesHistory(key, points), data.series[0].runs)
    write(tmp_path, replace(data, series=(*data.series, series)))
    text = (tmp_path / pages.scenario_page(key)).read_text()
    assert text.index(f'id="{pages.anchor(key)}"') > text.index('id="folded"')


def test_what_a_killed_writer_left_is_removed(data, tmp_path):
    write(tmp_path, data)
    left = (tmp_path / ".index.html.4711", tmp_path / "runs" / f".{run_id(3)}.html.4711")
    for file in left:
        file.write_text("half a page")
    write(tmp_path, data)
    assert not [file for file in left if file.exists()]
