"""What a person sees while a night runs: one line per stage, with its seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from types import TracebackType

    from rich.status import Status


class Terminal:
    """A spinner with the present step on a terminal; only the stages' last lines in a pipe."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._status: Status | None = None
        self._stage = ""
        self._since = 0.0

    def begin(self, stage: str) -> None:
        """Start the spinner."""
        self._stage, self._since = stage, time.monotonic()
        if self._console.is_terminal:
            self._status = self._console.status(self._stage)
            self._status.start()

    def step(self, text: str) -> None:
        """Show the step beside the spinner."""
        if self._status is not None:
            seconds = time.monotonic() - self._since
            self._status.update(f"[bold]{self._stage}[/bold] {seconds:4.0f} s  {escape(text)}")

    def end(self, stage: str, note: str, seconds: float, *, ok: bool) -> None:
        """Replace the spinner with the stage's result."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        mark = "[green]ok[/green]    " if ok else "[red]failed[/red]"
        self._console.print(f"{stage:<10} {mark} {seconds:6.1f} s  {escape(note)}".rstrip(), soft_wrap=True)

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, soft_wrap=True, markup=False)

    def __enter__(self) -> Self:
        """Return itself; leaving stops a spinner that an error left turning."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the spinner."""
        if self._status is not None:
            self._status.stop()
