"""A tick from the job files and the calendar to what it starts and sends; several controllers, killed or late."""

from __future__ import annotations

import email
import multiprocessing
import os
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from email import policy

import pytest

from perfci import config
from perfci.alerts.outbox import Outbox
from perfci.database.engine import Database
from perfci.lab.model import Node
from perfci.lab.reservations.checks import Policy
from perfci.lab.reservations.model import Actor, BookingState, NodeWish, Request
from perfci.lab.reservations.service import Reservations
from perfci.logs import FILE
from perfci.runs.ansible.playbook import PlaybookFailed, Playbooks
from perfci.runs.tick import mail
from perfci.runs.tick.node_playbooks import failed_nodes
from perfci.runs.tick.prepare import work_on
from perfci.runs.tick.tick import tick

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
JOB = """name: {name}
schedule: {{at: "14:15", every: day, time_zone: UTC}}
nodes: 1
limits: {{deploy: 600, hammer: 600}}
scenarios:
  - {{task: ports, times: 4, warmup: 2}}
"""
NODES = tuple(Node(name, has_bmc=True) for name in "abc")
ANN = Actor("ann")


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def settings(project, database_url):
    (project.root / "jobs" / "nightly.yml").write_text(JOB.format(name="nightly"))
    (project.root / "jobs" / "tasks" / "ports.yml.j2").write_text("{}\n")
    environ = {
        "PERFCI_ROOT_DIR": str(project.root),
        "PERFCI_STATE_DIR": str(project.state),
        "PERFCI_DATABASE__URL": database_url,
        "PERFCI_MAIL__ADMINS": '["admin@example.org"]',
    }
    return config.load(environ=environ)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lab(settings, clock):
    database = Database(settings.database_url)
    return Reservations(database, "embedded", NODES, policy=Policy(), clock=clock)


def ticked(settings, lab):
    started = []
    report = tick(settings, reservations=lab, spawn=started.append)
    assert report.problems == []
    return report, started


def mails(settings):
    with Database(settings.database_url).reading() as connection:
        rows = connection.exec_driver_sql("SELECT message FROM letter ORDER BY queued_at, id").all()
    return [email.message_from_string(row[0], policy=policy.default) for row in rows]


def test_a_day_of_a_lab(settings, lab, clock):
    report, started = ticked(settings, lab)
    assert len(report.planned) == 14
    assert started == []
    made = lab.reserve(
        Request(NodeWish(1), 8 * 3600, "tuning", wait_seconds=None, contact="ann@example.org"), ANN
    )
    report, started = ticked(settings, lab)
    assert started == [["tick", "--work", made.id]]
    asked = []

    def play(playbook, names, reason):
        asked.append((playbook, names))
        assert "ann" in reason
        return {"b": "b: deploy: no DHCP"} if playbook == "provision" and names == ("b",) else {}

    done = work_on(settings, lab, NODES, made.id, "one", play=play)
    assert done.state is BookingState.READY
    assert asked == [("provision", ("b",)), ("provision", ("c",)), ("check", ("c",))]
    assert done.nodes == ("c",), "a is kept for the night"
    clock.now = START + 2.25 * HOUR
    report, started = ticked(settings, lab)
    assert started == [["run", "nightly", "--reservation", report.nights[0]]]
    assert ticked(settings, lab)[1] == []
    clock.now = START + 8 * HOUR
    report, started = ticked(settings, lab)
    assert report.ended == [made.id]
    assert ["tick", "--work", made.id] in started
    work_on(settings, lab, NODES, made.id, "one", play=play)
    assert lab.show(made.id).state is BookingState.OVER
    assert asked[-1] == ("reclaim", ("c",))
    subjects = [one["Subject"].split(": ")[0].removeprefix("[embedded] ") for one in mails(settings)]
    assert Counter(subjects)["Ready"] == 1
    assert Counter(subjects)["Ended"] == 1
    before = len(mails(settings))
    ticked(settings, lab)
    assert len(mails(settings)) == before
    parts = {
        one["Subject"].split()[1]: [part.get_content_type() for part in one.walk()]
        for one in mails(settings)
        if one["To"] == "ann@example.org"
    }
    assert parts["Ready:"] == ["multipart/mixed", "text/plain", "text/calendar"]
    assert parts["Ended:"] == ["text/plain"]


