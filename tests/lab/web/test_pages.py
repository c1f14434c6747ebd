"""The pages over HTTP: what they show, what their forms do, and what they refuse."""

from __future__ import annotations

import icalendar
import pytest
from starlette.testclient import TestClient
from web_site import HOUR, START, WebSite, proof_in

from perfci.lab import owners
from perfci.lab.model import Node
from perfci.lab.reservations.model import Actor, NodeWish, Request
from perfci.lab.reservations.node_orders import NodeOrders

FORM = {"by": "names", "nodes": "node-1", "when": "soon", "length": "2", "unit": "hours", "reason": "tuning"}


@pytest.fixture
def site(tmp_path):
    return WebSite(tmp_path)


@pytest.fixture
def client(site):
    return TestClient(site.app, follow_redirects=False)


def sign_in(site, client, name):
    """Sign in, and return what forms must send along."""
    answer = client.post("/sign-in", data={"token": site.token(name), "next": "/now"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/now")
    return proof_in(client.get("/reserve").text)


KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43}"


def test_everybody_can_look(site, client):
    made = site.reserve("ann", "node-1", reason="bisecting the port list")
    for path in (
        "/",
        "/now",
        "/nodes/node-1",
        f"/reservations/{made.id}",
        "/reserve",
        "/sign-in",
        "/static/style.css",
    ):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "unsafe-inline" not in answer.headers["content-security-policy"].partition("style-src-attr")[0]
        assert "<script>" not in answer.text
    page = client.get("/").text
    assert "bisecting the port list" in page
    assert "13:00 CET" in page
    assert "CET" not in client.get("/?zone=UTC").text.partition("<footer>")[0]


def test_a_page_is_written_in_the_chosen_zone_from_then_on(client):
    client.get("/?zone=Asia/Tokyo")
    assert "21:00" in client.get("/").text
    client.get("/?zone=../../etc/passwd")
    assert "21:00" in client.get("/").text


def test_reserve_extend_and_give_back(site, client):
    proof = sign_in(site, client, "ann")
    made = client.post("/reserve", data={**FORM, "proof": proof})
    assert made.status_code == 303
    path = made.headers["location"].partition("?")[0]
    (one,) = site.lab.of("ann")
    assert path == f"/reservations/{one.id}"
    assert "Extend" in client.get(path).text
    assert 'role="status"' in client.get(made.headers["location"]).text
    client.post(f"{path}/extend", data={"length": "1", "unit": "hours", "proof": proof})
    assert site.lab.show(one.id).ends_at == START + 3 * HOUR
    client.post(f"{path}/shorten", data={"ends": "2026-03-02T14:00", "zone": "Europe/Prague", "proof": proof})
    assert site.lab.show(one.id).ends_at == START + HOUR
    client.post(f"{path}/release", data={"proof": proof})
    assert site.lab.of("ann") == ()
    assert "Extend" not in client.get(path).text


def test_a_conflict_shows_the_form_again_with_the_earliest_time(site, client):
    site.reserve("bob", "node-1", hours=4)
    proof = sign_in(site, client, "ann")
    refused = client.post(
        "/reserve", data={**FORM, "when": "at", "start": "2026-03-02T14:00", "proof": proof}
    )
    assert refused.status_code == 409
    assert 'value="tuning"' in refused.text
    assert "Take" in refused.text
    assert "start=2026-03-02T17%3A00" in refused.text
    assert site.lab.of("ann") == ()


def test_without_a_token_nothing_is_done(site, client):
    made = site.reserve("ann", "node-1")
    for path, data in (("/reserve", FORM), (f"/reservations/{made.id}/release", {})):
        answer = client.post(path, data={**data, "proof": "x"})
        assert (answer.status_code, "Sign in first" in answer.text) == (401, True)
    assert site.lab.of("ann") == (made,)
    assert "<dialog" not in client.get("/").text


def test_somebody_elses_reservation_stays_as_it_is(site, client):
    made = site.reserve("ann", "node-1")
    proof = sign_in(site, client, "bob")
    assert "Extend" not in client.get(f"/reservations/{made.id}").text
    for order, data in (
        ("extend", {"length": "1", "unit": "hours"}),
        ("release", {}),
        ("transfer", {"to": "bob"}),
    ):
        answer = client.post(f"/reservations/{made.id}/{order}", data={**data, "proof": proof})
        assert answer.status_code == 403
        assert "ann&#39;s" in answer.text
    assert site.lab.show(made.id) == made


@pytest.mark.parametrize(
    ("proof", "headers"),
    [
        ("", {}),
        ("0" * 64, {}),
        ("good", {"Origin": "https://evil.example"}),
        ("good", {"Origin": "null"}),
        ("good", {"Sec-Fetch-Site": "cross-site"}),
        ("good", {"Sec-Fetch-Site": "same-site"}),
    ],
)
def test_a_form_of_another_site_does_nothing(site, client, proof, headers):
    good = sign_in(site, client, "ann")
    answer = client.post(
        "/reserve", data={**FORM, "proof": good if proof == "good" else proof}, headers=headers
    )
    assert answer.status_code == 403
    assert site.lab.of("ann") == ()


def test_the_proof_of_one_token_is_none_for_another(site, client):
    proof = sign_in(site, client, "ann")
    sign_in(site, client, "ann")
    assert client.post("/reserve", data={**FORM, "proof": proof}).status_code == 403


def test_the_cookie_is_out_of_reach(tmp_path):
    site = WebSite(tmp_path, root="/perfci")
    client = TestClient(site.app, base_url="https://lab.example.org", follow_redirects=False)
    answer = client.post("/sign-in", data={"token": site.token("ann"), "next": "/now"})
    assert answer.headers["location"] == "/perfci/now"
    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=lax", "secure", "path=/perfci"))
    assert 'href="/perfci/static/style.css"' in client.get("/").text


def test_a_revoked_token_is_signed_out(site, client):
    proof = sign_in(site, client, "ann")
    ann = site.lab.actor("ann")
    site.tokens.revoke(site.tokens.list(ann)[0].id, ann)
    assert "Sign out" not in client.get("/").text
    assert client.post("/reserve", data={**FORM, "proof": proof}).status_code == 401


def test_signing_out_forgets_the_token(site, client):
    sign_in(site, client, "ann")
    client.post("/sign-out")
    assert "Sign out" not in client.get("/").text


@pytest.mark.parametrize(
    "after",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nb", ""],
)
def test_a_sign_in_leads_to_no_other_site(site, client, after):
    answer = client.post("/sign-in", data={"token": site.token("ann"), "next": after})
    assert answer.headers["location"] == "/"


def test_a_wrong_token_is_refused(client):
    answer = client.post("/sign-in", data={"token": "perfci_wrong", "next": "/"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "perfci_wrong" not in answer.text


def test_hostile_names_and_reasons_are_text(tmp_path):
    hostile = '<img src=x onerror="alert(1)">'
    site = WebSite(tmp_path, nodes=(Node(hostile, labels={"<b>": "'\">"}), Node("node-2")))
    made = site.reserve(f"ann{hostile}", hostile, reason=f"</script>{hostile}")
    NodeOrders(site.lab).quarantine("node-2", hostile, Actor("root", admin=True))
    client = TestClient(site.app)
    name = "%3Cimg%20src%3Dx%20onerror%3D%22alert(1)%22%3E"
    for path in ("/", f"/nodes/{name}", "/nodes/node-2", f"/reservations/{made.id}", "/now", f"/?where={name}", f"/?node={name}",
                 f"/reserve?node={name}&reason={name}&zone={name}", f"/sign-in?next={name}", f"/nodes/{name}x", f"/{name}"):  # fmt: skip
        page = client.get(path).text
        assert "<img" not in page
        assert "</script>&lt;" not in page


def test_names_that_are_not_the_pages_are_refused(tmp_path):
    app = WebSite(tmp_path, names={"localhost"}).app
    assert TestClient(app, base_url="http://localhost:8780").get("/").status_code == 200
    for host in ("evil.example", "localhost.evil.example", "", "[", "localhost@evil"):
        answer = TestClient(app).get("/", headers={"host": host})
        assert answer.status_code == 400


def test_a_thousand_nodes_come_in_pages(tmp_path):
    site = WebSite(tmp_path, nodes=[Node(f"n{number}") for number in range(120)])
    client = TestClient(site.app)
    assert client.get("/").text.count('scope="row"') == 50
    last = client.get("/?page=99").text
    assert last.count('scope="row"') == 20
    assert ">n119<" in last


def test_free_times_are_found_for_a_form(site, client):
    site.reserve("ann", "node-1", "node-2", "node-10", hours=4)
    page = client.get("/reserve?count=2&length=1&unit=hours&find=1").text
    assert "First times that work" in page
    assert "17:00 CET" in page
    assert 'role="alert"' in client.get("/reserve?where=(&find=1").text


def test_an_admin_puts_a_node_into_quarantine_and_gives_it_out_again(site, client):
    proof = sign_in(site, client, "root")
    assert "Into quarantine" in client.get("/nodes/node-1").text
    hostile = "<b>fan</b>"
    answer = client.post("/nodes/node-1/quarantine", data={"proof": proof, "reason": hostile})
    assert answer.headers["location"] == "/nodes/node-1?done=quarantine"
    assert site.lab.node("node-1").quarantine.reason == hostile
    page = client.get("/nodes/node-1?done=quarantine").text
    assert hostile not in page
    assert "&lt;b&gt;fan" in page
    assert "Give it out again" in page
    assert client.post("/nodes/node-1/restore", data={"proof": proof}).status_code == 303
    assert site.lab.node("node-1").quarantine is None
    assert client.post("/nodes/node-1/explode", data={"proof": proof}).status_code == 422
    assert client.post("/nodes/node-9/restore", data={"proof": proof}).status_code == 404


def test_nobody_else_has_the_admins_buttons(site, client):
    proof = sign_in(site, client, "ann")
    assert "Into quarantine" not in client.get("/nodes/node-1").text
    assert client.post("/nodes/node-1/quarantine", data={"proof": proof, "reason": "x"}).status_code == 403
    assert client.post("/nodes/node-1/quarantine", data={"reason": "x"}).status_code == 403
    client.cookies.clear()
    assert client.post("/nodes/node-1/quarantine", data={"reason": "x"}).status_code == 401
    assert site.lab.node("node-1").quarantine is None


def test_a_machine_without_a_canary_stays_in_quarantine_unless_forced(tmp_path):
    site = WebSite(tmp_path, [Node("node-1", has_bmc=True)])
    NodeOrders(site.lab).quarantine("node-1", "fan broken", Actor("root", admin=True))
    client = TestClient(site.app, follow_redirects=False)
    proof = sign_in(site, client, "root")
    refused = client.post("/nodes/node-1/restore", data={"proof": proof})
    assert refused.status_code == 409
    assert "no canary" in refused.text
    assert client.post("/nodes/node-1/restore", data={"proof": proof, "force": "yes"}).status_code == 303
    assert site.lab.node("node-1").quarantine is None


def test_an_admin_takes_nodes_from_a_run_only_with_force(site, client):
    wish = NodeWish(1, frozenset({"node-1"}))
    parent = next(iter(owners.with_ancestors() - {owners.me()}))
    made = site.lab.reserve(Request(wish, 3600, "run x"), Actor("ann"), owner=parent)
    proof = sign_in(site, client, "root")
    path = f"/reservations/{made.id}/release"
    assert client.post(path, data={"proof": proof}).status_code == 409
    assert "though the run on them goes on" in client.get(f"/reservations/{made.id}").text
    assert client.post(path, data={"proof": proof, "force": "yes"}).status_code == 303
    assert site.lab.node("node-1").booking is None


def test_calendars_to_subscribe_to(site, client):
    mine = site.reserve("ann", "node-1")
    other = site.reserve("bob", "node-2")

    def ids(path):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith("text/calendar")
        calendar = icalendar.Calendar.from_ical(answer.content)
        return {str(event["uid"]).partition("@")[0] for event in calendar.walk("VEVENT")}

    assert ids("/calendar.ics") == {mine.id, other.id}
    assert ids("/calendar.ics?node=node-1") == {mine.id}
    assert ids("/calendar.ics?holder=bob") == {other.id}
    assert client.get("/calendar.ics?node=node-99").status_code == 404
    assert "/calendar.ics" in client.get("/").text


def test_a_page_asks_for_the_nodes_that_it_shows_alone(tmp_path):
    nodes = [Node(f"node-{number}") for number in range(1, 121)]
    site = WebSite(tmp_path, nodes)
    site.reserve("ann", "node-3", reason="on the first page")
    site.reserve("bob", "node-103", reason="on the third page")
    client = TestClient(site.app)
    asked = []
    calendar = site.lab.calendar
    site.lab.calendar = lambda *times, nodes: asked.append(len(nodes)) or calendar(*times, nodes=nodes)
    first, third = client.get("/").text, client.get("/?page=3").text
    assert ("on the first page" in first, "on the third page" in first) == (True, False)
    assert ("on the first page" in third, "on the third page" in third) == (False, True)
    assert asked == [50, 20]


def test_keys_to_log_in_with(tmp_path):
    """They are asked for, shown to everybody as fingerprints, and changed by their holder alone."""
    site = WebSite(tmp_path, (Node("node-1", has_bmc=True),))
    client = TestClient(site.app, follow_redirects=False)
    proof = sign_in(site, client, "ann")
    wrong = client.post("/reserve", data={**FORM, "proof": proof, "keys": "no key"})
    assert (wrong.status_code, site.lab.of("ann")) == (422, ())
    assert "SSH key 1" in wrong.text
    client.post("/reserve", data={**FORM, "proof": proof, "keys": f"{KEY} a\r\n\r\n{KEY} b\r\n"})
    (one,) = site.lab.of("ann")
    assert one.keys == (f"{KEY} a", f"{KEY} b")
    path = f"/reservations/{one.id}"
    assert KEY in client.get(path).text
    assert client.post(f"{path}/keys", data={"proof": proof, "keys": f"{KEY} c"}).status_code == 303
    assert site.lab.show(one.id).keys == (f"{KEY} c",)
    client.cookies.clear()
    assert "SHA256:" in client.get(path).text
    assert KEY not in client.get(path).text
