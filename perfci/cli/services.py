"""`perfci services`: the services beside the cloud, for browsing between nights."""

from __future__ import annotations

import typer

from perfci.cli.access import settings_for, state_folder
from perfci.cli.output import Json, errors_reported, print_json

app = typer.Typer(no_args_is_help=True, help="The embedded InfluxDB: keep it running between nights.")


@app.command()
def start(as_json: Json = False) -> None:
    """Start the embedded InfluxDB and leave it running, for Grafana or for queries."""
    from perfci.runs.ansible.embedded_influx import start_controller
    from perfci.runs.ansible.lab_playbooks import playbooks

    with errors_reported(as_json=as_json):
        settings = settings_for()
        start_controller(playbooks(settings), state_folder())
        if as_json:
            print_json({"influxdb": settings.influx_address})
        else:
            typer.echo(f"InfluxDB answers on {settings.influx_address}, database {settings.influx.database}")


@app.command()
def stop(as_json: Json = False) -> None:
    """Stop the embedded InfluxDB."""
    from perfci.runs.ansible.embedded_influx import stop_controller
    from perfci.runs.state.processes import processes_of, service_of

    with errors_reported(as_json=as_json):
        state = state_folder()
        stop_controller(state)
        left = sorted({service_of(process) for process in processes_of(state.root)})
        if as_json:
            print_json({"still_running": left})
        else:
            typer.echo(f"Still running: {', '.join(left)}" if left else "Nothing of this lab is running.")
