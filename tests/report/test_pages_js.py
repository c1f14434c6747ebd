"""What the pages' script adds, in a real browser: finding, grouping, pointing, comparing, all from file://."""

from __future__ import annotations

from dataclasses import replace

import pytest
from browser import chromium
from nights import PORTS, run_id, seconds_key, statements_key
from programs import needs
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from site_data import alert, site_data

from perfci import pages, wording
from perfci.report.distribution import quantile_shifts
from perfci.report.model import AlertEvidence, AlertSuspects, DistributionPair, SuspectRow
from perfci.report.site import write
from perfci.results.model import Metric

pytestmark = [pytest.mark.slow, needs("chromium", "chromedriver")]
CREATE = seconds_key("neutron.create_port", PORTS)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = chromium(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def data():
    found = site_data()
    values = {
        run.record.run_id: one.values for run in found.runs for one in run.measurements if one.key == CREATE
    }
    rows = (
        SuspectRow(
            "neutron", "a" * 40, "Look up ports one by one", "A", "https://review.example.org/1", 0.62
        ),
    )
    shown = alert(
        suspects=AlertSuspects(alert().id, rows),
        evidence=lambda: AlertEvidence((DistributionPair(CREATE, values[run_id(19)], values[run_id(20)]),)),
    )
    return replace(found, alerts=(shown,))


@pytest.fixture(scope="module")
def site(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    write(folder, data)
    return folder


def until(browser, condition):
    return WebDriverWait(browser, 20, poll_frequency=0.05).until(condition)


def look(browser, site, page, width=1200):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get("about:blank")
    name, _, fragment = page.partition("#")
    browser.get((site / name).as_uri() + (f"#{fragment}" if fragment else ""))


def texts(browser, selector):
    """Return what is seen of some elements, at one moment: a script may replace them in the next."""
    script = "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility()).map(e => e.innerText)"
    return browser.execute_script(script, selector)


def shown_rows(browser):
    return texts(browser, ".rows details[open] tbody th a")


def test_rows_are_found_by_any_part_of_their_name(browser, site):
    look(browser, site, pages.run_page(run_id(20)))
    assert shown_rows(browser) == ["neutron.create_port", "whole iteration", "neutron.create_network"]
    browser.find_element(By.NAME, "find").send_keys("boot nova.del")
    until(browser, lambda _: shown_rows(browser) == ["nova.delete_server"])
    assert browser.get_log("browser") == []


def test_all_rows_come_from_the_data_file_and_the_calm_ones_too(browser, site, data):
    look(browser, site, pages.run_page(run_id(20)))
    browser.find_element(By.CSS_SELECTOR, ".more .all").click()
    until(browser, lambda _: len(shown_rows(browser)) == len(data.runs[20].judgements))


def test_rows_are_folded_by_outcome_and_one_outcome_can_be_chosen(browser, site):
    look(browser, site, pages.run_page(run_id(20)))
    Select(browser.find_element(By.NAME, "sort")).select_by_value("name")
    until(browser, lambda _: len(texts(browser, ".rows summary")) == 2)
    script = "return [...document.querySelectorAll('.rows details')].map(e => [e.innerText.split('\\n')[0].trim(), e.open])"
    assert browser.execute_script(script) == [["no change 9", False], ["regression 3", True]]
    Select(browser.find_element(By.NAME, "show")).select_by_value("no change")
    until(browser, lambda _: len(shown_rows(browser)) == 9)
    assert texts(browser, ".rows summary") == ["no change 9"]


def test_the_rows_of_an_unfit_night_stay_grey(browser, site, data):
    look(browser, site, pages.run_page(run_id(14)))
    browser.find_element(By.CSS_SELECTOR, ".more .all").click()
    until(browser, lambda _: len(shown_rows(browser)) == len(data.runs[14].judgements))
    colours = "return ['.rows tbody td.number', '.rows p, .rows label'].map(e => getComputedStyle(document.querySelector(e)).color)"
    number, soft = browser.execute_script(colours)
    assert number == soft
    assert texts(browser, ".found.greyed")


def test_series_of_several_arguments_are_told_apart_and_found_by_them(browser, data, tmp_path):
    report = data.runs[20]
    twins = [
        replace(one, key=replace(one.key, arguments=arguments))
        for one in report.judgements
        if one.key == CREATE
        for arguments in ("0a1b2c3d", "99ee88dd")
    ]
    write(tmp_path, replace(data, runs=(replace(report, judgements=tuple(twins), measurements=()),)))
    look(browser, tmp_path, pages.run_page(run_id(20)))
    there = texts(browser, ".rows details[open] tbody th")
    assert len(set(there)) == 2
    browser.find_element(By.NAME, "find").send_keys("99ee")
    until(
        browser,
        lambda _: texts(browser, ".rows details[open] tbody th") == [one for one in there if "99ee" in one],
    )


def test_rows_are_grouped_by_service_and_scenario_and_sorted(browser, site):
    look(browser, site, pages.run_page(run_id(20)))
    Select(browser.find_element(By.NAME, "group")).select_by_value("service")
    until(browser, lambda _: len(texts(browser, ".rows summary")) == 3)
    heads = texts(browser, ".rows summary")
    assert [one.split()[0] for one in heads] == ["neutron", "nova", "keystone"]
    assert "regression: 3" in heads[0]
    Select(browser.find_element(By.NAME, "group")).select_by_value("scenario")
    until(browser, lambda _: len(texts(browser, ".rows summary")) == 4)
    Select(browser.find_element(By.NAME, "show")).select_by_value("regression")
    until(browser, lambda _: len(texts(browser, ".rows summary")) == 2)


@pytest.mark.parametrize("width", [1200, 390])
def test_effect_and_mde_are_seen_at_once(browser, site, width):
    look(browser, site, pages.run_page(run_id(20)), width)
    for cell in browser.find_elements(
        By.CSS_SELECTOR,
        ".rows tbody tr:first-child td:nth-child(2), .rows tbody tr:first-child td:nth-child(4)",
    ):
        box = cell.rect
        assert cell.is_displayed()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert "%" in cell.text


def test_pointing_at_a_picture_shows_run_commits_and_values_and_a_click_opens_the_run(browser, site):
    look(browser, site, pages.scenario_page(CREATE))
    picture = browser.find_element(By.CSS_SELECTOR, f'section[id="{pages.anchor(CREATE)}"] svg.trend')
    browser.execute_script("arguments[0].scrollIntoView()", picture)
    point = """const box = arguments[0].getBoundingClientRect(), x = box.left + box.width * (10 + 20.5 * 688 / 30) / 760;
    for (const kind of ["pointerover", arguments[1]]) arguments[0].dispatchEvent(
      new PointerEvent(kind, {bubbles: true, clientX: x, clientY: box.top + 50}));"""

    def tip(_):
        browser.execute_script(point, picture, "pointermove")
        found = browser.find_elements(By.CSS_SELECTOR, ".tip")
        return found and found[0].is_displayed() and found[0].text

    text = until(browser, tip)
    assert "2026-11-20 04:15 UTC: 1.2" in text
    assert "middle 80 %" in text
    assert "slow-create-port.patch" in text
    assert run_id(20) in text
    browser.execute_script(point, picture, "click")
    until(browser, lambda _: browser.current_url.endswith(pages.run_page(run_id(20))))


def test_a_first_tap_shows_a_run_and_a_second_one_opens_it(browser, site):
    look(browser, site, pages.scenario_page(CREATE), 390)
    picture = browser.find_element(By.CSS_SELECTOR, f'section[id="{pages.anchor(CREATE)}"] svg.trend')
    browser.execute_script("arguments[0].scrollIntoView()", picture)
    tap = """const box = arguments[0].getBoundingClientRect(), x = box.left + box.width * (10 + arguments[1] * 688 / 30) / 760;
    for (const kind of ["pointerover", "pointerleave", "click"]) arguments[0].dispatchEvent(
      new PointerEvent(kind, {bubbles: true, pointerType: "touch", clientX: x, clientY: box.top + 50}));"""

    def tapped(_):
        browser.execute_script(tap, picture, 27.5)
        found = browser.find_elements(By.CSS_SELECTOR, ".tip")
        return found and found[0].is_displayed() and found[0].text

    assert run_id(27) in until(browser, tapped)
    browser.execute_script(tap, picture, 25.5)
    shown = browser.find_element(By.CSS_SELECTOR, ".tip").text
    assert run_id(25) in shown
    assert shown.endswith("Tap again to open the run.")
    browser.execute_script(tap, picture, 25.5)
    until(browser, lambda _: browser.current_url.endswith(pages.run_page(run_id(25))))


def test_a_picture_is_read_with_the_keyboard_alone(browser, site):
    look(browser, site, pages.scenario_page(CREATE))
    picture = browser.find_element(By.CSS_SELECTOR, f'section[id="{pages.anchor(CREATE)}"] svg.trend')
    browser.execute_script("arguments[0].focus()", picture)

    def tip(_):
        browser.switch_to.active_element.send_keys(Keys.END)
        found = browser.find_elements(By.CSS_SELECTOR, ".tip")
        return found and run_id(29) in found[0].text

    until(browser, tip)
    browser.switch_to.active_element.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert run_id(27) in browser.find_element(By.CSS_SELECTOR, ".tip").text
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not browser.find_element(By.CSS_SELECTOR, ".tip").is_displayed()
    browser.switch_to.active_element.send_keys(Keys.HOME, Keys.ENTER)
    until(browser, lambda _: browser.current_url.endswith(pages.run_page(run_id(0))))


def test_a_link_to_a_counter_unfolds_its_picture(browser, site):
    key = statements_key("neutron-api", PORTS)
    look(browser, site, f"{pages.scenario_page(key)}#{pages.anchor(key)}")
    until(
        browser,
        lambda _: browser.find_element(
            By.CSS_SELECTOR, f'details[id="{pages.anchor(key)}"] svg.trend'
        ).is_displayed(),
    )


def test_two_runs_are_compared_as_the_command_does_it(browser, site, data):
    look(browser, site, pages.comparison(run_id(19), run_id(20)))
    until(browser, lambda _: browser.find_elements(By.CSS_SELECTOR, "#compared details[open] svg"))
    assert browser.find_element(By.CSS_SELECTOR, ".moved").text.count("slow-create-port.patch") == 1
    assert len(browser.find_elements(By.CSS_SELECTOR, "#compared details[open] tbody tr")) == 9
    heads = texts(browser, "#compared .timings summary")
    (first,) = [one for one in heads if "neutron.create_port" in one]
    values = [
        next(one.values for one in data.runs[night].measurements if one.key == CREATE) for night in (19, 20)
    ]
    shifts = quantile_shifts(*values)
    assert wording.change(shifts[4].relative, Metric.SECONDS).replace("\u00a0", " ") in first.replace(
        "\u00a0", " "
    )
    around = wording.interval(
        shifts[4].low / shifts[4].before, shifts[4].high / shifts[4].before, Metric.SECONDS
    )
    assert around.replace("\u00a0", " ") in first.replace("\u00a0", " ")
    Select(browser.find_element(By.NAME, "before")).select_by_value(run_id(3))
    until(browser, lambda _: run_id(3) in browser.find_element(By.CSS_SELECTOR, ".command").text)
    until(
        browser,
        lambda _: "The environments differ" in browser.find_element(By.CSS_SELECTOR, ".environment").text,
    )
    assert browser.get_log("browser") == []


def test_numbers_read_as_in_mails_and_terminals(browser, site):
    look(browser, site, pages.INDEX)
    numbers = [
        0.0,
        1e-7,
        0.000123,
        0.0999,
        0.1,
        0.5,
        0.9994,
        0.9996,
        9.996,
        12.345,
        99.96,
        123.4,
        1840.2,
        2**21 + 5.0,
        3e9,
        None,
    ]
    ask = "return arguments[0].map(one => perfci.words[arguments[1]](one, arguments[2]))"
    for metric in Metric:
        assert browser.execute_script(ask, numbers, "quantity", str(metric)) == [
            wording.quantity(one, metric) for one in numbers
        ]
    shares = [0.0, 0.0004, 0.0006, 0.05, -0.0312, 0.0995, 0.0996, 0.4, -1.0, 12.0, None]
    for metric in (Metric.SECONDS, Metric.FAILURE_RATE):
        assert browser.execute_script(ask, shares, "change", str(metric)) == [
            wording.change(one, metric) for one in shares
        ]
    chances = [0.0, 0.00009, 0.0001, 0.00123, 0.05, 0.125, 0.312, 0.999, 1.0, None]
    assert browser.execute_script(ask, chances, "probability", "") == [
        wording.probability(one) for one in chances
    ]


def test_from_the_mail_to_change_distribution_and_the_command_to_try_a_fix_in_three_clicks(browser, site):
    """The mail's link is the first click; it leads to the alert's page, where all three are."""
    look(browser, site, pages.alert_page(alert().id))
    change = browser.find_element(By.LINK_TEXT, "Look up ports one by one")
    assert change.get_attribute("href") == "https://review.example.org/1"
    assert browser.find_element(By.CSS_SELECTOR, "#distribution svg.shares").is_displayed()
    assert "perfci try nightly --change neutron=fix.patch" in browser.find_element(By.ID, "do").text
    browser.find_element(By.LINK_TEXT, "Compare all series of the two runs").click()
    until(browser, lambda _: browser.find_elements(By.CSS_SELECTOR, "#compared details[open] svg"))
    assert browser.get_log("browser") == []


def test_a_run_is_compared_from_its_own_page(browser, site):
    look(browser, site, pages.run_page(run_id(20)))
    browser.find_element(By.LINK_TEXT, "compare with it").click()
    until(browser, lambda _: browser.find_elements(By.CSS_SELECTOR, "#compared details[open] svg"))
    assert run_id(19) in browser.find_element(By.CSS_SELECTOR, ".command").text


@pytest.mark.parametrize(
    "page",
    [pages.run_page(run_id(20)), pages.scenario_page(CREATE), pages.INDEX, pages.alert_page(alert().id)],
)
def test_without_scripts_what_matters_is_there(browser, site, page):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        look(browser, site, page)
        text = browser.find_element(By.TAG_NAME, "main").text
        assert "neutron.create_port" in text
        assert not any(
            one.is_displayed() for one in browser.find_elements(By.CSS_SELECTOR, ".controls, button.all")
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_term_is_explained_where_it_stands(browser, site):
    look(browser, site, pages.run_page(run_id(20)))
    said = browser.find_element(By.ID, "term-MDE")
    assert not said.is_displayed()
    browser.find_element(By.CSS_SELECTOR, '[popovertarget="term-MDE"]').send_keys(Keys.ENTER)
    until(browser, lambda _: said.is_displayed())
    assert "smallest change" in said.text
