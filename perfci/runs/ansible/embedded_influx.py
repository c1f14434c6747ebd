"""The embedded InfluxDB: it runs while somebody stores results, and stops with the last one who does.

One that was started by hand (`perfci services start`) is left running. Who uses it holds a lock that ends
with the process, so that one night never stops it under another, and a killed one does not keep it running.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfci.errors import ServiceError
from perfci.files import locked, shared
from perfci.runs.ansible.playbook import PlaybookFailed, PlaybookTimeout
from perfci.runs.state.processes import end, processes_of, service_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfci.runs.ansible.playbook import Playbooks
    from perfci.runs.state.state_folder import StateFolder

INFLUXDB = "influxdb"
_LIMIT_SECONDS = 300.0


class EmbeddedInfluxDown(ServiceError):
    """The lab's own InfluxDB could not be started."""

    template = "the embedded InfluxDB did not start: {reason}"
    help = "See {log}. The results are in the archive; `perfci results sync` stores them later."


def controller_runs(state: StateFolder) -> bool:
    """Tell whether the embedded InfluxDB is running."""
    return any(service_of(process) == INFLUXDB for process in processes_of(state.root))


@contextmanager
def in_use(
    playbooks: Playbooks, state: StateFolder, on_step: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Let the embedded InfluxDB run for as long as the context, and for as long as any other's.

    Raises EmbeddedInfluxDown.
    """
    with shared(state.influx_users) as users:
        with locked(state.influx_starting):
            if not controller_runs(state):
                state.influx_on_demand.touch()
                _start(playbooks, state, on_step)
        try:
            yield
        finally:
            if users.alone():
                with locked(state.influx_starting):
                    if state.influx_on_demand.exists():
                        stop_controller(state)
                        state.influx_on_demand.unlink(missing_ok=True)


def start_controller(playbooks: Playbooks, state: StateFolder) -> None:
    """Start the embedded InfluxDB, wait until it answers, and let it run until `stop_controller`.

    One that runs already stays as it is. Raises EmbeddedInfluxDown.
    """
    with locked(state.influx_starting):
        state.influx_on_demand.unlink(missing_ok=True)
        _start(playbooks, state, lambda _: None)


def _start(playbooks: Playbooks, state: StateFolder, on_step: Callable[[str], None]) -> None:
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
