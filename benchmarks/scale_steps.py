"""The steps that `scale.py` measures, each a process of its own: `scale_steps.py STEP STATE_DIR [...]`.

Each prints what it found as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfci.runs.verdicts.lab_services import LabServices

DECIDED = 30
"""So many nights are decided; those before are followed."""
PAGES = 10
"""So many runs have pages."""
MADE = "made.json"


def _make(options: argparse.Namespace) -> dict[str, Any]:
    from scale_lab import SEED_NIGHT, make

    lab = make(
        options.state,
        options.night or SEED_NIGHT,
        series=options.series,
        nights=options.nights,
        moved=options.moved,
    )
    found = {**asdict(lab), "tonight": str(lab.tonight)}
    (options.state / MADE).write_text(json.dumps(found))
    return found


def _services() -> LabServices:
    from perfci import config
    from perfci.results.sync import Synced
    from perfci.runs.verdicts.lab_services import LabServices

    class WithoutInflux(LabServices):
        def sync(self, on_step: object = None) -> Synced:  # noqa: ARG002
            return Synced((), ())

    return WithoutInflux(config.load())


def _decide(_options: argparse.Namespace) -> dict[str, Any]:
    """Judge the last night of the history: the nights before it are decided or followed on the way."""
    from perfci.analysis.facts import NightFacts, facts_as_dict
    from perfci.runs.verdicts.facts_store import keep_facts, read_facts
    from perfci.runs.verdicts.judgement_store import keep_judgements

    services = _services()
    records = services.local.records("embedded", "scale")
    older = records[:-DECIDED]
    for one in older:
        keep_facts(services.database, one, facts_as_dict(NightFacts(one.run_id)))
    found = _judged(services)
    known = list(read_facts(services.database, "embedded", "scale").values())[len(older) :]
    quiet: dict[str, Any] = {"opened": [], "ended": [], "refuted": [], "doubted": []}
    for number, one in enumerate(older):
        document = {**known[number % len(known)], **quiet, "run_id": one.run_id}
        keep_facts(services.database, one, document)
    for one in records[-PAGES:]:
        keep_judgements(services.database, one.run_id, [replace(j, run_id=one.run_id) for j in found])
    return {}


def _judged(services: LabServices) -> tuple[Any, ...]:
    from perfci.runs.verdicts.judge import judge_run

    return judge_run(services, services.local.records("embedded", "scale", limit=1)[-1])


def _pages(_options: argparse.Namespace) -> dict[str, Any]:
    """Write the pages as they were before tonight."""
    from perfci.runs.publish import site_data

    services = _services()
    tonight = Path(json.loads((services.state.root / MADE).read_text())["tonight"])
    put_aside = tonight.parent.with_name("tonight")
    if not put_aside.exists():  # it does where this was cut off
        tonight.rename(put_aside)
    _keep_few_pages()
    site_data.write_site(services)
    put_aside.rename(tonight)
    return {}


def _keep_few_pages() -> None:
    from perfci.runs.publish import site_data

    site_data.kept_runs = partial(site_data.kept_runs, newest=PAGES)


def _night(options: argparse.Namespace) -> dict[str, Any]:
    """Do what perfci does after a night."""
    from perfci.runs.publish.after_run import Aftermath
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.state.progress import Silent
    from perfci.runs.state.stages import Stages

    made = json.loads((options.state / MADE).read_text())
    stages = Stages(Silent())
    services = _services()
    _keep_few_pages()
    before = dict(_files(services.state.site))
    outcome = Aftermath(services).of(ArchivedRun(Path(made["tonight"])), stages)
    if outcome.later:
        sys.exit(f"the night left something undone: {outcome.later[0]}")
    after = dict(_files(services.state.site))
    return {
        "stages": [one.as_dict() for one in stages.done],
        "files": len(after),
        "written": sum(before.get(name) != one for name, one in after.items()),
    }


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), (path.stat().st_ino, path.stat().st_mtime_ns)


def _verdicts(_options: argparse.Namespace) -> dict[str, Any]:
    """Judge the last night, the nights before it known."""
    from perfci.runs.verdicts.judge import summary

    return {"found": summary(_judged(_services()))}


def _replay(options: argparse.Namespace) -> dict[str, Any]:
    from perfci.runs.verdicts.verdict_cache import forget_all

    forget_all(_services().database)
    return _verdicts(options)


def _sizes(_options: argparse.Namespace) -> dict[str, Any]:
    """Return what is on the disk, in bytes."""
    from perfci.database import schema

    services = _services()
    last = services.local.run_ids("embedded", "scale")[-1]

    def document(table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        with services.database.reading() as connection:
            return int(
                connection.scalar(sa.select(sa.func.sum(sa.func.length(table.c.document))).where(*where))
            )

    judgements, facts = schema.judgement, schema.night_facts
    site = services.state.site
    pages = sorted((one.stat().st_size for one in site.rglob("*.html")), reverse=True)
    return {
        "judgements of a night": document(judgements, judgements.c.run_id == last),
        "what a night decided": document(facts, facts.c.run_id == last),
        "verdict cache": document(schema.verdict_cache),
        "index of the archive": services.state.index.stat().st_size,
        "site": sum(one.stat().st_size for one in site.rglob("*") if one.is_file()),
        "largest page": pages[0],
        "data file of tonight's run": max(
            one.stat().st_size for one in site.rglob(f"*{last}*") if one.suffix == ".js"
        ),
    }


def _report(options: argparse.Namespace) -> dict[str, Any]:
    """Write a report of one workload, two actions an iteration, as Rally's exporter does."""
    with (options.state / "report.json").open("w") as file:
        file.writelines(_large_report(options.iterations))
    return {}


def _large_report(iterations: int) -> Iterator[str]:
    from scale_lab import SEED_NIGHT

    report = json.loads((SEED_NIGHT / "rally" / "02-neutron-create-and-list-networks.json").read_text())
    workload = report["tasks"][0]["subtasks"][0]["workloads"][0]
    usable = [one for one in workload["data"] if not one["error"]]
    workload["data"] = ["HERE"]
    head, tail = json.dumps(report, indent=1).split('"HERE"')
    yield head
    for number in range(iterations):
        one = json.dumps({**usable[number % len(usable)], "timestamp": 1.7e9 + number}, indent=1)
        yield one if number == 0 else f",\n{one}"
    yield tail


def _read(options: argparse.Namespace) -> dict[str, Any]:
    from perfci.results.rally import read_report

    found = read_report(options.state / "report.json", lab="scale", job="scale", run_id="one")
    return {"series": [len(one.values) for load in found for one in load.measurements]}


STEPS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "make": _make,
    "decide": _decide,
    "pages": _pages,
    "night": _night,
    "verdicts": _verdicts,
    "replay": _replay,
    "sizes": _sizes,
    "report": _report,
    "read": _read,
}


def main() -> None:
    """Do one step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("state", type=Path)
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--moved", type=float, default=0.02)
    parser.add_argument("--night", type=Path)
    parser.add_argument("--iterations", type=int, default=1_000_000)
    options = parser.parse_args()
    os.environ["PERFCI_STATE_DIR"] = str(options.state)
    print(json.dumps(STEPS[options.step](options)))


if __name__ == "__main__":
    main()
