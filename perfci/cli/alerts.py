"""`perfci alerts`: what is slower and not yet fixed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfci.cli.access import lab_services
from perfci.cli.output import Json, errors_reported, print_json, print_table

if TYPE_CHECKING:
    from perfci.alerts.model import Alert

app = typer.Typer(no_args_is_help=True, help="What is slower and not yet fixed.")

AlertId = Annotated[str, typer.Argument(metavar="ALERT", help="Id of an alert, or the beginning of one.")]
COLUMNS = ("alert", "status", "job", "service", "since", "series", "largest")


@app.command("list")
def list_alerts(
    everything: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    as_json: Json = False,
) -> None:
    """List open alerts."""
    from perfci.alerts.model import SeriesStatus

    with errors_reported(as_json=as_json):
        alerts = lab_services().alerts.load().alerts
        wanted = [alert for alert in alerts if everything or alert.status is not SeriesStatus.CLOSED]
        if as_json:
            print_json([_as_dict(alert) for alert in wanted])
        else:
            print_table(COLUMNS, map(_row, wanted), empty="No open alerts.")


@app.command()
def acknowledge(alert_id: AlertId, as_json: Json = False) -> None:
    """Note that somebody looks at an alert."""
    from perfci.alerts.lifecycle import acknowledge as acknowledge_alert

    with errors_reported(as_json=as_json):
        controller = lab_services()
        with controller.alerts.exclusive():
            controller.alerts.save(acknowledge_alert(controller.alerts.load(), alert_id))
        _say(f"{alert_id}: acknowledged", as_json=as_json)


@app.command()
def accept(alert_id: AlertId, as_json: Json = False) -> None:
    """Close an alert: what it says is the new normal. Baselines start with the change from now on."""
    from perfci.alerts.lifecycle import accept as accept_alert
    from perfci.alerts.lifecycle import find, last_run
    from perfci.runs.publish.notify import deliver as send_waiting
    from perfci.runs.publish.notify import post

    with errors_reported(as_json=as_json):
        controller = lab_services()
        with controller.alerts.exclusive():
            state = controller.alerts.load()
            run_id = last_run(state, find(state, alert_id))
            state, notification = accept_alert(state, alert_id, run_id)
            post(controller, [notification], controller.local.record(run_id))
            controller.alerts.save(state)
        send_waiting(controller)
        _say(f"{alert_id}: accepted", as_json=as_json)


@app.command()
def deliver(
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also what the mail server refused for good.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send the mail that waits in the outbox. Leaves with 4 if some of it still waits."""
    from perfci.runs.publish.notify import deliver as send_waiting

    with errors_reported(as_json=as_json):
        controller = lab_services()
        if retry_failed:
            controller.outbox.retry_failed()
        done = send_waiting(controller)
        if as_json:
            print_json(asdict(done))
        else:
            typer.echo(f"{len(done.sent)} sent, {len(done.waiting)} waiting, {len(done.failed)} refused")
    raise typer.Exit(4 if done.waiting else 0)


def _say(text: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"done": text})
    else:
        typer.echo(text)


def _row(alert: Alert) -> tuple[str, ...]:
    from perfci.wording import change

    leading = alert.leading
    return (
        alert.id,
        str(alert.status),
        alert.job,
        alert.service,
        alert.since,
        str(len(alert.series)),
        f"{leading.key.label} {change(leading.effect, leading.key.metric)}",
    )


def _as_dict(alert: Alert) -> dict[str, Any]:
    from perfci.alerts.model import interest
    from perfci.wording import interval

    return {
        "id": alert.id,
        "status": str(alert.status),
        "lab": alert.lab,
        "job": alert.job,
        "service": alert.service,
        "since": alert.since,
        "last_good": alert.last_good,
        "opened": alert.opened,
        "closed": alert.closed,
        "series": [
            {
                "series": one.key.label,
                "effect": one.effect,
                "interval": interval(one.low, one.high, one.key.metric),
                "q_value": one.q_value,
            }
            for one in sorted(alert.series, key=interest)
        ],
    }