def test_what_its_holder_works_on_is_left_alone_while_another_node_is_prepared(settings, lab):
    made = lab.reserve(Request(NodeWish(2), 3600, "x"), ANN)
    work_on(settings, lab, NODES, made.id, "one", play=lambda *_: {})
    assert lab.swap(made.id, "a", ANN).state is BookingState.PREPARING
    touched = []
    done = work_on(
        settings, lab, NODES, made.id, "one", play=lambda _, names, __: touched.extend(names) or {}
    )
    assert done.state is BookingState.READY
    assert done.nodes == ("b", "c")
    assert set(touched) == {"c"}


def test_a_reclaim_that_fails_twice_puts_the_node_into_quarantine(settings, lab):
    made = lab.reserve(Request(NodeWish(1), 3600, "x"), ANN)
    work_on(settings, lab, NODES, made.id, "one", play=lambda *_: {})
    lab.release(made.id, ANN)
    work_on(
        settings, lab, NODES, made.id, "one", play=lambda _, names, __: dict.fromkeys(names, "BMC silent")
    )
    assert lab.show(made.id).state is BookingState.OVER
    assert "reclaim failed 2 times in a row: BMC silent" in lab.node("a").quarantine.reason
    ticked(settings, lab)
    ticked(settings, lab)
    (told,) = [one for one in mails(settings) if "quarantine" in one["Subject"]]
    assert (told["To"], told["Subject"]) == ("admin@example.org", "[embedded] In quarantine: a")
    assert "BMC silent" in told.get_content()
    assert "perfci lab node restore a" in told.get_content()


def test_a_job_file_that_is_broken_keeps_no_other_night_out(settings, lab, project):
    (project.root / "jobs" / "broken.yml").write_text("name: broken\nschedule: tomorrow\n")
    report = tick(settings, reservations=lab, spawn=lambda _: None)
    assert len(report.planned) == 14
    assert "broken.yml" in report.problems[0]


def test_a_fault_of_ours_in_one_step_keeps_no_night_from_being_started(settings, lab, clock, monkeypatch):
    ticked(settings, lab)
    clock.now = START + 2.25 * HOUR

    def broken():
        raise ValueError("a bug")

    monkeypatch.setattr(lab, "sweep", broken)
    started = []
    report = tick(settings, reservations=lab, spawn=started.append)
    assert started == [["run", "nightly", "--reservation", report.nights[0]]]
    (problem,) = report.problems
    assert problem.startswith("unexpected ValueError")
    assert "Traceback (most recent call last):" in (settings.state_dir / "logs" / FILE).read_text()


def test_a_missed_night_is_told(settings, lab, clock):
    ticked(settings, lab)
    clock.now = START + 24 * HOUR
    ticked(settings, lab)
    assert "missed" in " ".join(one["Subject"] for one in mails(settings))


def test_what_fails_on_the_controller_is_no_nodes_fault(settings, lab, clock, monkeypatch):
    detail = "no route to the mirror"
    broken = PlaybookFailed(playbook="playbooks/supplies.yml", where="Get it on host", detail=detail, log="x")

    def run(*_, **__):
        raise broken

    wish = Request(NodeWish(2), 3600, "tuning", wait_seconds=None, contact="ann@example.org")
    made = lab.reserve(wish, ANN)
    with monkeypatch.context() as patch:
        patch.setattr(Playbooks, "run", run)
        for _ in range(3):
            done = work_on(settings, lab, NODES, made.id, "one")
            assert (done.state, done.nodes) == (BookingState.PREPARING, made.nodes)
            ticked(settings, lab)
            clock.now += timedelta(minutes=3)
    assert [one.quarantine for one in lab.nodes()] == [None, None, None]
    (letter,) = [one for one in mails(settings) if one["To"] == "ann@example.org"]
    assert "is not ready yet: the controller can't prepare its nodes" in letter["Subject"]
    assert detail in letter.get_body(("plain",)).get_content()
    monkeypatch.setattr(Playbooks, "run", lambda *_, **__: None)
    assert work_on(settings, lab, NODES, made.id, "one").state is BookingState.READY


