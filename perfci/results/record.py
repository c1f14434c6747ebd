"""run.json: the record of a run as JSON, written and read.

```json
{"schema": 1, "run_id": "20261121T041500Z-nightly-1f2e", "lab": "embedded", "job": "nightly",
 "cloud": "embedded", "started_at": "2026-11-21T04:15:00.000000+00:00", "finished_at": "...",
 "environment": {"digest": "0123456789ab"},
 "code": {"digest": "ba9876543210", "services": [{"service": "nova", "version": "34.0.0",
          "source": "wheel", "revision": "34.0.0", "changes": ["slow.patch@1f2e3d4c"]}]},
 "validity": {"valid": true, "reasons": []}, "status": "finished", "purpose": "night"}
```
A re-run has the purpose `confirm`, and `"confirms": "20261121T041500Z-nightly-1f2e"`: the run whose verdict
it is to confirm. A run of two sides has `"reference": {"digest": "0a1b2c3d4e5f"}`, the code beside the code
under test, and where only its pairs count, `"pairs_only": true` in `validity`.
Other keys may stand beside these, on every level; they are passed over here.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, Field

from perfci import names  # noqa: TC001 - pydantic reads annotations
from perfci.results.errors import ArchiveError
from perfci.results.files import FromFile, Name, parse, read_bytes
from perfci.results.model import FINISHED, CodeUnderTest, RunRecord, ServiceRevision, Validity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = 1
"""Version of run.json; a change that older readers would misread gets a new number."""


class _Environment(FromFile):
    digest: Name


class _Service(FromFile):
    service: Name
    version: str
    source: str
    revision: str
    changes: list[str] = Field(default_factory=list)


class _Code(FromFile):
    digest: Name
    services: list[_Service]


class _Validity(FromFile):
    valid: bool
    reasons: list[str] = Field(default_factory=list)
    level_since: Name | None = None
    pairs_only: bool = False


class _Reference(FromFile):
    digest: Name


class _Record(FromFile):
    version: Literal[1] = Field(alias="schema")
    run_id: Name
    lab: Name
    job: Name
    cloud: Name
    started_at: AwareDatetime
    finished_at: AwareDatetime
    environment: _Environment
    code: _Code
    validity: _Validity
    status: Name = FINISHED
    confirms: Name | None = None
    reference: _Reference | None = None


class _RunFile(_Record):
    """run.json, which may come from elsewhere: folders and files are named by what it says."""

    run_id: names.RunId
    lab: names.Lab
    job: names.Job
    confirms: names.RunId | None = None


def record_to_dict(record: RunRecord) -> dict[str, Any]:
    """Return a record as it stands in run.json."""
    return {
        "schema": SCHEMA,
        "run_id": record.run_id,
        "lab": record.lab,
        "job": record.job,
        "cloud": record.cloud,
        "started_at": _iso(record.started_at),
        "finished_at": _iso(record.finished_at),
        "environment": {"digest": record.environment},
        "code": {
            "digest": record.code.digest,
            "services": [
                {
                    "service": service.service,
                    "version": service.version,
                    "source": service.source,
                    "revision": service.revision,
                    "changes": list(service.changes),
                }
                for service in record.code.services
            ],
        },
        "validity": _validity(record.validity),
        "status": record.status,
        "purpose": str(record.purpose),
        **({"confirms": record.confirms} if record.confirms is not None else {}),
        **({"reference": {"digest": record.reference}} if record.reference is not None else {}),
    }


def record_from_dict(value: Mapping[str, Any], where: str = "run.json") -> RunRecord:
    """Return the record that JSON holds; `where` names its place in errors. Raises ArchiveError."""
    return _record(json.dumps(value).encode(), where, _RunFile)


def record_from_json(text: str, where: str) -> RunRecord:
    """Return the record in a JSON text that a store keeps; raises ArchiveError."""
    return _record(text.encode(), where, _Record)


def read_record(path: Path) -> RunRecord:
    """Read run.json; raises ArchiveError."""
    return record_from_bytes(read_bytes(path, ArchiveError), path)


def record_from_bytes(content: bytes, path: Path) -> RunRecord:
    """Return the record in what run.json at `path` holds; raises ArchiveError."""
    return _record(content, path, _RunFile)


def _record(content: bytes, where: Path | str, form: type[_Record]) -> RunRecord:
    found = parse(content, form, path=where, error=ArchiveError)
    return RunRecord(
        run_id=found.run_id,
        lab=found.lab,
        job=found.job,
        cloud=found.cloud,
        started_at=_utc(found.started_at),
        finished_at=_utc(found.finished_at),
        environment=found.environment.digest,
        code=CodeUnderTest(
            found.code.digest,
            tuple(
                ServiceRevision(s.service, s.version, s.source, s.revision, tuple(s.changes))
                for s in found.code.services
            ),
        ),
        validity=Validity(
            found.validity.valid,
            tuple(found.validity.reasons),
            found.validity.level_since,
            found.validity.pairs_only,
        ),
        status=found.status,
        confirms=found.confirms,
        reference=found.reference.digest if found.reference else None,
    )


def _validity(validity: Validity) -> dict[str, Any]:
    since = {"level_since": validity.level_since} if validity.level_since is not None else {}
    pairs = {"pairs_only": True} if validity.pairs_only else {}
    return {"valid": validity.valid, "reasons": list(validity.reasons), **since, **pairs}


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
