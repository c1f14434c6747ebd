"""`perfci config`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer
from typer.testing import CliRunner

from perfci.cli import config
from perfci.cli.config import example_text

if TYPE_CHECKING:
    import pytest

app = typer.Typer()
app.add_typer(config.app, name="config")


def test_what_holds_is_shown_and_secrets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFCI_INFLUX__TOKEN", "s3cret")
    monkeypatch.setenv("PERFCI_MAIL__TO", '["a@example.org", "b@example.org"]')
    plain, for_programs = (CliRunner().invoke(app, ["config", "show", *more]) for more in ([], ["--json"]))
    assert "influx.token\t********\n" in plain.stdout
    assert "mail.to\ta@example.org, b@example.org\n" in plain.stdout
    assert json.loads(for_programs.stdout)["influx"]["token"] == "********"
    assert "s3cret" not in plain.output + for_programs.output


def test_wrong_settings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFCI_MAIL__TRANSPORT", "pigeon")
    result = CliRunner().invoke(app, ["config", "show", "--json"])
    assert result.exit_code == 2
    assert "expected 'maildir' or 'smtp', got 'pigeon'" in json.loads(result.stdout)["message"]


def test_the_example_is_printed() -> None:
    assert CliRunner().invoke(app, ["config", "example"]).stdout == example_text()
