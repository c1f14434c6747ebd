from __future__ import annotations

import email
import email.policy
import re
import struct
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nights import BOOT, NETWORKS, PATCH, PORTS, SLOW, History, record, run_id, seconds_key, statements_key

from perfci.alerts.errors import MailAddressInvalid
from perfci.alerts.lifecycle import accept, process, run_failed
from perfci.alerts.mail import compose, one_line
from perfci.alerts.mail_context import MailContext
from perfci.alerts.mail_sections import link, recipients
from perfci.alerts.mail_suspects import MOST_SHOWN, SuspectList
from perfci.alerts.model import (
    AlertState,
    JudgedRun,
    MovedSeries,
    NotificationKind,
    RevisionChange,
    RunFailure,
    interest,
)
from perfci.alerts.outbox import Outbox, on_the_wire
from perfci.alerts.settings import MailSettings
from perfci.analysis.decision import Decision
from perfci.analysis.types import Basis, Confirmation, Outcome
from perfci.changes import text as strangers
from perfci.changes.model import Change, Person
from perfci.changes.suspects import Suspect
from perfci.database.engine import Database
from perfci.errors import FailureClass
from perfci.results.model import Metric, ServiceRevision
from perfci.wording import TIMES, action_name

NOW = datetime(2026, 11, 20, 4, 30, tzinfo=UTC)
SETTINGS = MailSettings(
    "perfci@lab.example.org",
    ("neutron@example.org",),
    ("admins@example.org",),
    base_url="https://perf.example.org/site/",
    list_id="perfci.lab.example.org",
)


@pytest.fixture(scope="module")
def told():
    """Every mail of a story: slower for three nights, then fixed."""
    history, state, mails = History(), AlertState(), {}
    for slowed in [None] * 10 + [SLOW] * 3 + [None]:
        run = history.play(*((PATCH,) if slowed else ()), factors=slowed)
        state, new = process(state, JudgedRun(run, history.judgements(), history.records))
        for one in new:
            mails[one.kind] = (one, MailContext(run, history.judgements(), history.histories()))
    return mails


def failure(**fields):
    given_fields = {
        "run_id": run_id(3),
        "lab": "embedded",
        "job": "nightly",
        "stage": "deploy",
        "failure_class": FailureClass.PRODUCT,
        "error": "status 500 instead of 200\nsecond line",
        "source": "neutron-api.log",
        "excerpt": "Traceback (most recent call last):\n  url=mysql+pymysql://neutron:hunter22@127.0.0.1/neutron\nKeyError: 'mtu'",
    }
    return RunFailure(**{**given_fields, **fields})


def parsed(notification, evidence=None, mail_settings=SETTINGS):
    """Return the mail as a reader's program sees it: from its bytes as they are sent."""
    message = compose(notification, evidence or MailContext(), mail_settings, now=NOW)
    raw = on_the_wire(message).encode()
    assert max(len(line) for line in raw.split(b"\n")) <= 998
    assert raw.isascii()
    return email.message_from_bytes(raw, policy=email.policy.default)


def text_of(message):
    return message.get_body(("plain",)).get_content()


def html_of(message):
    return message.get_body(("html",)).get_content()


def png_size(content):
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


def test_the_headers_of_a_regression(told):
    message = parsed(*told[NotificationKind.REGRESSION])
    assert re.fullmatch(
        r"\[perfci\] nightly: neutron create_port \+3\d % \(2 scenarios\) since 2026-11-10",
        message["Subject"],
    )
    assert message["To"] == "neutron@example.org"
    assert message["From"] == "perfci <perfci@lab.example.org>"
    assert message["Date"].datetime == NOW
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["List-Id"] == "<perfci.lab.example.org>"
    assert message["In-Reply-To"] is None
    assert message["Message-ID"] == f"<{told[NotificationKind.REGRESSION][0].id}@lab.example.org>"


