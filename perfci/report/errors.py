"""Errors of the report."""

from __future__ import annotations

from perfci.errors import ServiceError


class GrafanaUnreachable(ServiceError):
    """Grafana does not answer."""

    template = "Grafana at {url} does not answer: {reason}"
    help = "Check `grafana.url` in perfci.toml and whether Grafana runs, then `perfci dashboards push`."


class GrafanaUnauthorised(ServiceError):
    """Grafana does not know the token, or the token may not do this."""

    template = "Grafana at {url} does not let us in ({status}): {reason}"
    help = (
        "Create a service account with the role Editor (Admin, where the data source is missing) and write "
        "its token into the file that `grafana.token_file` names."
    )


class GrafanaNotFound(ServiceError):
    """There is something at the address, but not Grafana's API."""

    template = "{url} is not a Grafana: {reason}"
    help = "Check `grafana.url`: it is the address of Grafana's start page, with its path if it has one."


class GrafanaRefused(ServiceError):
    """Grafana refused what it was sent, or failed."""

    template = "Grafana at {url} answered {status}: {reason}"
    help = "Look into Grafana's log. `dashboards/*.json` can be imported by hand meanwhile."
