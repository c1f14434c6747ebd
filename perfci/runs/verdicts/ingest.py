"""Taking archived runs in: from another controller, or into an index that lost them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from perfci.results.archive import read_archive

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.results.model import RunResults
    from perfci.runs.verdicts.lab_services import LabServices


def ingest(controller: LabServices, folder: Path) -> RunResults:
    """Copy an archive folder into this archive, unless it is there, and index it.

    Doing it again changes nothing. Raises ArchiveError, ReportError or CountersError before anything
    is copied, and IndexDamaged.
    """
    folder = folder.resolve()
    results = read_archive(folder)
    target = controller.state.archive / folder.name
    if not target.exists():
        controller.state.archive.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{folder.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(folder, scratch)
        scratch.rename(target)
    controller.local.write(results)
    return results
