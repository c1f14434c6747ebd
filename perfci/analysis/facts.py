"""What a night has decided, as facts: the changes that it opened and ended, and the false alarms it saw.

A verdict follows from the histories and from these facts. A replay *follows* the nights that have facts, and
decides only nights that have none. So it may begin anywhere, on as many nights as there are, with other
settings or another version: a change that is open stays open, with the level before it, until a later night
ends it. Facts are kept for good, one document a night; nothing of a replay needs to be.

```json
{"format": 1, "run_id": "20261121T...", "found": 1, "lab_moved": 0,
 "judged": [["seconds", false, 212]], "alarms": [["seconds", false, 2, 1e-05]],
 "opened": [{"part": {"key": [...], "environment": "...", "tail": false}, "worse": true, "q_value": 0.01,
             "confirmed": false, "before": [["20261001T...", -0.94, 0.01, [], "code"]], "after": [...]}],
 "ended": [{"part": {...}, "settled": false, "kept": 2, "visits": [-0.9]}],
 "refuted": [{...}], "doubted": [], "watched": [{"part": {...}, "window": 2, "proofs": [[2, 0.0004]]}]}
```
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import TypeAdapter

# Needed at run time: facts are read back from JSON by their types.
from perfci.analysis.evidence import RunValue  # noqa: TC001
from perfci.analysis.failures import FailureTally  # noqa: TC001
from perfci.results.model import Metric, SeriesKey  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
"""Changes only with a migration of what is kept: facts outlive versions."""


class TrackKey(NamedTuple):
    """What is tracked on its own: a series in an environment, of a timing also its tail."""

    key: SeriesKey
    environment: str
    tail: bool


@dataclass(frozen=True, slots=True)
class OpenedChange:
    """A change that was proven. `before` are the baseline's latest runs, `after` those of the change so far.

    `confirmed` says that re-runs have proven it, not the night's own rules.
    """

    part: TrackKey
    worse: bool
    q_value: float
    before: tuple[RunValue | FailureTally, ...]
    after: tuple[RunValue | FailureTally, ...]
    confirmed: bool = False

    @property
    def since(self) -> str:
        """The first run of the change."""
        return self.after[0].run_id


@dataclass(frozen=True, slots=True)
class EndedChange:
    """A change that is over: gone, or (`settled`) the baseline from now on.

    The latest `kept` of its runs are back at the old level. `visits` are the levels, in logarithms, that the
    series has visited and left so far.
    """

    part: TrackKey
    settled: bool
    kept: int
    visits: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """What looked like a change that night: the p-values by the number of runs that spoke."""

    part: TrackKey
    window: int
    proofs: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class NightFacts:
    """The decisions of one night, and what it adds to what is known of false alarms.

    `found` counts the discoveries. `judged` are the series without a change by kind (metric, tail), `alarms`
    the false alarms that were recognised as such: kind, number of runs that spoke, p-value. `lab_moved` says
    how many nights ago the lab's canaries moved for good, 0 if they did not. `refuted` are the changes that
    re-runs refuted, `doubted` those that have lasted in spite of that, so that they are asked about again.
    """

    run_id: str
    found: int = 0
    lab_moved: int = 0
    judged: tuple[tuple[Metric, bool, int], ...] = ()
    alarms: tuple[tuple[Metric, bool, int, float], ...] = ()
    opened: tuple[OpenedChange, ...] = ()
    ended: tuple[EndedChange, ...] = ()
    refuted: tuple[TrackKey, ...] = ()
    doubted: tuple[TrackKey, ...] = ()
    watched: tuple[Watched, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known beside the histories: the nights that were decided, by run id.

    `accepted` names per series the last run before somebody accepted its change as the new normal: what the
    nights up to it decided about this series no longer counts.
    """

    nights: Mapping[str, NightFacts] = field(default_factory=dict)
    accepted: Mapping[SeriesKey, str] = field(default_factory=dict)

    def counts(self, part: TrackKey, run_id: str) -> bool:
        """Say whether what a night decided about a series still counts."""
        return run_id > self.accepted.get(part.key, "")


_NIGHT = TypeAdapter(NightFacts)


def facts_as_dict(facts: NightFacts) -> dict[str, Any]:
    """Return a night's facts as plain JSON."""
    found: dict[str, Any] = _NIGHT.dump_python(facts, mode="json")
    return {"format": FORMAT, **found}


def facts_from_dict(document: object) -> NightFacts:
    """Return a night's facts from JSON. Raises ValueError (pydantic's, too) for anything else."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("not the facts of a night")
    return _NIGHT.validate_python({name: value for name, value in document.items() if name != "format"})
