"""A store in InfluxDB; its schema is described in docs/influxdb.md.

A run's own point is written last, and reading starts at these points: a run that was written by half is
not there. InfluxDB 1.6.7 was used for real; 1.8 and later, 2.x and 3 are written through influxdb-client.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from perfci.results.errors import ArchiveError, InfluxRefused, InfluxRunIncomplete, UnknownRun
from perfci.results.model import Measurement, Metric, SeriesKey
from perfci.results.record import record_from_json
from perfci.results.stores.base import Store, checked, last
from perfci.results.stores.influx_http import InfluxServer, about_the_points, identifier, literal
from perfci.results.stores.influx_points import (
    MANY,
    RUN,
    RUN_VALUE,
    decode_name,
    encode_name,
    iteration_times,
    run_line,
    run_time,
    value_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perfci.results.model import RunRecord, RunResults
    from perfci.results.stores.influx_http import InfluxSettings

_RUN_VALUE_FIELDS = ("run_id", "n", "attempts", "failures", "median", "at", "until")
_KEY_TAGS = ("scenario", "arguments", "action")
_Points = dict[tuple[str, SeriesKey], list[dict[str, Any]]]


class InfluxStore(Store):
    """Keeps runs in an InfluxDB. Raises InfluxServer's errors, InfluxRunRefused, InfluxRunIncomplete."""

    def __init__(self, settings: InfluxSettings) -> None:
        self.server = InfluxServer(settings)
        self._settings = settings

    @property
    def identity(self) -> str:
        """Host, port and database (or bucket)."""
        name = self._settings.bucket or self._settings.database
        return f"influx:{urlsplit(self._settings.url).netloc}/{name}"

    def write(self, results: RunResults) -> None:
        """Write a run; the point that makes it visible goes last."""
        results = checked(results)
        try:
            self.server.write(list(value_lines(results)))
            self.server.write([run_line(results.record)])
        except InfluxRefused as error:
            if (refused := about_the_points(error, results.record.run_id)) is not None:
                raise refused from error
            raise

    def record(self, run_id: str) -> RunRecord:
        """See Store."""
        with self._understood():
            return self._record(run_id)

    def _record(self, run_id: str) -> RunRecord:
        rows = self._rows(_select(["record"], RUN, [f'"run_id" = {literal(encode_name(run_id))}']))
        found = [self._parsed(row["record"]) for row in rows]
        if not found:
            raise UnknownRun(store=self.identity, run_id=run_id)
        return found[-1]

    def records(
        self, lab: str, job: str, *, limit: int | None = None, until: str | None = None
    ) -> tuple[RunRecord, ...]:
        """See Store."""
        with self._understood():
            return self._records(lab, job, limit, until)

    def _records(self, lab: str, job: str, limit: int | None, until: str | None) -> tuple[RunRecord, ...]:
        where = _of_job(lab, job)
        times = {
            row["run_id"]: row["time"]
            for row in self._rows(_select(["run_id"], RUN, where))
            if until is None or row["run_id"] <= until
        }
        wanted = sorted(times)
        wanted = wanted if limit is None else wanted[max(0, len(wanted) - limit) :]
        if not wanted:
            return ()
        first, latest = min(times[run] for run in wanted), max(times[run] for run in wanted)
        query = _select(["run_id", "record"], RUN, [*where, _between(first, latest)])
        found = {row["run_id"]: row["record"] for row in self._rows(query)}
        return last([self._parsed(found[run]) for run in wanted], None, None)

    def series(self, lab: str, job: str) -> tuple[SeriesKey, ...]:
        """See Store."""
        tags = (*_KEY_TAGS, "metric")
        query = _select(["n"], RUN_VALUE, _of_job(lab, job), group_by=tags, newest=1)
        with self._understood():
            return tuple(sorted(_key(lab, job, series.tags) for series in self.server.query(query)))

    def measurements(
        self, records: Sequence[RunRecord], key: SeriesKey | None = None
    ) -> tuple[Measurement, ...]:
        """See Store."""
        if not records:
            return ()
        with self._understood():
            return self._measurements(records, key)

    def _measurements(self, records: Sequence[RunRecord], key: SeriesKey | None) -> tuple[Measurement, ...]:
        times = [run_time(record) for record in records]
        values = self._points(RUN_VALUE, records, key, _between(min(times), max(times)))
        many = {metric: self._many(metric, values, records, key) for metric in MANY}
        found = (self._measurement(name, rows[-1], many) for name, rows in values.items())
        return tuple(sorted(found, key=lambda m: (m.key, m.run_id)))

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Turn what an answer lacks, or has of another type than was written, into InfluxRefused."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = f"it sent points that perfci did not write: {error!r}"
            raise InfluxRefused(url=self.server.url, status="unreadable answer", reason=reason) from error

    def _many(
        self, metric: Metric, values: _Points, records: Sequence[RunRecord], key: SeriesKey | None
    ) -> _Points:
        """Return the single values of a metric that the points `values` of RUN_VALUE say are there."""
        timed = [rows[-1] for (_, found), rows in values.items() if found.metric is metric and rows[-1]["n"]]
        if not timed:
            return {}
        first, latest = min(row["at"] for row in timed), max(row["until"] for row in timed)
        times = iteration_times(first, latest, max(row["n"] for row in timed))
        name, field = MANY[metric]
        found = self._points(name, records, key, _between(*times), fields=("run_id", field, "at"))
        return {(run_id, replace(key, metric=metric)): rows for (run_id, key), rows in found.items()}

    def _points(
        self,
        name: str,
        records: Sequence[RunRecord],
        key: SeriesKey | None,
        between: str,
        fields: Sequence[str] = _RUN_VALUE_FIELDS,
    ) -> _Points:
        """Return the points of some runs by run and series."""
        lab, job = records[0].lab, records[0].job
        tags = (*_KEY_TAGS, "metric") if name == RUN_VALUE else _KEY_TAGS
        where = [*_of_job(lab, job), between]
        if key is not None:
            where += [f'"{tag}" = {literal(encode_name(str(getattr(key, tag))))}' for tag in tags]
        wanted = {record.run_id for record in records}
        found: _Points = defaultdict(list)
        for series in self.server.query(_select(fields, name, where, group_by=tags)):
            series_key = _key(lab, job, series.tags)
            for row in map(_named, series.rows):
                if row["run_id"] in wanted:
                    found[row["run_id"], series_key].append(row)
        return found

    def _measurement(
        self, name: tuple[str, SeriesKey], value: dict[str, Any], many: Mapping[Metric, _Points]
    ) -> Measurement:
        run_id, key = name
        if key.metric in MANY:
            _, field = MANY[key.metric]
            rows = [(row[field], row["at"]) for row in many[key.metric].get(name, ())]
        else:
            rows = [(value["median"], value["at"])] if value["n"] else []
        if len(rows) != value["n"]:
            raise InfluxRunIncomplete(
                url=self.server.url, run_id=run_id, found=len(rows), written=value["n"], series=key.label
            )
        return Measurement(
            key=key,
            run_id=run_id,
            values=tuple(float(value) for value, _ in rows),
            timestamps=tuple(float(at) for _, at in rows),
            attempts=int(value["attempts"]),
            failures=int(value["failures"]),
        )

    def _rows(self, query: str) -> Iterator[dict[str, Any]]:
        for series in self.server.query(query):
            yield from map(_named, series.rows)

    def _parsed(self, record: str) -> RunRecord:
        try:
            return record_from_json(record, f"{self.identity}, measurement {RUN}")
        except ArchiveError as error:
            raise InfluxRefused(url=self.server.url, status="unreadable record", reason=str(error)) from error


