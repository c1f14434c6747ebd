"""`perfci analyse --what-if`: which steps would have been found in the lab's own history, and when."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfci.alerts.lifecycle import accepted_changes
from perfci.analysis.what_if import GROUPS, REACH, Found, StepSize, WhatIf
from perfci.errors import UsageError
from perfci.runs.studies.job_history import past

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.runs.verdicts.lab_services import LabServices

LIMIT_SECONDS = 120.0
"""After this no further trial is begun: the trials so far are a fair sample of all."""
RULES = (
    "perfci judged the nights alone, without re-runs. It put steps into one series in "
    f"{GROUPS} at a time and looked for them over {REACH} nights."
)
_STEP = re.compile(r"([+\-\u2212]?)\s*(\d+(?:\.\d+)?)\s*(%|ms|s)")


class StepInvalid(UsageError):
    """The value of --what-if is not a step."""

    template = "{text!r} is not a step: {problem}"
    help = 'Write a step such as "+5 %", "-10 %", "20ms" or "0.3 s".'


@dataclass(frozen=True, slots=True)
class Report:
    """What would have been found in the history of one job."""

    lab: str
    job: str
    step: str
    nights: int
    series: tuple[Found, ...]
    trials: int
    of: int
    """Trials that there would have been without the limit of time."""
    alerts: int
    judged: int

    @property
    def tried(self) -> int:
        """Steps in all series."""
        return sum(one.trials for one in self.series)

    @property
    def found(self) -> int:
        """Those of them that were found."""
        return sum(len(one.nights) for one in self.series)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {
            "lab": self.lab,
            "job": self.job,
            "step": self.step,
            "nights": self.nights,
            "rules": RULES,
            "tried": self.tried,
            "found": self.found,
            "trials": self.trials,
            "trials_planned": self.of,
            "untouched": {"alerts": self.alerts, "series_nights": self.judged},
            "series": [
                {
                    "scenario": one.key.scenario,
                    "arguments": one.key.arguments,
                    "action": one.key.action,
                    "metric": str(one.key.metric),
                    "tried": one.trials,
                    "found": len(one.nights),
                    "nights": sorted(one.nights),
                }
                for one in self.series
            ],
        }


def parse_step(text: str) -> StepSize:
    """Return the step that a person wrote. Raises StepInvalid."""
    found = _STEP.fullmatch(text.strip())
    if found is None:
        raise StepInvalid(text=text, problem="expected a number with %, ms or s")
    sign, number, unit = found.groups()
    size = float(number) * (-1 if sign in ("-", "\u2212") else 1)
    if size == 0:
        raise StepInvalid(text=text, problem="it changes nothing")
    if unit != "%":
        return StepSize(seconds=size / 1000 if unit == "ms" else size)
    if size <= -100:  # noqa: PLR2004
        raise StepInvalid(text=text, problem="nothing would be left")
    return StepSize(relative=size / 100)


def what_if(
    controller: LabServices, text: str, *, job: str | None = None, on_step: Callable[[str], None]
) -> Report:
    """Put steps into the archived history of a job and judge it again. Raises StepInvalid and NoPast."""
    step, looked_at = parse_step(text), past(controller, job)
    on_step("judging the untouched history")
    trials = WhatIf(
        looked_at.series,
        looked_at.canaries,
        controller.analysis_settings(looked_at.last),
        accepted_changes(controller.alerts.load()),
        step,
    )
    planned, end, done = trials.start(), time.monotonic() + LIMIT_SECONDS, 0
    for trial in planned:
        if time.monotonic() > end:
            break
        on_step(f"trial {done + 1} of {len(planned)}")
        trials.run(trial)
        done += 1
    return Report(
        lab=looked_at.last.lab,
        job=looked_at.last.job,
        step=text.strip(),
        nights=len({record.run_id for record in looked_at.records if record.validity.valid}),
        series=tuple(trials.found[key] for key in sorted(trials.found)),
        trials=done,
        of=len(planned),
        alerts=trials.alerts,
        judged=trials.judged,
    )