@pytest.mark.parametrize(
    ("first", "windows"),
    [
        (datetime(2026, 3, 28, tzinfo=UTC), ["28T01:15", "29T01:15", "30T00:15"]),
        (datetime(2026, 10, 24, tzinfo=UTC), ["24T00:15", "25T00:15", "26T01:15"]),
    ],
    ids=["a time that is left out", "a time that comes twice"],
)
def test_each_night_starts_once_where_the_clock_changes(settings, lab, clock, first, windows):
    file = settings.jobs_dir / "nightly.yml"
    file.write_text(file.read_text().replace('at: "14:15"', 'at: "02:15"').replace("UTC", "Europe/Prague"))
    nights = []
    for day in range(3):
        for minutes in (0, 15, 45, 75, 105):
            clock.now = first + timedelta(days=day, minutes=minutes)
            for night in ticked(settings, lab)[0].nights:
                nights.append(lab.show(night).window_at.strftime("%dT%H:%M"))
                lab.release(night, Actor("root", admin=True))
    assert nights == windows


def test_which_nodes_failed():
    said = "playbooks/provision.yml: Refuse too few on controller: 1 of 2 came up:\nnode-1: deploy: no DHCP\n"
    assert failed_nodes(("node-1", "node-2"), said) == {"node-1": "node-1: deploy: no DHCP"}
    assert failed_nodes(("node-1", "node-10"), "x: Run on node-10: failed") == {
        "node-10": "x: Run on node-10: failed"
    }
    assert failed_nodes(("a", "b"), "no words\nmore") == {"a": "no words", "b": "no words"}


def test_a_mail_that_another_controller_posts_meanwhile_is_posted_once(settings, lab, clock, monkeypatch):
    """It also shows that nobody waits for the calendar while mails are written."""
    another = Reservations(Database(settings.database_url), lab.lab, NODES, policy=Policy(), clock=clock)
    lab.reserve(Request(NodeWish(1), 3600, "x", starts_at=START + HOUR, contact="ann@example.org"), ANN)
    written = mail._written

    def interrupted(*given):
        monkeypatch.setattr(mail, "_written", written)
        assert mail.post_due(settings, another) == 1
        return written(*given)

    monkeypatch.setattr(mail, "_written", interrupted)
    assert mail.post_due(settings, lab) == 0
    assert len(mails(settings)) == 1


def controller(settings, file, until, kill_at):
    """Tick again and again as one controller, and be killed at a step."""
    clock = Clock()
    lab = Reservations(
        Database(settings.database_url), "embedded", NODES, policy=Policy(), clock=lambda: clock.now
    )
    steps = 0

    def spawn(words):
        with open(file, "a") as lines:  # noqa: PTH123
            lines.write(" ".join(words) + "\n")

    def killed(*_):
        nonlocal steps
        steps += 1
        if steps == kill_at:
            os._exit(9)

    sys.setprofile(
        lambda frame, event, _: (
            killed() if event == "call" and "reservations" in frame.f_code.co_filename else None
        )
    )
    while clock.now < until:
        for problem in tick(settings, reservations=lab, spawn=spawn).problems:
            spawn(["problem", problem])
        clock.now += timedelta(minutes=15)


@pytest.mark.slow
def test_three_controllers_start_each_night_and_send_each_mail_once_though_two_are_killed(
    settings, lab, tmp_path
):
    lab.reserve(Request(NodeWish(1), 3600, "x", starts_at=START + 2.5 * HOUR, contact="ann@example.org"), ANN)
    started = tmp_path / "started"
    until = START + 3 * HOUR
    context = multiprocessing.get_context("fork")
    for kill_at in (3000, 9000):
        doomed = context.Process(target=controller, args=(settings, started, until, kill_at))
        doomed.start()
        doomed.join(120)
        assert doomed.exitcode == 9
    living = [context.Process(target=controller, args=(settings, started, until, -1)) for _ in range(3)]
    for one in living:
        one.start()
    for one in living:
        one.join(300)
        assert one.exitcode == 0
    nights = [line for line in started.read_text().splitlines() if line.startswith("run ")]
    assert len(set(nights)) == 1
    # Nobody came for the nodes here: each two minutes after a start it may be started again, never before.
    assert len(nights) <= 4
    assert "problem" not in started.read_text()
    to_ann = [one["Subject"].split(": ")[0] for one in mails(settings) if one["To"] == "ann@example.org"]
    assert sorted(to_ann) == ["[embedded] Reserved", "[embedded] Starts soon"]
    assert Outbox(Database(settings.database_url)).status().failed == 0
