"""Names of the static pages: mails link to them, the report writes them.

All names are relative to the site's folder and safe in a URL and in a file system.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from perfci.names import joined

if TYPE_CHECKING:
    from perfci.results.model import SeriesKey

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
INDEX = "index.html"
COMPARE = "compare.html"
"""The page that lays any two runs beside each other; the fragment names them: `compare.html#A..B`."""


def run_page(run_id: str) -> str:
    """Return the page of one run."""
    return f"runs/{_safe(run_id)}.html"


def scenario_page(key: SeriesKey) -> str:
    """Return the page of the scenario that a series belongs to."""
    return _scenario_page(key.lab, key.job, key.scenario, key.arguments)


@lru_cache(maxsize=4096)
def _scenario_page(lab: str, job: str, scenario: str, arguments: str) -> str:
    return f"scenarios/{_safe(f'{joined(lab, job)}--{scenario}--{arguments}')}.html"


def alert_page(alert_id: str) -> str:
    """Return the page of one alert."""
    return f"alerts/{_safe(alert_id)}.html"


def job_page(lab: str, job: str, part: int = 1) -> str:
    """Return the page with all runs and the first scenarios of a job, or a later part of its scenarios."""
    return f"jobs/{_safe(joined(lab, job))}{f'.{part}' if part > 1 else ''}.html"


def comparison(before: str, after: str) -> str:
    """Return the page that compares two runs, with its fragment."""
    return f"{COMPARE}#{_safe(before)}..{_safe(after)}"


def run_data(run_id: str) -> str:
    """Return the data file of one run, which scripts load."""
    return f"runs/{_safe(run_id)}.js"


def scenario_data(key: SeriesKey) -> str:
    """Return the data file beside the page of a scenario."""
    return scenario_page(key).removesuffix(".html") + ".js"


def job_data(lab: str, job: str) -> str:
    """Return the data file with the runs that a job's pictures show."""
    return f"data/{_safe(joined(lab, job))}.js"


def anchor(key: SeriesKey) -> str:
    """Return the fragment of a series on its scenario's page."""
    return _safe(f"{key.action}--{key.metric}")


def _safe(name: str) -> str:
    return _UNSAFE.sub("_", name)
