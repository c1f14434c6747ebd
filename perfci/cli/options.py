"""Options and arguments that several commands have, and what a shell completes them to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import settings_for, state_folder
from perfci.errors import PerfciError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def _completed(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return a function that completes to these names; to none where the settings can't be read."""

    def complete(incomplete: str) -> list[str]:
        try:
            return sorted(name for name in set(names()) if name.startswith(incomplete))
        except (OSError, PerfciError):
            return []

    return complete


def _jobs() -> Iterable[str]:
    return (file.stem for file in settings_for().jobs_dir.glob("*.yml"))


def _labs() -> Iterable[str]:
    return (folder.name for folder in (settings_for().root_dir / "inventory").iterdir() if folder.is_dir())


def _runs() -> Iterable[str]:
    from perfci.runs.state.archive import rerun_folders, run_folders

    archive = state_folder().archive
    return ("last", *(folder.name for folder in (*run_folders(archive), *rerun_folders(archive))))


complete_job = _completed(_jobs)
complete_run = _completed(_runs)
complete_lab = _completed(_labs)

Lab = Annotated[
    str | None,
    typer.Option(
        help="Lab to run on: a folder in inventory/. Default: the setting `lab`.", autocompletion=complete_lab
    ),
]
RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Any part of a run's id, or last, yesterday, 2026-11-30.",
        autocompletion=complete_run,
    ),
]
