"""Alarms of BMCs in the admins' mail: each once, and never in anybody's way."""

from __future__ import annotations

import email
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from perfci.alerts.outbox import Outbox
from perfci.config import load
from perfci.database.engine import Database
from perfci.lab.bmc.base import Event, Reading, Target
from perfci.lab.bmc.errors import BmcSilent
from perfci.lab.model import Node
from perfci.lab.reservations.checks import Policy
from perfci.lab.reservations.service import Reservations
from perfci.runs.publish import hardware_alarms
from perfci.runs.publish.hardware_alarms import look_at_hardware

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)
HOT = Reading("CPU1 Temp", "Temperature", 98.0, "°C", (), "critical")
COOL = Reading("CPU1 Temp", "Temperature", 41.0, "°C", (), "ok")
ECC = Event(NOW - timedelta(hours=1), "Memory", "Uncorrectable ECC", "failed")
ANCIENT = Event(NOW - timedelta(days=400), "Power Supply 2", "Failure detected", "failed")


class Lab:
    """Two machines, what their BMCs say, and the book and mails of the controller."""

    def __init__(self, folder, monkeypatch):
        environ = {
            "PERFCI_ROOT_DIR": str(folder),
            "PERFCI_STATE_DIR": str(folder / "state"),
            "PERFCI_LAB": "rack",
            "PERFCI_MAIL__ADMINS": '["admins@example.org"]',
        }
        self.settings, self.now = load(environ=environ), NOW
        self.book = Reservations(
            Database(f"sqlite:///{folder}/lab.db"),
            "rack",
            (Node("node-1", has_bmc=True), Node("node-2", has_bmc=True)),
            policy=Policy(),
            clock=lambda: self.now,
        )
        self.says = {"node-1": ((COOL,), ()), "node-2": ((), ())}
        monkeypatch.setattr(
            hardware_alarms.inventory,
            "targets",
            lambda _folder, names: [Target(name, "192.0.2.1", "u", "p") for name in names],
        )

    @asynccontextmanager
    async def connect(self, target):
        if target.node not in self.says:
            raise BmcSilent(node=target.node, address=target.address, reason="nothing came back")
        readings, events = self.says[target.node]

        class Bmc:
            async def sensors(self):
                return readings

            async def events(self):
                return events

        yield Bmc()

    def look(self, *nodes, settings=None):
        self.now += timedelta(minutes=1)
        return look_at_hardware(
            settings or self.settings,
            nodes or ("node-2", "node-1"),
            reservations=self.book,
            connecting=self.connect,
        )

    @property
    def mails(self):
        return [email.message_from_string(one.message) for one in Outbox(self.book.database).letters()]

    @property
    def subjects(self):
        return [mail["Subject"] for mail in self.mails]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    return Lab(tmp_path, monkeypatch)


def test_each_alarm_is_one_mail_to_the_admins_and_none_is_repeated(lab):
    lab.says["node-1"] = ((HOT,), (ANCIENT, ECC))
    found = lab.look()
    assert [one.text for one in found.alarms["node-1"]] == [
        "sensor CPU1 Temp: 98 °C critical",
        "event 2026-11-21T05:00:00+00:00 Memory: Uncorrectable ECC",
    ]
    (mail,) = lab.mails
    assert (mail["To"], str(email.header.make_header(email.header.decode_header(mail["Subject"])))) == (
        "admins@example.org",
        "[rack] Hardware of node-1: sensor CPU1 Temp: 98 °C critical, and 1 more",
    )
    body = mail.get_payload(decode=True).decode()
    assert "- event 2026-11-21T05:00:00+00:00 Memory: Uncorrectable ECC" in body
    assert "perfci lab events node-1" in body
    assert "Failure detected" not in body, "that was there for a year"
    assert lab.look().alarms == {}
    assert len(lab.mails) == 1


def test_a_new_event_is_a_new_mail_and_a_sensor_only_after_it_was_well(lab):
    lab.says["node-1"] = ((HOT,), ())
    lab.look()
    lab.says["node-1"] = ((HOT,), (ECC,))
    lab.look()
    lab.says["node-1"] = ((COOL,), (ECC,))
    lab.look()
    assert len(lab.mails) == 2
    lab.says["node-1"] = ((HOT,), (ECC,))
    lab.look()
    assert len(lab.mails) == 3


def test_the_history_of_the_node_has_them_and_its_health_does_not_count_them(lab):
    lab.says["node-1"] = ((HOT,), (ANCIENT,))
    lab.look()
    history = lab.book.node_history("node-1")
    assert [(one.action, one.ok, one.detail) for one in history] == [
        ("hardware", True, "looked at for the first time"),
        ("hardware", False, "event 2025-10-17T06:00:00+00:00 Power Supply 2: Failure detected"),
        ("hardware", False, "sensor CPU1 Temp"),
    ]
    assert (lab.book.health("node-1").operations, lab.book.health("node-1").broken_hours) == (0, 0.0)


def test_a_silent_bmc_keeps_no_other_from_being_asked(lab):
    del lab.says["node-1"]
    lab.says["node-2"] = ((), (ECC,))
    found = lab.look()
    assert (set(found.alarms), set(found.silent)) == ({"node-2"}, {"node-1"})
    assert "node-1 could not be asked: " in found.text
    lab.says["node-1"] = ((), (ANCIENT,))
    assert lab.look().alarms == {}, "nobody had looked at it before"


def test_a_mail_that_could_not_be_queued_is_tried_again(lab, monkeypatch):
    lab.says["node-1"] = ((HOT,), ())
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "put", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            lab.look()
    assert set(lab.look().alarms) == {"node-1"}, "nothing of the first try was kept"
    assert len(lab.mails) == 1


def test_without_admins_it_is_noted_only(lab):
    lab.says["node-1"] = ((HOT,), ())
    nobody = lab.settings.model_copy(update={"mail": lab.settings.mail.model_copy(update={"admins": ()})})
    assert set(lab.look(settings=nobody).alarms) == {"node-1"}
    assert lab.mails == []
