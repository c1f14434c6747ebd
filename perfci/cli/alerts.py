"""`perfci alerts`: what is slower and not yet fixed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfci.cli.access import holder, lab_services
from perfci.cli.output import Json, errors_reported, print_by_heading, print_guessed, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.alerts.model import Alert
    from perfci.cli.tables import TextTable

app = typer.Typer(no_args_is_help=True, help="Alerts: what became slower and is not fixed yet.")

AlertId = Annotated[str, typer.Argument(metavar="ALERT", help="Id of an alert, or its first letters.")]
COLUMNS = ("scenario", "alert", "largest", "since", "series", "job", "service", "status")


@app.command("list")
def list_alerts(
    everything: Annotated[bool, typer.Option("--all", help="Include closed alerts.")] = False,
    as_json: Json = False,
) -> None:
    """List open alerts.

    Exit code 0: success, even if there are none.
    """
    from perfci.alerts.model import SeriesStatus

    with errors_reported(as_json=as_json):
        alerts = lab_services().alerts.load().alerts
        wanted = [alert for alert in alerts if everything or alert.status is not SeriesStatus.CLOSED]
        if as_json:
            print_json([_as_dict(alert) for alert in wanted])
        else:
            closed = f"; {len(alerts)} closed, --all lists them" if alerts else ""
            rows = sorted(map(_row, wanted), key=lambda row: row[0])
            print_by_heading(COLUMNS, rows, empty=f"No open alerts{closed}.", needed=3, numbers=("series",))


@app.command()
def show(alert_id: AlertId, as_json: Json = False) -> None:
    """Show one alert: what is slower, since when, which code changed, and what to do.

    Exit code 2: there is no such alert.
    """
    from perfci.alerts.lifecycle import find

    with errors_reported(as_json=as_json):
        alert = find(lab_services().alerts.load(), alert_id)
        if as_json:
            print_json(_as_dict(alert))
            return
        for line in _lines(alert):
            typer.echo(line)
        numbers = ("effect", "95 % interval", "q")
        print_by_heading(*_series(alert), empty="", needed=len(numbers) + 1, numbers=numbers)


@app.command()
def acknowledge(alert_id: AlertId, as_json: Json = False) -> None:
    """Say that you are looking into an alert. Its page and the overview then name you.

    Exit code 2: there is no such alert, or it is closed.
    """
    from perfci.alerts.lifecycle import acknowledge as acknowledge_alert
    from perfci.alerts.lifecycle import find
    from perfci.runs.publish.site_data import write_site

    with errors_reported(as_json=as_json):
        controller = lab_services()
        with controller.alerts.exclusive():
            state = acknowledge_alert(controller.alerts.load(), alert_id, holder())
            controller.alerts.save(state)
        write_site(controller)
        found = find(state, alert_id)
        _say(f"{found.id}: {found.looked_into_by} is looking into it", as_json=as_json)


@app.command()
def accept(alert_id: AlertId, as_json: Json = False) -> None:
    """Accept an alert's change as intended, and close the alert. New baselines begin with that change."""
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
        print_guessed(controller.guessed.values())


@app.command()
def deliver(
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also send what the mail server refused for good.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send the mail that waits in the outbox.

    Exit code 0: no mail waits any more, and none was refused now.
    Exit code 4: the mail server refused some of it, for now or for good; perfci prints its reply.
    """
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
            for problem in done.problems:
                typer.echo(problem, err=True)
    raise typer.Exit(4 if done.waiting or done.problems else 0)


def _say(text: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"done": text})
    else:
        typer.echo(text)


def _row(alert: Alert) -> tuple[str, ...]:
    from perfci.wording import action_name, change

    key, effect = alert.headline.key, alert.headline.effect
    return (
        key.scenario,
        alert.id,
        f"{action_name(key)} {change(effect, key.metric)}",
        alert.since,
        str(len(alert.series)),
        alert.job,
        alert.service,
        str(alert.status),
    )


def _lines(alert: Alert) -> Iterator[str]:
    from perfci.wording import revision_name

    closed = f", closed in {alert.closed}" if alert.closed else ""
    how = f" ({alert.closing})" if alert.closing else ""
    yield f"alert      {alert.id}: {alert.status}{closed}{how}"
    yield f"job        {alert.job} on {alert.lab}"
    yield f"service    {alert.service}"
    yield f"since      {alert.since}"
    yield f"last good  {alert.last_good or 'not known'}"
    yield f"found in   {alert.opened}"
    if not alert.closed:
        yield f"state      {_looked_into(alert)}"
    for one in alert.changes:
        before, after = (revision_name(code) if code else "-" for code in (one.before, one.after))
        yield f"changed    {one.service}: {before} -> {after}"
    if not alert.changes:
        yield f"changed    {'nothing in the code under test' if alert.code_known else 'not known'}"
    yield f"verdicts   perfci analyse {alert.opened} --full"
    if alert.last_good:
        yield f"compare    perfci run compare {alert.last_good} {alert.since}"
    if not alert.closed:
        fixed = alert.changes[0].service if alert.changes else alert.service
        yield f"try a fix  perfci try {alert.job} --change {fixed}=fix.patch"
        yield f"take it on perfci alerts acknowledge {alert.id}"
        yield f"accept it  perfci alerts accept {alert.id}"


def _looked_into(alert: Alert) -> str:
    from perfci.alerts.model import SeriesStatus

    if alert.status is SeriesStatus.ACKNOWLEDGED:
        return f"{alert.looked_into_by or 'somebody'} is looking into it"
    return "nobody is looking into it yet"


def _series(alert: Alert) -> TextTable:
    from perfci.alerts.model import interest
    from perfci.cli.tables import TextTable, together
    from perfci.wording import action_name, change, interval, probability

    rows = [
        (
            one.key.scenario,
            action_name(one.key),
            change(one.effect, one.key.metric),
            interval(one.low, one.high, one.key.metric),
            probability(one.q_value),
        )
        for one in sorted(alert.series, key=interest)
    ]
    return TextTable(("scenario", "series", "effect", "95 % interval", "q"), together(rows))


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
        "looked_into_by": alert.looked_into_by or None,
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
