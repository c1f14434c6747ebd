from __future__ import annotations

import socket
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from grafana_server import TOKEN, GrafanaServer

from perfci.errors import ServiceError
from perfci.report.dashboard import ALERT_TAG, DATA_SOURCE_UID, TRENDS_UID, dashboards
from perfci.report.errors import GrafanaNotFound, GrafanaRefused, GrafanaUnauthorised, GrafanaUnreachable
from perfci.report.grafana import AlertNote, GrafanaSettings, Pushed, annotate, push

BEGIN = datetime(2026, 11, 20, 4, 15, tzinfo=UTC)


@pytest.fixture(params=["", "/grafana"], ids=["root", "below a path"])
def grafana(request):
    with GrafanaServer(request.param) as server:
        yield server


def settings(server, **fields):
    return GrafanaSettings(server.url, TOKEN, timeout_seconds=30, **fields)


def test_the_first_push_creates_everything(grafana):
    done = push(settings(grafana, folder="Nightly Performance"), dashboards())
    assert done == Pushed(folder_created=True, data_source_created=True, dashboards=(TRENDS_UID,))
    assert grafana.folders["nightly-performance"]["title"] == "Nightly Performance"
    stored = grafana.dashboards[TRENDS_UID]
    assert stored["meta"]["folderUid"] == "nightly-performance"
    assert len(stored["dashboard"]["panels"]) == len(dashboards()[0]["panels"])
    source = grafana.sources[DATA_SOURCE_UID]
    assert (source["type"], source["jsonData"]["dbName"]) == ("influxdb", "perfci")


def test_pushing_again_changes_nothing(grafana):
    push(settings(grafana), dashboards())
    assert push(settings(grafana), dashboards()) == Pushed(
        folder_created=False, data_source_created=False, dashboards=()
    )
    assert grafana.saved == [TRENDS_UID]


def test_a_dashboard_that_differs_is_replaced_under_its_uid(grafana):
    push(settings(grafana), [{**dashboards()[0], "title": "old"}])
    assert push(settings(grafana), dashboards()).dashboards == (TRENDS_UID,)
    assert list(grafana.dashboards) == [TRENDS_UID]
    assert grafana.dashboards[TRENDS_UID]["dashboard"]["title"] == "perfci: trends"
    assert push(settings(grafana, folder="other"), dashboards()).dashboards == (TRENDS_UID,)


def test_a_data_source_that_is_there_is_left_alone(grafana):
    mine = {"uid": DATA_SOURCE_UID, "name": "mine", "url": "http://elsewhere:8086"}
    grafana.sources[DATA_SOURCE_UID] = mine
    assert not push(settings(grafana), dashboards()).data_source_created
    assert grafana.sources == {DATA_SOURCE_UID: mine}


def test_secrets_of_influxdb_go_where_grafana_keeps_secrets(grafana):
    push(settings(grafana, influx_username="reader", influx_password="hunter22"), ())
    source = grafana.sources.pop(DATA_SOURCE_UID)
    assert source["secureJsonData"] == {"password": "hunter22"}
    assert source["user"] == "reader"
    push(settings(grafana, influx_token="t0ken"), ())
    source = grafana.sources[DATA_SOURCE_UID]
    assert source["secureJsonData"] == {"httpHeaderValue1": "Token t0ken"}
    assert "t0ken" not in str(source["jsonData"])
    assert "hunter22" not in repr(settings(grafana, influx_password="hunter22"))
    assert TOKEN not in repr(settings(grafana))


def test_alerts_become_annotations_once_and_get_their_end(grafana):
    note = AlertNote("65af3750f0", "nightly", "neutron.create_port +31 %", BEGIN)
    assert annotate(settings(grafana), [note]) == 1
    assert annotate(settings(grafana), [note]) == 0
    closed = replace(note, end=datetime(2026, 11, 24, 4, 15, tzinfo=UTC))
    other = replace(note, alert_id="other")
    assert annotate(settings(grafana), [closed, other]) == 2
    assert annotate(settings(grafana), [closed, other]) == 0
    first = grafana.annotations[1]
    assert first["tags"] == [ALERT_TAG, "nightly", "65af3750f0"]
    assert (first["time"], first["timeEnd"]) == (1795148100000, 1795493700000)
    assert len(grafana.annotations) == 2


def check(error, grafana_settings):
    with pytest.raises(error) as caught:
        push(grafana_settings, dashboards())
    assert isinstance(caught.value, ServiceError)
    assert caught.value.advice
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def test_a_refused_connection():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    message = check(GrafanaUnreachable, GrafanaSettings(f"http://127.0.0.1:{port}", TOKEN, timeout_seconds=2))
    assert f"127.0.0.1:{port}" in message


def test_a_server_that_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        check(GrafanaUnreachable, GrafanaSettings(url, TOKEN, timeout_seconds=0.3))


@pytest.mark.parametrize("token", ["wrong", None])
def test_a_wrong_token(grafana, token):
    message = check(GrafanaUnauthorised, replace(settings(grafana), token=token))
    assert "401" in message
    assert grafana.folders == {}


def test_a_token_that_may_only_look():
    with GrafanaServer(role="Viewer") as server:
        assert "403" in check(GrafanaUnauthorised, settings(server))
    with GrafanaServer(role="Editor") as server:
        assert "datasources:create" in check(GrafanaUnauthorised, settings(server))


def test_an_address_that_is_not_grafana():
    with GrafanaServer("/grafana") as server:
        wrong = replace(settings(server), url=server.url.removesuffix("/grafana"))
        assert "/api/health" in check(GrafanaNotFound, wrong)
        server.broken = 404, {"message": "no such page"}
        assert "no such page" in check(GrafanaNotFound, settings(server))
        server.broken = 200, ["something else"]
        check(GrafanaNotFound, settings(server))


@pytest.mark.parametrize("status", [400, 412, 500, 503])
def test_other_refusals_keep_grafanas_words(grafana, status):
    grafana.broken = status, {"message": "the words of Grafana"}
    assert str(status) in check(GrafanaRefused, settings(grafana))


def test_an_answer_that_is_no_json_is_not_grafana(grafana):
    grafana.broken = 200, "<html>welcome to the hotel's network</html>"
    check(GrafanaNotFound, settings(grafana))
