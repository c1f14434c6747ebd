"""What the series of a job can show, as it was last worked out: one row of the database per lab and job.

```json
{"schema": 1, "lab": "embedded", "job": "nightly", "environment": "0123456789ab", "runs": ["2026..."],
 "series": [{"key": {"lab": "embedded", "...": "..."}, "runs": 8, "location": 0.46, "scale": 0.012,
             "mde": {"1": 0.12, "2": 0.09, "3": 0.08, "5": 0.07, "8": 0.06},
             "budget": {"iterations": 2e-05, "run": null, "deployment": 0.0001}}]}
```
MDE and `scale` are relative, `location` is in the unit of the metric, the budget holds variances of
logarithms.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from perfci.analysis.calibration import SeriesCalibration
from perfci.database import schema
from perfci.errors import LabError
from perfci.parsing import json_value

if TYPE_CHECKING:
    from perfci.database.engine import Database

SCHEMA = 1
_SERIES = TypeAdapter(tuple[SeriesCalibration, ...])


class CalibrationDamaged(LabError):
    """The calibration of a job can't be read from the database."""

    template = "the calibration of {lab}/{job} can't be read: {reason}"
    help = "Compute it again from the job's runs: `perfci calibrate {job} --from-history`."


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the series of one job on one lab can show."""

    lab: str
    job: str
    environment: str
    runs: tuple[str, ...]
    series: tuple[SeriesCalibration, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the calibration as JSON."""
        return {
            "schema": SCHEMA,
            "lab": self.lab,
            "job": self.job,
            "environment": self.environment,
            "runs": list(self.runs),
            "series": _SERIES.dump_python(self.series, mode="json"),
        }


def keep_calibration(database: Database, found: Calibration) -> None:
    """Publish a calibration in the place of the job's earlier one."""
    table = schema.calibration
    mine = (table.c.lab == found.lab) & (table.c.job == found.job)
    with database.transaction() as connection:
        connection.execute(table.delete().where(mine))
        document = json.dumps(found.as_dict())
        connection.execute(table.insert().values(lab=found.lab, job=found.job, document=document))


def read_calibration(database: Database, lab: str, job: str) -> Calibration | None:
    """Return the published calibration of a job; None where there is none, or of an older perfci.

    Raises CalibrationDamaged.
    """
    table = schema.calibration
    wanted = sa.select(table.c.document).where(table.c.lab == lab, table.c.job == job)
    with database.reading() as connection:
        document = connection.scalar(wanted)
    if document is None:
        return None
    try:
        found = json_value(document)
        if found["schema"] != SCHEMA:
            return None
        return Calibration(
            lab=lab,
            job=job,
            environment=str(found["environment"]),
            runs=tuple(map(str, found["runs"])),
            series=_SERIES.validate_python(found["series"]),
        )
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise CalibrationDamaged(lab=lab, job=job, reason=reason) from error
