"""What commands work on: settings, the state folder, stores. Each is imported when it is asked for."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from perfci.lab import people

if TYPE_CHECKING:
    from perfci.config import Settings
    from perfci.runs.state.state_folder import StateFolder
    from perfci.runs.verdicts.lab_services import LabServices


def settings_for(lab: str | None = None) -> Settings:
    """Return the settings, for another lab where one is named. Raises what `config.load` raises."""
    from perfci import config

    settings = config.load()
    return settings if lab is None else settings.model_copy(update={"lab": lab})


def state_folder() -> StateFolder:
    """Return the state folder that the settings name."""
    from perfci.runs.state.state_folder import StateFolder

    return StateFolder(settings_for().state_dir)


def lab_services(lab: str | None = None) -> LabServices:
    """Return the stores of the state folder."""
    from perfci.runs.verdicts.lab_services import LabServices

    return LabServices(settings_for(lab))


def holder() -> str:
    """Return who holds the nodes of a run: `user@host`."""
    return f"{people.me()}@{socket.gethostname()}"
