"""One archived run as `perfci run show` prints it: a word and what belongs to it, a line each."""

from __future__ import annotations

from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from perfci import wording
from perfci.report.model import verdict
from perfci.results.density import BOOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from perfci.report.model import AlertAtRun, RunReport
    from perfci.results.density import Curve
    from perfci.results.leftovers import Swept
    from perfci.runs.studies.run_diff import Moved
    from perfci.runs.verdicts.confirmation_store import Answer


def run_lines(
    document: dict[str, Any],
    folder: Path,
    answers: Iterable[Answer],
    differences: Sequence[Moved],
    report: RunReport,
) -> Iterator[str]:
    """Describe a run: its run.json, what re-runs said, how it differs from another, what it measured."""
    for line in described(document, folder, verdict(report).text):
        yield line
        if line.startswith("verdict "):
            yield from (alerted(one, document["run_id"]) for one in report.alerts)
    yield from map(confirmed, answers)
    yield from map(differs, differences)
    for curve in report.curves:
        yield from filled(curve)
    for one in report.rates:
        yield f"data plane   {one.path}: {wording.rate(one.megabits_per_second)} Mbit/s"
    yield from left(report.swept)


def alerted(one: AlertAtRun, run_id: str) -> str:
    size = f"{wording.action_name(one.key)} {wording.change(one.effect, one.key.metric)}"
    since = "this run" if one.since == run_id else f"{wording.run_moment(one.since)} UTC"
    state = f"{one.ending} with this run" if one.ending else "open" if one.opened <= run_id else "found later"
    return f"alert        {one.id} ({state}): {size} in {one.key.scenario} since {since}"


def confirmed(answer: Answer) -> str:
    return f"confirm      {answer.confirmation.decision}: {answer.key.label}: {answer.confirmation.reason}"


def filled(curve: Curve) -> Iterator[str]:
    yield f"fill         ended at the limit {curve.reason}: {curve.text}"
    for point in curve.points:
        boots = point.seconds.get(BOOT, ())
        boot = wording.seconds(median(boots)) if boots else wording.MISSING
        cpu = wording.seconds(sum(point.cpu_seconds.values()) or None)
        servers = wording.counted(point.servers, "server")
        yield f"             {servers:>13}: a boot {boot}, {cpu} of CPU for each"


def left(swept: Iterable[Swept]) -> Iterator[str]:
    for one in swept:
        if one.error:
            yield f"left         {one.slug}: unknown: {one.error}"
        elif one.found:
            things = ", ".join(wording.counted(count, kind) for kind, count in one.kinds.items())
            yield f"left         {one.slug}: {things}"
            yield from (f"             not removed: {thing.error}" for thing in one.kept)


def differs(difference: Moved) -> str:
    return f"differs      {difference.place}: {difference.before or '-'} -> {difference.after or '-'}"


def _service(one: dict[str, Any]) -> str:
    changes = f" + {', '.join(one['changes'])}" if one["changes"] else ""
    return f"{one['service']} {one['version']} ({one['source']}){changes}"


def _system(one: dict[str, Any]) -> str:
    """Say what system machines behind BMCs had."""
    if one["fresh"]:
        return f"a fresh image{': ' + one['reason'] if one['reason'] else ''}"
    return f"that of {one['since']} again, with deployment {one['deployments']} on it"


def described(document: dict[str, Any], folder: Path, found: str) -> list[str]:
    nodes = ", ".join(document.get("nodes", []))
    taken = document.get("source", {}).get("rally")
    started = datetime.fromisoformat(document["started_at"]).astimezone(UTC)
    lines = [
        f"run          {document['run_id']}",
        f"job          {document['job']} on {document['lab']}{f' ({nodes})' if nodes else ''}",
        *([f"taken from   {taken}, results of Rally"] if taken else []),
        *([f"re-run for   {document['confirms']}"] if "confirms" in document else []),
        f"status       {document['status']}",
        f"verdict      {found}",
        f"started      {started:%Y-%m-%d %H:%M:%S} UTC",
        f"environment  {document['environment']['digest']}",
        f"code         {document['code']['digest']}",
    ]
    lines += [f"             {_service(one)}" for one in document["code"]["services"]]
    if beside := document.get("reference"):
        known = [_service(one) for one in document["code"]["services"]]
        other = [text for one in beside["services"] if (text := _service(one)) not in known]
        lines.append(f"reference    {beside['digest']}{'' if other else ', the same code'}")
        lines += [f"             {text}" for text in other]
        lines.append(f"pairs        perfci side-by-side --run {document['run_id']}")
    lines += [
        f"stage        {stage['name']:<10} {stage['seconds']:7.1f} s{'' if stage['ok'] else '  failed'}"
        for stage in document.get("stages", [])
    ]
    lines += [
        f"replaced     {node} by a spare, as it did not come up: {reason}"
        for node, reason in document.get("lost", {}).items()
    ]
    if system := document.get("system"):
        lines.append(f"system       {_system(system)}")
    lines += [f"mirror       {line}" for line in document.get("mirrors", [])]
    lines += [f"lab          not fit: {reason}" for reason in document["validity"]["reasons"]]
    lines += [f"cleaning up  {error}" for error in document.get("cleanup_errors", [])]
    if failure := document.get("failure"):
        lines += [
            f"failure      {failure['stage']} ({failure['class']}): {failure['message']}",
            failure["help"],
        ]
        lines += [f"  {line}" for line in failure["excerpt"].splitlines()]
    return [*lines, f"folder       {folder}"]