def test_a_fall_of_throughput_is_told_as_lower(told):
    notification, _ = told[NotificationKind.REGRESSION]
    key = replace(
        notification.alert.series[0].key,
        scenario="DataPlane.east_west",
        action="east-west, 1 pair",
        metric=Metric.MEGABITS_PER_SECOND,
    )
    moved = replace(
        notification.alert.series[0],
        key=key,
        effect=-0.24,
        low=-0.27,
        high=-0.21,
        baseline_location=9378.0,
        location=7127.0,
        confirmation=None,
    )
    message = parsed(replace(notification, alert=replace(notification.alert, series=(moved,))))
    text = " ".join(text_of(message).replace("\u00a0", " ").split())
    assert "throughput east-west, 1 pair is 24 % lower than the baseline since" in text
    assert "(9,378 Mbit/s → 7,127 Mbit/s)" in text
    assert "throughput east-west, 1 pair \u221224 %" in message["Subject"].replace("\u00a0", " ")


def test_a_mail_made_twice_is_the_same_but_for_its_boundaries(told):
    def body(message):
        return [part.get_content() for part in message.walk() if not part.is_multipart()]

    first, second = (parsed(*told[NotificationKind.REGRESSION]) for _ in range(2))
    assert body(first) == body(second)
    assert first["Message-ID"] == second["Message-ID"]


def test_the_mail_of_the_fix_threads_under_the_first(told):
    first, last = parsed(*told[NotificationKind.REGRESSION]), parsed(*told[NotificationKind.CLOSED])
    assert last["In-Reply-To"] == last["References"] == first["Message-ID"]
    assert last["Message-ID"] != first["Message-ID"]
    assert "back to normal (was +3" in last["Subject"]
    assert "You need not do anything." in text_of(last)


def test_a_regression_answers_the_three_questions_in_order(told):
    notification, evidence = told[NotificationKind.REGRESSION]
    text = text_of(parsed(notification, evidence))
    heads = ["What is slower", "What changed", "How it was determined", "What you can do"]
    places = [text.index(f"\n{head}\n---") for head in heads]
    assert places == sorted(places)
    first_sentence = " ".join(text[: places[0]].split())
    assert first_sentence.startswith("neutron.create_port is 3")
    assert "slower than the baseline since the run of 2026-11-10 04:15 UTC" in first_sentence
    for key, _ in [((a, s), f) for (a, s), f in SLOW.items() if a != "total"]:
        assert f"{key[0]}  ({key[1]})" in text
    leading = notification.alert.leading
    assert f"{leading.baseline_location:.3f} s → {leading.location:.2f} s" in text
    assert PATCH in text
    assert run_id(9) in text
    assert "10 runs in the same environment, 2026-10-31 to 2026-11-09" in text
    assert f"10 {TIMES} 20" in text
    assert "0.0007" in text
    for command in (
        f"perfci run reproduce {run_id(10)}",
        f"perfci run compare {run_id(9)} \\\n      {run_id(10)}",
        f"perfci analyse {run_id(10)} --full",
        f"perfci results show {run_id(10)}",
        f"perfci alerts accept {notification.alert.id}",
        "perfci try nightly --change neutron=fix.patch",
        f"https://perf.example.org/site/alerts/{notification.alert.id}.html",
        "https://perf.example.org/site/scenarios/embedded--nightly--NeutronNetworks.create_and_list_ports--",
    ):
        assert f"\n    {command}" in text
    # A phone shows the begin of a row: the effect stands first, in heading and row alike.
    html = html_of(parsed(notification, evidence))
    assert re.findall(r'<th scope="col"[^>]*>(.*?)</th>', html)[:2] == ["series", "effect"]
    first = html[html.index('<th scope="row"') :]
    assert re.search(r"<td[^>]*>(.*?)</td>", first, re.DOTALL)[1].replace("\u00a0", " ") == "+31 %"
    assert text.rstrip().endswith("neutron@example.org")
    page = f"https://perf.example.org/site/alerts/{notification.alert.id}.html"
    assert text.count(page) == 1, "the page that has it all is named once,"
    assert text.index(page) < text.index("What is slower"), "where nobody has to look for it"


