"""What a night tells while it runs: which stage it is in, what it does there, how the stage ended."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told what happens; prints it, or doesn't."""

    def begin(self, stage: str) -> None:
        """Say that a stage begins."""

    def step(self, text: str) -> None:
        """Say what the stage is doing just now."""

    def end(self, stage: str, note: str, seconds: float, *, ok: bool) -> None:
        """Say how a stage ended."""

    def say(self, text: str) -> None:
        """Say something that is not a stage."""


class Silent:
    """For `--json` and for tests."""

    def begin(self, stage: str) -> None:
        """Do nothing."""

    def step(self, text: str) -> None:
        """Do nothing."""

    def end(self, stage: str, note: str, seconds: float, *, ok: bool) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""
