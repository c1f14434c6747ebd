"""Output that a terminal of another encoding than UTF-8 can show: no sign is worth a traceback."""

from __future__ import annotations

import codecs
import sys

ERRORS = "perfci-plain"
"""Name of the handler, as `errors=` takes it."""
_PLAIN = {
    "\N{NO-BREAK SPACE}": " ",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{MIDDLE DOT}": "-",
    "\N{INFINITY}": "inf",
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{BULLET}": "*",
}


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign, "?") for sign in signs), error.end


def accept_any_text() -> None:
    """Let stdout and stderr replace what their encoding lacks: `…` becomes `...`, unknown signs `?`."""
    codecs.register_error(ERRORS, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ERRORS)
