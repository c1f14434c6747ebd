"""What Grafana is given: dashboards, and the alerts over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.errors import UsageError
from perfci.report.dashboard import dashboards
from perfci.report.grafana import AlertNote, GrafanaSettings, annotate, push
from perfci.wording import change, run_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.config import Settings
    from perfci.report.grafana import Pushed
    from perfci.runs.verdicts.lab_services import LabServices


class GrafanaNotConfigured(UsageError):
    """No Grafana is named in the settings."""

    template = "no Grafana is configured"
    help = (
        "Set grafana.url in perfci.toml, and grafana.token_file (or PERFCI_GRAFANA__TOKEN); "
        "docs/perfci.example.toml shows them."
    )


def push_dashboards(controller: LabServices) -> tuple[Pushed, int]:
    """Push all dashboards, and the alerts as annotations; return what was done.

    Raises GrafanaNotConfigured, SecretUnreadable, AlertsUnreadable, and what `push` raises.
    """
    settings = grafana_settings(controller.settings)
    return push(settings, dashboards()), annotate(settings, alert_notes(controller))


def grafana_settings(settings: Settings) -> GrafanaSettings:
    """Return how to reach Grafana, and the InfluxDB that it is to read."""
    grafana, influx = settings.grafana, settings.influx
    if grafana.url is None:
        raise GrafanaNotConfigured
    return GrafanaSettings(
        url=grafana.url,
        token=grafana.secret_token(),
        folder=grafana.folder,
        timeout_seconds=grafana.timeout_seconds,
        influx_url=settings.influx_address,
        influx_database=influx.database,
        influx_username=influx.username,
        influx_password=influx.secret_password(),
        influx_token=influx.secret_token(),
    )


def alert_notes(controller: LabServices) -> Iterator[AlertNote]:
    """Return the alerts as annotations, from the first bad run to the one in which they were closed."""
    for alert in controller.alerts.load().alerts:
        begin = run_time(alert.since)
        if begin is None:
            continue  # not a run id of ours: ingested by hand
        leading = alert.leading
        size = change(leading.effect, leading.key.metric)
        yield AlertNote(
            alert_id=alert.id,
            job=alert.job,
            text=f"{alert.service}: {leading.key.label} {size} ({len(alert.series)} series)",
            begin=begin,
            end=run_time(alert.closed) if alert.closed else None,
        )
