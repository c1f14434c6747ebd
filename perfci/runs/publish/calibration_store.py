"""What the series of a job can show, as it was last worked out: one JSON file per lab and job.

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
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from perfci.analysis.calibration import NIGHTS, SeriesCalibration
from perfci.wording import action_name, change, noise_sources, quantity

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
_SERIES = TypeAdapter(tuple[SeriesCalibration, ...])


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the series of one job on one lab can show."""

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "scenario", "action", "level", "runs", "run to run", *(f"MDE {n}" for n in NIGHTS), "noise from",
    )  # fmt: skip

    lab: str
    job: str
    environment: str
    runs: tuple[str, ...]
    series: tuple[SeriesCalibration, ...]

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table for people; `MDE n` is the smallest change that n nights can prove."""
        return [
            (
                one.key.scenario,
                action_name(one.key),
                quantity(one.location, one.key.metric),
                str(one.runs),
                change(one.scale, one.key.metric).lstrip("+"),
                *(change(one.mde.get(n), one.key.metric).lstrip("+") for n in NIGHTS),
                noise_sources(one.budget),
            )
            for one in self.series
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the calibration as it stands in its file."""
        return {
            "schema": SCHEMA,
            "lab": self.lab,
            "job": self.job,
            "environment": self.environment,
            "runs": list(self.runs),
            "series": _SERIES.dump_python(self.series, mode="json"),
        }


def calibration_file(root: Path, lab: str, job: str) -> Path:
    """Return where a calibration is kept below the state folder."""
    return root / "calibration" / f"{lab}-{job}.json"


def read_calibration(root: Path, lab: str, job: str) -> Calibration | None:
    """Return the published calibration of a job; None where there is none, or of an older perfci."""
    try:
        found = json.loads(calibration_file(root, lab, job).read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            return None
        return Calibration(
            lab=str(found["lab"]),
            job=str(found["job"]),
            environment=str(found["environment"]),
            runs=tuple(map(str, found["runs"])),
            series=_SERIES.validate_python(found["series"]),
        )
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
