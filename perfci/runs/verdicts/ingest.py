"""Taking runs in: archived ones of another controller, or anybody's results of Rally."""

from __future__ import annotations

import hashlib
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfci.files import copy_folder
from perfci.results.archive import TASKS
from perfci.results.errors import ReportError
from perfci.results.model import CodeUnderTest, Purpose, RunRecord, Validity
from perfci.results.rally import read_report
from perfci.results.rally_forms import reports_in
from perfci.results.record import record_to_dict
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.run_folder import RUN
from perfci.runs.verdicts.judge import judge_run
from perfci.runs.verdicts.judgement_store import keep_judgements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfci.results.model import RunResults
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


def ingest_rally(
    controller: LabServices, contents: Mapping[str, bytes], *, lab: str, job: str
) -> tuple[RunResults, ...]:
    """Take in Rally's results: each task becomes a run of `job` on `lab`, in the order of their times.

    `contents` are files by name. Every file is read before the first run is taken in; doing it again changes
    nothing. The runs are judged. Nobody hears of them. Raises ReportError and IndexDamaged.
    """
    found = [
        _Report(lab, job, name, report)
        for name, content in contents.items()
        for report in reports_in(content, name)
    ]
    found.sort(key=lambda report: report.record.run_id)
    with tempfile.TemporaryDirectory(prefix="perfci-rally-") as scratch:
        folders = {report.record.run_id: report.write(Path(scratch)) for report in found}
        taken = [ingest(controller, folder) for folder in folders.values()]
    for results in taken:
        judgements = judge_run(controller, results.record)
        keep_judgements(controller.database, results.record.run_id, judgements)
    return tuple(taken)


class _Report:
    """One task that somebody ran with Rally, as a run of ours; what was deployed is not known."""

    def __init__(self, lab: str, job: str, name: str, report: dict[str, Any]) -> None:
        self._name = name
        self._text = json.dumps(report, sort_keys=True)
        digest = hashlib.sha256(self._text.encode()).hexdigest()
        with tempfile.TemporaryDirectory(prefix="perfci-rally-") as scratch:
            path = Path(scratch) / "report.json"
            path.write_text(self._text, encoding="utf-8")
            try:
                read_report(path, lab=lab, job=job, run_id="checked")
            except ReportError as error:
                raise ReportError(**{**error.fields, "path": name}) from error
        workloads = report["tasks"][0]["subtasks"][0]["workloads"]
        data = [one for workload in workloads for one in workload["data"]]
        self._scenarios = ", ".join(dict.fromkeys(next(iter(one["scenario"])) for one in workloads))
        self._start = min(one["timestamp"] for one in data)
        self._end = max(one["timestamp"] + max(one["duration"], 0) for one in data)
        self.record = RunRecord(
            run_id=f"{_moment(self._start):%Y%m%dT%H%M%SZ}-{job}-{digest[:4]}",
            lab=lab,
            job=job,
            cloud="unknown",
            started_at=_moment(self._start),
            finished_at=_moment(self._end),
            environment=hashlib.sha256(f"rally {lab}".encode()).hexdigest()[:12],
            code=CodeUnderTest("0" * 12, ()),
            validity=Validity(valid=True),
        )

    def write(self, folder: Path) -> Path:
        """Write the archive folder of the run; return it."""
        run = folder / self.record.run_id
        (run / "rally").mkdir(parents=True, exist_ok=True)
        (run / "rally" / "01-rally.json").write_text(self._text, encoding="utf-8")
        task = {
            "status": "finished",
            "slug": "01-rally",
            "task": "rally",
            "scenario": self._scenarios,
            "warmup": 0,
            "started_at": self._start,
            "finished_at": self._end,
            "error": None,
        }
        (run / TASKS).write_text(json.dumps([task]), encoding="utf-8")
        document = {**record_to_dict(self.record), "failure": None, "stages": [], "nodes": []}
        document["source"] = {"rally": Path(self._name).name}
        (run / RUN).write_text(json.dumps(document, indent=1), encoding="utf-8")
        return run


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
