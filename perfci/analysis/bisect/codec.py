"""A bisect as JSON and back, so that it can be killed anywhere and go on."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from perfci.analysis.bisect.machine import BisectState
from perfci.analysis.bisect.model import BisectPoint, BisectQuestion, BisectSettings, Costs, Kind, Observation
from perfci.analysis.variance import VarianceLevels

if TYPE_CHECKING:
    from collections.abc import Mapping


def as_dict(state: BisectState) -> dict[str, Any]:
    """Return a state as plain values for JSON; no limit of minutes is None."""
    question = asdict(state.question)
    if math.isinf(state.question.most_minutes):
        question["most_minutes"] = None
    return {
        "question": question,
        "seen": [{**asdict(one), "point": _point(one.point)} for one in state.seen],
        "broken": [_point(one) for one in state.broken],
        "refused": list(state.refused),
        "unrevertable": list(state.unrevertable),
        "minutes": state.minutes,
    }


def from_dict(document: Mapping[str, Any]) -> BisectState:
    """Return the state that `as_dict` wrote; raises KeyError, TypeError or ValueError for anything else."""
    asked = dict(document["question"])
    if asked["most_minutes"] is None:
        asked["most_minutes"] = math.inf
    asked["plausibility"] = tuple(asked["plausibility"])
    asked["noise"] = VarianceLevels(**asked["noise"])
    asked["costs"] = Costs(**asked["costs"])
    asked["settings"] = BisectSettings(**asked["settings"])
    return BisectState(
        BisectQuestion(**asked),
        tuple(Observation(**{**one, "point": _read(one["point"])}) for one in document["seen"]),
        tuple(_read(one) for one in document["broken"]),
        tuple(document["refused"]),
        tuple(document["unrevertable"]),
        document["minutes"],
    )


def _point(point: BisectPoint) -> list[str | int]:
    return [str(point.kind), point.index]


def _read(point: list[Any]) -> BisectPoint:
    kind, index = point
    return BisectPoint(Kind(kind), index)
