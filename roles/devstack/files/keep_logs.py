"""Copies what devstack and its services have logged, without the lab's passwords.

usage: keep_logs.py LOGS TARGET SECRETS. LOGS has stack.sh's own logs; SECRETS a file for each password.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MASK = "********"
SHORTEST = 6


def secrets(folder: Path) -> list[str]:
    """Return the secrets, longest first, so that none leaves a part of another."""
    found = (
        {path.read_text(errors="replace").strip() for path in folder.iterdir()} if folder.is_dir() else set()
    )
    return sorted((one for one in found if len(one) >= SHORTEST), key=len, reverse=True)


def masked(text: str, hidden: list[str]) -> str:
    for one in hidden:
        text = text.replace(one, MASK)
    return text


def units() -> str:
    """Return the state of devstack's services, one a line; the name comes first."""
    command = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "devstack@*"]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout


def journal(unit: str) -> str:
    command = ["journalctl", "--unit", unit, "--no-pager", "--output", "short-iso"]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout


def main() -> int:
    logs, target, hidden = Path(sys.argv[1]), Path(sys.argv[2]), secrets(Path(sys.argv[3]))
    target.mkdir(parents=True, exist_ok=True)
    for name in ("stack.sh.log", "stack.sh.log.summary", "stack.out"):
        source = logs / name
        if source.exists():
            (target / name).write_text(masked(source.read_text(errors="replace"), hidden))
    listed = units()
    (target / "units.log").write_text(listed)
    for unit in (line.split()[0] for line in listed.splitlines() if line.strip()):
        name = unit.removeprefix("devstack@").removesuffix(".service")
        (target / f"{name}.log").write_text(masked(journal(unit), hidden))
    return 0


if __name__ == "__main__":
    sys.exit(main())