def confirmation(**fields):
    given_fields = {
        "decision": Decision.DIFFERENT,
        "basis": Basis.RERUNS,
        "reason": "re-runs confirm it",
        "asked": run_id(10),
        "since": run_id(10),
        "good": run_id(9),
        "old": "neutron 27.0.1 (wheel)",
        "new": f"neutron 27.0.1 (wheel) with {PATCH}",
        "runs": ("r1", "r2", "r3", "r4", "r5", "r6", "r7"),
        "old_runs": 3,
        "new_runs": 4,
        "effect": 0.312,
        "low": 0.287,
        "high": 0.341,
        "log_proof": 9.0,
        "began": datetime(2026, 11, 10, 23, 10, tzinfo=UTC).timestamp(),
        "ended": datetime(2026, 11, 10, 23, 31, tzinfo=UTC).timestamp(),
    }
    return Confirmation(**{**given_fields, **fields})


def confirmed(told, *answers):
    """Return the regression's mail, its clearest series with these answers of re-runs."""
    notification, evidence = told[NotificationKind.REGRESSION]
    series = sorted(notification.alert.series, key=interest)
    moved = [replace(one, confirmation=answer) for one, answer in zip(series, answers, strict=False)]
    alert = replace(notification.alert, series=(*moved, *series[len(moved) :]))
    return parsed(replace(notification, alert=alert), evidence)


def test_what_re_runs_confirmed_is_told_beside_what_the_nights_show(told):
    message = confirmed(told, confirmation())
    text = text_of(message)
    words = " ".join(text.split())
    assert "Re-runs of the old and the new code confirm it: +31 % (+29 … +34 %)." in words
    assert (
        f"Confirmed by re-runs: 4 fresh deployments of neutron 27.0.1 (wheel) with {PATCH} and 3 of neutron "
        "27.0.1 (wheel), in turns, on the same nodes, 2026-11-10 23:10\u201323:31 UTC."
    ) in words
    assert "8103 : 1" in words
    assert "Not confirmed" not in words
    assert "+31 % (+29 … +34 %)" in html_of(message).replace("\u00a0", " ")
    for line in text.splitlines():
        assert len(line) <= 78 or line.startswith("    http")


def test_a_proof_beyond_all_doubt_is_no_long_number(told):
    assert "> 1000000 : 1" in text_of(confirmed(told, confirmation(log_proof=400.0)))


def test_a_mail_says_why_there_were_no_re_runs(told):
    nothing = confirmation(
        decision=Decision.UNKNOWN, basis=Basis.NOTHING, reason="the job wants none", runs=(), effect=None
    )
    words = " ".join(text_of(confirmed(told, nothing, nothing)).split())
    assert words.count("Not confirmed by re-runs: the job wants none.") == 1
    assert "confirm it" not in words


def test_where_another_series_than_the_first_was_run_again_it_is_named(told):
    notification, _ = told[NotificationKind.REGRESSION]
    second = sorted(notification.alert.series, key=interest)[1]
    words = " ".join(text_of(confirmed(told, None, confirmation())).split())
    assert f"confirm {action_name(second.key)}: +31 %" in words


def test_text_keeps_to_78_columns_except_for_what_must_not_break(told):
    for notification, evidence in told.values():
        for line in text_of(parsed(notification, evidence)).splitlines():
            assert len(line) <= 78 or line.startswith("    http")
            assert "\u00a0" not in line


