"""The JSON API over HTTP."""

from __future__ import annotations

import json
from datetime import timedelta

import hypothesis
import pytest
from hypothesis import strategies as st
from openapi_spec_validator import validate
from starlette.testclient import TestClient
from web_site import HOUR, START, WebSite

from perfci.lab.model import Node
from perfci.lab.web import guard

V1 = "/api/v1"
ORDER = {"names": ["node-1"], "length_seconds": 7200, "reason": "tuning"}


@pytest.fixture
def site(tmp_path):
    return WebSite(tmp_path)


@pytest.fixture
def client(site):
    return TestClient(site.app, raise_server_exceptions=False)


def test_a_reservation_from_first_to_last(site, client):
    ann = site.header("ann")
    made = client.post(f"{V1}/reservations", json=ORDER, headers=ann)
    assert made.status_code == 201
    one = made.json()
    assert (one["holder"], one["nodes"], one["reason"], one["state"]) == (
        "ann",
        ["node-1"],
        "tuning",
        "ready",
    )
    assert one["ends_at"] == "2026-03-02T14:00:00Z"
    path = f"{V1}/reservations/{one['id']}"
    assert (
        client.post(f"{path}/extend", json={"seconds": 3600}, headers=ann).json()["ends_at"]
        == "2026-03-02T15:00:00Z"
    )
    ends = {"ends_at": "2026-03-02T14:30:00+01:00"}
    assert client.post(f"{path}/shorten", json=ends, headers=ann).json()["ends_at"] == "2026-03-02T13:30:00Z"
    assert client.post(f"{path}/swap", json={"node": "node-1", "to": "node-2"}, headers=ann).json()[
        "nodes"
    ] == ["node-2"]
    assert client.get(f"{V1}/nodes/node-2").json()["reservation"]["id"] == one["id"]
    assert client.post(f"{path}/transfer", json={"to": "bob"}, headers=ann).json()["holder"] == "bob"
    assert client.post(f"{path}/release", json={}, headers=ann).status_code == 403
    assert client.post(f"{path}/release", json={}, headers=site.header("bob")).json()["state"] == "over"
    actions = [event["action"] for event in client.get(f"{path}/history").json()]
    assert actions[-5:] == ["extended", "shortened", "swapped", "transferred", "released"]


def test_keys_of_a_reservation(tmp_path):
    site = WebSite(tmp_path, (Node("node-1", has_bmc=True),))
    client, ann = TestClient(site.app), site.header("ann")
    key = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} ann@laptop"
    assert client.post(f"{V1}/reservations", json={**ORDER, "keys": ["x"]}, headers=ann).status_code == 422
    one = client.post(f"{V1}/reservations", json={**ORDER, "keys": [key]}, headers=ann).json()
    assert [text.split(":")[0] for text in one["keys"]] == ["SHA256"]
    path = f"{V1}/reservations/{one['id']}/keys"
    assert client.post(path, json={"keys": []}, headers=site.header("bob")).status_code == 403
    assert client.post(path, json={"keys": []}, headers=ann).json()["keys"] == []


def test_disks_that_are_wiped_at_the_end(tmp_path):
    site = WebSite(tmp_path, (Node("node-1", has_bmc=True),))
    client, ann = TestClient(site.app), site.header("ann")
    asked = {**ORDER, "wipe_disks": "headers"}
    one = client.post(f"{V1}/reservations", json=asked, headers=ann).json()
    assert one["wipe_disks"] == "headers"
    assert "both ends of the disks are wiped" in client.get(f"/reservations/{one['id']}").text
    path = f"{V1}/reservations/{one['id']}/release"
    assert client.post(path, json={"wipe_disks": "x"}, headers=ann).status_code == 422
    assert client.post(path, json={"wipe_disks": "full"}, headers=ann).json()["state"] == "ending"
    assert site.lab.node_history("node-1")[-1].detail == "full"


def test_a_conflict_says_the_earliest_time_that_works(site, client):
    site.reserve("ann", "node-1", hours=4)
    refused = client.post(f"{V1}/reservations", json=ORDER, headers=site.header("bob"))
    assert refused.status_code == 409
    problem = refused.json()
    assert problem["error"] == "NoSuchSlot"
    assert problem["slot"] == {
        "starts_at": "2026-03-02T16:00:00+00:00", "ends_at": "2026-03-02T18:00:00+00:00", "nodes": ["node-1"],
    }  # fmt: skip
    assert site.lab.of("bob") == ()
    queued = client.post(
        f"{V1}/reservations", json={**ORDER, "wait_seconds": None}, headers=site.header("bob")
    )
    assert queued.json()["state"] == "waiting"
    why = client.get(f"{V1}/reservations/{queued.json()['id']}/why").json()
    assert [one["holder"] for one in why["before"]] == ["ann"]


