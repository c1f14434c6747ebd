"""Data that pages load when somebody asks for it: scripts that hand over JSON, so that file:// works as well.

`pages.js` knows their form. Numbers keep four significant digits, more than any table shows.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from perfci import pages, wording
from perfci.analysis.quantiles import LEAST, quantiles
from perfci.analysis.types import Outcome
from perfci.projects import project
from perfci.report.model import BY_RATIO, NOT_JUDGED, TONES
from perfci.report.points import FAILURES, HIGH, LOW, MIDDLE, VALUES
from perfci.results.model import COUNTERS, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perfci.analysis.types import Judgement
    from perfci.report.model import RunReport
    from perfci.report.points import Array, SeriesTrend, TrendRun
    from perfci.results.model import CodeUnderTest, Measurement, SeriesKey

DIGITS = 4
LEVELS = tuple(n / 20 for n in range(21))
"""Of a distribution: every twentieth; every tenth of them is compared."""
DECILES = slice(2, 20, 2)
OUTCOMES = (*map(str, TONES), BY_RATIO, NOT_JUDGED)


def script(name: str, data: object) -> str:
    """Return a data file: a call that hands the data over under its name."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A line separator is no line end in JSON, but was one in scripts.
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return f"perfci.put({json.dumps(name)},{text})\n"


def short(value: float | None) -> float | int | None:
    """Return a number with four significant digits; None for what is none."""
    if value is None or not math.isfinite(value):
        return None
    found = float(f"{value:.{DIGITS}g}")
    return int(found) if found.is_integer() else found


def service_of(key: SeriesKey) -> str:
    """Return the project that a series measures: that of its service, its action or its scenario."""
    return project(key.scenario if key.metric not in COUNTERS and "." not in key.action else key.action)


def series_table(keys: Sequence[SeriesKey]) -> tuple[str, str]:
    """Return name and content of the file that says what the series of runs are.

    Runs with the same series share it: its name is made from its content.
    """
    scenarios = sorted({(one.scenario, one.arguments, pages.scenario_page(one)) for one in keys})
    place = {one: n for n, one in enumerate(scenarios)}
    listed = [
        [
            place[one.scenario, one.arguments, pages.scenario_page(one)],
            wording.action_name(one),
            pages.anchor(one),
            service_of(one),
            str(one.metric),
        ]
        for one in keys
    ]
    data = {"outcomes": OUTCOMES, "scenarios": scenarios, "series": listed}
    digest = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:12]
    name = f"data/series-{digest}"
    return f"{name}.js", script(name, data)


def packages(versions: dict[str, str]) -> tuple[str, str]:
    """Return name and content of the file with the packages of runs; those with the same ones share it."""
    digest = hashlib.sha256(json.dumps(versions, sort_keys=True).encode()).hexdigest()[:12]
    name = f"data/packages-{digest}"
    return f"{name}.js", script(name, versions)


def run_files(run: RunReport) -> dict[str, str]:
    """Return the data files of one run: what was measured, the verdicts, and what ran."""
    judged = {one.key: one for one in run.judgements}
    measured = {one.key: one for one in run.measurements}
    keys = sorted(judged.keys() | measured.keys())
    series_name, series = series_table(keys)
    packages_name, versions = packages(dict(sorted(run.versions.items())))
    name = pages.run_data(run.record.run_id)
    data = {
        "run": run.record.run_id,
        "when": wording.run_moment(run.record.run_id),
        "valid": run.record.validity.valid,
        "environment": run.record.environment,
        "series": series_name.removesuffix(".js"),
        "packages": packages_name.removesuffix(".js"),
        "code": {one.service: wording.revision_name(one) for one in run.record.code.services},
        "rows": [
            _row(judged.get(key), measured.get(key), BY_RATIO if ratio_of(key) in judged else NOT_JUDGED)
            for key in keys
        ],
        "distributions": _distributions(keys, measured),
    }
    return {series_name: series, packages_name: versions, name: script(name.removesuffix(".js"), data)}


def ratio_of(key: SeriesKey) -> SeriesKey | None:
    """Return the series that has the verdict of a timing beside a reference; None where it is no timing."""
    return replace(key, metric=Metric.RATIO) if key.metric is Metric.SECONDS else None


