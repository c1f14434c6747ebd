"""What a trial can show. It stands alone, so that who reads old verdicts does not import the statistics."""

from __future__ import annotations

from enum import StrEnum


class Decision(StrEnum):
    """What a trial has shown so far."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"
