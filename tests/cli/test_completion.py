"""Shell completion, in a real bash: as `perfci --install-completion` sets it up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import archives
import pytest
from programs import needs

from perfci.runs.state.state_folder import StateFolder

pytestmark = needs("bash")
SCRIPT = """
perfci --install-completion
. ~/.bashrc
try() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _perfci_completion perfci
    echo "$* => ${COMPREPLY[*]}"
}
"""


@pytest.fixture
def completed(tmp_path, monkeypatch):
    """Return a function that types command lines into a bash and returns what each is completed to."""
    home = tmp_path / "home"
    home.mkdir()
    scripts = Path(sys.executable).parent
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{scripts}:{os.environ['PATH']}")
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)

    def complete(*lines: str) -> dict[str, list[str]]:
        script = SCRIPT + "".join(f"try {line}\n" for line in lines)
        done = subprocess.run(
            ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, cwd=home
        )
        answers = (line.split(" => ") for line in done.stdout.splitlines() if " => " in line)
        return {typed.removeprefix("perfci ").strip(): found.split() for typed, found in answers}

    return complete


def test_commands_jobs_runs_and_options_are_completed(completed, tmp_path):
    night = archives.night(StateFolder(tmp_path / "state").archive, 1).name
    found = completed(
        'perfci "ru"',
        'perfci run ""',
        "perfci run night",
        "perfci run nightly --",
        "perfci analyse 2026",
        "perfci lab po",
        'perfci run nightly --lab ""',
    )
    assert found["ru"] == ["run"]
    assert {"list", "show", "nightly", "smoke"} <= set(found["run"])
    assert found["run night"] == ["nightly"]
    assert {"--lab", "--cloud", "--json"} <= set(found["run nightly --"])
    assert found["analyse 2026"] == [night]
    assert found["lab po"] == ["power"]
    assert "embedded" in found["run nightly --lab"]


def test_settings_that_are_wrong_complete_to_nothing_and_print_nothing(completed, monkeypatch):
    monkeypatch.setenv("PERFCI_MAIL__TRANSPORT", "pigeon")
    assert completed("perfci run night")["run night"] == []