def test_orders_need_a_token_that_is_good(site, client):
    secret = site.token("ann")
    site.tokens.revoke(site.tokens.list(site.lab.actor("ann"))[0].id, site.lab.actor("ann"))
    for headers in (
        {},
        {"Authorization": f"Bearer {secret}"},
        {"Authorization": "Bearer perfci_guessed"},
        {"Authorization": "Basic YTpi"},
    ):
        refused = client.post(f"{V1}/reservations", json=ORDER, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
    assert site.lab.calendar(START, START + HOUR).bookings == ()


def test_a_cookie_gives_no_order_to_the_api(site, client):
    client.cookies.set("perfci_token", site.token("ann"))
    assert client.post(f"{V1}/reservations", json=ORDER).status_code == 401
    assert client.get(f"{V1}/me").status_code == 401


def test_who_guesses_tokens_is_stopped(client):
    statuses = [
        client.get(f"{V1}/me", headers={"Authorization": "Bearer perfci_x"}).status_code for _ in range(22)
    ]
    assert statuses[:20] == [401] * 20
    assert statuses[-1] == 429


def test_admins_alone_put_nodes_into_quarantine(site, client):
    path = f"{V1}/nodes/node-1"
    assert (
        client.post(f"{path}/quarantine", json={"reason": "fan"}, headers=site.header("ann")).status_code
        == 403
    )
    root = site.header("root")
    assert client.post(f"{path}/quarantine", json={"reason": "fan"}, headers=root).json()["reason"] == "fan"
    assert client.get(path).json()["state"] == "quarantined"
    refused = client.post(f"{V1}/reservations", json=ORDER, headers=root)
    assert (refused.status_code, refused.json()["error"]) == (409, "NodesUnhealthy")
    assert client.post(f"{path}/restore", json={}, headers=root).json() == {"restored": True}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"length_seconds": -1}, 422),
        ({"length_seconds": 1e300}, 422),
        ({"length_seconds": "x"}, 422),
        ({"names": ["nowhere"]}, 404),
        ({"names": [], "count": 4}, 404),
        ({"names": [], "where": "cores >"}, 422),
        ({"reason": ""}, 422),
        ({"reason": "a\nb"}, 422),
        ({"reason": "x" * 501}, 422),
        ({"starts_at": "2026-03-02T13:00:00"}, 422),
        ({"starts_at": "9999-12-31T23:59:59-14:00"}, 422),
        ({"starts_at": "2020-01-01T00:00:00Z"}, 422),
        ({"surprise": 1}, 422),
        ({"names": ["\0"]}, 422),
    ],
)
def test_absurd_orders_are_refused_and_nothing_is_written(site, client, change, status):
    refused = client.post(f"{V1}/reservations", json={**ORDER, **change}, headers=site.header("ann"))
    assert (refused.status_code, set(refused.json())) == (status, {"error", "message", "help", "slot"})
    assert site.lab.of("ann", over=True) == ()


def test_sql_in_a_reason_is_text(site, client):
    text = "'; DROP TABLE reservation; --"
    made = client.post(f"{V1}/reservations", json={**ORDER, "reason": text}, headers=site.header("ann"))
    assert client.get(f"{V1}/reservations/{made.json()['id']}").json()["reason"] == text


def test_ten_megabytes_are_refused_before_they_are_read(site, client):
    ann = site.header("ann")
    whole = client.post(f"{V1}/reservations", json={**ORDER, "reason": "x" * 10_000_000}, headers=ann)
    pieces = (b"x" * 60_000 for _ in range(3))
    for answer in (whole, client.post(f"{V1}/reservations", content=pieces, headers=ann)):
        assert (answer.status_code, answer.json()["error"]) == (413, "RequestTooLarge")


def test_one_address_can_not_ask_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "READS", (0.001, 5))
    client = TestClient(WebSite(tmp_path).app)
    answers = [client.get(f"{V1}/nodes") for _ in range(6)]
    assert [one.status_code for one in answers] == [200] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) > 0