def test_the_picture_is_inside_and_described(told):
    message = parsed(*told[NotificationKind.REGRESSION])
    (picture,) = [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert picture.get_content_disposition() == "inline"
    html = html_of(message)
    assert f'src="cid:{picture["Content-ID"].strip("<>")}"' in html
    assert 'alt="Trend over the runs. neutron.create_port in NeutronNetworks.create_and_list_ports: ' in html
    width, height = png_size(picture.get_content())
    assert width > height > 200
    structure = [part.get_content_type() for part in message.walk()]
    assert structure == ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"]


class _Checker(HTMLParser):
    VOID = frozenset({"meta", "br", "img", "wbr"})

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_html_is_well_formed_and_loads_nothing_from_elsewhere(told):
    for notification, evidence in told.values():
        checker = _Checker()
        checker.feed(html_of(parsed(notification, evidence)))
        assert checker.open == []
        assert all(one.startswith(("cid:", "https://perf.example.org/")) for one in checker.links)


def test_without_histories_there_is_no_picture(told):
    message = parsed(told[NotificationKind.REGRESSION][0])
    assert [p.get_content_type() for p in message.walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"changes": (), "code_known": True}, "Nothing changed in the code under test"),
        ({"changes": (), "code_known": False}, "is not known, so it can't be compared"),
        ({"service": "nova"}, "belong to nova, which itself did not change"),
    ],
)
def test_what_is_known_of_the_code_is_said_plainly(told, fields, expected):
    notification, evidence = told[NotificationKind.REGRESSION]
    notification = replace(notification, alert=replace(notification.alert, **fields))
    assert expected in " ".join(text_of(parsed(notification, evidence)).split())


def test_a_noisy_end_does_not_claim_too_much(told):
    notification, evidence = told[NotificationKind.CLOSED]
    noisy = tuple(replace(one, outcome=Outcome.TOO_NOISY) for one in evidence.judgements)
    text = " ".join(text_of(parsed(notification, MailContext(evidence.record, noisy))).split())
    assert "no longer measurably slower" in text
    assert "back at the baseline" not in text
    assert "too noisy to tell" in text


def test_an_accepted_change_says_so(told):
    alert = told[NotificationKind.REGRESSION][0].alert
    _, notification = accept(AlertState((alert,)), alert.id, run_id(12))
    message = parsed(notification)
    assert "accepted (was +3" in message["Subject"]
    assert "accepted as the new normal" in " ".join(text_of(message).split())


def series(key, **fields):
    numbers = {
        "effect": 0.2, "low": 0.1, "high": 0.3, "q_value": 1e-9, "mde": 0.02,
        "baseline_location": 40.0, "location": 48.0, "kind": None,
    }  # fmt: skip
    return MovedSeries(key=key, joined=run_id(9), since=run_id(9), **{**numbers, **fields})


def test_counters_and_failure_rates_are_higher_in_their_own_units(told):
    notification, _ = told[NotificationKind.REGRESSION]
    rate = replace(seconds_key("total", BOOT), metric=Metric.FAILURE_RATE)
    alert = replace(
        notification.alert,
        series=(
            series(statements_key("neutron-api", PORTS)),
            series(rate, effect=0.12, low=0.05, high=0.2, baseline_location=0.0, location=0.12),
        ),
    )
    message = parsed(replace(notification, alert=alert))
    text = text_of(message)
    assert "SQL statements of neutron-api are 20 % higher" in " ".join(text.split())
    assert "SQL statements of neutron-api +20 % (2 scenarios)" in message["Subject"]
    assert "40.0 → 48.0" in text
    assert "+12 points" in text
    assert "< 0.0001" in text


def test_series_that_differ_in_the_arguments_of_their_scenario_are_told_apart(told):
    notification, evidence = told[NotificationKind.REGRESSION]
    key = seconds_key("neutron.step", PORTS)
    twins = tuple(series(replace(key, arguments=one)) for one in ("0a1b2c3d", "99ee88dd"))
    other = series(seconds_key("neutron.other", NETWORKS))
    alert = replace(notification.alert, series=(*twins, other))
    text = " ".join(text_of(parsed(replace(notification, alert=alert), evidence)).split())
    for one in ("0a1b2c3d", "99ee88dd"):
        assert text.count(f"{PORTS} · arguments {one}") == 1
    assert f"{NETWORKS} · arguments" not in text


def test_a_long_list_of_series_is_cut(told):
    notification, evidence = told[NotificationKind.REGRESSION]
    many = tuple(series(seconds_key(f"neutron.step_{n}", PORTS)) for n in range(60))
    text = text_of(parsed(replace(notification, alert=replace(notification.alert, series=many)), evidence))
    assert text.count("neutron.step_") < 30
    assert "40 more series" in text


