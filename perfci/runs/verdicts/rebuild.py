"""Making again what can be made again from the archive, by one command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.files import remove_folder
from perfci.results.archive import read_archive
from perfci.results.errors import ResultFileError
from perfci.results.model import FINISHED, Purpose
from perfci.runs.state.archive import run_folders
from perfci.runs.verdicts.judge import judge_run
from perfci.runs.verdicts.judgement_store import keep_judgements, unreadable
from perfci.runs.verdicts.verdict_cache import forget_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perfci.runs.verdicts.lab_services import LabServices


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What was made again: the runs that are indexed, those that were judged, and what can't be read."""

    runs: tuple[str, ...]
    judged: tuple[str, ...]
    unreadable: tuple[ResultFileError, ...]


def rebuild(services: LabServices, on_step: Callable[[str], None] = lambda _: None) -> RebuildReport:
    """Make the index and the verdicts' caches again, and the judgements that are missing or damaged.

    Judgements that can be read stay: they are what people were told. Each part changes in one step; a kill
    leaves the old part or the new one. Raises IndexUnavailable, DatabaseUnavailable, ConfirmationsUnreadable.
    """
    on_step("the index of the archive")
    index = services.local.rebuild(services.state.archive)
    forget_all(services.database)
    remove_folder(services.state.page_numbers)
    indexed = set(index.runs)
    nights = [folder.name for folder in run_folders(services.state.archive) if folder.name in indexed]
    return RebuildReport(index.runs, _judge_missing(services, nights, on_step), index.unreadable)


def judge_all(services: LabServices, on_step: Callable[[str], None] = lambda _: None) -> tuple[str, ...]:
    """Judge every archived night that was never judged, oldest first, and return their ids.

    What can't be indexed is left out. Raises IndexUnavailable, DatabaseUnavailable, ConfirmationsUnreadable.
    """
    folders = {folder.name: folder for folder in run_folders(services.state.archive)}
    nights = []
    for run_id in unreadable(services.database, folders):
        on_step(f"the results of {run_id}")
        try:
            services.local.write(read_archive(folders[run_id]))
        except ResultFileError:
            continue
        nights.append(run_id)
    return _judge_missing(services, nights, on_step)


def _judge_missing(
    services: LabServices, nights: Sequence[str], on_step: Callable[[str], None]
) -> tuple[str, ...]:
    judged: list[str] = []
    for run_id in unreadable(services.database, nights):
        record = services.local.record(run_id)
        if record.status == FINISHED and record.purpose is Purpose.NIGHT:
            on_step(f"the judgements of {run_id}")
            keep_judgements(services.database, run_id, judge_run(services, record))
            judged.append(run_id)
    return tuple(judged)
