"""Takes secrets out of log excerpts before people outside the lab see them."""

from __future__ import annotations

import re

MASK = "********"
_PATTERNS = (
    # a URL's password: mysql+pymysql://nova:secret@127.0.0.1/nova
    (
        re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://[^/\s:@]*:)[^@\s/]+(?=@)", re.IGNORECASE),
        r"\g<keep>" + MASK,
    ),
    # password = secret, "api_key": "secret", X-Auth-Token: secret
    (
        re.compile(
            r"(?P<keep>[\"']?\b[\w-]*(?:password|passwd|secret|token|api[_-]?key)\b[\"']?"
            r"\s*[:=]\s*(?:u?[\"'])?)(?!None\b|null\b)[^\s\"',;}]{4,}",
            re.IGNORECASE,
        ),
        r"\g<keep>" + MASK,
    ),
    (re.compile(r"(?P<keep>\s--[\w-]*(?:password|secret|token)\s+)\S+", re.IGNORECASE), r"\g<keep>" + MASK),
    (re.compile(r"(?P<keep>\bAuthorization:\s*\w+\s+)\S+", re.IGNORECASE), r"\g<keep>" + MASK),
    # a Fernet token, wherever it stands
    (re.compile(r"(?P<keep>)\bgAAAAA[\w-]{20,}={0,2}"), MASK),
)


def redacted(text: str) -> str:
    """Return the text with what looks like a password, key or token replaced by `********`."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
