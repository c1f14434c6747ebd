import contextlib
import copy
import dataclasses
import json
import logging
import re
import socket
import statistics
from pathlib import Path

import pytest
import requests
from foreign_files import INFLUX, RECORD
from influx_recorder import Recorder, cut_short, hang_up, parse_line, sleep

from perfci.database.engine import Database
from perfci.errors import ServiceError
from perfci.results.archive import read_archive
from perfci.results.deliveries import DeliveryLedger
from perfci.results.errors import (
    InfluxDatabaseMissing,
    InfluxFailing,
    InfluxRefused,
    InfluxRunIncomplete,
    InfluxRunRefused,
    InfluxRunTooOld,
    InfluxSettingsInvalid,
    InfluxUnauthorised,
    InfluxUnreachable,
)
from perfci.results.model import Metric, RunResults
from perfci.results.record import record_from_bytes
from perfci.results.stores.influx import InfluxStore
from perfci.results.stores.influx_http import InfluxSettings
from perfci.results.sync import sync

TOKEN = "s3cr3t-token"
PASSWORD = "s3cr3t-password"


@pytest.fixture(params=["1.8.10", "v2.7.12", "3.4.0-core", ""], ids=["1.8", "2", "3", "silent"])
def modern(request):
    with Recorder(request.param) as recorder:
        yield recorder


@pytest.fixture(params=["1.6.7~rc0", "v2.7.12"], ids=["1.6", "2"])
def any_server(request):
    with Recorder(request.param) as recorder:
        yield recorder


@pytest.fixture
def run(make_record, archive_run):
    return read_archive(archive_run(make_record()))


def write_path(recorder):
    return "/write" if recorder.version.startswith("1.6") else "/api/v2/write"


def test_modern_servers_are_written_through_the_client_library(modern, run):
    settings = InfluxSettings(modern.url, database="db", bucket="a bucket", org="an org", token=TOKEN)
    InfluxStore(settings).write(run)
    assert modern.of("/write") == []
    writes = modern.of("/api/v2/write")
    for request in writes:
        assert request.query == {"bucket": "a bucket", "org": "an org", "precision": "ns"}
        assert request.headers["Authorization"] == f"Token {TOKEN}"
        assert request.headers["Content-Encoding"] == "gzip"
        assert "influxdb-client-python" in request.headers["User-Agent"]
    points = [parse_line(line) for request in writes for line in request.body.decode().splitlines()]
    assert points[-1][0] == "run"
    assert [name for name, *_ in points].count("run") == 1
    _check(points, run)


def test_old_servers_are_written_the_old_way(run):
    with Recorder("1.6.7~rc0") as recorder:
        InfluxStore(InfluxSettings(recorder.url, database="db", username="me", password=PASSWORD)).write(run)
    assert recorder.of("/api/v2/write") == []
    writes = recorder.of("/write")
    assert {tuple(request.query.items()) for request in writes} == {(("db", "db"), ("precision", "ns"))}
    assert all(request.headers["Authorization"].startswith("Basic ") for request in writes)
    _check([parse_line(line) for request in writes for line in request.body.decode().splitlines()], run)


def _check(points, run):
    """Compare points with what docs/influxdb.md promises."""
    by_name = {}
    for name, tags, fields, at in points:
        by_name.setdefault(name, []).append((tags, fields, at))
    ((tags, fields, _),) = by_name["run"]
    record = run.record
    assert tags == {
        "lab": "embedded",
        "job": "nightly",
        "cloud": "embedded",
        "environment": record.environment,
        "code": record.code.digest,
    }
    assert (fields["run_id"], fields["valid"], fields["status"], fields["seconds"]) == (
        record.run_id,
        True,
        "finished",
        420.25,
    )
    for m in run.measurements:
        mine = {"scenario": m.key.scenario, "arguments": m.key.arguments, "action": m.key.action}
        (value,) = [
            f for t, f, _ in by_name["run_value"] if t["metric"] == m.key.metric and mine.items() <= t.items()
        ]
        assert (value["n"], value["attempts"], value["failures"]) == (len(m.values), m.attempts, m.failures)
        assert value["median"] == statistics.median(m.values)
        if m.key.metric is Metric.SECONDS:
            found = [(f["seconds"], f["at"]) for t, f, _ in by_name["iteration"] if mine.items() <= t.items()]
            assert found == list(zip(m.values, m.timestamps, strict=True))
    identities = [(name, tuple(sorted(tags.items())), at) for name, tags, _, at in points]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"token": TOKEN}, f"Token {TOKEN}"),
        ({"username": "me", "password": PASSWORD}, f"Token me:{PASSWORD}"),
        ({}, None),
    ],
)
def test_credentials_of_the_client_library(run, settings, expected):
    with Recorder("1.8.10") as recorder:
        InfluxStore(InfluxSettings(recorder.url, **settings)).write(run)
    assert {request.headers.get("Authorization") for request in recorder.of("/api/v2/write")} == {expected}
    assert recorder.of("/api/v2/write")[0].query["bucket"] == "perfci"


