"""The mail about a paired night: it says in seconds what the reader feels, and what it was compared with."""

from __future__ import annotations

import json
from statistics import median

import archives
import pytest
from paired_runs import write_sides

from perfci import config
from perfci.alerts.lifecycle import process
from perfci.alerts.model import AlertState, JudgedRun
from perfci.results.archive import read_archive
from perfci.results.model import TOTAL, Metric
from perfci.runs.publish.notify import compose_letters
from perfci.runs.verdicts.judge import judge_run
from perfci.runs.verdicts.lab_services import LabServices
from perfci.wording import seconds

REFERENCE = {"service": "neutron", "version": "28.0.1", "source": "wheel", "revision": "28.0.1"}
FACTOR = 1.3


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return the results of a slow night and the text of the mail about it."""
    controller = LabServices(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path_factory.mktemp("state"))}))
    state, records = AlertState(), {}
    for number, factor in ((1, 1.0), (2, FACTOR)):
        code = "aaaaaaaaaaaa" if factor == 1.0 else "bbbbbbbbbbbb"
        folder = archives.night(controller.state.archive, number, reference="a" * 12, code=code)
        document = json.loads((folder / "run.json").read_text())
        document["reference"] = {"digest": "a" * 12, "services": [REFERENCE]}
        (folder / "run.json").write_text(json.dumps(document))
        write_sides(folder, factor=factor, seed=number)
        results = read_archive(folder)
        controller.local.write(results)
        judgements = judge_run(controller, results.record)
        records[results.record.run_id] = results.record
        state, new = process(state, JudgedRun(results.record, judgements, records))
    (letter,) = compose_letters(controller, new, results.record, judgements)
    return results, letter.message.get_body(("plain",)).get_content().replace("\u00a0", " ")


def test_it_says_how_many_seconds_it_took_and_takes(told):
    results, text = told
    taken = next(
        one.values
        for one in results.measurements
        if (one.key.action, one.key.metric) == (TOTAL, Metric.SECONDS)
    )
    now = median(taken)
    lead = " ".join(text.split("What is slower")[0].split())
    assert "slower than on the reference beside it since the run of" in lead
    shown_before, shown_now = (one.replace("\u00a0", " ") for one in (seconds(now / FACTOR), seconds(now)))
    assert f"→ {shown_now}" in text
    assert shown_before[:3] in text


def test_it_names_the_reference_and_how_pairs_decide(told):
    text = " ".join(told[1].split())
    assert "reference neutron 28.0.1 (wheel), on a second cloud beside the code under test" in text
    assert "Each iteration is paired with one on the reference" in text
    assert "runs of the baseline" not in text
