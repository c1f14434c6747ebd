from __future__ import annotations

import contextlib
import mailbox
import multiprocessing
import os
import socket
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from programs import require

from perfci.alerts.errors import MailRefusedForNow, MailServerUnavailable
from perfci.alerts.maildir import MaildirTransport
from perfci.alerts.outbox import Delivery, Outbox, OutboxStatus, Refusals
from perfci.alerts.settings import SmtpSettings
from perfci.alerts.smtp import SmtpTransport
from perfci.database import schema
from perfci.database.engine import Database

NOW = datetime(2026, 11, 21, 4, 30, tzinfo=UTC)
DEVELOPERS = ("one@example.org", "two@example.org")


class Server:
    """An SMTP server that answers what it is told to."""

    def __init__(self):
        self.taken = []
        self.rcpt = {}
        self.data = "250 OK"
        self.mail = "250 OK"

    async def handle_MAIL(self, server, session, envelope, address, options):  # noqa: N802
        if self.mail.startswith("250"):
            envelope.mail_from = address
        return self.mail

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        answer = self.rcpt.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        if self.data.startswith("250"):
            self.taken.append((envelope.mail_from, tuple(envelope.rcpt_tos), envelope.content))
        return self.data


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def listening(server, **options):
    controller = Controller(server, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def transport(server):
    with listening(server) as port:
        yield SmtpTransport(SmtpSettings("127.0.0.1", port, timeout_seconds=30))


@pytest.fixture
def database(tmp_path):
    return Database(f"sqlite:///{tmp_path}/lab.db")


@pytest.fixture
def outbox(database):
    return Outbox(database)


def mail(name="a"):
    message = EmailMessage()
    message["From"] = "perfci@lab.example.org"
    message["To"] = ", ".join(DEVELOPERS)
    message["Subject"] = "neutron create_port +31 %"
    message["Message-ID"] = f"<{name}@lab.example.org>"
    message.set_content("Größer: 0,4 s\n")
    return message


def put(outbox, name="a", minutes=0, recipients=DEVELOPERS):
    return outbox.put(
        name,
        mail(name),
        sender="perfci@lab.example.org",
        recipients=recipients,
        now=NOW + timedelta(minutes=minutes),
    )


def states(outbox):
    """How far each letter is with each of its recipients."""
    with outbox._database.reading() as connection:
        rows = connection.execute(sa.select(schema.letter_recipient)).all()
    return {(row.letter_id, row.address): row.state for row in rows}


def test_a_letter_is_sent_once_however_often_it_is_put_in(outbox, transport, server):
    assert put(outbox)
    assert not put(outbox)
    assert outbox.deliver(transport) == Delivery(sent=("a",))
    assert not put(outbox)
    assert outbox.deliver(transport) == Delivery()
    ((sender, recipients, content),) = server.taken
    assert (sender, recipients) == ("perfci@lab.example.org", DEVELOPERS)
    assert b"Message-ID: <a@lab.example.org>" in content
    assert states(outbox) == {("a", address): "sent" for address in DEVELOPERS}


def test_oldest_first(outbox, transport, server):
    for name, minutes in (("x", 5), ("b", 1), ("c", 3)):
        put(outbox, name, minutes)
    assert outbox.deliver(transport).sent == ("b", "c", "x")


def test_a_refused_connection_keeps_everything_and_says_why(outbox, tmp_path):
    put(outbox, "a", recipients=DEVELOPERS)
    put(outbox, "b", 1)
    assert outbox.waiting() == 2
    port = free_port()
    nobody = SmtpTransport(SmtpSettings("127.0.0.1", port, timeout_seconds=2))
    assert outbox.deliver(nobody) == Delivery(waiting=("a", "b"))
    assert [letter.attempts for letter in outbox.letters()] == [1, 0]
    status = outbox.status()
    assert (status.waiting, status.failed, status.oldest) == (2, 0, NOW.isoformat())
    assert f"127.0.0.1:{port}" in status.last_error
    server = Server()
    with listening(server) as port:
        delivered = outbox.deliver(SmtpTransport(SmtpSettings("127.0.0.1", port)))
    assert delivered.sent == ("a", "b")
    assert len(server.taken) == 2
    assert outbox.status() == OutboxStatus(0, 0, None, None)
    assert outbox.waiting() == 0


@pytest.mark.parametrize("stage", ["data", "all recipients"])
def test_a_temporary_refusal_keeps_the_letter_and_goes_on_with_the_next(outbox, transport, server, stage):
    put(outbox, "a")
    if stage == "data":
        server.data = "451 4.3.0 try again later"
    else:
        server.rcpt = dict.fromkeys(DEVELOPERS, "450 4.2.0 greylisted")
    assert outbox.deliver(transport) == Delivery(waiting=("a",))
    (letter,) = outbox.letters()
    assert letter.attempts == 1
    assert ("451" if stage == "data" else "450") in letter.last_error
    server.data, server.rcpt = "250 OK", {}
    assert outbox.deliver(transport).sent == ("a",)
    assert len(server.taken) == 1


@pytest.mark.parametrize("stage", ["data", "all recipients"])
def test_a_permanent_refusal_moves_the_letter_aside_and_goes_on(outbox, transport, server, stage):
    put(outbox, "a", recipients=DEVELOPERS)
    put(outbox, "b", 1, recipients=("three@example.org",))
    if stage == "data":
        server.data = "554 5.7.1 looks like spam"
    server.rcpt = dict.fromkeys(DEVELOPERS, "550 5.1.1 no such user") if stage != "data" else {}
    delivered = outbox.deliver(transport)
    assert "a" in delivered.failed
    assert "refused" in {state for (letter, _), state in states(outbox).items() if letter == "a"}
    status = outbox.status()
    assert ("554 5.7.1" if stage == "data" else "550 5.1.1") in status.last_error
    assert delivered.sent == (() if stage == "data" else ("b",))
    assert not put(outbox, "a")
    server.data, server.rcpt = "250 OK", {}
    assert outbox.retry_failed() == len(delivered.failed)
    assert "a" in outbox.deliver(transport).sent
    assert outbox.status().failed == 0


SETTINGS = {
    "TLS first": ("mail", "530 5.7.0 Must issue a STARTTLS command first"),
    "login first": ("mail", "530 5.7.1 Authentication required"),
    "login first, said later": ("rcpt", "530 5.7.1 Authentication required"),
    "login first, said last": ("data", "530 5.7.1 Authentication required"),
    "stronger login": ("mail", "534 5.7.9 Please log in with your web browser"),
    "TLS for the login": ("mail", "538 5.7.11 Encryption required for requested authentication mechanism"),
    "relay": ("rcpt", "554 5.7.1 <one@example.org>: Relay access denied"),
    "relay by another server": ("rcpt", "550 5.7.1 Unable to relay"),
    "sender of somebody else": ("rcpt", "553 5.7.1 Sender address rejected: not owned by user perfci"),
    "sender": ("mail", "550 5.1.8 Sender rejected"),
}


@pytest.mark.parametrize(("stage", "words"), SETTINGS.values(), ids=SETTINGS)
def test_a_wrong_setting_keeps_the_letter_until_it_is_right(outbox, transport, server, stage, words):
    put(outbox)
    setattr(server, stage, dict.fromkeys(DEVELOPERS, words) if stage == "rcpt" else words)
    done = outbox.deliver(transport)
    assert done == Delivery(waiting=("a",))
    (problem,) = done.problems
    assert words in problem
    assert "perfci.toml" in problem
    assert outbox.refused() == ()
    server.mail = server.data = "250 OK"
    server.rcpt = {}
    assert outbox.deliver(transport) == Delivery(sent=("a",))


def test_one_recipient_whom_the_server_does_not_relay_to_waits_and_others_get_it(outbox, transport, server):
    put(outbox)
    server.rcpt = {DEVELOPERS[0]: "554 5.7.1 Relay access denied"}
    done = outbox.deliver(transport)
    assert (done, done.problems) == (
        Delivery(waiting=("a",)),
        (f"{DEVELOPERS[0]}: 554 5.7.1 Relay access denied",),
    )
    assert [one.recipients for one in outbox.letters()] == [DEVELOPERS[:1]]


LETTERS = {
    "too large, said at once": ("mail", "552 5.3.4 Message size exceeds fixed limit"),
    "too large": ("data", "552 5.3.4 Message size exceeds fixed limit"),
    "nobody": ("rcpt", "550 5.1.1 No such user"),
    "content": ("data", "554 5.7.1 Rejected as spam"),
}


@pytest.mark.parametrize(("stage", "words"), LETTERS.values(), ids=LETTERS)
def test_what_is_wrong_with_the_letter_itself_is_refused_in_the_servers_words(
    outbox, transport, server, stage, words
):
    put(outbox)
    setattr(server, stage, dict.fromkeys(DEVELOPERS, words) if stage == "rcpt" else words)
    done = outbox.deliver(transport)
    assert done == Delivery(failed=("a",))
    assert words in done.problems[0]


def test_each_recipient_gets_it_once_when_only_some_are_refused(outbox, transport, server):
    everyone = (*DEVELOPERS, "gone@example.org")
    put(outbox, recipients=everyone)
    server.rcpt = {DEVELOPERS[1]: "451 4.2.1 mailbox busy", "gone@example.org": "550 5.1.1 no such user"}
    assert outbox.deliver(transport) == Delivery(waiting=("a",))
    assert [taken[1] for taken in server.taken] == [DEVELOPERS[:1]]
    assert states(outbox) == {
        ("a", DEVELOPERS[0]): "sent",
        ("a", DEVELOPERS[1]): "waiting",
        ("a", "gone@example.org"): "refused",
    }
    server.rcpt = {}
    assert outbox.deliver(transport).sent == ("a",)
    assert [taken[1] for taken in server.taken] == [DEVELOPERS[:1], DEVELOPERS[1:]]
    outbox.retry_failed()
    outbox.deliver(transport)
    assert server.taken[-1][1] == ("gone@example.org",)


def test_a_server_that_says_nothing_is_unavailable(outbox):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = SmtpTransport(SmtpSettings("127.0.0.1", silent.getsockname()[1], timeout_seconds=0.3))
        put(outbox)
        assert outbox.deliver(transport).waiting == ("a",)
    assert "timed out" in outbox.status().last_error


def test_a_server_that_does_not_greet_us_is_unavailable(outbox):
    def refuse(listener):
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb", buffering=0) as stream:
            stream.write(b"220 hello\r\n")
            for line in stream:
                stream.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"554 5.7.1 no service\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=(listener,))
        thread.start()
        put(outbox)
        transport = SmtpTransport(SmtpSettings("127.0.0.1", listener.getsockname()[1], timeout_seconds=30))
        assert outbox.deliver(transport).waiting == ("a",)
        thread.join()
    assert "554 5.7.1 no service" in outbox.status().last_error


def _signed(folder):
    require("openssl")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificate, key)
    return serving, ssl.create_default_context(cafile=certificate)