@pytest.mark.parametrize(
    ("failure_class", "to", "says"),
    [
        (FailureClass.PRODUCT, "neutron@example.org", "with the code under test"),
        (FailureClass.TEST, "neutron@example.org", "with the job or its scenarios"),
        (FailureClass.LAB, "admins@example.org", "with the lab"),
        (FailureClass.UNKNOWN, "admins@example.org", "not known"),
    ],
)
def test_a_failed_run(failure_class, to, says):
    message = parsed(run_failed(failure(failure_class=failure_class, advice="Free some disk.")))
    text = text_of(message)
    assert message["To"] == to
    assert message["Subject"].startswith(
        f"[perfci] nightly: run failed in deploy ({failure_class}): status 500"
    )
    assert f"the fault is {says}" in " ".join(text.split())
    assert "neutron-api.log:\n  Traceback (most recent call last):" in text
    assert "Free some disk." in text
    assert f"perfci run show {run_id(3)}" in text
    assert "slower" not in text


def test_no_secret_leaves_in_a_mail():
    leaky = failure(
        error="password=hunter22",
        excerpt='X-Auth-Token: gAAAAABhunter22hunter22hunter22\n"admin_password": "hunter22"\n'
        "Authorization: Basic hunter22\ncurl --os-password hunter22\nredis://:hunter22@host/",
        advice="token: hunter22",
    )
    message = compose(run_failed(leaky), MailContext(), SETTINGS, now=NOW)
    assert "hunter22" not in text_of(message) + html_of(message) + message["Subject"]
    assert "token expired" in text_of(
        compose(run_failed(failure(excerpt="token expired, password None")), MailContext(), SETTINGS, now=NOW)
    )


def test_a_lab_that_is_not_fit_goes_to_the_admins():
    _, (begins,) = process(AlertState(), JudgedRun(record(1, invalid=("disk canary 81 ms",)), (), {}))
    message = parsed(begins)
    assert message["To"] == "admins@example.org"
    assert "disk canary 81 ms" in text_of(message)
    state, _ = process(AlertState(), JudgedRun(record(1, invalid=("disk canary 81 ms",)), (), {}))
    _, (over,) = process(state, JudgedRun(record(2), (), {}))
    assert parsed(over)["Subject"] == "[perfci] lab embedded: fit to measure again"


def test_an_improvement_has_no_mail(told):
    notification = replace(told[NotificationKind.REGRESSION][0], kind=NotificationKind.IMPROVEMENT)
    with pytest.raises(ValueError, match="no mail"):
        compose(notification, MailContext(), SETTINGS, now=NOW)


def test_without_admins_their_mail_goes_to_the_others():
    lonely = MailSettings("perfci@lab.example.org", ("one@example.org",))
    assert recipients(run_failed(failure(failure_class=FailureClass.LAB)).audience, lonely) == (
        "one@example.org",
    )
    assert parsed(run_failed(failure()), mail_settings=MailSettings("perfci@localhost", ()))["To"] is not None


@pytest.mark.parametrize(
    "address", ["jürgen@example.org", "a@b\r\nBcc: x@y", "nobody", "a b@c", "x@läb.example", ""]
)
@pytest.mark.parametrize("place", ["from_address", "to", "admins"])
def test_an_address_that_mail_cannot_carry_is_refused_at_once(address, place):
    value = address if place == "from_address" else (address,)
    with pytest.raises(MailAddressInvalid) as caught:
        replace(SETTINGS, **{place: value})
    assert repr(address) in str(caught.value)


def test_links_are_addresses():
    assert link("runs/a b.html", "https://x.org/site/", "y") == "https://x.org/site/runs/a%20b.html#y"


def test_without_an_address_of_the_pages_mails_name_commands(told):
    _, (unfit,) = process(AlertState(), JudgedRun(record(1, invalid=("disk canary 81 ms",)), (), {}))
    mails = [*told.values(), (run_failed(failure()), None), (unfit, None)]
    for notification, evidence in mails:
        message = parsed(notification, evidence, replace(SETTINGS, base_url=None))
        for text in (text_of(message), html_of(message)):
            assert ".html" not in text
            assert "state/site" not in text
    text = text_of(parsed(*told[NotificationKind.REGRESSION], replace(SETTINGS, base_url=None)))
    assert "\n    perfci analyse changepoints neutron.create_port --job nightly\n" in text


