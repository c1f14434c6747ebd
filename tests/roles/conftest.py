"""The scripts that roles put on nodes are plain modules; make them importable here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from programs import beside_python

ROLES = Path(__file__).parents[2] / "roles"

for role in ("rally", "counters", "canary", "dbmigration", "upgrade", "api_probe", "probes"):
    sys.path.append(str(ROLES / role / "files"))


@pytest.fixture(scope="session")
def rally_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with Rally from the role's pins."""
    python = tmp_path_factory.mktemp("rally") / "venv" / "bin" / "python"
    for arguments in (
        ["venv", "--quiet", "--python", "3.11", str(python.parents[1])],
        [
            "pip",
            "sync",
            "--quiet",
            "--python",
            str(python),
            str(ROLES / "rally" / "files" / "constraints.txt"),
        ],
    ):
        subprocess.run([beside_python("uv"), *arguments], check=True, timeout=600)
    return python
