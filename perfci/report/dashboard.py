"""The Grafana dashboards as code: what dashboards/*.json is made from.

Queries are InfluxQL on the schema of docs/influxdb.md. Variables are Grafana's own: `$lab` and so on
are filled in by Grafana, `$timeFilter` and `$__interval` by its InfluxDB data source.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from perfci.files import write_whole
from perfci.results.model import FINISHED, TOTAL, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA_SOURCE_UID = "perfci-influxdb"
TRENDS_UID = "perfci-trends"
ALERT_TAG = "perfci-alert"
"""The tag of the annotations that are written for alerts."""

_SOURCE = {"type": "influxdb", "uid": DATA_SOURCE_UID}
_GRAFANA = {"type": "grafana", "uid": "-- Grafana --"}
_SCHEMA = 39
_COLUMNS = 24
_JOB = "\"lab\" = '$lab' AND \"job\" = '$job'"
_SCENARIO = f"{_JOB} AND \"scenario\" = '$scenario'"
_ACTIONS = f'{_SCENARIO} AND "action" =~ /^$action$/'
_TIMINGS = f"\"metric\" = '{Metric.SECONDS}'"
_RED, _YELLOW, _BLUE = "red", "yellow", "blue"


def dashboards() -> tuple[dict[str, Any], ...]:
    """Return all dashboards as Grafana's JSON model."""
    return (trends(),)


def write(folder: Path) -> None:
    """Write each dashboard to `<uid>.json`."""
    for dashboard in dashboards():
        write_whole(folder / f"{dashboard['uid']}.json", as_json(dashboard))


def as_json(dashboard: dict[str, Any]) -> str:
    """Return a dashboard as it stands in its file."""
    return json.dumps(dashboard, indent=2, sort_keys=True) + "\n"


def queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return every InfluxQL query of a dashboard, each with the name of its place."""
    for variable in dashboard["templating"]["list"]:
        yield f"variable {variable['name']}", variable["query"]
    for annotation in dashboard["annotations"]["list"]:
        if annotation["datasource"] == _SOURCE:
            yield f"annotation {annotation['name']}", annotation["target"]["query"]
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["query"]


def trends() -> dict[str, Any]:
    """Return the dashboard with the trends of one scenario of a job."""
    return {
        "uid": TRENDS_UID,
        "title": "perfci: trends",
        "description": "Timings, failures and counters of one scenario, run by run.",
        "tags": ["perfci"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "",
        "time": {"from": "now-90d", "to": "now"},
        "timezone": "utc",
        "annotations": {"list": _annotations()},
        "templating": {"list": _variables()},
        "panels": _placed(
            [
                [_row("Trend of $scenario")],
                [_medians(), _percentiles()],
                [_iterations()],
                [_row("Failures")],
                [_counter("Failure rate", Metric.FAILURE_RATE, "percentunit", by=TOTAL), _failures()],
                [_row("Counters of the services, per iteration")],
                [
                    _counter("CPU seconds", Metric.CPU_SECONDS, "s"),
                    _counter("SQL statements", Metric.SQL_STATEMENTS, "short"),
                    _counter("Peak memory", Metric.PEAK_RSS_BYTES, "bytes"),
                ],
                [_row("Lab and runs")],
                [_lab_fit(), _run_time()],
                [_runs()],
            ]
        ),
    }


def _variables() -> list[dict[str, Any]]:
    return [
        _variable("lab", f"{_values('run', 'lab')}"),
        _variable("job", f"{_values('run', 'job')} WHERE \"lab\" = '$lab'"),
        _variable("scenario", f"{_values('run_value', 'scenario')} WHERE {_JOB}"),
        _variable(
            "action",
            f"{_values('run_value', 'action')} WHERE {_SCENARIO} AND {_TIMINGS}",
            several=True,
        ),
    ]


def _select(fields: str, measurement: str, where: str, group_by: str = "") -> str:
    """Return an InfluxQL query over the time that is shown; every part is written in this module."""
    query = f'SELECT {fields} FROM "{measurement}" WHERE {where} AND $timeFilter'  # noqa: S608
    return f"{query} GROUP BY {group_by}" if group_by else query


def _values(measurement: str, tag: str) -> str:
    return f'SHOW TAG VALUES FROM "{measurement}" WITH KEY = "{tag}"'


def _variable(name: str, query: str, *, several: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "hide": 0,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]} if several else {},
    }


def _annotations() -> list[dict[str, Any]]:
    return [
        {
            "name": "Regressions",
            "datasource": _GRAFANA,
            "enable": True,
            "iconColor": _RED,
            "target": {"type": "tags", "tags": [ALERT_TAG, "$job"], "matchAny": False, "limit": 100},
        },
        # The first run of each digest of the code is where that code came in.
        _annotation(
            "New code",
            _BLUE,
            _select('first("run_id")', "run", _JOB, '"code"'),
        ),
        _annotation(
            "Lab not fit",
            _YELLOW,
            _select('"run_id"', "run", f'{_JOB} AND "valid" = false'),
        ),
        _annotation(
            "Run failed",
            "orange",
            _select('"run_id"', "run", f"{_JOB} AND \"status\" <> '{FINISHED}'"),
        ),
    ]


def _annotation(name: str, colour: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": colour,
        "target": {
            "query": query,
            "textColumn": "first" if "first(" in query else "run_id",
            "rawQuery": True,
        },
    }


def _medians() -> dict[str, Any]:
    query = _select('"median"', "run_value", f"{_ACTIONS} AND {_TIMINGS}", '"action", "environment"')
    return _series("Median of each run", "s", query, alias="$tag_action", width=12)


def _percentiles() -> dict[str, Any]:
    query = _select(
        'percentile("seconds", 90)', "iteration", _ACTIONS, 'time($__interval), "action" fill(none)'
    )
    return _series("90th percentile of the iterations", "s", query, alias="$tag_action", width=12)


def _iterations() -> dict[str, Any]:
    query = _select('"seconds"', "iteration", _ACTIONS, '"action"')
    return _series("Every iteration", "s", query, alias="$tag_action", width=24, line=False)


def _counter(title: str, metric: Metric, unit: str, *, by: str = "") -> dict[str, Any]:
    only = f" AND \"action\" = '{by}'" if by else ""
    query = _select('"median"', "run_value", f"{_SCENARIO} AND \"metric\" = '{metric}'{only}", '"action"')
    return _series(title, unit, query, alias="$tag_action", width=12 if by else 8)


def _failures() -> dict[str, Any]:
    query = _select(
        '"failures", "attempts"', "run_value", f"{_SCENARIO} AND \"action\" = '{TOTAL}' AND {_TIMINGS}"
    )
    return _series("Iterations: attempted and failed", "short", query, alias="$col", width=12)


def _lab_fit() -> dict[str, Any]:
    query = _select('"valid"', "run", _JOB)
    return {
        **_panel("state-timeline", "Lab fit to measure", query, alias="$col", width=12),
        "fieldConfig": {
            "defaults": {
                "mappings": [
                    {
                        "type": "value",
                        "options": {
                            "true": {"text": "fit", "color": "green", "index": 0},
                            "false": {"text": "not fit", "color": _YELLOW, "index": 1},
                        },
                    }
                ]
            },
            "overrides": [],
        },
    }


def _run_time() -> dict[str, Any]:
    query = _select('"seconds"', "run", _JOB)
    return _series("How long runs take", "s", query, alias="$col", width=12)


def _runs() -> dict[str, Any]:
    query = _select('"run_id", "status", "valid", "seconds"', "run", _JOB, '"code", "environment"')
    panel = _panel("table", "Runs", query, alias="", width=24)
    panel["targets"][0]["resultFormat"] = "table"
    return panel


def _series(
    title: str, unit: str, query: str, *, alias: str, width: int, line: bool = True
) -> dict[str, Any]:
    return {
        **_panel("timeseries", title, query, alias=alias, width=width),
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "custom": {
                    "drawStyle": "line" if line else "points",
                    "lineWidth": 1,
                    "pointSize": 6 if line else 3,
                    "showPoints": "always",
                    "spanNulls": True,
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _panel(kind: str, title: str, query: str, *, alias: str, width: int) -> dict[str, Any]:
    target = {
        "refId": "A",
        "datasource": _SOURCE,
        "query": query,
        "rawQuery": True,
        "resultFormat": "time_series",
        "alias": alias,
    }
    return {
        "type": kind,
        "title": title,
        "datasource": _SOURCE,
        "targets": [target],
        "gridPos": {"w": width, "h": 9},
    }


def _row(title: str) -> dict[str, Any]:
    return {
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": {"w": _COLUMNS, "h": 1},
    }


def _placed(lines: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Number the panels and put them line by line, each beside the one before."""
    panels: list[dict[str, Any]] = []
    top = 0
    for line in lines:
        left = 0
        for panel in line:
            size = panel["gridPos"]
            place = {"x": left, "y": top, **size}
            panels.append({**panel, "id": len(panels) + 1, "gridPos": place})
            left += size["w"]
        top += max(panel["gridPos"]["h"] for panel in line)
    return panels
