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
    from perfci.results.model import RunRecord, SeriesKey, ServiceRevision

METHOD = (
    "perfci compares the runs since the change with the runs of the baseline. Each run counts with "
    "the middle of its iterations, without warm-up and failed ones. The interval is at 95 %. q is "
    "the expected share of false alarms among findings as clear as this one, over all series and the "
    "nights of a week (online control of the false discovery rate). It takes this lab's own false "
    "alarms into account."
)

METHOD_OF_PAIRS = (
    "Each iteration is paired with one on the reference, a second cloud beside the code under test, "
    "within the same second, so whatever the machine does to both cancels out. The effect is the "
    "middle of the pairs' ratios. The 95 % interval also covers the luck by which two deployments of "
    "the same code differ. q is the expected share of false alarms among findings as clear as this "
    "one."
)


@dataclass(frozen=True, slots=True)
class MailContext:
    """What is known around a notification.

    `judgements` are those of the run, `histories` of (at least) the series of the alert, up to that run;
    beside a ratio to a reference they have its seconds. `reference` is the code of that cloud.
    `lab_state` is a sentence on canaries and foreign load; `calibrations` say what series can show.
    `suspects` are the changes in between, where repositories are known that have them. `bisect` is which
    change a bisect found. `records` are those of the job's runs up to this one, by id.
    """

    record: RunRecord | None = None
    judgements: tuple[Judgement, ...] = ()
    histories: tuple[SeriesHistory, ...] = ()
    lab_state: str = ""
    reference: tuple[ServiceRevision, ...] = ()
    calibrations: Mapping[SeriesKey, SeriesCalibration] = field(default_factory=dict)
    suspects: SuspectList | None = None
    records: Mapping[str, RunRecord] = field(default_factory=dict)
    bisect: BisectStory | None = None
    by_key: Mapping[SeriesKey, Judgement] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_key", {judgement.key: judgement for judgement in self.judgements})
