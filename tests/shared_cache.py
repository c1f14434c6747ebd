"""Python packages that the labs of tests install: fetched and built once, in the cache of this checkout's state folder."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = Path(os.environ.get("PERFCI_STATE_DIR", Path(__file__).parents[1] / "state")) / "cache"


def share_cache(state: Path) -> None:
    """Let a new state folder use this checkout's uv cache; removing the folder removes no more than the link."""
    (CACHE / "uv").mkdir(parents=True, exist_ok=True)
    (state / "cache").mkdir(parents=True)
    (state / "cache" / "uv").symlink_to((CACHE / "uv").resolve())
