"""HTML that mails and pages have in common."""

from __future__ import annotations

import re

from markupsafe import Markup

_JOINT = re.compile(r"(?<=[._/-])")


def breakable(name: str) -> Markup:
    """Return a long name as HTML that may be broken after its dots, underscores, slashes and hyphens."""
    return Markup("<wbr>").join(_JOINT.split(name))
