"""Talking to InfluxDB: one way to write, one to ask, and what each failure means.

Writes go through influxdb-client to `/api/v2/write` where the server has it (1.8 and later, 2.x, 3), else
to `/write` of 1.x. Reads go to `/query` in InfluxQL, which all of them have (2.x with a DBRP mapping).
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from perfci.parsing import NotReadable, json_value
from perfci.results.errors import (
    InfluxDatabaseMissing,
    InfluxFailing,
    InfluxRefused,
    InfluxRunRefused,
    InfluxRunTooOld,
    InfluxSettingsInvalid,
    InfluxUnauthorised,
    InfluxUnreachable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import requests

    from perfci.errors import ServiceError

_BATCH_POINTS = 5_000
_REASON_CHARACTERS = 300
_MISSING = re.compile(r"(database|bucket)\b.*\bnot found|could not find bucket", re.IGNORECASE)
_FIRST_V2_WRITE = (1, 8)
_TOO_OLD = re.compile(r"retention (policy|period|rule)", re.IGNORECASE)
# Said of points; whatever else a server refuses may be a setting, which concerns all runs alike.
_ABOUT_POINTS = re.compile(
    r"partial write|field type conflict|unable to parse|line protocol|too large|exceeded|outside",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class InfluxSettings:
    """How to reach an InfluxDB. Secrets are never shown and never part of the URL.

    `database` is what 1.x writes to and all read from; `bucket`, `org` and `token` are for 2.x and 3
    (without a bucket: the database's name). Raises InfluxSettingsInvalid.
    """

    url: str
    database: str = "perfci"
    bucket: str = ""
    org: str = ""
    token: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port or an IPv6 address that is none
            whole = False
        if not whole:
            raise InfluxSettingsInvalid(reason="expected an address such as http://127.0.0.1:8086")
        if parts.username is not None or parts.query:
            raise InfluxSettingsInvalid(reason="credentials do not belong in the address")
        if not self.database:
            raise InfluxSettingsInvalid(reason="expected the name of a database")

    @property
    def credentials(self) -> str:
        """What goes behind `Token` in the Authorization header; 1.8 takes `user:password` there."""
        if self.token:
            return self.token
        return f"{self.username}:{self.password}" if self.username else ""


@dataclass(frozen=True, slots=True)
class Rows:
    """One series of an answer: its tags, and its rows by column; `time` is in nanoseconds."""

    tags: dict[str, str]
    rows: tuple[dict[str, Any], ...]


class InfluxServer:
    """One InfluxDB. Every failure is an error of perfci.results.errors with `Influx` in its name."""

    def __init__(self, settings: InfluxSettings) -> None:
        self.settings = settings
        self.url = settings.url.rstrip("/")
        self._version: tuple[int, ...] | None = None

    def write(self, lines: Iterable[str]) -> None:
        """Write points (line protocol) in their order, in batches; 1.x gets the database if it lacks it."""
        for batch in _batches(lines):
            try:
                self._write(batch)
            except InfluxDatabaseMissing:
                if self.version()[0] != 1:
                    raise
                self.create_database()
                self._write(batch)

    def create_database(self) -> None:
        """Create the database; nothing happens where it is there already. Only for 1.x."""
        self._ask("POST", f"CREATE DATABASE {identifier(self.settings.database)}")

    def query(self, influxql: str) -> tuple[Rows, ...]:
        """Ask in InfluxQL and return all series of the answer."""
        answer = self._ask("GET", influxql)
        try:
            return tuple(
                Rows(
                    series.get("tags", {}),
                    tuple(dict(zip(series["columns"], row, strict=True)) for row in series["values"]),
                )
                for result in answer["results"]
                for series in result.get("series", ())
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._unreadable("rows that are not of the form of a query's answer") from error

    def version(self) -> tuple[int, ...]:
        """Return the server's version, from `/ping`; (2,) for servers that do not tell theirs."""
        if self._version is None:
            response = self._request("GET", "/ping")
            if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise self._refusal(response.status_code, response.text)
            found = re.match(r"v?(\d+)\.(\d+)", response.headers.get("X-Influxdb-Version", ""))
            self._version = (int(found[1]), int(found[2])) if found else (2,)
        return self._version

    def _write(self, batch: Sequence[str]) -> None:
        if self.version() >= _FIRST_V2_WRITE:
            self._write_v2(batch)
        else:
            self._write_v1(batch)

    def _write_v1(self, batch: Sequence[str]) -> None:
        response = self._request(
            "POST",
            "/write",
            params={"db": self.settings.database, "precision": "ns"},
            data=gzip.compress("\n".join(batch).encode(), mtime=0),
            headers={"Content-Encoding": "gzip", "Content-Type": "text/plain; charset=utf-8"},
        )
        self._check(response)

    def _write_v2(self, batch: Sequence[str]) -> None:
        import urllib3
        from influxdb_client.client.influxdb_client import InfluxDBClient
        from influxdb_client.client.write_api import SYNCHRONOUS
        from influxdb_client.domain.write_precision import WritePrecision
        from influxdb_client.rest import ApiException

        settings = self.settings
        with (
            InfluxDBClient(
                self.url,
                token=settings.credentials or None,  # type: ignore[arg-type]  # then it sends no header
                org=settings.org or "-",
                timeout=int(settings.timeout_seconds * 1000),
                enable_gzip=True,
                retries=False,
            ) as client,
            client.write_api(write_options=SYNCHRONOUS) as api,
        ):
            try:
                api.write(
                    bucket=settings.bucket or settings.database,
                    record=batch,
                    write_precision=WritePrecision.NS,
                )
            except ApiException as error:
                body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
                raise self._refusal(error.status or 0, body or error.reason or "") from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise InfluxUnreachable(url=self.url, reason=_brief(error)) from error

    def _ask(self, method: str, influxql: str) -> dict[str, Any]:
        parameters = {"db": self.settings.database, "q": influxql, "epoch": "ns"}
        response = self._request(method, "/query", params=parameters)
        self._check(response)
        try:
            answer = json_value(response.content)
        except NotReadable as error:
            raise self._unreadable(
                f"{response.headers.get('Content-Type', 'something')} instead of JSON"
            ) from error
        if not isinstance(answer, dict):
            raise self._unreadable("JSON that is not an object")
        results = answer.get("results")
        for part in (answer, *(results if isinstance(results, list) else ())):
            if isinstance(part, dict) and "error" in part:
                raise self._refusal(response.status_code, str(part["error"]))
        return answer

    def _request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        import requests

        settings = self.settings
        with requests.Session() as session:
            session.trust_env = False  # no .netrc: credentials are those of the settings
            if settings.token:
                session.headers["Authorization"] = f"Token {settings.token}"
            elif settings.username:
                session.auth = (settings.username, settings.password)
            try:
                return session.request(
                    method,
                    f"{self.url}{path}",
                    timeout=settings.timeout_seconds,
                    allow_redirects=False,
                    **arguments,
                )
            except requests.RequestException as error:
                raise InfluxUnreachable(url=self.url, reason=_brief(error)) from error

    def _check(self, response: requests.Response) -> None:
        # A redirection is refused too: the credentials are meant for this address only.
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._refusal(response.status_code, response.text)

    def _refusal(self, status: int, body: str) -> ServiceError:
        """Return the error that a refusal means; errors of InfluxQL come with status 200."""
        reason = " ".join(body.split())[:_REASON_CHARACTERS] or "it did not say why"
        if _MISSING.search(reason):
            return InfluxDatabaseMissing(url=self.url, database=self.settings.database, reason=reason)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return InfluxUnauthorised(url=self.url, status=status, reason=reason)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return InfluxFailing(url=self.url, status=status, reason=reason)
        return InfluxRefused(url=self.url, status=status, reason=reason)

    def _unreadable(self, what: str) -> InfluxRefused:
        return InfluxRefused(url=self.url, status="unreadable answer", reason=f"it sent {what}")


def about_the_points(error: InfluxRefused, run_id: str) -> InfluxRunRefused | None:
    """Return a refusal as one of this run alone, for what its points are; None where it may concern all runs.

    1.x says 400 of points that are too old or of another type, 2.x and 3 say 422 too; 413 is a run too large.
    """
    status, reason = error.fields["status"], str(error.fields["reason"])
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY) and _TOO_OLD.search(reason):
        return InfluxRunTooOld(**error.fields, run_id=run_id)
    whole = status in (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if whole or (status == HTTPStatus.BAD_REQUEST and _ABOUT_POINTS.search(reason)):
        return InfluxRunRefused(**error.fields, run_id=run_id)
    return None


def identifier(name: str) -> str:
    r"""Return a name as InfluxQL writes one: in double quotes, with `\` before what would end it."""
    return f'"{_escaped(name, chr(34))}"'


def literal(value: str) -> str:
    r"""Return a text as InfluxQL writes one: in single quotes, with `\` before what would end it."""
    return f"'{_escaped(value, chr(39))}'"


def _escaped(value: str, quote: str) -> str:
    return value.replace("\\", "\\\\").replace(quote, f"\\{quote}").replace("\n", "\\n")


def _batches(lines: Iterable[str]) -> Iterator[list[str]]:
    left = iter(lines)
    while batch := list(islice(left, _BATCH_POINTS)):
        yield batch


def _brief(error: Exception) -> str:
    """Return the innermost reason: requests and urllib3 wrap what happened several times."""
    text = str(error)
    found = re.findall(r"[A-Z][A-Za-z ]+(?:refused|timed out|reset by peer)", text)
    return found[-1] if found else text[:_REASON_CHARACTERS]
