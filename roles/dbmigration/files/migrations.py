"""Migrate databases of several sizes, one after the other, and write phases.json.

usage: migrations.py SETTINGS, a JSON file:

{"output": phases.json, "log": file, "client": MariaDB's file of options, "schemas": folder for the schemas to
 start with, "sizes": [500], "deleted": 0.3, "seed": 1, "settle_seconds": 1.5, "timeout_seconds": 1800,
 "databases": {"nova_cell1": {"start": [], "tables": {"instances": 1}, "dump": ""}},
 "config_files": {"nova_cell1": ["nova.conf"]}}

Runs under the python of the environment that holds the services' code: each service sets itself up in a
process of its own, as they share their global state. phases.json is written anew after each database.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ONE = Path(__file__).with_name("one_database.py")
COMMON = ("client", "schemas", "sizes", "deleted", "seed", "settle_seconds", "timeout_seconds")
_TAIL_LINES = 5


def requests(settings: dict[str, Any], parts: Path) -> list[dict[str, Any]]:
    """Return what is asked of one_database.py for each database. A dump has one size: its own."""
    return [
        {
            **{name: settings[name] for name in COMMON},
            **wanted,
            "sizes": [0] if wanted["dump"] else settings["sizes"],
            "database": database,
            "config_files": settings["config_files"][database],
            "parts": str(parts),
        }
        for database, wanted in settings["databases"].items()
    ]


def carry_out(request: dict[str, Any], log: Path) -> list[dict[str, Any]]:
    """Migrate one database; return its parts, also of sizes that it never got to."""
    with log.open("a+b") as target:
        start = target.seek(0, os.SEEK_END)
        done = subprocess.run(
            [sys.executable, str(ONE), json.dumps(request)],
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = log.read_bytes()[start:].decode(errors="replace").splitlines()[-_TAIL_LINES:]
    lost = f"its process ended with {done.returncode}: {' | '.join(said)}"
    return [read(request, size, lost) for size in request["sizes"]]


def read(request: dict[str, Any], size: int, lost: str) -> dict[str, Any]:
    """Return the part of one size, as it was left or as crashed."""
    slug = f"{request['database']}-{size}"
    try:
        found: dict[str, Any] = json.loads((Path(request["parts"]) / f"{slug}.json").read_text())
    except (OSError, ValueError):
        return {"slug": slug, "status": "crashed", "error": lost}
    return found


def main() -> int:
    """Return 0, also where databases could not be migrated: phases.json says so."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    output, log = Path(settings["output"]), Path(settings["log"])
    for folder in (output.parent, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as parts:
        for request in requests(settings, Path(parts)):
            found += carry_out(request, log)
            partial = output.with_name(f".{output.name}.partial")
            partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            partial.replace(output)
    for part in found:
        print(f"{part['slug']}: {part.get('error') or part['status']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