FAILURES = {
    "not allowed": ((401, '{"error": "authorization failed"}'), InfluxUnauthorised, "authorization failed"),
    "forbidden": ((403, '{"message": "no write access"}'), InfluxUnauthorised, "no write access"),
    "no bucket": (
        (404, '{"code": "not found", "message": "bucket \\"perfci\\" not found"}'),
        InfluxDatabaseMissing,
        "bucket",
    ),
    "not there": ((404, "404 page not found"), InfluxRefused, r"refused \(404\): 404 page not found"),
    "bad request": (
        (400, '{"error": "partial write: field type conflict"}'),
        InfluxRunRefused,
        "field type conflict",
    ),
    "too large": ((413, ""), InfluxRunRefused, "413"),
    "too old": (
        (400, '{"error": "partial write: points beyond retention policy dropped=117"}'),
        InfluxRunTooOld,
        r"of 2026.*\(400\): .*points beyond retention policy dropped=117",
    ),
    "too old for 2.x": (
        (
            422,
            '{"code": "unprocessable entity", "message": "failure writing points to database: partial write"}',
        ),
        InfluxRunRefused,
        "422",
    ),
    "a wrong setting": ((400, '{"code": "invalid", "message": "org is required"}'), InfluxRefused, "org is"),
    "disk full": (
        (500, '{"error": "write /data/1.tsm: no space left on device"}'),
        InfluxFailing,
        "no space left",
    ),
    "overloaded": ((503, "<html>busy</html>"), InfluxFailing, "busy"),
    "redirected": ((302, ""), InfluxRefused, "302"),
    "hung up": (hang_up, InfluxUnreachable, "does not answer"),
    "slow": (sleep(0.6), InfluxUnreachable, "timed out"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_write_that_fails_says_why(any_server, run, caplog, failure):
    answer, error, message = failure
    caplog.set_level(logging.DEBUG)
    any_server.answers[write_path(any_server)] = answer
    settings = InfluxSettings(any_server.url, token=TOKEN, password=PASSWORD, timeout_seconds=0.3)
    with pytest.raises(error, match=message) as caught:
        InfluxStore(settings).write(run)
    assert isinstance(caught.value, ServiceError)
    assert any_server.url in str(caught.value)
    assert caught.value.advice
    assert caught.value.exit_code == 4
    for shown in (str(caught.value), caught.value.advice, repr(settings), caplog.text):
        assert TOKEN not in shown
        assert PASSWORD not in shown


def test_a_run_that_is_older_than_the_real_server_keeps(influxd, run):
    settings = InfluxSettings(influxd.url, "two_weeks")
    store = InfluxStore(settings)
    store.server.query('CREATE DATABASE "two_weeks" WITH DURATION 14d')
    with pytest.raises(InfluxRunTooOld, match="points beyond retention policy") as caught:
        store.write(run)
    assert caught.value.advice.endswith(f"perfci results sync --again {run.record.run_id}")


QUERY_FAILURES = {
    **{name: FAILURES[name] for name in ("not allowed", "disk full", "hung up", "slow", "not there")},
    "no database": (
        (200, '{"results": [{"error": "database not found: perfci"}]}'),
        InfluxDatabaseMissing,
        "database not found",
    ),
    "no mapping": (
        (404, '{"error": "no dbrp mapping found for db: perfci, database not found"}'),
        InfluxDatabaseMissing,
        "mapping",
    ),
    "query error": ((200, '{"error": "error parsing query"}'), InfluxRefused, "error parsing query"),
    "not JSON": ((200, "<html>"), InfluxRefused, "application/json instead of JSON"),
    "nested without an end": ((200, "[" * 100_000), InfluxRefused, "instead of JSON"),
    "a list": ((200, "[]"), InfluxRefused, "not an object"),
    "no results": ((200, "{}"), InfluxRefused, "not of the form"),
    "rows too short": (
        (200, '{"results": [{"series": [{"columns": ["a", "b"], "values": [[1]]}]}]}'),
        InfluxRefused,
        "not of the form",
    ),
    "results a number": ((200, '{"results": 5}'), InfluxRefused, "not of the form"),
    "results null": ((200, '{"results": null}'), InfluxRefused, "not of the form"),
    "record": (
        (200, '{"results": [{"series": [{"columns": ["time", "record"], "values": [[1, "{}"]]}]}]}'),
        InfluxRefused,
        "unreadable record",
    ),
    "cut short": (cut_short, InfluxUnreachable, "does not answer"),
}


@pytest.mark.parametrize(("answer", "error", "message"), QUERY_FAILURES.values(), ids=QUERY_FAILURES)
def test_a_read_that_fails_says_why(any_server, answer, error, message):
    any_server.answers["/query"] = answer
    with pytest.raises(error, match=message):
        InfluxStore(InfluxSettings(any_server.url, timeout_seconds=0.3)).record("r1")


@pytest.mark.parametrize("field", ["attempts", "failures", "at", "median"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), "many", None])
def test_points_that_hold_what_perfci_never_writes_are_refused_or_read(any_server, field, value):
    answer = copy.deepcopy(INFLUX)
    (series,) = answer["results"][0]["series"]
    series["values"][0][series["columns"].index(field)] = value
    any_server.answers["/query"] = (200, json.dumps(answer))
    record = record_from_bytes(json.dumps(RECORD).encode(), Path("run.json"))
    with contextlib.suppress(InfluxRefused, InfluxRunIncomplete):
        InfluxStore(InfluxSettings(any_server.url)).measurements([record])


def test_a_server_that_is_down(run):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        store = InfluxStore(InfluxSettings(f"http://127.0.0.1:{closed.getsockname()[1]}"))
        for attempt in (lambda: store.write(run), lambda: store.record("r1")):
            with pytest.raises(InfluxUnreachable, match="refused"):
                attempt()


def test_a_modern_server_that_goes_away_between_two_requests(run):
    with Recorder("v2.7.12") as recorder:
        store = InfluxStore(InfluxSettings(recorder.url))
        store.write(run)
    with pytest.raises(InfluxUnreachable, match="refused"):
        store.write(run)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8086",
        "ftp://host",
        "http://",
        "http://me:secret@host:8086",
        "http://host?p=secret",
        "http://host:x",
        "http://[",
    ],
)
def test_an_address_that_cannot_be_used(url):
    with pytest.raises(InfluxSettingsInvalid) as caught:
        InfluxSettings(url)
    assert "secret" not in str(caught.value)


