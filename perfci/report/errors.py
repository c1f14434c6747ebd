"""Errors of the report."""

from __future__ import annotations

from perfci.errors import ServiceError


class GrafanaUnreachable(ServiceError):
    """Grafana does not answer."""

    template = "Grafana at {url} does not answer: {reason}"
    help = "Check `grafana.url` in perfci.toml and whether Grafana runs, then `perfci dashboards push`."


class GrafanaUnauthorised(ServiceError):
    """Grafana does not know the token, or the token lacks the permission."""

    template = "Grafana at {url} refuses the token ({status}): {reason}"
    help = (
        "Create a service account with the role Editor (Admin if the data source is missing) and write "
        "its token into the file that `grafana.token_file` names."
    )


class GrafanaNotFound(ServiceError):
    """Something answers at the address, but it is not Grafana's API."""

    template = "{url} is not a Grafana: {reason}"
    help = "Set `grafana.url` to the address of Grafana's start page, with its path if it has one."


class GrafanaRefused(ServiceError):
    """Grafana refused the request, or failed."""

    template = "Grafana at {url} answered {status}: {reason}"
    help = "Read Grafana's log. Meanwhile you can import `dashboards/*.json` by hand."
