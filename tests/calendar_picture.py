"""The picture of the lab's calendar, taken from the page that perfci serves today; `pictures.py` calls it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from web_site import HOUR, WebSite

from perfci.lab.model import Node
from perfci.lab.reservations.model import Actor, NodeWish, Request
from perfci.lab.reservations.nights import Nights, Plan
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.web import server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

NODES = tuple(Node(f"node-{number}", labels={"cores": "32"}) for number in range(1, 13))
DAY = timedelta(days=1)
ME = "placement"


def lab(folder: Path) -> WebSite:
    """Return a lab in use, at ten in the morning of this day, which the browser's clock has too."""
    now = datetime.now(UTC).replace(hour=9, minute=12, second=0, microsecond=0)
    site = WebSite(folder, NODES, now=now - 7 * HOUR)
    night = Plan(
        "nightly", "perfci", NodeWish(2, frozenset({"node-4", "node-5"})), 5 * HOUR, 2 * HOUR,
        tuple(site.now + day * DAY for day in range(12)),
    )  # fmt: skip
    Nights(site.lab, "controller").plan(night)
    site.reserve("neutron", "node-1", "node-2", "node-3", hours=55, reason="bisecting the port list")
    site.now = now - 2 * HOUR
    site.reserve(ME, "node-7", "node-8", hours=50, reason="10k allocations")
    site.reserve(ME, "node-10", hours=5, reason="a new inventory")
    site.now = now
    for who, names, days, hours, reason in (
        (ME, ("node-1", "node-2"), 4, 60, "consumer types"),
        ("nova", ("node-3",), 3.5, 30, "libvirt"),
        ("large-ops", ("node-7",), 5, 100, "large ops, 1000 servers"),
        ("gerrit", ("node-9",), 1.2, 72, "reviewing the metadata agent"),
        ("neutron", ("node-10", "node-11", "node-12"), 6, 30, "OVN"),
    ):
        site.reserve(who, *names, hours=hours, start=now + days * DAY, reason=reason)
    waits = Request(
        NodeWish(3, frozenset({"node-9", "node-10", "node-12"})), 12 * 3600, "x", wait_seconds=None
    )
    site.lab.reserve(waits, Actor("glance"))
    NodeOrders(site.lab).quarantine(
        "node-11", "power failed 2 times in a row: BMC does not answer", Actor("root", admin=True)
    )
    return site


@contextmanager
def served(site: WebSite) -> Iterator[str]:
    """Serve a lab's page on a free port of this machine, and give its address."""
    listening = server.listen("127.0.0.1", 0)
    threading.Thread(target=server.serve, args=(site.app, listening), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.close()


def taken(browser: Chrome, folder: Path, *, width: int = 1200, scheme: str = "light") -> bytes:
    """Return the first view of the calendar, as somebody sees it who has signed in."""
    site = lab(folder)
    with served(site) as address:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        browser.get(f"{address}/sign-in?next=/")
        browser.find_element(By.NAME, "token").send_keys(site.token(ME), Keys.ENTER)
        WebDriverWait(browser, 30).until(lambda driver: "Sign out" in driver.page_source)
        browser.get(address)
        return browser.get_screenshot_as_png()
