"""The pictures in the README, taken again from what perfci writes today.

    python tests/pictures.py [FOLDER]        (default: docs/pictures; needs Chromium and chromedriver)

The nights are made up, their iterations are not: they are drawn from recorded reports of Rally, and a slow-down
is put on top of the last ones. Verdicts, alert, mail and pages are perfci's own.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import calendar_picture
from archives import SAMPLE
from browser import chromium
from nights import LAB, PATCH, PORTS, SLOW, History, seconds_key
from PIL import Image

from perfci import pages
from perfci.alerts.lifecycle import process
from perfci.alerts.model import JudgedRun
from perfci.config import load
from perfci.results.model import Measurement, RunResults
from perfci.results.record import record_to_dict
from perfci.runs.publish.notify import compose_letters
from perfci.runs.publish.site_data import write_site
from perfci.runs.verdicts.judge import judge_run
from perfci.runs.verdicts.judgement_store import keep_judgements
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from email.message import EmailMessage

    from selenium.webdriver import Chrome

    from perfci.results.model import RunRecord

NIGHTS, SLOW_NIGHTS = 40, 4
STAGES = (
    ("reserve", 0.2),
    ("deploy", 131.0),
    ("hammer", 246.0),
    ("collect", 9.0),
    ("analyse", 3.1),
    ("publish", 1.2),
)
WIDTH = 1000
HEIGHTS = {"overview": 760, "run": 900, "alert": 1010, "scenario": 900}
"""So much of each page is in its picture, from its top."""


def main(folder: Path) -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        services, letter = lab(Path(scratch) / "state")
        browser = chromium(Path(scratch) / "profile")
        try:
            calendar = Path(scratch) / "calendar"
            calendar.mkdir()
            found = pictures(browser, services, letter)
            for name, content in {
                **found,
                "calendar": small(calendar_picture.taken(browser, calendar)),
            }.items():
                (folder / f"{name}.png").write_bytes(content)
                sys.stdout.write(f"{name}.png {len(content) / 1000:.0f} kB\n")
        finally:
            browser.quit()


def lab(state: Path, base_url: str = "") -> tuple[LabServices, EmailMessage]:
    """Return a lab with all its nights, its pages written, and the mail about the slow-down.

    The mail links to pages below `base_url`, if there is one.
    """
    environ = {"PERFCI_STATE_DIR": str(state), "PERFCI_LAB": LAB}
    served = {"PERFCI_MAIL__BASE_URL": base_url} if base_url else {}
    services = LabServices(load(environ=environ | served))
    history, letters = History(), []
    for number in range(NIGHTS):
        slow = number >= NIGHTS - SLOW_NIGHTS
        record = history.play(*((PATCH,) if slow else ()), factors=SLOW if slow else None)
        results = RunResults(record, tuple(_measured(history, record)))
        _archive(services, record)
        services.local.write(results)
        judgements = judge_run(services, record)
        keep_judgements(services.database, record.run_id, judgements)
        alerts, told = process(services.alerts.load(), JudgedRun(record, judgements, history.records))
        services.alerts.save(alerts)
        letters += [one.message for one in compose_letters(services, told, record, judgements)]
    write_site(services)
    return services, letters[0]


def _measured(history: History, record: RunRecord) -> list[Measurement]:
    found = []
    for key, points in history.points.items():
        values = points[-1].values
        found.append(
            Measurement(key, record.run_id, values, tuple(map(float, range(len(values)))), len(values), 0)
        )
    return found


def _archive(services: LabServices, record: RunRecord) -> None:
    folder = services.state.archive / record.run_id
    folder.mkdir(parents=True)
    stages = [{"name": name, "seconds": seconds, "ok": True} for name, seconds in STAGES]
    document = {
        **record_to_dict(record),
        "failure": None,
        "stages": stages,
        "versions": {"oslo.db": "17.2.0"},
    }
    (folder / "run.json").write_text(json.dumps(document))
    shutil.copytree(SAMPLE / "canaries", folder / "canaries")


def pictures(browser: Chrome, services: LabServices, letter: EmailMessage) -> dict[str, bytes]:
    """Return the pictures by name: the mail as a whole, of pages the top."""
    site = services.state.site
    (alert,) = services.alerts.load().alerts
    shown = {
        "overview": pages.INDEX,
        "run": pages.run_page(alert.opened),
        "alert": pages.alert_page(alert.id),
        "scenario": pages.scenario_page(seconds_key("total", PORTS)),
    }
    found = {name: shot(browser, site / page, HEIGHTS[name]) for name, page in shown.items()}
    mail = services.state.root / "mail.html"
    mail.write_text(whole(letter), encoding="utf-8")
    return {"mail": shot(browser, mail, None, width=760), **found}


def whole(letter: EmailMessage) -> str:
    """Return a mail's HTML with its pictures inside."""
    body = letter.get_body(("html",))
    assert body is not None
    html = body.get_content()
    for part in letter.walk():
        if part.get_content_maintype() == "image":
            data = base64.b64encode(part.get_payload(decode=True)).decode()
            html = html.replace(
                f"cid:{part['Content-ID'].strip('<>')}", f"data:{part.get_content_type()};base64,{data}"
            )
    return html


def shot(browser: Chrome, file: Path, height: int | None, *, width: int = WIDTH) -> bytes:
    """Return a picture of a page, of all of it without `height`."""
    size = {"width": width, "height": height or 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    browser.get(file.as_uri())
    if height is None:
        whole = browser.execute_script("return document.documentElement.scrollHeight")
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "height": whole})
    return small(browser.get_screenshot_as_png())


def small(png: bytes) -> bytes:
    """Return a picture with 256 colours, which is more than a page needs."""
    target = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        target, "PNG", optimize=True
    )
    return target.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1] / "docs" / "pictures")
