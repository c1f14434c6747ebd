"""Printing for people and for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

from perfci.cli.output import errors_reported, print_json, print_table
from perfci.errors import LabError


class Broken(LabError):
    template = "{node} is broken"
    help = "Mend {node}."


def test_an_error_is_told_with_advice_and_the_place_to_read_more(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, errors_reported(as_json=False):
        raise Broken(node="node-3")
    assert caught.value.exit_code == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "error: node-3 is broken\nMend node-3.\nSee docs/errors.md#broken\n"


def test_what_was_noted_on_an_error_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    error = Broken(node="node-3")
    error.add_note("Beside it, the lamp is off.")
    with pytest.raises(typer.Exit), errors_reported(as_json=False):
        raise error
    assert "node-3 is broken\nBeside it, the lamp is off.\nMend" in capsys.readouterr().err


def test_an_error_for_programs_is_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), errors_reported(as_json=True):
        raise Broken(node="node-3")
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "error": "Broken",
        "class": "lab",
        "message": "node-3 is broken",
        "help": "Mend node-3.",
    }
    assert printed.err == ""


def test_errors_that_are_not_perfcis_pass() -> None:
    with pytest.raises(ZeroDivisionError), errors_reported(as_json=True):
        raise ZeroDivisionError


def test_json_knows_times_and_paths_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"at": datetime(2026, 3, 1, tzinfo=UTC), "in": Path("/srv")})
    assert json.loads(capsys.readouterr().out) == {"at": "2026-03-01T00:00:00+00:00", "in": "/srv"}
    with pytest.raises(TypeError, match="object can't be written"):
        print_json(object())


def test_a_table_in_a_pipe_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("node", "state"), [("a", "[red]free"), ("b", "")], empty="none")
    print_table(("node", "state"), [], empty="none")
    assert capsys.readouterr().out == "node\tstate\na\t[red]free\nb\t\n"


def test_a_table_on_a_terminal_shows_text_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_table(("node",), [("[red]free",)], empty="none")
    print_table(("node",), [], empty="none here")
    printed = capsys.readouterr().out
    assert "[red]free" in printed
    assert "none here" in printed
