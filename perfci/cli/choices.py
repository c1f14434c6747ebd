"""Options that exclude each other."""

from __future__ import annotations

from perfci.errors import UsageError


class ChoiceUnclear(UsageError):
    """Two options were given that exclude each other, or none of them."""

    template = "expected {choices}"
    help = "`perfci lab {command} --help` shows both forms."
