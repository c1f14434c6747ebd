"""The changes between what two words of a person mean: runs, steps, dates or revisions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from perfci.changes.between import moment_of
from perfci.changes.pin_moves import read_pins
from perfci.changes.super_repository import SUPER
from perfci.changes.suspects import Installed, SlowTarget
from perfci.projects import project
from perfci.runs.jobs.clouds import SERVICES
from perfci.runs.state.archive import find_run
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.verdicts.repositories import repositories
from perfci.runs.verdicts.run_changes import between_moments, between_runs, moment_of_run

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.changes.between import CodeMoment
    from perfci.changes.clones import Clones
    from perfci.config import Settings
    from perfci.runs.verdicts.run_changes import RunChanges

CONSTRAINTS = "roles/openstack_code/files/constraints.txt"
_RUN = re.compile(r"^(last|\d{8}T\d{2,6}\w*(-.*)?)$")
"""What is taken for a run, or the beginning of its id: `20261121T0851`; dates have dashes, steps no T."""


def changes_of(
    settings: Settings, archive: Path, old: str, new: str, *, scenario: str | None = None
) -> RunChanges:
    """Return the changes between two words. Raises RunNotFound, and as `moment_of` and `changes_between`."""
    clones = repositories(settings, fresh=(SUPER, *SERVICES, "requirements"))
    target = SlowTarget(project(scenario), (scenario,)) if scenario else None
    documents = [_document(archive, one) for one in (old, new)]
    first, last = documents
    if first is not None and last is not None:
        return between_runs(clones, first, last, target)
    start, end = _moment(clones, old, first), _moment(clones, new, last)
    pins = read_pins((settings.root_dir / CONSTRAINTS).read_text(encoding="utf-8"))
    return between_moments(clones, start, end, Installed(frozenset(SERVICES), frozenset(pins)), target)


def _document(archive: Path, word: str) -> dict[str, Any] | None:
    """Return run.json of a run, None for what is none."""
    return ArchivedRun(find_run(archive, word)).document if _RUN.match(word) else None


def _moment(clones: Clones, word: str, document: dict[str, Any] | None) -> CodeMoment:
    return moment_of(word, clones) if document is None else moment_of_run(document, clones)
