"""`perfci services`: the services beside the cloud, for browsing between nights."""

from __future__ import annotations

import typer

from perfci import config
from perfci.cli.output import Json, errors_reported, print_json
from perfci.runs.ansible.embedded_influx import start_controller, stop_controller
from perfci.runs.ansible.lab_playbooks import playbooks
from perfci.runs.state.processes import processes_of, service_of
from perfci.runs.state.state_folder import StateFolder

app = typer.Typer(no_args_is_help=True, help="The embedded InfluxDB: keep it running between nights.")


@app.command()
def start(as_json: Json = False) -> None:
    """Start the embedded InfluxDB, and leave it running: for Grafana, or to query it."""
    with errors_reported(as_json=as_json):
        settings = config.load()
        start_controller(playbooks(settings), StateFolder(settings.state_dir))
        if as_json:
            print_json({"influxdb": settings.influx_address})
        else:
            typer.echo(f"InfluxDB answers on {settings.influx_address}, database {settings.influx.database}")


@app.command()
def stop(as_json: Json = False) -> None:
    """Stop the embedded InfluxDB."""
    with errors_reported(as_json=as_json):
        state = StateFolder(config.load().state_dir)
        stop_controller(state)
        left = sorted({service_of(process) for process in processes_of(state.root)})
        if as_json:
            print_json({"still_running": left})
        else:
            typer.echo(f"Still running: {', '.join(left)}" if left else "Nothing of this lab runs any more.")
