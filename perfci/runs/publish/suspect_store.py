"""What was found of an alert's changes when its mail was made: kept for the pages, asked of git once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from perfci.files import write_json
from perfci.parsing import json_value
from perfci.report.model import AlertSuspects, SuspectRow

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.alerts.mail_suspects import SuspectList

FOLDER = "suspects"
SAFE = re.compile(r"^[A-Za-z0-9._-]+$")
"""Ids of alerts that can be names of files."""


def keep_suspects(state: Path, alert: str, found: SuspectList) -> None:
    """Keep what was found of an alert, all of it or nothing."""
    document: dict[str, Any] = {
        "suspects": [
            {
                "project": one.change.project,
                "commit": one.change.commit,
                "subject": one.change.subject,
                "author": one.change.author.name if one.change.author else "",
                "link": one.change.link,
                "share": one.plausibility,
            }
            for one in found.suspects
        ],
        "remarks": list(found.remarks),
        "acquitted": found.acquitted,
        "problem": found.problem,
    }
    if not SAFE.match(alert):
        return
    folder = state / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{alert}.json", document)


def kept_suspects(state: Path, alert: str) -> AlertSuspects | None:
    """Return what was kept of an alert; None where nothing was, or it can't be read."""
    if not SAFE.match(alert):
        return None
    try:
        found = json_value((state / FOLDER / f"{alert}.json").read_bytes())
        rows = tuple(SuspectRow(**one) for one in found["suspects"])
        return AlertSuspects(alert, rows, tuple(found["remarks"]), found["acquitted"], found["problem"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
