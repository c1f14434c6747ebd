"""The scripts that roles put on nodes are plain modules; make them importable here."""

from __future__ import annotations

import sys
from pathlib import Path

ROLES = Path(__file__).parents[2] / "roles"

for role in ("rally", "counters", "canary"):
    sys.path.append(str(ROLES / role / "files"))
