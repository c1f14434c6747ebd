"""What a bisect found, as its mail, its picture and its table tell it: plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfci.changes.model import Change
    from perfci.results.model import Metric


@dataclass(frozen=True, slots=True)
class BisectRow:
    """One place that was measured, or left out.

    `place` counts revisions from 0, the good end; the newest revision and the one with the culprit taken back
    come behind them (`at_head`). `level` is in the unit of the metric, `low` to `high` its 95 % interval;
    None where nothing was measured, and `note` says why.
    """

    place: int
    what: str
    subject: str
    runs: int
    level: float | None
    low: float | None
    high: float | None
    at_head: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class BisectStory:
    """A bisect for people.

    `headline` is a few words for a subject, with nothing in it that strangers wrote; `verdict` one or two
    sentences. `culprits` are the changes that are named; `proven` says that both proofs stand, or that the
    second is not possible. `address` is the author's, if exactly one change is proven and its author has one.
    `steps` are the names of all suspects in their order; `culprit_at` is the revision with which it became
    worse. `command` repeats it.
    """

    title: str
    job: str
    series: str
    metric: Metric
    end: str
    headline: str
    verdict: str
    command: str
    culprits: tuple[Change, ...] = ()
    proven: bool = False
    address: str | None = None
    probability: float = 0.0
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    steps: tuple[str, ...] = ()
    culprit_at: int | None = None
    rows: tuple[BisectRow, ...] = ()
    remarks: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    inside: BisectStory | None = field(default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "title": self.title,
            "job": self.job,
            "series": self.series,
            "metric": str(self.metric),
            "end": self.end,
            "verdict": self.verdict,
            "proven": self.proven,
            "probability": self.probability,
            "effect": self.effect,
            "low": self.low,
            "high": self.high,
            "culprits": [
                {
                    "project": one.project,
                    "commit": one.commit,
                    "subject": one.subject,
                    "author": one.author.name if one.author else None,
                    "link": one.link,
                }
                for one in self.culprits
            ],
            "measured": [
                {
                    "what": one.what,
                    "subject": one.subject,
                    "runs": one.runs,
                    "level": one.level,
                    "low": one.low,
                    "high": one.high,
                    "note": one.note,
                }
                for one in self.rows
            ],
            "remarks": list(self.remarks),
            "runs": list(self.runs),
            "command": self.command,
            "inside": self.inside.as_dict() if self.inside else None,
        }
