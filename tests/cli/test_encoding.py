"""Terminals and pipes whose encoding is not UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys

import archives
import pytest

from perfci.runs.state.state_folder import StateFolder


@pytest.mark.parametrize(
    ("encoding", "range_"), [("ascii", "..."), ("iso-8859-1", "..."), ("utf-8", "\u2026")]
)
@pytest.mark.parametrize("terminal", [True, False])
def test_signs_that_an_encoding_lacks_are_replaced(tmp_path, encoding, range_, terminal):
    archives.night(StateFolder(tmp_path).archive, 1)
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PERFCI_STATE_DIR": str(tmp_path)}
    environment.pop("PERFCI_CONFIG", None)
    environment |= {"FORCE_COLOR": "1"} if terminal else {}
    command = [sys.executable, "-m", "perfci", "results", "show", "last"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert done.stderr == b""
    assert f"s {range_} " in done.stdout.decode(encoding).replace("\u00a0", " ")
    assert b"?" not in done.stdout
