"""Ansible on this machine, for tests of roles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[1]
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
"""Variables of hosts that are this machine."""


def play(folder: Path, inventory: Path, **of_play: Any) -> subprocess.CompletedProcess[str]:
    """Run a play, such as `tasks=[...]`, on the group cloud of an inventory; what it needs is written below the folder."""
    playbook = folder / "play.yml"
    playbook.write_text(yaml.safe_dump([{"name": "Try", "hosts": "cloud", **of_play}]))
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, playbook],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_HOME": str(folder / "ansible"),
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
