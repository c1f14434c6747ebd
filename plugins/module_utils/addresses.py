"""Addresses of repositories as they may be shown; standard library only."""

from __future__ import annotations

import re


def without_credentials(text: str) -> str:
    """Return a text without the users and passwords in the addresses in it."""
    return re.sub(r"(\b[a-z][a-z0-9+.-]*://)[^/\s]+@", r"\1", text)
