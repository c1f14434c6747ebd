"""Names of the static pages: mails link to them, the report writes them.

All names are relative to the site's folder and safe in a URL and in a file system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.names import joined

if TYPE_CHECKING:
    from perfci.results.model import SeriesKey

INDEX = "index.html"


def run_page(run_id: str) -> str:
    """Return the page of one run."""
    return f"runs/{_safe(run_id)}.html"


def scenario_page(key: SeriesKey) -> str:
    """Return the page of the scenario that a series belongs to."""
    return f"scenarios/{_safe(f'{joined(key.lab, key.job)}--{key.scenario}--{key.arguments}')}.html"


def anchor(key: SeriesKey) -> str:
    """Return the fragment of a series on its scenario's page."""
    return _safe(f"{key.action}--{key.metric}")


def _safe(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
