"""The README's pictures can be taken again, and are those that it names."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from browser import chromium
from pictures import HEIGHTS, WIDTH, lab, pictures
from PIL import Image
from programs import needs

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@needs("chromium", "chromedriver")
def test_the_pictures_are_taken_of_what_perfci_writes_today(tmp_path):
    services, letter = lab(tmp_path / "state")
    browser = chromium(tmp_path / "profile")
    try:
        found = pictures(browser, services, letter)
    finally:
        browser.quit()
    for name, content in found.items():
        assert len(content) < 150_000
        size = Image.open(io.BytesIO(content)).size
        assert size == (WIDTH, HEIGHTS[name]) if name in HEIGHTS else size[0] == 760


def test_the_readme_names_all_of_them():
    named = set(re.findall(r"docs/pictures/(\w+)\.png", (ROOT / "README.md").read_text()))
    assert named >= {"mail", *HEIGHTS}
    assert all((ROOT / "docs" / "pictures" / f"{one}.png").is_file() for one in named)
