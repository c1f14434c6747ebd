"""Pushes dashboards and alerts to a Grafana, through grafana-client. Doing it twice changes nothing."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grafana_client.api import GrafanaApi
from grafana_client.client import GrafanaClientError, GrafanaException, GrafanaTimeoutError
from niquests.exceptions import RequestException

from perfci.report.dashboard import ALERT_TAG, DATA_SOURCE_UID, TRENDS_UID
from perfci.report.errors import GrafanaNotFound, GrafanaRefused, GrafanaUnauthorised, GrafanaUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from perfci.errors import ServiceError

_NOT_FOUND = 404
_REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class GrafanaSettings:
    """Where Grafana is, and which InfluxDB it reads where it has no data source for perfci yet.

    `influx_token` is for InfluxDB 2 and later, user and password are for 1.x.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    folder: str = "perfci"
    timeout_seconds: float = 10
    influx_url: str = "http://127.0.0.1:17086"
    influx_database: str = "perfci"
    influx_username: str | None = None
    influx_password: str | None = field(default=None, repr=False)
    influx_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did. Dashboards are named by their uid; those that were as wanted are not among them."""

    folder_created: bool
    data_source_created: bool
    dashboards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlertNote:
    """An alert, to be shown over the trends; `end` is None while it is open."""

    alert_id: str
    job: str
    text: str
    begin: datetime
    end: datetime | None = None


def push(settings: GrafanaSettings, dashboards: Iterable[dict[str, Any]]) -> Pushed:
    """Create folder and data source where they are missing, and put the dashboards in.

    A data source that is there is left alone: somebody may have set it up with care.
    Raises GrafanaUnreachable, GrafanaUnauthorised, GrafanaNotFound, GrafanaRefused.
    """
    with _connected(settings) as api:
        folder = _uid(settings.folder)
        folder_created = _missing(api.folder.get_folder, folder)
        if folder_created:
            api.folder.create_folder(settings.folder, uid=folder)
        source_created = _missing(api.datasource.get_datasource_by_uid, DATA_SOURCE_UID)
        if source_created:
            api.datasource.create_datasource(_data_source(settings))
        changed = tuple(one["uid"] for one in dashboards if _put(api, one, folder))
    return Pushed(folder_created, source_created, changed)


def annotate(settings: GrafanaSettings, notes: Iterable[AlertNote]) -> int:
    """Write alerts as annotations over the trends; return how many were new or changed. Raises as `push`."""
    with _connected(settings) as api:
        return sum(_note(api, note) for note in notes)


def _put(api: Any, dashboard: dict[str, Any], folder: str) -> bool:
    """Put a dashboard in, unless it is there as wanted; each saving would be one more version."""
    try:
        there = api.dashboard.get_dashboard(dashboard["uid"])
    except GrafanaClientError as error:
        if error.status_code != _NOT_FOUND:
            raise
    else:
        # Grafana adds its own id and counts versions.
        found, meta = _objects(there, "dashboard", "meta")
        content = {key: value for key, value in found.items() if key not in ("id", "version")}
        if content == dashboard and meta.get("folderUid") == folder:
            return False
    api.dashboard.update_dashboard(
        {"dashboard": {**dashboard, "id": None}, "folderUid": folder, "overwrite": True, "message": "perfci"}
    )
    return True


def _note(api: Any, note: AlertNote) -> bool:
    begin, end = _milliseconds(note.begin), _milliseconds(note.end or note.begin)
    tags = [ALERT_TAG, note.job, note.alert_id]
    there = api.annotations.find_annotations(tags=tags)
    if there == []:
        api.annotations.add_annotation(
            dashboard_uid=TRENDS_UID, time_from=begin, time_to=end, tags=tags, text=note.text
        )
        return True
    if not isinstance(there, list) or not isinstance(there[0], dict) or "id" not in there[0]:
        raise _not_understood(there)
    old = there[0]
    if (old.get("time"), old.get("timeEnd"), old.get("text")) == (begin, end, note.text):
        return False
    api.annotations.update_annotation(old["id"], time_from=begin, time_to=end, tags=tags, text=note.text)
    return True


def _objects(answer: Any, *names: str) -> list[dict[str, Any]]:
    """Return the objects of these names in an answer. Raises GrafanaRefused."""
    known = answer if isinstance(answer, dict) else {}
    found = [one for name in names if isinstance(one := known.get(name), dict)]
    if len(found) < len(names):
        raise _not_understood(answer)
    return found


def _not_understood(answer: object) -> GrafanaClientError:
    """Return an error that `_connected` turns into GrafanaRefused."""
    shown = repr(answer)[:_REASON_CHARACTERS]
    reason = f"its answer is not Grafana's: {shown}"
    return GrafanaClientError("unreadable answer", answer, reason)  # type: ignore[no-untyped-call]


def _data_source(settings: GrafanaSettings) -> dict[str, Any]:
    source: dict[str, Any] = {
        "name": "perfci",
        "uid": DATA_SOURCE_UID,
        "type": "influxdb",
        "access": "proxy",
        "url": settings.influx_url,
        "jsonData": {"version": "InfluxQL", "dbName": settings.influx_database, "httpMode": "POST"},
        "secureJsonData": {},
    }
    if settings.influx_token:
        source["jsonData"]["httpHeaderName1"] = "Authorization"
        source["secureJsonData"]["httpHeaderValue1"] = f"Token {settings.influx_token}"
    elif settings.influx_username:
        source["user"] = settings.influx_username
        source["secureJsonData"]["password"] = settings.influx_password or ""
    return source


def _missing(get: Any, uid: str) -> bool:
    """Tell whether Grafana has nothing with this uid."""
    try:
        get(uid)
    except GrafanaClientError as error:
        if error.status_code == _NOT_FOUND:
            return True
        raise
    return False


@contextmanager
def _connected(settings: GrafanaSettings) -> Iterator[Any]:
    """Yield a client for something that has shown to be Grafana; turn its errors into ours."""
    api: Any = GrafanaApi.from_url(
        f"{settings.url.rstrip('/')}/", settings.token, timeout=settings.timeout_seconds
    )
    try:
        health = api.client.GET("/health")
        if not (isinstance(health, dict) and "database" in health):
            raise GrafanaNotFound(url=settings.url, reason="the answer of /api/health is not Grafana's")
        yield api
    except GrafanaException as error:
        raise _ours(settings, error) from error
    except RequestException as error:
        raise GrafanaUnreachable(url=settings.url, reason=_short(error)) from error
    finally:
        api.client.s.close()


def _ours(settings: GrafanaSettings, error: GrafanaException) -> ServiceError:
    if isinstance(error, GrafanaTimeoutError):
        return GrafanaUnreachable(url=settings.url, reason=_short(error))
    fields = {"url": settings.url, "status": error.status_code, "reason": _short(error)}
    if error.status_code in (401, 403):
        return GrafanaUnauthorised(**fields)
    if error.status_code == _NOT_FOUND:
        return GrafanaNotFound(**fields)
    return GrafanaRefused(**fields)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:_REASON_CHARACTERS] or type(error).__name__


def _uid(title: str) -> str:
    """Return a uid for a title, of the characters and length (40) that Grafana takes."""
    return re.sub(r"[^a-z0-9_-]+", "-", title.lower())[:40]


def _milliseconds(when: datetime) -> int:
    return round(when.timestamp() * 1000)
