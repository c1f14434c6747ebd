"""Letters in a maildir: each once, also where a kill left half a maildir."""

from __future__ import annotations

import mailbox
from dataclasses import replace
from email.message import EmailMessage

import pytest

from perfci.alerts.maildir import MaildirTransport
from perfci.alerts.outbox import Letter, Refusals


def letter() -> Letter:
    message = EmailMessage()
    message["Message-ID"] = "<one@localhost>"
    message["Subject"] = "slower"
    message.set_content("by half")
    return Letter(
        "one", "perfci@localhost", ("team@example.org",), message.as_string(), "2026-11-30T04:15:00+00:00"
    )


@pytest.mark.parametrize(
    "there", [(), ("tmp",), ("tmp", "new"), ("cur",)], ids=lambda names: "+".join(names) or "none"
)
def test_a_maildir_that_a_kill_left_half_made_takes_letters(tmp_path, there):
    folder = tmp_path / "state" / "mail"
    for name in ("", *there):
        (folder / name).mkdir(parents=True)
    assert MaildirTransport(folder).send(letter()) == Refusals()
    assert [one["Subject"] for one in mailbox.Maildir(folder, create=False)] == ["slower"]


def test_an_attempt_that_was_cut_short_after_the_letter_was_there_adds_no_second_one(tmp_path):
    folder = tmp_path / "mail"
    for attempts in (0, 1):
        MaildirTransport(folder).send(replace(letter(), attempts=attempts))
    assert len(mailbox.Maildir(folder, create=False)) == 1
