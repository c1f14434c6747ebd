"""perfci's own log: redacted, rotated, and never the reason why something ends."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from perfci import logs
from perfci.logs import FILE, controller_log, logging_to

SECRET = "hunter22"
logger = logging.getLogger("perfci.tests")


def test_what_is_logged_stands_in_the_file_with_its_traceback_and_without_secrets(tmp_path) -> None:
    with logging_to(tmp_path / "logs" / FILE):
        try:
            int(f"password={SECRET}")
        except ValueError:
            logger.exception("the key is api_key=abcdef")
        logger.debug("not this")
    logger.error("nor this")
    text = (tmp_path / "logs" / FILE).read_text()
    assert "ERROR perfci.tests: the key is api_key=********" in text
    assert "Traceback (most recent call last):" in text
    assert "password=****" in text
    assert SECRET not in text
    assert "this" not in text


def test_nothing_is_written_where_nothing_is_said(tmp_path) -> None:
    with logging_to(tmp_path / FILE):
        pass
    assert not (tmp_path / FILE).exists()


def test_two_files_at_a_time_get_the_same_lines(tmp_path) -> None:
    with controller_log(tmp_path / "a"), logging_to(tmp_path / "b"):
        logger.info("hello")
    assert "hello" in (tmp_path / "a" / FILE).read_text()
    assert (tmp_path / "a" / FILE).read_text() == (tmp_path / "b").read_text()


def test_a_large_log_of_the_controller_is_set_aside(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(logs, "KEPT_BYTES", 10)
    for number in range(8):
        with controller_log(tmp_path):
            logger.info("night %d", number)
    names = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(FILE))
    assert names == [FILE, *(f"{FILE}.{number}" for number in range(1, 6))]
    assert "night 7" in (tmp_path / FILE).read_text()
    assert "night 2" in (tmp_path / f"{FILE}.5").read_text()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "no")])
def test_a_log_that_can_not_be_written_ends_nothing(tmp_path, monkeypatch, error) -> None:
    def full(*_args, **_options):
        raise error

    monkeypatch.setattr(logging.FileHandler, "_open", full)
    with controller_log(tmp_path):
        logger.error("hello")


def test_a_folder_that_can_not_be_made_ends_nothing(tmp_path) -> None:
    Path(tmp_path / "file").touch()
    with controller_log(tmp_path / "file" / "logs"):
        logger.error("hello")