def _let_in(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"lab", b"right"), handled=False)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # it is inside TLS all along
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_encrypted_with_a_password(outbox, server, tmp_path, security):
    serving, trusting = _signed(tmp_path)
    options = {"tls_context": serving} if security == "starttls" else {"ssl_context": serving}
    if security == "tls":
        options["auth_require_tls"] = False  # aiosmtpd looks for STARTTLS only
    with listening(server, authenticator=_let_in, auth_required=True, **options) as port:
        put(outbox)
        wrong = SmtpSettings("127.0.0.1", port, security, "lab", "wrong", timeout_seconds=30)
        assert outbox.deliver(SmtpTransport(wrong, tls=trusting)).waiting == ("a",)
        assert "535" in outbox.status().last_error
        assert "wrong" not in repr(wrong) + outbox.status().last_error
        assert outbox.deliver(SmtpTransport(wrong)).waiting == ("a",)  # a certificate nobody vouches for
        assert "certificate" in outbox.status().last_error
        right = SmtpSettings("127.0.0.1", port, security, "lab", "right", timeout_seconds=30)
        assert outbox.deliver(SmtpTransport(right, tls=trusting)).sent == ("a",)
    assert len(server.taken) == 1


def test_no_password_goes_over_a_line_that_can_not_be_encrypted(outbox, server):
    with listening(server) as port:
        put(outbox)
        settings = SmtpSettings("127.0.0.1", port, "starttls", "lab", "right", timeout_seconds=30)
        assert outbox.deliver(SmtpTransport(settings)).waiting == ("a",)
    assert "STARTTLS" in outbox.status().last_error
    assert server.taken == []