def test_a_mail_leads_with_what_a_user_feels_and_has_counters_as_evidence(told):
    notification, evidence = told[NotificationKind.REGRESSION]
    counter = series(statements_key("neutron-api", PORTS), effect=2.0, low=1.9, high=2.1)
    timing = series(seconds_key("total", PORTS), effect=0.08, low=0.05, high=0.11)
    for both in ((counter, timing), (timing, counter)):
        message = parsed(replace(notification, alert=replace(notification.alert, series=both)), evidence)
        text = " ".join(text_of(message).replace("\u00a0", " ").split())
        assert text.startswith("whole iteration is 8.0 % slower")
        assert "SQL statements of neutron-api are 200 % higher, too." in text
        assert "whole iteration +8.0 %" in message["Subject"].replace("\u00a0", " ")
        assert text.index("40.0 s → 48.0 s") < text.index("40.0 → 48.0")


def with_records(told, **fields):
    notification, evidence = told[NotificationKind.CLOSED]
    runs = {run_id(n): record(n, *((PATCH,) if 10 <= n < 13 else ())) for n in range(14)}
    return notification, replace(evidence, records=runs, **fields)


def test_the_mail_of_the_fix_names_the_run_and_the_code_that_fixed_it(told):
    notification, evidence = with_records(told)
    later = tuple(
        replace(one, points=(*one.points, replace(one.points[-1], run_id=run_id(14))))
        for one in evidence.histories
    )
    closed = replace(notification, run_id=run_id(14), alert=replace(notification.alert, closed=run_id(14)))
    text = " ".join(text_of(parsed(closed, replace(evidence, histories=later))).split())
    assert "back at the baseline since the run of 2026-11-13 04:15 UTC" in text
    assert (
        f"The run {run_id(13)} was the first at the old level. Code of the slow run before it ({run_id(12)})"
        in text
    )
    assert f"before 27.0.1 (wheel) with {PATCH} after 27.0.1 (wheel)" in text


def test_a_fix_without_a_change_of_code_or_with_an_unknown_one_says_so(told):
    notification, evidence = with_records(told)
    same = {run: record(number) for number, run in enumerate(evidence.records)}
    text = " ".join(text_of(parsed(notification, replace(evidence, records=same))).split())
    assert "something around the code changed back" in text
    text = " ".join(text_of(parsed(notification, replace(evidence, records={}))).split())
    assert "Its code, or that of the run before, is not known." in text
    text = text_of(parsed(notification, replace(evidence, histories=())))
    assert "What fixed it" not in text


def test_commits_in_between_are_named_for_git(told):
    notification, evidence = told[NotificationKind.REGRESSION]
    source = "https://opendev.org/openstack/neutron"
    before, after = (ServiceRevision("neutron", "28.0.0", source, digit * 40) for digit in "ab")
    alert = replace(notification.alert, changes=(RevisionChange("neutron", before, after),))
    message = parsed(replace(notification, alert=alert), evidence)
    assert f"git log {'a' * 12}..{'b' * 12}" in text_of(message)
    assert f'href="{source}/compare/{"a" * 40}...{"b" * 40}"' in html_of(message)
    elsewhere = replace(after, source="https://git.example.org/neutron")
    alert = replace(alert, changes=(RevisionChange("neutron", before, elsewhere),))
    assert "git log" not in text_of(parsed(replace(notification, alert=alert), evidence))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.text(max_size=2000))
def test_no_text_can_break_a_header_or_a_line(error, excerpt):
    nasty = failure(
        error=f"{error}\r\nBcc: victim@example.org",
        excerpt=excerpt + "\r\n.\r\n" + "x" * 3000 + "é" * 1500,
        job="a\r\nBcc: b@example.org",
        stage=error or "x",
    )
    message = parsed(run_failed(nasty))
    assert message["Bcc"] is None
    assert message["X-Evil"] is None
    assert {name.lower() for name in message} == {
        "from", "to", "subject", "date", "message-id", "list-id", "auto-submitted", "mime-version", "content-type",
    }  # fmt: skip
    assert one_line(message["Subject"]) == message["Subject"]


