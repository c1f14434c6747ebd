"""What the labs of tests install and build: made once, and kept in the cache of this checkout's state folder."""

from __future__ import annotations

import os
from pathlib import Path

STATE = Path(os.environ.get("PERFCI_STATE_DIR", Path(__file__).parents[1] / "state"))
SHARED = {
    "cache/uv": "cache/uv",
    "cache/databases": "cache/tests/databases",
    "venvs": "cache/tests/venvs",
    "cache/nodes/uv": "cache/nodes/uv",
    "cache/nodes/venvs": "cache/tests/nodes/venvs",
    "cache/nodes/rally": "cache/tests/nodes/rally",
    "cache/nodes/databases": "cache/tests/nodes/databases",
}
"""Folders below a lab's state folder, and below this checkout's where each really is.

Environments are apart from this checkout's own: making some removes those that were used longest ago.
"""


def share_cache(state: Path) -> None:
    """Let a new state folder use what other labs made; removing the folder removes no more than the links.

    Nothing is shared that a test may damage: each is made whole under its final name, and its name says of what.
    """
    for name, place in SHARED.items():
        link_to(state / name, STATE / place)


def link_to(link: Path, place: Path) -> None:
    """Make a link to a folder, and the folder."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(place.resolve())