class _DiesAfterSending:
    """A transport of a process that is killed before it can note that it sent."""

    def __init__(self, transport):
        self.transport = transport

    def send(self, letter):
        self.transport.send(letter)
        os._exit(9)


def _deliver(database, transport):
    Outbox(database).deliver(transport)


def _in_child(target, *arguments):
    child = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    child.start()
    return child


def test_killed_between_sending_and_marking_a_maildir_has_it_once(outbox, database, tmp_path):
    maildir = MaildirTransport(tmp_path / "state" / "mail")
    put(outbox)
    child = _in_child(_deliver, database, _DiesAfterSending(maildir))
    child.join(60)
    assert child.exitcode == 9
    assert outbox.status().waiting == 1
    assert len(mailbox.Maildir(maildir.folder)) == 1
    assert outbox.deliver(maildir).sent == ("a",)
    (message,) = mailbox.Maildir(maildir.folder)
    assert message["Message-ID"] == "<a@lab.example.org>"


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_killed_between_sending_and_marking_smtp_repeats_the_same_message_id(
    outbox, database, transport, server
):
    put(outbox)
    child = _in_child(_deliver, database, _DiesAfterSending(transport))
    child.join(60)
    assert (child.exitcode, outbox.status().waiting) == (9, 1)
    assert outbox.deliver(transport).sent == ("a",)
    first, second = (content for _, _, content in server.taken)
    assert first == second


class _Slow:
    """Counts its sendings in a file, slowly."""

    def __init__(self, file):
        self.file = file

    def send(self, letter):
        time.sleep(0.05)
        with self.file.open("a") as target:
            target.write(f"{letter.id}\n")
        return Refusals()