def _row(judgement: Judgement | None, measured: Measurement | None, without: str) -> list[float | int | None]:
    """Return outcome (`without` a judgement), effect, interval, q, MDE, level before and level after."""
    value = float(np.median(measured.values)) if measured and measured.values else None
    if judgement is None:
        return [OUTCOMES.index(without), None, None, None, None, None, None, short(value)]
    after = judgement.after
    numbers = (
        judgement.effect, judgement.low, judgement.high, judgement.q_value, judgement.mde,
        judgement.baseline_location, value if after is None else after,
    )  # fmt: skip
    return [OUTCOMES.index(str(judgement.outcome)), *map(short, numbers)]


def _distributions(
    keys: Sequence[SeriesKey], measured: dict[SeriesKey, Measurement]
) -> dict[int, list[list[float | int | None]]]:
    """Return, by place of the series, quantiles of its iterations and the errors of the deciles."""
    wanted: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        if key.metric is Metric.SECONDS and key in measured and len(measured[key].values) >= LEAST:
            wanted.setdefault(len(measured[key].values), []).append(place)
    found: dict[int, list[list[float | int | None]]] = {}
    for places in wanted.values():
        estimates, errors = quantiles([measured[keys[place]].values for place in places], LEVELS)
        for place, middle, error in zip(places, estimates.tolist(), errors[:, DECILES].tolist(), strict=True):
            found[place] = [[short(one) for one in middle], [float(f"{one:.2g}") for one in error]]
    return dict(sorted(found.items()))


def job_file(name: str, runs: Sequence[TrendRun], codes: dict[str, str]) -> str:
    """Return the data file with the runs that a job's pictures show, and the words for their code."""
    digests = sorted({run.code for run in runs})
    data = {
        "runs": [run.run_id for run in runs],
        "unfit": [n for n, run in enumerate(runs) if not run.valid],
        "code": [digests.index(run.code) for run in runs],
        "codes": [codes.get(digest, digest) for digest in digests],
    }
    return script(name.removesuffix(".js"), data)


def scenario_file(
    name: str, job: str, first: int, shown: Iterable[SeriesTrend], pictures: dict[str, str]
) -> str:
    """Return the data file of a scenario: the numbers of its series, and the pictures that are folded."""
    data = {
        "job": job.removesuffix(".js"),
        "first": first,
        "series": {pages.anchor(one.key): _numbers(one) for one in shown},
        "pictures": pictures,
    }
    return script(name.removesuffix(".js"), data)


def _numbers(one: SeriesTrend) -> dict[str, object]:
    measured = one.measured()
    found: dict[str, Any] = {"metric": str(one.key.metric)}
    if len(measured.places) < len(one.runs):
        found["at"] = measured.places.tolist()
    found["middle"] = _shortened(measured.numbers[:, MIDDLE])
    if (measured.numbers[:, LOW] != measured.numbers[:, HIGH]).any():
        found["low"] = _shortened(measured.numbers[:, LOW])
        found["high"] = _shortened(measured.numbers[:, HIGH])
    for name, column in (("values", VALUES), ("failures", FAILURES)):
        numbers = measured.numbers[:, column].astype(int).tolist()
        found[name] = numbers if len(set(numbers)) > 1 else numbers[0] if numbers else 0
    return found


def _shortened(column: Array) -> list[float | int]:
    """Return numbers with four significant digits, all of a column at a time."""
    with np.errstate(divide="ignore"):
        power = np.floor(np.log10(np.abs(column)))
    scale = 10.0 ** (DIGITS - 1 - np.where(np.isfinite(power), power, 0.0))
    return [int(one) if one.is_integer() else one for one in (np.rint(column * scale) / scale).tolist()]


def code_text(code: CodeUnderTest) -> str:
    """Return which code ran: what was put on top, or came from git; else only its digest."""
    special = [
        f"{service.service} {wording.revision_name(service)}"
        for service in code.services
        if service.changes or service.source != "wheel"
    ]
    return f"code {code.digest}{': ' if special else ''}{'; '.join(special)}"


def is_calm(outcome: Outcome) -> bool:
    """Tell whether a run's page leaves a verdict folded."""
    return outcome in (Outcome.NO_CHANGE, Outcome.NO_BASELINE, Outcome.INVALID)
