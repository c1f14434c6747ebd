"""run.json: what ran, where, on which exact versions, how it went."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from perfci import names
from perfci.results.model import FINISHED, CodeUnderTest, RunRecord, Validity
from perfci.results.pairs import REFERENCE
from perfci.results.record import record_to_dict
from perfci.runs.state.digests import code_under_test, environment_digest
from perfci.runs.state.run_folder import utc_now
from perfci.runs.state.stages import StageFailure  # noqa: TC001 - pydantic reads annotations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.runs.state.run_folder import WorkFolder

FAILED = "failed"
VALID = Validity(valid=True)
UNKNOWN = "unknown"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended: its first failure, or which tasks gave nothing; what went wrong while cleaning up."""

    failure: StageFailure | None = None
    partial: StageFailure | None = None
    cleanup_errors: Sequence[str] = ()
    validity: Validity = VALID
    at: datetime | None = None
    """When that was; None is now."""

    @property
    def status(self) -> str:
        """`finished` or `failed`."""
        return FAILED if self.failure else FINISHED


@dataclass(frozen=True, slots=True)
class _Ended:
    """The end of a run as progress.json has it."""

    at: AwareDatetime
    failure: StageFailure | None
    partial: StageFailure | None
    cleanup_errors: tuple[str, ...]
    validity: Validity


_ENDED = "ended"
_NOTED = TypeAdapter(_Ended)


def note_end(work: WorkFolder, ended: RunEnd) -> None:
    """Note how a run ended, for the next start: this one may not get as far as run.json. Raises OSError."""
    noted = _Ended(
        ended.at or utc_now(), ended.failure, ended.partial, tuple(ended.cleanup_errors), ended.validity
    )
    work.note(**{_ENDED: _NOTED.dump_python(noted, mode="json")})


def noted_end(work: WorkFolder) -> RunEnd | None:
    """Return how a run ended, as it noted itself; None where it did not, or that is damaged."""
    try:
        noted = _NOTED.validate_python(work.notes().get(_ENDED))
    except ValidationError:
        return None
    return RunEnd(noted.failure, noted.partial, noted.cleanup_errors, noted.validity, noted.at)


def document(work: WorkFolder, ended: RunEnd) -> dict[str, Any]:
    """Return run.json for a run that ended, from what its stages left in the working folder.

    Also works for a run that was killed at any moment: what is missing is told as missing, not guessed.
    """
    notes = work.notes()
    record = run_record(work, ended)
    code, facts = work.read("code.json"), work.read("environment.json")
    return {
        **record_to_dict(record),
        "environment": {"digest": record.environment, "facts": facts},
        "failure": ended.failure.as_dict() if ended.failure else None,
        "partial": ended.partial.as_dict() if ended.partial else None,
        "cleanup_errors": list(ended.cleanup_errors),
        "stages": _list(notes.get("stages")),
        "nodes": _list(notes.get("nodes")),
        "mirrors": _mirrors(work.read("mirror.json")),
        "versions": code.get("packages", {}) if isinstance(code, dict) else {},
        "perfci": notes.get("perfci", ""),
        **{name: notes[name] for name in ("step", "lost", "alone", "system") if name in notes},
        **_reference(work),
    }


def run_record(work: WorkFolder, ended: RunEnd) -> RunRecord:
    """Return what an index needs to know of this run."""
    notes = work.notes()
    facts = work.read("environment.json")
    known = names.parts_of(work.run_id)
    at, job = known or ("", UNKNOWN)
    return RunRecord(
        run_id=work.run_id,
        lab=str(notes.get("lab", UNKNOWN)),
        job=str(notes.get("job", job)),
        cloud=str(notes.get("cloud", UNKNOWN)),
        started_at=_time(notes.get("started_at", at)),
        finished_at=ended.at or utc_now(),
        environment=environment_digest(
            facts=facts if isinstance(facts, dict) else {},
            job_digest=str(notes.get("job_digest", "")),
            nodes=list(map(str, _list(notes.get("nodes")))),
        ),
        code=_code(work),
        validity=ended.validity,
        status=ended.status,
        confirms=notes.get("confirms"),
        reference=_reference(work).get("reference", {}).get("digest"),
    )


def _reference(work: WorkFolder) -> dict[str, Any]:
    """Say which code the cloud beside the code under test had, in a run that had one."""
    file = f"{REFERENCE}/code.json"
    if work.read(file) is None:
        return {}
    found = _code(work, file)
    return {"reference": {"digest": found.digest, "services": [asdict(one) for one in found.services]}}


def _code(work: WorkFolder, file: str = "code.json") -> CodeUnderTest:
    """Return what code.json says was deployed; nothing where it is missing or damaged."""
    found = work.read(file)
    try:
        return code_under_test(found["services"] if isinstance(found, dict) else [])
    except (KeyError, TypeError, AttributeError):
        _logger.exception("%s: %s is damaged", work.run_id, file)
        return code_under_test([])


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


def _mirrors(found: object) -> list[str]:
    """Say which copies of repositories were used because they could not be fetched, and how old they are."""
    mirrors = found if isinstance(found, dict) else {}
    return [
        f"{name}: fetched {one.get('fetched')} ({one.get('age_hours')} h old), as {one['problem']}"
        for name, one in sorted(mirrors.items())
        if isinstance(one, dict) and one.get("problem")
    ]


def _time(text: object) -> datetime:
    try:
        found = datetime.fromisoformat(str(text))
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except ValueError:
        return utc_now()
