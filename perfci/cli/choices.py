"""Options that exclude each other."""

from __future__ import annotations

from perfci.errors import UsageError


class ChoiceUnclear(UsageError):
    """The command has two options that exclude each other, or neither."""

    template = "expected {choices}"
    help = "`perfci lab {command} --help` shows both forms."
