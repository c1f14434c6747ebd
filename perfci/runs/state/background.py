"""Commands of perfci that go on when the process that started them has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.config import Settings


def in_background(settings: Settings) -> Callable[[list[str]], None]:
    """Return what starts perfci for the same lab and state in the background, its output in a log."""

    def spawn(words: list[str]) -> None:
        logs = settings.state_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PERFCI_LAB": settings.lab,
            "PERFCI_STATE_DIR": str(settings.state_dir),
            "PERFCI_ROOT_DIR": str(settings.root_dir),
        }
        with (logs / "tick.log").open("ab") as log:
            subprocess.Popen(  # it outlives this process, which lets it go
                [sys.executable, "-m", "perfci", *words],
                env=environment,
                cwd=settings.root_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    return spawn
