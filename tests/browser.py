"""A real browser for tests, without a window and without anything of its own on the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from programs import path_of
from selenium import webdriver

if TYPE_CHECKING:
    from pathlib import Path

ALL_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def chromium(profile: Path, flags: tuple[str, ...] = ALL_FLAGS) -> webdriver.Chrome:
    """Start Chromium with an empty profile; the caller quits it. Its console is kept: `get_log("browser")`."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(path_of("chromium"))
    for flag in (*flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(str(path_of("chromedriver"))))
