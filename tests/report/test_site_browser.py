"""The pages in a real browser: nothing in the console, nothing sticks out, light and dark, by keyboard."""

from __future__ import annotations

import itertools

import pytest
from browser import chromium
from nights import PORTS, run_id, seconds_key
from programs import needs
from selenium.webdriver.common.by import By
from site_data import JOB, LAB, alert, site_data

from perfci import pages
from perfci.report.site import write

SCENARIO = pages.scenario_page(seconds_key("total", PORTS))
ALL = (
    pages.INDEX,
    SCENARIO,
    pages.run_page(run_id(14)),
    pages.run_page(run_id(20)),
    pages.run_page(run_id(27)),
    pages.job_page(LAB, JOB),
    pages.alert_page(alert().id),
    pages.comparison(run_id(19), run_id(20)),
)
"""An ordinary scenario, an unfit night, one with a regression, and a failed one among them."""

pytestmark = [pytest.mark.slow, needs("chromium", "chromedriver")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = chromium(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    write(folder, site_data())
    return folder


def look(browser, site, page, width=1000, scheme="light"):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    name, _, fragment = page.partition("#")
    browser.get((site / name).as_uri() + (f"#{fragment}" if fragment else ""))


@pytest.mark.parametrize("page", ALL)
def test_pages_load_without_complaints(browser, site, page):
    look(browser, site, page)
    assert browser.get_log("browser") == []
    assert browser.find_element(By.TAG_NAME, "h1").is_displayed()


_SIDEWAYS = """
return [...document.querySelectorAll(".wide")].filter(one => one.checkVisibility() && one.scrollWidth > one.clientWidth)
  .map(one => one.innerText.slice(0, 200));
"""
"""Tables that have to be scrolled sideways."""


@pytest.mark.parametrize("page", ALL)
@pytest.mark.parametrize("width", [360, 390, 1000, 1200])
def test_nothing_sticks_out_of_the_page(browser, site, page, width):
    look(browser, site, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(_SIDEWAYS) == []


_BROKEN = """
for (const one of document.querySelectorAll("table .badge")) one.textContent = "no baseline";
const found = [];
for (const one of document.querySelectorAll("table .badge, .code-ran td:nth-child(-n+3), .code-ran th")) {
  const walker = document.createTreeWalker(one, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode())
    for (const word of node.data.matchAll(/[\\w.]+/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (range.getClientRects().length > 1) found.push(word[0]);
    }
}
return found;
"""
"""Short words that go on in the next line."""


@pytest.mark.parametrize("page", [pages.INDEX, SCENARIO, pages.run_page(run_id(20))])
def test_short_words_are_not_broken_on_a_phone(browser, site, page):
    look(browser, site, page, 360)
    assert browser.execute_script(_BROKEN) == []


def test_on_a_phone_a_trend_shows_its_newest_end(browser, site):
    look(browser, site, SCENARIO, 360)
    place = browser.execute_script(
        """const box = document.querySelector("svg.trend").getBoundingClientRect();
        return [10 + 0.5 * 688 / 30, 10 + 29.5 * 688 / 30].map(x => box.left + x * box.width / 760)"""
    )
    assert place[0] < 0
    assert 0 < place[1] < 360
    assert 0 < browser.find_element(By.CSS_SELECTOR, "svg.trend .tick").rect["x"] < 360


_CONTRAST = """
function light(c){return c.map(v=>v/255).map(v=>v<=.03928?v/12.92:((v+.055)/1.055)**2.4)
 .reduce((s,v,i)=>s+v*[.2126,.7152,.0722][i],0)}
function rgb(s){return (s.match(/[\\d.]+/g)||[]).map(Number)}
function back(e){for(;e;e=e.parentElement){const c=rgb(getComputedStyle(e).backgroundColor);
 if(c.length===3||c[3]>0)return c.slice(0,3)}return [255,255,255]}
const found=[];
for(const e of document.querySelectorAll('h1,h2,h3,p,td,th,a,.badge,span,dd,dt,pre,code,svg text')){
 if(!e.textContent.trim()||!e.getClientRects().length)continue;
 const style=getComputedStyle(e);
 const front=rgb(e.closest('svg')&&e.tagName==='text'?style.fill:style.color).slice(0,3);
 const [a,b]=[light(front),light(back(e))].sort((x,y)=>y-x);
 const ratio=(a+.05)/(b+.05);
 if(ratio<4.5)found.push([e.tagName,e.className.baseVal||e.className,e.textContent.slice(0,30),ratio]);}
return found;
"""


@pytest.mark.parametrize("page", ALL)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(browser, site, page, scheme):
    look(browser, site, page, scheme=scheme)
    assert browser.execute_script(_CONTRAST) == []


def test_print_is_black_on_white_also_from_a_dark_screen(browser, site):
    look(browser, site, SCENARIO, scheme="dark")
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    try:
        assert browser.execute_script(_CONTRAST) == []
        assert browser.find_element(By.CSS_SELECTOR, ".card").value_of_css_property("background-color") in {
            "rgb(255, 255, 255)",
            "rgba(255, 255, 255, 1)",
        }
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


_NAMED = {
    "button", "link", "heading", "image", "img", "searchbox", "textbox", "combobox", "navigation",
    "columnheader", "rowheader", "RootWebArea",
}  # fmt: skip
"""Roles of the accessibility tree that say nothing without a name."""


def tree(browser):
    """Return what a screen reader gets: role, name and properties of each element, in reading order."""
    found = []
    for one in browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]:
        if not one.get("ignored"):
            properties = {item["name"]: item["value"].get("value") for item in one.get("properties", ())}
            role, name = (one.get(part, {}).get("value", "") for part in ("role", "name"))
            found.append((role, name.strip(), properties))
    return found


@pytest.mark.parametrize("page", ALL)
def test_a_screen_reader_gets_names_headings_in_order_and_landmarks(browser, site, page):
    look(browser, site, page)
    found = tree(browser)
    assert [role for role, name, _ in found if role in _NAMED and not name] == []
    levels = [properties["level"] for role, _, properties in found if role == "heading"]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels
    roles = [role for role, _, _ in found]
    assert [roles.count(one) for one in ("banner", "main", "contentinfo")] == [1, 1, 1]
    navigations = [name for role, name, _ in found if role == "navigation"]
    assert len(navigations) == len(set(navigations))


_TABLES = """
return [...document.querySelectorAll("table")].filter(table => table.checkVisibility()).filter(table => {
  const heads = [...(table.tHead?.rows[0]?.cells ?? [])];
  const rows = [...table.tBodies].flatMap(body => [...body.rows]).filter(row => !row.cells[0].hasAttribute("colspan"));
  return !heads.length || heads.some(one => one.scope !== "col" || !one.textContent.trim())
    || rows.some(row => row.cells.length > 1 && ![...row.cells].some(one => one.tagName === "TH" && one.scope === "row"));
}).map(table => table.outerHTML.slice(0, 200));
"""


@pytest.mark.parametrize("page", ALL)
def test_each_table_names_its_columns_and_rows(browser, site, page):
    look(browser, site, page)
    assert browser.execute_script(_TABLES) == []


_FOCUSED = """
const one = document.activeElement;
if (one === document.body) return null;
const style = getComputedStyle(one), box = one.getBoundingClientRect();
const all = [...document.querySelectorAll("*")];
return [all.indexOf(one), style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
  box.bottom > 0 && box.top < innerHeight && box.width > 0, one.tagName + " " + one.textContent.slice(0, 30)];
"""


@pytest.mark.parametrize("page", ALL)
def test_tab_goes_through_a_page_in_reading_order_and_is_always_seen(browser, site, page):
    look(browser, site, page)
    places = []
    for _ in range(30):
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
            browser.execute_cdp_cmd("Input.dispatchKeyEvent", event)
        found = browser.execute_script(_FOCUSED)
        if found is None:
            break
        place, outlined, within, what = found
        assert outlined, what
        assert within, what
        places.append(place)
    assert len(places) > 2
    assert places == sorted(places)


def test_light_and_dark_differ(browser, site):
    colours = set()
    for scheme in ("light", "dark"):
        look(browser, site, pages.INDEX, scheme=scheme)
        colours.add(browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))
    assert len(colours) == 2


def test_the_overview_leads_to_a_trend_and_back(browser, site):
    look(browser, site, pages.INDEX)
    browser.find_element(By.LINK_TEXT, "neutron.create_port").click()
    assert browser.current_url.endswith(f"{SCENARIO}#neutron.create_port--seconds")
    browser.find_element(By.LINK_TEXT, "perfci").click()
    assert browser.current_url.endswith(pages.INDEX)
