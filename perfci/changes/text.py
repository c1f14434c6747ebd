"""Text that strangers wrote, such as subjects and names, as one harmless line."""

from __future__ import annotations

import unicodedata

MOST_CHARACTERS = 160
_READ = 4 * MOST_CHARACTERS
"""How many characters are looked at: a subject may have a million."""


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return text as one line without control, format or private characters, cut at `most` characters.

    Format characters (category Cf) include those that turn the direction of the text around them. What
    shows the line escapes it for its own form (HTML, mail); nothing is escaped here.
    """
    start = text[: max(_READ, most + 1)]
    kept = "".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in start)
    line = " ".join(kept.split())
    if len(line) > most or len(text) > len(start):
        return line[: most - 1].rstrip() + "…"
    return line