def test_processes_side_by_side_send_each_letter_once(outbox, database, tmp_path):
    for number in range(8):
        put(outbox, f"n{number}")
    log = tmp_path / "log"
    children = [_in_child(_deliver, database, _Slow(log)) for _ in range(3)]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert sorted(log.read_text().split()) == [f"n{number}" for number in range(8)]


def test_a_maildir_that_cannot_be_written_is_unavailable(outbox, tmp_path):
    (tmp_path / "file").write_text("")
    put(outbox)
    (letter,) = outbox.letters()
    with pytest.raises(MailServerUnavailable, match="file"):
        MaildirTransport(tmp_path / "file" / "mail").send(letter)


def test_a_busy_server_is_told_apart_from_a_missing_one(outbox, transport, server):
    put(outbox)
    server.data = "421 4.3.2 closing"
    (letter,) = outbox.letters()
    with pytest.raises(MailRefusedForNow, match="421"):
        transport.send(letter)


def test_an_address_that_smtp_cannot_carry_is_set_aside(outbox, transport, server):
    put(outbox, "a", recipients=("jürgen@example.org",))
    put(outbox, "b", 1)
    assert outbox.deliver(transport) == Delivery(sent=("b",), failed=("a",))
    assert "not in ASCII" in outbox.status().last_error


def test_letters_sent_long_ago_are_forgotten(outbox, tmp_path, monkeypatch):
    monkeypatch.setattr("perfci.alerts.outbox._KEPT_SENT", 2)
    put(outbox, "waits")
    outbox.deliver(Refusing({"waits": Refusals(for_now={DEVELOPERS[0]: "451"})}))
    for number in range(4):
        put(outbox, f"n{number}", number)
        outbox.deliver(Refusing({"waits": Refusals(for_now={DEVELOPERS[0]: "451"})}))
    assert {letter for letter, _ in states(outbox)} == {"waits", "n2", "n3"}


class Refusing:
    """Takes every letter, but refuses the recipients that it was told to refuse."""

    def __init__(self, answers):
        self.answers = answers

    def send(self, letter):
        return self.answers.get(letter.id, Refusals())


def test_a_fault_of_ours_with_one_letter_keeps_no_other_back(database_url, caplog):
    outbox = Outbox(Database(database_url))
    for letter in ("a", "b"):
        put(outbox, letter)

    class Broken:
        def send(self, letter):
            if letter.id == "a":
                raise UnicodeEncodeError("ascii", "\u00e4", 0, 1, "a bug")
            return Refusals()

    done = outbox.deliver(Broken())
    assert (done.sent, done.waiting, done.failed) == (("b",), ("a",), ())
    assert "the letter a can't be sent: unexpected UnicodeEncodeError" in done.problems[0]
    assert "Traceback" in caplog.text
    assert outbox.deliver(Refusing({})).sent == ("a",)


def test_retrying_loses_no_recipient_that_still_waits(database_url):
    outbox = Outbox(Database(database_url))
    put(outbox, recipients=("a@x.org", "b@x.org", "c@x.org"))
    refusals = Refusals(for_now={"a@x.org": "451 later"}, for_good={"b@x.org": "550 no"})
    assert outbox.deliver(Refusing({"a": refusals})) == Delivery(waiting=("a",))
    assert [one.recipients for one in outbox.letters()] == [("a@x.org",)]
    assert [(one.recipients, one.last_error) for one in outbox.refused()] == [
        (("b@x.org",), "b@x.org: 550 no")
    ]
    assert outbox.retry_failed() == 1
    assert [one.recipients for one in outbox.letters()] == [("a@x.org", "b@x.org")]
    assert outbox.refused() == ()
    assert outbox.deliver(Refusing({})) == Delivery(sent=("a",))
    assert set(states(outbox).values()) == {"sent"}


def test_a_letter_comes_with_the_transaction_it_was_put_in(database_url):
    database = Database(database_url)
    outbox = Outbox(database)

    def fail():
        with database.transaction():
            put(outbox)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert outbox.letters() == ()
    assert put(outbox)
    assert [one.id for one in outbox.letters()] == ["a"]


def test_a_recipient_named_twice_gets_one_mail(outbox):
    put(outbox, recipients=("a@x.org", "b@x.org", "a@x.org"))
    assert [one.recipients for one in outbox.letters()] == [("a@x.org", "b@x.org")]


def test_lines_end_as_smtp_wants_however_long_the_mail_is(outbox, server, transport):
    long = mail("long")
    long.set_content("a line of a table\n" * 500)
    outbox.put("long", long, sender="perfci@lab.example.org", recipients=DEVELOPERS, now=NOW)
    assert outbox.deliver(transport).sent == ("long",)
    ((_, _, content),) = server.taken
    assert content.count(b"\n") == content.count(b"\r\n") > 500
