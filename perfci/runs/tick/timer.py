"""What runs `perfci tick` each minute: units of systemd that survive a reboot, or a line for crontab."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.runs.state.units import FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfci.config import Settings

_FILES = ("ANSIBLE_VAULT_PASSWORD_FILE", "PERFCI_CONFIG")
"""Variables that name files without which a night of this shell would not be one of the timer."""
_SERVICE = """\
[Unit]
Description=perfci: what is due in the lab {lab}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={folder}
{environment}
ExecStart={command}
# What a tick starts, such as a night, goes on when the tick has ended.
KillMode=process
"""
_TIMER = """\
[Unit]
Description=perfci: what is due in the lab {lab}, each minute

[Timer]
OnCalendar=*:*:00
AccuracySec=5s
Persistent=true

[Install]
WantedBy=timers.target
"""
_SCRIPT = """\
set -e
# One of an older perfci is gone with the next reboot, and would come before this one.
systemctl stop {name}.timer 2>/dev/null || true
cat >{folder}/{name}.service <<'END_OF_UNIT'
{service}END_OF_UNIT
cat >{folder}/{name}.timer <<'END_OF_UNIT'
{timer}END_OF_UNIT
systemctl daemon-reload
systemctl enable --now {name}.timer
"""


def tick_variables(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that a tick needs; of this shell's, the files that it names."""
    named = {name: str(Path(environ[name]).expanduser().resolve()) for name in _FILES if environ.get(name)}
    return {
        "PERFCI_ROOT_DIR": str(settings.root_dir),
        "PERFCI_STATE_DIR": str(settings.state_dir),
        "PERFCI_LAB": settings.lab,
        **named,
    }


def cron_line(settings: Settings, python: str, environ: Mapping[str, str]) -> str:
    """Return the line for crontab."""
    given = " ".join(
        f"{name}={shlex.quote(value)}" for name, value in tick_variables(settings, environ).items()
    )
    words = shlex.join([python, "-m", "perfci", "tick"])
    # In crontab, % ends the command.
    line = f"cd {shlex.quote(str(settings.root_dir))} && {given} {words}".replace("%", r"\%")
    return f"* * * * * {line}\n"


def timer_script(
    settings: Settings, python: str, environ: Mapping[str, str], *, folder: Path = FOLDER
) -> str:
    """Return the shell script that installs the units, and takes the place of older ones; it needs root."""
    name = f"perfci-tick-{settings.lab}"
    variables = tick_variables(settings, environ).items()
    service = _SERVICE.format(
        lab=settings.lab,
        folder=str(settings.root_dir).replace("%", "%%"),
        environment="\n".join(f"Environment={_quoted(f'{key}={value}')}" for key, value in variables),
        command=f"{_quoted(python)} -m perfci tick",
    )
    return _SCRIPT.format(
        name=name, folder=shlex.quote(str(folder)), service=service, timer=_TIMER.format(lab=settings.lab)
    )


def _quoted(text: str) -> str:
    """Return a word as units of systemd have it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
