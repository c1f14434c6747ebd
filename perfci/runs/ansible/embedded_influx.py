"""The embedded InfluxDB: started when a night stores its results, stopped with the night.

One that was started by hand (`perfci services start`) is left running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.errors import ServiceError
from perfci.runs.ansible.playbook import PlaybookFailed, PlaybookTimeout
from perfci.runs.state.processes import end, processes_of, service_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.runs.ansible.playbook import Playbooks
    from perfci.runs.state.state_folder import StateFolder

INFLUXDB = "influxdb"
_LIMIT_SECONDS = 120.0


class EmbeddedInfluxDown(ServiceError):
    """The lab's own InfluxDB could not be started."""

    template = "the embedded InfluxDB did not start: {reason}"
    help = "See {log}. The results are in the archive; `perfci results sync` stores them later."


def controller_runs(state: StateFolder) -> bool:
    """Tell whether the embedded InfluxDB is running."""
    return any(service_of(process) == INFLUXDB for process in processes_of(state.root))


def start_controller(
    playbooks: Playbooks, state: StateFolder, on_step: Callable[[str], None] = lambda _: None
) -> None:
    """Start the embedded InfluxDB and wait until it answers; one that runs stays as it is.

    Raises EmbeddedInfluxDown.
    """
    log = state.root / "ansible" / "controller.log"
    try:
        playbooks.run("controller", log=log, limit_seconds=_LIMIT_SECONDS, on_step=on_step)
    except (PlaybookFailed, PlaybookTimeout) as error:
        raise EmbeddedInfluxDown(reason=error, log=log) from error


def stop_controller(state: StateFolder) -> None:
    """Stop the embedded InfluxDB, its supervisor first, so that nothing starts it again."""
    ours = {process.pid: process for process in processes_of(state.root)}
    servers = [process for process in ours.values() if service_of(process) == INFLUXDB]
    supervisors = {parent.pid for server in servers for parent in server.parents() if parent.pid in ours}
    end([ours[pid] for pid in supervisors])
    end([server for server in servers if server.is_running()])
