"""The README's pictures can be taken again and are those that it names; their mail leads to the answer."""

from __future__ import annotations

import io
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from browser import chromium
from nights import PATCH
from pictures import HEIGHTS, WIDTH, lab, pictures, whole
from PIL import Image
from programs import needs
from selenium.webdriver.common.by import By

ROOT = Path(__file__).parents[2]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and writes nothing of it to the terminal."""

    def log_message(self, *_):
        """See BaseHTTPRequestHandler."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A browser, and a lab whose pages are served where its mails say that they are."""
    folder = tmp_path_factory.mktemp("shown")
    state = folder / "state"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=state / "site"))
    Thread(target=server.serve_forever, daemon=True).start()
    browser = chromium(folder / "profile")
    try:
        yield browser, *lab(state, f"http://127.0.0.1:{server.server_port}/")
    finally:
        browser.quit()
        server.shutdown()
        server.server_close()


@pytest.mark.slow
@needs("chromium", "chromedriver")
def test_the_pictures_are_taken_of_what_perfci_writes_today(shown):
    for name, content in pictures(*shown).items():
        assert len(content) < 150_000
        size = Image.open(io.BytesIO(content)).size
        assert size == (WIDTH, HEIGHTS[name]) if name in HEIGHTS else size[0] == 760


@pytest.mark.slow
@needs("chromium", "chromedriver")
@pytest.mark.parametrize("width", [1200, 390])
def test_one_click_leads_from_the_mail_to_change_distribution_and_the_command_to_try_a_fix(
    shown, tmp_path, width
):
    browser, _, letter = shown
    (tmp_path / "mail.html").write_text(whole(letter), encoding="utf-8")
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get((tmp_path / "mail.html").as_uri())
    browser.find_element(By.CSS_SELECTOR, 'a[href*="/alerts/"]').click()
    (changed,) = [
        one for one in browser.find_elements(By.TAG_NAME, "section") if "code that differs" in one.text
    ]
    assert PATCH in changed.text
    assert changed.rect["y"] < 900, "the change is on the first screen"
    picture = browser.find_element(By.CSS_SELECTOR, "#distribution details[open] svg.shares")
    assert picture.is_displayed()
    assert picture.rect["width"] <= width
    assert "perfci try" in browser.find_element(By.ID, "do").text


def test_the_readme_names_all_of_them():
    named = set(re.findall(r"docs/pictures/(\w+)\.png", (ROOT / "README.md").read_text()))
    assert named >= {"mail", *HEIGHTS}
    assert all((ROOT / "docs" / "pictures" / f"{one}.png").is_file() for one in named)
