"""Taking runs in: archived ones of another controller, or anybody's results of Rally."""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from perfci.files import copy_folder, move
from perfci.results.archive import TASKS
from perfci.results.errors import NotRallyResults, ReportError
from perfci.results.model import CodeUnderTest, Purpose, RunRecord, Validity
from perfci.results.rally import read_report
from perfci.results.rally_forms import write_reports
from perfci.results.record import record_to_dict
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.run_folder import RUN
from perfci.runs.verdicts.judge import judge_run
from perfci.runs.verdicts.judgement_store import keep_judgements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from perfci.results.model import RunResults
    from perfci.results.rally_forms import FoundReport
    from perfci.runs.verdicts.lab_services import LabServices


def ingest(controller: LabServices, folder: Path) -> RunResults:
    """Copy an archive folder into this archive, unless it is there, and index it.

    A re-run goes to the re-runs, which are in no index. Doing it again changes nothing. Raises
    ArchiveError, ReportError or CountersError before anything is copied, and IndexDamaged and OSError.
    """
    folder = folder.resolve()
    results = ArchivedRun(folder).results
    archive = controller.state.archive_for(results.record.confirms)
    if not (archive / folder.name).exists():
        archive.mkdir(parents=True, exist_ok=True)
        copy_folder(folder, archive / folder.name)
    if results.record.purpose is not Purpose.CONFIRM:
        controller.local.write(results)
    return results


@dataclass(frozen=True, slots=True)
class TakenRun:
    """A run that was taken in: its series, and iterations that were left out by scenario (`Load.dropped`)."""

    run_id: str
    series: int
    dropped: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class RallyFile:
    """Somebody's results of Rally; `required`: nothing is taken in where it has none."""

    name: str
    source: Callable[[], AbstractContextManager[IO[bytes]]]
    required: bool = True


@dataclass(frozen=True, slots=True)
class TakenResults:
    """The runs that were taken in, by their times, and the files that were left out."""

    runs: tuple[TakenRun, ...]
    left_out: tuple[NotRallyResults, ...]


def ingest_rally(controller: LabServices, files: Iterable[RallyFile], *, lab: str, job: str) -> TakenResults:
    """Take in Rally's results: each task becomes a run of `job` on `lab`, in the order of their times.

    Every file is read before the first run is taken in, one iteration at a time; doing it again changes
    nothing. The runs are judged. Nobody hears of them. Raises ReportError, IndexDamaged and OSError.
    """
    found: dict[str, _Run] = {}
    left_out = []
    with tempfile.TemporaryDirectory(prefix="perfci-rally-") as scratch:
        for number, file in enumerate(files):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            try:
                runs = _runs_in(file, folder, lab=lab, job=job)
            except NotRallyResults as error:
                if file.required:
                    raise
                left_out.append(error)
            else:
                found.update({run.record.run_id: run for run in runs})
        in_order = [found[run_id] for run_id in sorted(found)]
        taken = [_taken(ingest(controller, run.write(Path(scratch)))) for run in in_order]
    for run in in_order:
        keep_judgements(controller.database, run.record.run_id, judge_run(controller, run.record))
    return TakenResults(tuple(taken), tuple(left_out))


def _taken(results: RunResults) -> TakenRun:
    return TakenRun(results.record.run_id, len(results.measurements), results.dropped)


def _runs_in(file: RallyFile, folder: Path, *, lab: str, job: str) -> list[_Run]:
    with ExitStack() as opened:
        try:
            source = opened.enter_context(file.source())
        except OSError as error:
            found, expected = error.strerror or str(error), "a file that can be read"
            raise NotRallyResults(path=file.name, place="file", found=found, expected=expected) from error
        reports = write_reports(source, file.name, folder)
    for report in reports:
        try:
            read_report(report.path, lab=lab, job=job, run_id="checked")
        except ReportError as error:
            raise NotRallyResults(**{**error.fields, "path": file.name}) from error
    return [_Run(lab, job, file.name, report) for report in reports]


class _Run:
    """One task that somebody ran with Rally, as a run of ours; what was deployed is not known."""

    def __init__(self, lab: str, job: str, name: str, report: FoundReport) -> None:
        self._name = name
        self._report = report
        self.record = RunRecord(
            run_id=f"{_moment(report.start):%Y%m%dT%H%M%SZ}-{job}-{report.digest[:4]}",
            lab=lab,
            job=job,
            cloud="unknown",
            started_at=_moment(report.start),
            finished_at=_moment(report.end),
            environment=hashlib.sha256(f"rally {lab}".encode()).hexdigest()[:12],
            code=CodeUnderTest("0" * 12, ()),
            validity=Validity(valid=True),
        )

    def write(self, folder: Path) -> Path:
        """Write the archive folder of the run, to which the report moves; return it."""
        run = folder / self.record.run_id
        (run / "rally").mkdir(parents=True, exist_ok=True)
        move(self._report.path, run / "rally" / "01-rally.json")
        task = {
            "status": "finished",
            "slug": "01-rally",
            "task": "rally",
            "scenario": ", ".join(self._report.scenarios),
            "warmup": 0,
            "started_at": self._report.start,
            "finished_at": self._report.end,
            "error": None,
        }
        (run / TASKS).write_text(json.dumps([task]), encoding="utf-8")
        document = {**record_to_dict(self.record), "failure": None, "stages": [], "nodes": []}
        document["source"] = {"rally": Path(self._name).name}
        (run / RUN).write_text(json.dumps(document, indent=1), encoding="utf-8")
        return run


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