def test_a_mail_survives_the_outbox_byte_for_byte(told, tmp_path):
    notification, evidence = told[NotificationKind.REGRESSION]
    message = compose(notification, evidence, SETTINGS, now=NOW)
    outbox = Outbox(Database(f"sqlite:///{tmp_path}/lab.db"))
    outbox.put(notification.id, message, sender="a@b", recipients=("c@d",), now=NOW)
    (letter,) = outbox.letters()
    back = email.message_from_string(letter.message, policy=email.policy.default)
    assert text_of(back) == text_of(message)
    assert html_of(back) == html_of(message)
    assert back["Subject"] == message["Subject"]


def suspect(number=0, subject="List ports", author="Ada Example", note=""):
    change = Change(
        "neutron", f"{number:040x}", "p" * 40, strangers.one_line(subject), Person(author, None), None,
        datetime(2026, 11, 9, tzinfo=UTC), ("neutron/a.py",), f"https://review.example.org/{number}", note=note,
    )  # fmt: skip
    return Suspect(change, 0.5, number)


@pytest.fixture
def mail_with(told):
    notification, context = told[NotificationKind.REGRESSION]

    def compose(found):
        message = parsed(notification, replace(context, suspects=found))
        return " ".join(text_of(message).split()), html_of(message)

    return compose


def test_suspects_stand_with_author_and_link(mail_with):
    text, html = mail_with(
        SuspectList((suspect(1, note="a merge of 2 changes"),), ("35 changes, 1 suspect.",))
    )
    assert (
        "50% neutron: List ports by Ada Example (a merge of 2 changes) https://review.example.org/1" in text
    )
    assert 'href="https://review.example.org/1"' in html
    assert "35 changes, 1 suspect." in text
    assert "perfci changes 2026" in text


def test_hostile_text_is_escaped(mail_with):
    text, html = mail_with(
        SuspectList((suspect(1, "<script>alert(1)</script>\x1b[2J\u202e", '"><img src=x>'),))
    )
    assert "<script>" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b" not in text + html
    assert "\u202e" not in text + html


def test_of_many_only_the_first_are_shown(mail_with):
    text, _ = mail_with(SuspectList(tuple(suspect(one) for one in range(MOST_SHOWN + 3))))
    assert f"https://review.example.org/{MOST_SHOWN - 1} " in text
    assert f"https://review.example.org/{MOST_SHOWN}" not in text
    assert "3 more suspects: see the whole list." in text.replace("\u00a0", " ")


def test_nothing_that_the_cloud_runs_changed(mail_with):
    text, _ = mail_with(SuspectList(acquitted=True))
    assert "The code under test can't be the cause" in " ".join(text.split())


def test_no_suspect_but_something_else_is_no_acquittal(mail_with):
    text, _ = mail_with(SuspectList(remarks=("alembic 1 → 2.",)))
    assert "None of the changes in between can have reached the cloud." in text
    assert "alembic 1 → 2." in text
    assert "can't be the cause" not in " ".join(text.split())


def test_why_the_changes_are_not_known(mail_with):
    text, _ = mail_with(SuspectList(problem="git fetch in /mirror took longer than 600 s"))
    assert "in between: git fetch in /mirror took longer than 600 s" in text


def test_without_repositories_the_mail_is_as_ever(mail_with):
    text, _ = mail_with(None)
    assert "perfci changes" not in text


def test_the_levels_in_a_mail_are_those_that_its_effect_compares(told):
    notification, _ = told[NotificationKind.REGRESSION]
    moved = replace(
        notification.alert.series[0], effect=0.15, baseline_location=0.761, level=0.875, location=0.82
    )
    message = parsed(replace(notification, alert=replace(notification.alert, series=(moved,))))
    text = text_of(message).replace("\u00a0", " ")
    assert "0.761 s → 0.875 s" in text
    assert "0.820 s" not in text
