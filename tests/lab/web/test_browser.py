"""The calendar in a real browser: by pointer, by keyboard, on a phone, light and dark."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from programs import needs, path_of
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from web_site import WebSite

from perfci.lab.model import Node
from perfci.lab.web import server

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
NODES = tuple(Node(f"node-{number}") for number in range(1, 6))
HOSTILE = '<img src=x onerror="document.title=1">'

pytestmark = [pytest.mark.slow, needs("chromium", "chromedriver")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = str(path_of("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(path_of("chromedriver"))))
    yield driver
    driver.quit()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A lab at this moment, as the browser's clock is real, and its page on a free port."""
    site = WebSite(tmp_path, NODES, now=datetime.now(UTC))
    running = []
    monkeypatch.setattr(
        server._Server, "run", lambda self, sockets: (running.append(self), run(self, sockets=sockets))
    )
    listening = server.listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve, args=(site.app, listening))
    site.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    thread.start()
    yield site
    for one in running:
        one.should_exit = True
    thread.join()
    listening.close()


run = server._Server.run


def look(browser, site, path="/", width=1200, scheme="light"):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(site.url + path)


def sign_in(browser, site, name):
    browser.delete_all_cookies()
    look(browser, site, "/sign-in?next=/")
    browser.find_element(By.NAME, "token").send_keys(site.token(name), Keys.ENTER)
    WebDriverWait(browser, 30).until(lambda driver: "Sign out" in driver.page_source)


def until(browser, condition):
    return WebDriverWait(browser, 30).until(condition)


def free(browser, node):
    return browser.find_element(By.CSS_SELECTOR, f'tr[data-node="{node}"] a.slot.free')


def test_drag_reserve_extend_and_give_back(browser, site):
    sign_in(browser, site, "ann")
    first = free(browser, "node-2")
    down = free(browser, "node-3").rect["y"] - first.rect["y"]
    ActionChains(browser).move_to_element(first).click_and_hold().move_by_offset(
        140, int(down)
    ).release().perform()
    dialog = until(browser, lambda driver: driver.find_element(By.CSS_SELECTOR, "dialog[open]"))
    assert "node-2, node-3" in dialog.text
    assert browser.switch_to.active_element.get_attribute("name") == "reason"
    browser.switch_to.active_element.send_keys(HOSTILE, Keys.ENTER)
    until(browser, lambda driver: "/reservations/" in driver.current_url)
    (one,) = site.lab.of("ann")
    assert one.nodes == ("node-2", "node-3")
    assert timedelta(hours=40) < timedelta(seconds=one.length_seconds) < timedelta(hours=60), (
        "two of fourteen days"
    )
    assert HOSTILE in browser.find_element(By.CSS_SELECTOR, "p.lead").text
    assert browser.find_elements(By.TAG_NAME, "img") == []
    browser.find_element(By.XPATH, "//button[.='Extend']").click()
    until(browser, lambda driver: site.lab.show(one.id).ends_at == one.ends_at + timedelta(hours=1))
    until(browser, lambda driver: "done=extend" in driver.current_url)
    browser.find_element(By.TAG_NAME, "summary").click()
    browser.find_element(By.CSS_SELECTOR, ".danger button").click()
    until(browser, lambda driver: "done=release" in driver.current_url)
    assert site.lab.of("ann") == ()
    assert browser.get_log("browser") == []


def test_by_keyboard_alone_with_a_conflict(browser, site):
    sign_in(browser, site, "ann")
    start = free(browser, "node-1")
    browser.execute_script("arguments[0].focus()", start)
    browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert browser.switch_to.active_element.get_attribute("aria-label").startswith("node-2: free from")
    assert len(browser.find_elements(By.CSS_SELECTOR, '.sheet a[tabindex="0"]')) == 1
    site.reserve("bob", "node-2", hours=3)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    until(browser, lambda driver: driver.find_element(By.CSS_SELECTOR, "dialog[open]"))
    browser.find_element(By.CSS_SELECTOR, 'dialog input[value="at"]').send_keys(Keys.SPACE)
    browser.find_element(By.CSS_SELECTOR, "dialog [name=reason]").send_keys("tuning", Keys.ENTER)
    alert = until(browser, lambda driver: driver.find_element(By.CSS_SELECTOR, '[role="alert"]'))
    assert "node-2 can't be had" in alert.text
    browser.find_element(By.PARTIAL_LINK_TEXT, "instead").click()
    until(browser, lambda driver: "start=" in driver.current_url)
    browser.find_element(By.CSS_SELECTOR, "main button.main").click()
    until(browser, lambda driver: "/reservations/" in driver.current_url)
    assert [one.nodes for one in site.lab.of("ann")] == [("node-2",)]


def test_without_a_token_a_click_leads_to_the_sign_in(browser, site):
    browser.delete_all_cookies()
    look(browser, site)
    free(browser, "node-1").click()
    until(browser, lambda driver: "/reserve?node=node-1" in driver.current_url)
    browser.find_element(By.PARTIAL_LINK_TEXT, "Sign in to reserve").click()
    browser.find_element(By.NAME, "token").send_keys("perfci_wrong", Keys.ENTER)
    until(browser, lambda driver: driver.find_elements(By.CSS_SELECTOR, '[role="alert"]'))
    browser.find_element(By.NAME, "token").send_keys(site.token("ann"), Keys.ENTER)
    until(browser, lambda driver: driver.find_elements(By.CSS_SELECTOR, "main button.main"))
    assert browser.find_element(By.NAME, "nodes").get_attribute("value") == "node-1"


def test_pages_fit_a_phone_and_are_readable_in_light_and_dark(browser, site):
    made = site.reserve("ann", "node-1", "node-2", reason="a reason " * 20)
    site.reserve("ann", "node-3", start=site.now + timedelta(days=1))
    sign_in(browser, site, "ann")
    browser.get_log("browser")
    for path in ("/", "/now", "/nodes/node-1", f"/reservations/{made.id}", "/reserve"):
        for width, scheme in ((360, "light"), (1200, "dark"), (1200, "light")):
            look(browser, site, path, width, scheme)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width, path
            assert browser.execute_script(_CONTRAST) == [], (path, scheme)
    assert browser.get_log("browser") == []


_CONTRAST = """
function light(c){return c.map(v=>v/255).map(v=>v<=.03928?v/12.92:((v+.055)/1.055)**2.4)
 .reduce((s,v,i)=>s+v*[.2126,.7152,.0722][i],0)}
function rgb(s){return (s.match(/[\\d.]+/g)||[]).map(Number)}
function back(e){for(;e;e=e.parentElement){const c=rgb(getComputedStyle(e).backgroundColor);
 if(c.length===3||c[3]>0)return c.slice(0,3)}return [255,255,255]}
const found=[];
for(const e of document.querySelectorAll('h1,h2,h3,p,td,th,a,.badge,span,dd,dt,b,em,button,label,legend')){
 if(!e.textContent.trim()||!e.getClientRects().length||e.closest('.past,dialog:not([open])'))continue;
 const [a,b]=[light(rgb(getComputedStyle(e).color).slice(0,3)),light(back(e))].sort((x,y)=>y-x);
 const ratio=(a+.05)/(b+.05);
 if(ratio<4.5)found.push([e.tagName,e.className,e.textContent.slice(0,30),ratio]);}
return found;
"""
