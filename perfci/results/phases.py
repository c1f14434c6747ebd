"""phases.json: what a run measured that is no Rally task, part by part and phase by phase.

```json
[{"slug": "nova_cell1-2000", "scenario": "DbMigration.nova_cell1.2000", "arguments": {"seed": 1},
  "status": "finished", "started_at": 1795240000.5, "finished_at": 1795240012.5,
  "phases": [{"action": "nova.16f1fbcab42b_resolve_shadow_table_diffs", "at": 1795240000.5,
              "values": {"seconds": 0.31, "rows_read": 2000, "rows_changed": 2000}}]},
 {"slug": "neutron-2000", "status": "crashed", "error": "..."}]
```
A part is what a task is of Rally's: its scenario, the digest of its arguments, an action and a metric name a
series. Each value is one value a run. The action `total` is the whole part.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, RootModel, model_validator
from pydantic_core import PydanticCustomError

from perfci.results.errors import PhasesError
from perfci.results.files import Amount, FromFile, Moment, Name, parse, read_bytes
from perfci.results.model import TOTAL, Measurement, Metric, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PHASES = "phases.json"
_DIGEST_DIGITS = 8
Measured = Annotated[Metric, Field(strict=False)]


class Phase(FromFile):
    """One phase: its name, when it began, and what it took in the unit of each metric."""

    action: Name
    at: Moment
    values: Annotated[dict[Measured, Amount], Field(min_length=1)]


class ProcedurePart(FromFile):
    """One part that came to its end. Times: seconds since the epoch, of the machine that drove it."""

    status: Literal["finished"]
    slug: Name
    scenario: Name
    arguments: dict[str, Any]
    started_at: Moment
    finished_at: Moment
    phases: Annotated[list[Phase], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> ProcedurePart:
        names = [phase.action for phase in self.phases]
        if len(set(names)) < len(names):
            raise PydanticCustomError("twice", "every phase once")
        if TOTAL not in names:
            raise PydanticCustomError("total", "a phase called total")
        return self

    @property
    def arguments_digest(self) -> str:
        """8 hex digits over what makes two of these parts comparable."""
        text = json.dumps(self.arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_DIGITS]

    def measurements(self, *, lab: str, job: str, run_id: str) -> Iterator[Measurement]:
        """Return each value of each phase as a measurement."""
        for phase in self.phases:
            for metric, value in phase.values.items():
                yield Measurement(
                    key=SeriesKey(lab, job, self.scenario, self.arguments_digest, phase.action, metric),
                    run_id=run_id,
                    values=(value,),
                    timestamps=(phase.at,),
                    attempts=1,
                    failures=0,
                )


class _Crashed(FromFile):
    """A part that did not come to its end: nothing of it counts."""

    status: Literal["crashed"]


class _Parts(RootModel[list[Annotated[ProcedurePart | _Crashed, Field(discriminator="status")]]]):
    pass


def has_phases(folder: Path) -> bool:
    """Say whether a run measured phases in place of Rally tasks."""
    return (folder / PHASES).exists()


def read_parts(folder: Path) -> tuple[ProcedurePart, ...]:
    """Read the parts of a run that finished, in the order in which they ran; raises PhasesError."""
    path = folder / PHASES
    found = parse(read_bytes(path, PhasesError), _Parts, path=path, error=PhasesError).root
    return tuple(part for part in found if isinstance(part, ProcedurePart))
