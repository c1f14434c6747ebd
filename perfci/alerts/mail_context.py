"""What is known around a notification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfci.alerts.bisect_story import BisectStory
    from perfci.alerts.mail_suspects import SuspectList
    from perfci.analysis.calibration import SeriesCalibration
    from perfci.analysis.types import Judgement, SeriesHistory
    from perfci.results.model import RunRecord, SeriesKey

METHOD = (
    "The runs since the change are compared with the baseline's runs, each by the middle of its iterations; "
    "warm-up and failed iterations are left out. The interval is at 95 %. q is the share of false alarms to "
    "expect among findings as clear as this one, over all series and the nights of a week (online control "
    "of the false discovery rate), with what this lab's own false alarms have taught."
)


@dataclass(frozen=True, slots=True)
class MailContext:
    """What is known around a notification.

    `judgements` are those of the run, `histories` of (at least) the series of the alert, up to that run.
    `lab_state` is a sentence on canaries and foreign load; `method` is how verdicts are found;
    `calibrations` say what series can show. `suspects` are the changes in between, where repositories are
    known that have them. `bisect` is which change a bisect found. `records` are those of the job's runs up to
    this one, by id.
    """

    record: RunRecord | None = None
    judgements: tuple[Judgement, ...] = ()
    histories: tuple[SeriesHistory, ...] = ()
    lab_state: str = ""
    method: str = METHOD
    calibrations: Mapping[SeriesKey, SeriesCalibration] = field(default_factory=dict)
    suspects: SuspectList | None = None
    records: Mapping[str, RunRecord] = field(default_factory=dict)
    bisect: BisectStory | None = None
    by_key: Mapping[SeriesKey, Judgement] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_key", {judgement.key: judgement for judgement in self.judgements})