def test_a_database_needs_a_name():
    with pytest.raises(InfluxSettingsInvalid, match="name of a database"):
        InfluxSettings("http://host:8086", database="")


def test_a_server_that_is_starting(run):
    with Recorder("1.8.10") as recorder:
        recorder.answers["/ping"] = (503, "starting")
        with pytest.raises(InfluxFailing, match=r"failed \(503\): starting"):
            InfluxStore(InfluxSettings(recorder.url)).write(run)


def test_a_netrc_is_not_asked_and_a_redirection_not_followed(run, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Recorder("1.6.7") as recorder, Recorder("1.6.7") as other:

        def redirect(handler):
            handler.send_response(307)
            handler.send_header("Location", f"{other.url}/query")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        recorder.answers["/query"] = redirect
        with pytest.raises(InfluxRefused, match="307"):
            InfluxStore(InfluxSettings(recorder.url)).record("r1")
        assert other.requests == []
        assert "Authorization" not in recorder.requests[0].headers


def test_a_metric_with_one_value_a_run_can_have_no_second(run):
    rate = next(m for m in run.measurements if m.key.metric is Metric.FAILURE_RATE)
    twice = dataclasses.replace(rate, values=(0.0, 1.0), timestamps=(1.0, 2.0))
    with Recorder("1.8.10") as recorder, pytest.raises(ValueError, match="one a run"):
        InfluxStore(InfluxSettings(recorder.url)).write(RunResults(run.record, (twice,)))
    assert recorder.of("/api/v2/write") == []


def test_the_identity_names_the_place_only():
    settings = InfluxSettings("http://host:8086", database="db", token=TOKEN)
    assert InfluxStore(settings).identity == "influx:host:8086/db"


@pytest.mark.slow
class TestRealServer:
    @pytest.fixture
    def store(self, influxd, request):
        return InfluxStore(InfluxSettings(influxd.url, database=re.sub(r"\W", "_", request.node.name)))

    def query(self, store, influxql):
        return [row for series in store.server.query(influxql) for row in series.rows]

    def test_the_first_write_creates_the_database(self, store, run):
        with pytest.raises(InfluxDatabaseMissing, match="database not found"):
            store.record(run.record.run_id)
        store.write(run)
        assert store.results(run.record.run_id) == run

    def test_a_run_written_by_half_is_not_there(self, store, run, monkeypatch):
        whole, calls = store.server.write, []

        def once(lines):
            if calls:
                raise KeyboardInterrupt
            calls.append(whole(lines))

        monkeypatch.setattr(store.server, "write", once)
        with pytest.raises(KeyboardInterrupt):
            store.write(run)
        assert self.query(store, 'SELECT count("seconds") FROM "iteration"')
        assert store.run_ids("embedded", "nightly") == store.records("embedded", "nightly") == ()
        monkeypatch.undo()
        store.write(run)
        assert store.results(run.record.run_id) == run

    def test_points_that_were_deleted_are_missed(self, store, run):
        store.write(run)
        self.query(store, 'DELETE FROM "iteration" WHERE "action" = \'neutron.create_port\'')
        with pytest.raises(InfluxRunIncomplete, match=r"has 0 of 6 iterations of .*neutron\.create_port"):
            store.results(run.record.run_id)
        store.write(run)
        assert store.results(run.record.run_id) == run

    def test_what_a_dashboard_asks_for(self, store, run):
        """The queries of docs/influxdb.md."""
        store.write(run)
        (row,) = self.query(
            store,
            'SELECT "median" FROM "run_value" WHERE "scenario" = \'Authenticate.keystone\' AND "action" = \'total\' '
            'AND "metric" = \'seconds\' AND time > 0 GROUP BY "environment"',
        )
        expected = next(
            m
            for m in run.measurements
            if m.key.scenario.startswith("Auth")
            and m.key.metric is Metric.SECONDS
            and m.key.action == "total"
        )
        assert row["median"] == statistics.median(expected.values)
        (row,) = self.query(
            store,
            'SELECT percentile("seconds", 90), count("seconds") FROM "iteration" WHERE "action" = \'total\' AND time > 0',
        )
        assert row["count"] == 12
        assert (
            self.query(store, 'SELECT "run_id" FROM "run" WHERE "valid" = true AND time > 0')[0]["run_id"]
            == run.record.run_id
        )

    def test_a_run_of_another_lab_is_not_touched_by_reading_one(self, store, run, make_record):
        store.write(run)
        store.write(RunResults(make_record(2, lab="other")))
        assert store.run_ids("other", "nightly") != store.run_ids("embedded", "nightly")

    def test_a_server_that_comes_back_gets_the_rest_once(
        self, tmp_path, make_record, archive_run, own_influxd
    ):
        records = [make_record(n) for n in range(1, 4)]
        for record in records[:2]:
            archive_run(record)
        archive, ledger = tmp_path / "archive", DeliveryLedger(Database(f"sqlite:///{tmp_path}/lab.db"))
        store = InfluxStore(InfluxSettings(own_influxd.url, timeout_seconds=5))
        assert len(sync(archive, store, ledger).delivered) == 2
        own_influxd.stop()
        archive_run(records[2])
        with pytest.raises(InfluxUnreachable):
            sync(archive, store, ledger)
        own_influxd.start()
        assert sync(archive, store, ledger).delivered == (records[2].run_id,)
        assert sync(archive, store, ledger).delivered == ()
        for record in records:
            assert store.results(record.run_id) == read_archive(archive / record.run_id)

    def test_a_server_that_wants_credentials(self, own_auth_influxd, run):
        url = own_auth_influxd.url
        create = {"q": f"CREATE USER admin WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES"}
        assert requests.post(f"{url}/query", params=create, timeout=10).ok
        for wrong in (InfluxSettings(url), InfluxSettings(url, username="admin", password="wrong")):
            with pytest.raises(InfluxUnauthorised, match="401"):
                InfluxStore(wrong).write(run)
        store = InfluxStore(InfluxSettings(url, username="admin", password=PASSWORD))
        store.write(run)
        assert store.results(run.record.run_id) == run
        assert PASSWORD not in (own_auth_influxd.root / "log").read_text().replace(create["q"], "")
