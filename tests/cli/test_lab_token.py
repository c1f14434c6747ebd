"""`perfci lab token`: shown once, kept as a digest, revoked."""

from __future__ import annotations

import json
import sqlite3

import pytest
from typer.testing import CliRunner

from perfci import config
from perfci.cli import lab_token
from perfci.database.engine import open_database
from perfci.lab import people
from perfci.lab.errors import TokenUnknown
from perfci.lab.reservations.model import Actor
from perfci.lab.reservations.tokens import Tokens


@pytest.fixture(autouse=True)
def _state(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)


def run(*words):
    return CliRunner().invoke(lab_token.app, words)


def test_a_token_is_shown_once_and_revoked(tmp_path):
    made = run("add", "--label", "phone")
    secret = made.stdout.strip()
    assert secret.startswith("perfci_")
    tokens = Tokens(open_database(config.load()))
    assert tokens.owner_of(secret) == people.me()
    with sqlite3.connect(tmp_path / "lab.db") as connection:
        assert secret not in "\n".join(connection.iterdump())
    (shown,) = json.loads(run("list", "--json").stdout)["tokens"]
    assert shown["label"] == "phone"
    assert secret not in run("list").stdout
    assert run("revoke", shown["id"]).exit_code == 0
    with pytest.raises(TokenUnknown):
        tokens.owner_of(secret)
    assert "revoked" in run("list").stdout


def test_somebody_elses_token_can_not_be_revoked():
    token, secret = Tokens(open_database(config.load())).create(Actor("somebody-else"), "theirs")
    assert run("revoke", token.id).exit_code == 4
    assert run("list").stdout == ""
    assert Tokens(open_database(config.load())).owner_of(secret) == "somebody-else"


def test_a_lifetime_must_be_one():
    assert run("add", "--label", "x", "--days", "0").exit_code == 2
    assert "expires_at" in json.loads(run("add", "--label", "x", "--days", "1", "--json").stdout)
