"""From the store's histories to judgements, kept beside the archive as a derived file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from perfci.alerts.lifecycle import accepted_changes
from perfci.analysis.types import Judgement, Outcome, RunPoint, SeriesHistory
from perfci.analysis.verdict import judge
from perfci.results.archive import CANARIES
from perfci.results.canaries import read_canaries
from perfci.results.errors import CanariesError
from perfci.results.model import Metric, SeriesKey
from perfci.runs.work import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perfci.results.canaries import NodeCanaries
    from perfci.results.model import RunRecord
    from perfci.results.stores.base import History
    from perfci.runs.controller import Controller

_HISTORY_RUNS = 120
CANARY = "canary"
"""The scenario under which the lab's own workloads are series."""
_JUDGEMENTS = TypeAdapter(tuple[Judgement, ...])
_ORDER = (
    Outcome.REGRESSION,
    Outcome.IMPROVEMENT,
    Outcome.TOO_NOISY,
    Outcome.INVALID,
    Outcome.NO_DATA,
    Outcome.NO_BASELINE,
    Outcome.NO_CHANGE,
)


def judge_run(controller: Controller, record: RunRecord) -> tuple[Judgement, ...]:
    """Judge every series of one run against its history, and keep the answers."""
    histories = [series_history(one) for one in controller.local.histories(record.run_id, _HISTORY_RUNS)]
    judgements = judge(
        histories,
        settings=controller.analysis_settings(record),
        accepted=accepted_changes(controller.alerts.load()),
        canaries=canary_histories(controller, record),
    )
    folder = controller.state.judgements
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{record.run_id}.json", [asdict(one) for one in judgements])
    return judgements


def canary_histories(controller: Controller, record: RunRecord) -> list[SeriesHistory]:
    """Return each canary of each node through the job's runs, from the archive, as series of the lab."""
    points: dict[SeriesKey, list[RunPoint]] = {}
    records = controller.local.records(record.lab, record.job, until=record.run_id, limit=_HISTORY_RUNS)
    for one in records:
        for node in _canaries(controller.state.archive / one.run_id):
            for name in sorted({*node.before, *node.after}):
                rounds = (node.before.get(name), node.after.get(name))
                values = tuple(value for value in rounds if value is not None)
                key = SeriesKey(record.lab, record.job, CANARY, node.node, name, Metric.SECONDS)
                points.setdefault(key, []).append(_canary_point(one, values))
    return [SeriesHistory(key, tuple(found)) for key, found in sorted(points.items())]


def _canaries(folder: Path) -> tuple[NodeCanaries, ...]:
    """Return a run's canaries; none where its archive is elsewhere, or they can't be read."""
    try:
        return read_canaries(folder / CANARIES)
    except CanariesError:
        return ()


def _canary_point(record: RunRecord, values: tuple[float, ...]) -> RunPoint:
    return RunPoint(
        run_id=record.run_id,
        environment=record.environment,
        code=record.code.digest,
        values=values,
        attempts=len(values),
        failures=0,
        valid=record.validity.valid,
    )


def series_history(history: History) -> SeriesHistory:
    """Return a store's history as the analysis wants it."""
    return SeriesHistory(
        history.key,
        tuple(
            RunPoint(
                run_id=record.run_id,
                environment=record.environment,
                code=record.code.digest,
                values=measurement.values,
                attempts=measurement.attempts,
                failures=measurement.failures,
                valid=record.validity.valid,
            )
            for record, measurement in history.points
        ),
    )


def read_judgements(folder: Path, run_id: str) -> tuple[Judgement, ...]:
    """Return what was said of a run; nothing where it was not judged, or by an older perfci."""
    try:
        return _JUDGEMENTS.validate_python(json.loads((folder / f"{run_id}.json").read_text()))
    except (OSError, ValueError, ValidationError):
        return ()


def summary(judgements: Sequence[Judgement]) -> str:
    """Say in a few words what came out: `2 regression, 40 no change`."""
    count = Counter(judgement.outcome for judgement in judgements)
    return ", ".join(f"{count[outcome]} {outcome}" for outcome in _ORDER if count[outcome])


def verdict(judgements: Sequence[Judgement], *, valid: bool, needed: int) -> str:
    """Return the night's verdict in one phrase: its worst outcome."""
    if not valid:
        return str(Outcome.INVALID)
    outcomes = {judgement.outcome for judgement in judgements}
    for outcome in (Outcome.REGRESSION, Outcome.IMPROVEMENT, Outcome.NO_CHANGE, Outcome.TOO_NOISY):
        if outcome in outcomes:
            return str(outcome)
    return f"no baseline yet ({needed} runs are needed)" if judgements else str(Outcome.NO_DATA)


def as_json(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Return judgements for `--json`."""
    return [{**asdict(one), "label": one.key.label} for one in judgements]


def exit_code(judgements: Sequence[Judgement]) -> int:
    """Return 1 where something is slower, else 0."""
    return int(any(one.outcome is Outcome.REGRESSION for one in judgements))
