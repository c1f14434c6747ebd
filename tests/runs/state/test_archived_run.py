"""A run of the archive as a value: each of its files is read once, whoever asks."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import archives
import pytest

from perfci import config
from perfci.results.errors import ArchiveError, ReportError
from perfci.runs.publish.after_run import Aftermath
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.progress import Silent
from perfci.runs.state.stages import Stages
from perfci.runs.verdicts.lab_services import LabServices

_watched: list[tuple[Path, Counter]] = []


def _opened(event, arguments):
    if event == "open" and _watched and isinstance(arguments[0], str):
        for root, count in _watched:
            if arguments[0].startswith(f"{root}/"):
                count[arguments[0].removeprefix(f"{root}/")] += 1


sys.addaudithook(_opened)


@contextmanager
def reads(root):
    """Count how often each file below a folder is opened."""
    count = Counter()
    _watched.append((root, count))
    try:
        yield count
    finally:
        _watched.pop()


@pytest.fixture
def controller(tmp_path):
    """A controller whose InfluxDB does not answer."""
    environ = {"PERFCI_STATE_DIR": str(tmp_path), "PERFCI_INFLUX__URL": "http://127.0.0.1:9"}
    return LabServices(config.load(environ=environ))


def after(controller, folder):
    return Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()))


def in_json_or_counters(count, folder):
    return {
        name.removeprefix(f"{folder.name}/"): times
        for name, times in count.items()
        if name.startswith(f"{folder.name}/") and name.endswith((".json", ".jsonl", ".yml"))
    }


def test_the_steps_after_a_run_read_each_of_its_files_once(controller):
    folder = archives.recorded(controller.state.archive)
    with reads(controller.state.archive) as count:
        outcome = after(controller, folder)
    assert outcome.site.is_file()
    assert len(outcome.judgements) > 100
    found = in_json_or_counters(count, folder)
    reports = {f"rally/{path.name}" for path in (archives.SAMPLE / "rally").iterdir()}
    assert reports | {"run.json", "job.yml", "tasks.json", "counters/node-0.jsonl"} <= found.keys()
    assert set(found.values()) == {1}, found


def test_also_where_a_regression_is_asked_about_and_mailed(controller):
    for number in range(1, 9):
        after(controller, archives.night(controller.state.archive, number))
    for number in (9, 10):
        slow = archives.night(controller.state.archive, number, factor=1.4, code="bbbbbbbbbbbb")
        with reads(controller.state.archive) as count:
            outcome = after(controller, slow)
    assert [str(one.kind) for one in outcome.told] == ["regression"]
    assert set(in_json_or_counters(count, slow).values()) == {1}
    assert {times for name, times in count.items() if name.endswith("/run.json")} == {1}


def test_a_damaged_file_is_an_error_with_its_name_and_the_others_can_be_read(tmp_path):
    folder = archives.recorded(tmp_path)
    (folder / "rally" / "01-keystone-authenticate.json").write_text("{")
    run = ArchivedRun(folder)
    with pytest.raises(ReportError, match="01-keystone-authenticate"):
        _ = run.results
    assert run.shares
    assert run.canaries
    assert run.record.run_id == run.document["run_id"] == run.run_id
    for text in ("", "{", "[]", "null"):
        (folder / "run.json").write_text(text)
        with pytest.raises(ArchiveError, match=r"run\.json"):
            _ = ArchivedRun(folder).document


def test_the_value_is_shared_while_somebody_holds_it(controller):
    folder = archives.recorded(controller.state.archive)
    run = controller.archived(folder.name)
    assert controller.archived(folder.name) is run
    other = ArchivedRun(folder)
    controller.share(other)
    assert controller.archived(folder.name) is other


def test_a_re_run_is_found_where_re_runs_are(controller):
    folder = archives.night(controller.state.reruns, 1)
    assert controller.archived(folder.name).folder == folder