def test_calendar_and_slots(site, client):
    site.reserve("ann", "node-1", hours=4)
    calendar = client.get(f"{V1}/calendar").json()
    assert [one["holder"] for one in calendar["reservations"]] == ["ann"]
    assert (
        client.get(
            f"{V1}/calendar", params={"start": "2026-03-03T00:00:00Z", "end": "2026-03-02T00:00:00Z"}
        ).status_code
        == 422
    )
    found = client.get(f"{V1}/slots", params={"length_seconds": 3600, "names": "node-1"}).json()
    assert found[0]["starts_at"] == "2026-03-02T16:00:00Z"
    assert [one["id"] for one in client.get(f"{V1}/reservations", params={"holder": "ann"}).json()] == [
        site.lab.of("ann")[0].id
    ]


def test_what_is_not_there(client):
    for path in (
        "/nodes/nowhere",
        "/nodes/nowhere/health",
        "/nodes/nowhere/history",
        "/reservations/0",
        "/nothing",
    ):
        answer = client.get(f"{V1}{path}")
        assert answer.status_code == 404
        assert answer.json()["message"]
    assert client.delete(f"{V1}/nodes").status_code == 405


def test_an_unexpected_error_has_no_traceback_in_its_answer(site, client, monkeypatch):
    monkeypatch.setattr(site.lab, "nodes", lambda: 1 / 0)
    for path in (f"{V1}/nodes", "/"):
        answer = client.get(path)
        assert answer.status_code == 500
        assert "Traceback" not in answer.text
        assert answer.headers["content-security-policy"]
    assert client.get(f"{V1}/nodes").json()["error"] == "InternalError"


def test_the_schema_is_valid_openapi(client):
    schema = client.get("/api/openapi.json").json()
    validate(schema)
    operations = {
        (path, method): one for path, some in schema["paths"].items() for method, one in some.items()
    }
    assert all(path.startswith("/api/v1/") for path, _ in operations)
    assert all("429" in one["responses"] for one in operations.values())
    assert all(
        ("security" in one) == (method == "post" or path.endswith("/me"))
        for (path, method), one in operations.items()
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def resolved(schema, part):
    while "$ref" in part:
        part = schema["components"]["schemas"][part["$ref"].rpartition("/")[2]]
    return part


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=150, suppress_health_check=list(hypothesis.HealthCheck))
def test_whatever_is_sent_gets_an_answer_of_the_schema(data, tmp_path_factory):
    """Every operation of the schema, with values near and far from what it describes: no 5xx, no answer that it lacks."""
    site, client, schema, headers = _fuzzed(tmp_path_factory)
    site.now += timedelta(seconds=1)
    path, method = data.draw(
        st.sampled_from(sorted((p, m) for p, some in schema["paths"].items() for m in some))
    )
    operation = schema["paths"][path][method]
    url, query = path, {}
    known = {"name": ["node-1", "node-2"], "id": [one.id for one in site.lab.of("ann")] or ["0"]}
    for one in operation.get("parameters", []):
        if one["in"] == "path":
            value = data.draw(
                st.sampled_from(known[one["name"]]) | TEXTS.filter(lambda text: text not in {".", ".."})
            )
            url = url.replace(f"{{{one['name']}}}", _quoted(value))
        elif one["required"] or data.draw(st.booleans()):
            query[one["name"]] = data.draw(
                st.sampled_from(["1", "3600", "node-1", "cores > 8", "2026-03-03T00:00:00Z"]) | TEXTS
            )
    body = None
    if "requestBody" in operation:
        model = resolved(schema, operation["requestBody"]["content"]["application/json"]["schema"])
        likely = {
            "names": ["node-1"],
            "node": "node-1",
            "to": "node-2",
            "reason": "fuzz",
            "length_seconds": 3600,
            "seconds": 600,
        }
        fields = {name: likely.get(name) for name in model["properties"] if name in likely}
        fields |= data.draw(
            st.dictionaries(st.sampled_from(sorted(model["properties"])), json_values, max_size=3)
        )
        body = json.dumps(data.draw(st.just(fields) | json_values))
    answer = client.request(
        method, url, params=query, content=body, headers={**headers, "content-type": "application/json"}
    )
    hypothesis.note(f"{method} {url} {query} {body}: {answer.status_code} {answer.text}")
    routed = resolved(schema, {}) if "//" in url else operation
    assert str(answer.status_code) in {*routed.get("responses", {}), "404"}
    assert answer.json() is not None


def _quoted(text):
    from urllib.parse import quote

    return quote(text, safe="")


_FUZZED = []


def _fuzzed(tmp_path_factory):
    if not _FUZZED:
        site = WebSite(tmp_path_factory.mktemp("fuzz"))
        client = TestClient(site.app, raise_server_exceptions=True)
        site.app._reads._per_second = site.app._orders._per_second = 1e9
        _FUZZED.append((site, client, client.get("/api/openapi.json").json(), site.header("root")))
    return _FUZZED[0]