def _select(
    fields: Sequence[str],
    measurement: str,
    where: Sequence[str],
    *,
    group_by: Sequence[str] = (),
    newest: int | None = None,
) -> str:
    """Return an InfluxQL query, oldest rows first; or for only the `newest` rows of each group."""
    names = ", ".join(map(identifier, fields))
    # Names are the schema's own, and `where` is made of `literal`s.
    query = f"SELECT {names} FROM {identifier(measurement)} WHERE {' AND '.join(where)}"  # noqa: S608
    if group_by:
        query += f" GROUP BY {', '.join(map(identifier, group_by))}"
    return query if newest is None else f"{query} ORDER BY time DESC LIMIT {newest}"


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "run_id": decode_name(row["run_id"])} if "run_id" in row else row


def _of_job(lab: str, job: str) -> list[str]:
    return [f'"lab" = {literal(encode_name(lab))}', f'"job" = {literal(encode_name(job))}']


def _between(first: int, latest: int) -> str:
    return f"time >= {first} AND time <= {latest}"


def _key(lab: str, job: str, tags: dict[str, str]) -> SeriesKey:
    scenario, arguments, action = (decode_name(tags[tag]) for tag in _KEY_TAGS)
    return SeriesKey(lab, job, scenario, arguments, action, Metric(tags.get("metric", Metric.SECONDS)))
