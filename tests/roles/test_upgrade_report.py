"""From clocks, probes and logs to the phases of an upgrade."""

from __future__ import annotations

import hashlib
import json

import pytest
import report

from perfci.results.phases import read_parts

MOMENTS = [
    {"phase": "stop", "at": 100.0},
    {"phase": "schema", "at": 104.0},
    {"phase": "start", "at": 120.0},
    {"phase": "", "at": 130.0},
]
PROBE = {
    "from": 90.0,
    "until": 140.0,
    "apis": {
        "keystone": {"requests": 9, "failed": 5, "outages": [[101.0, 121.0]]},
        "nova": {"requests": 9, "failed": 5, "outages": [[100.5, 110.0], [111.0, 125.0], [139.0, None]]},
        "glance": {"requests": 9, "failed": 0, "outages": []},
    },
}


def seconds(phases):
    return {one["action"]: one["values"]["seconds"] for one in phases}


def test_a_phase_ends_where_the_next_one_begins():
    assert seconds(report.phases(MOMENTS)) == {"stop": 4, "schema": 16, "start": 10, "total": 30}


def test_downtime_is_what_the_probe_saw_and_at_least_one_is_their_union():
    assert seconds(report.downtimes(PROBE)) == {
        "keystone.downtime": 20,
        "nova.downtime": 9.5 + 14 + 1,
        "glance.downtime": 0,
        "apis.downtime": 24.5 + 1,
    }


@pytest.mark.parametrize(
    ("spans", "covered"),
    [([], 0), ([(1, 2)], 1), ([(3, 4), (1, 2)], 2), ([(1, 5), (2, 3)], 4), ([(1, 3), (2, 6)], 5)],
)
def test_time_that_spans_share_counts_once(spans, covered):
    assert report.length(spans) == covered


LOG = """\
2026-11-21 12:00:01.123 4711 WARNING oslo_config.cfg [req-0a1b2c3d-1111-2222-3333-444455556666] Deprecated: Option "a" is deprecated
2026-11-21 12:00:02.456 4712 WARNING oslo_config.cfg [req-9a1b2c3d-1111-2222-3333-444455556666] Deprecated: Option "a" is deprecated
2026-11-21 12:00:03.456 4712 WARNING nova.compute [-] the host fake-003 does not answer
2026-11-21 12:00:03.456 4712 INFO nova.compute [-] this deprecated thing is only told
/venv/lib/x.py:17: DeprecationWarning: the eventlet executor is deprecated
/venv/lib/x.py:18: UserWarning: something else
"""


def test_a_warning_counts_once_whoever_says_it_and_only_if_it_is_about_configuration():
    assert sorted(report.warnings(LOG)) == [
        "DeprecationWarning: the eventlet executor is deprecated",
        'WARNING oslo_config.cfg [#] Deprecated: Option "a" is deprecated',
    ]


def test_the_report_is_read_as_results(tmp_path):
    files = {"clock": MOMENTS, "probe": PROBE, "base": {"services": [
        {"service": "nova", "source": "wheel", "revision": "33.0.0", "changes": []},
    ]}, "schemas": {"nova": 12.5}}  # fmt: skip
    for name, value in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "nova-api.log").write_text(LOG)
    (tmp_path / "constraints.txt").write_text("oslo-policy==6.0.1\n")
    settings = {
        **{name: str(tmp_path / f"{name}.json") for name in files},
        "constraints": str(tmp_path / "constraints.txt"),
        "logs": str(tmp_path),
        "services": ["nova-api", "glance"],
        "output": str(tmp_path / "phases.json"),
        "arguments": {"computes": 2},
    }
    (tmp_path / "phases.json").write_text(json.dumps([report.part(settings)]))
    (part,) = read_parts(tmp_path)
    values = {phase.action: dict(phase.values) for phase in part.phases}
    assert values["nova.schema"] == {"seconds": 12.5}
    assert values["nova-api"] == {"warnings": 2}
    assert values["glance"] == {"warnings": 0}
    assert (part.started_at, part.finished_at) == (100, 130)
    digest = hashlib.sha256(b"oslo-policy==6.0.1\n").hexdigest()[:12]
    assert part.arguments == {"computes": 2, "constraints": digest, "base": {"nova": ["wheel", "33.0.0"]}}
