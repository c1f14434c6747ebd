"""What the bisect of an alert found: kept for the alert's page, also while the bisect is not finished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfci.files import write_json
from perfci.parsing import json_value
from perfci.report.model import AlertBisect, BisectCulprit, BisectPlace
from perfci.results.model import Metric
from perfci.runs.publish.suspect_store import SAFE

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.alerts.bisect_story import BisectStory

FOLDER = "bisects"


def keep_bisect(state: Path, alert: str, story: BisectStory) -> None:
    """Keep what the bisect of an alert found, all of it or nothing. Raises OSError."""
    if not SAFE.match(alert):
        return
    folder = state / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{alert}.json", _document(story))


def kept_bisect(state: Path, alert: str) -> AlertBisect | None:
    """Return what was kept of an alert; None where nothing was, or it can't be read."""
    if not SAFE.match(alert):
        return None
    try:
        return _read(json_value((state / FOLDER / f"{alert}.json").read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _document(story: BisectStory) -> dict[str, Any]:
    return {
        "title": story.title,
        "series": story.series,
        "metric": str(story.metric),
        "end": story.end,
        "verdict": story.verdict,
        "command": story.command,
        "culprits": [
            {
                "name": one.name,
                "subject": one.subject,
                "author": one.author.name if one.author else "",
                "link": one.link,
            }
            for one in story.culprits
        ],
        "culprit_at": story.culprit_at,
        "places": [
            {
                "place": one.place,
                "what": one.what,
                "subject": one.subject,
                "runs": one.runs,
                "level": one.level,
                "low": one.low,
                "high": one.high,
                "at_head": one.at_head,
                "note": one.note,
            }
            for one in story.rows
        ],
        "remarks": list(story.remarks),
        "inside": None if story.inside is None else _document(story.inside),
    }


def _read(found: dict[str, Any]) -> AlertBisect:
    return AlertBisect(
        title=found["title"],
        series=found["series"],
        metric=Metric(found["metric"]),
        end=found["end"],
        verdict=found["verdict"],
        command=found["command"],
        culprits=tuple(BisectCulprit(**one) for one in found["culprits"]),
        culprit_at=found["culprit_at"],
        places=tuple(BisectPlace(**one) for one in found["places"]),
        remarks=tuple(found["remarks"]),
        inside=None if found["inside"] is None else _read(found["inside"]),
    )
