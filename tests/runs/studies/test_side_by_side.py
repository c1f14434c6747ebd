"""`perfci side-by-side`: draws, changed places, decisions, and what went wrong; the playbooks are played."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml
from paired_runs import write_sides

from perfci import config
from perfci.analysis.pair_decision import PairSettings
from perfci.cli.run_text import described
from perfci.cli.tables import paired_timings_table
from perfci.lab.model import Node
from perfci.results.model import TOTAL, Metric, Purpose
from perfci.results.record import read_record
from perfci.runs.ansible.playbook import PlaybookFailed, Playbooks
from perfci.runs.jobs.load import load_job
from perfci.runs.jobs.model import Job
from perfci.runs.jobs.sources import Reference, Source, Sources
from perfci.runs.night import reference
from perfci.runs.night.assemble import night
from perfci.runs.night.reference import ReferenceElsewhere, TooLittleMemory, carry_two, check_room, needed_gib
from perfci.runs.state.archive import run_folders
from perfci.runs.state.progress import Silent
from perfci.runs.studies import bump as bumping
from perfci.runs.studies.bump import bump
from perfci.runs.studies.change_sets import ChangeInvalid, Sides
from perfci.runs.studies.pins import CONSTRAINTS
from perfci.runs.studies.side_by_side import Budget, NothingPaired, NotThesePairs, from_archive, side_by_side
from perfci.runs.studies.try_change import in_pairs
from perfci.runs.verdicts.lab_services import LabServices

TESTS = Path(__file__).parents[2]
SAMPLE = TESTS / "data" / "archive" / "20261121T052400Z-sample-7c3d"
JOB = """name: tiny
cloud: {services: [keystone, neutron]}
scenarios:
  - {task: ports, times: 28, warmup: 2}
"""
FACTOR = 1.06
"""How much slower the side with neutron 2.0 is: too little to be proven in one draw."""


def slow(code, variables):
    pins = variables.get("openstack_code_constraints")
    slow_pin = pins is not None and "parts==2.0" in Path(pins).read_text()
    return (code.get("neutron") or {}).get("version") == "2.0" or "neutron_options" in variables or slow_pin


def hammered(folder, number):
    """Leave what the real hammer leaves: canaries of any node, and the pairs of both sides."""
    job = yaml.safe_load((folder / "job.yml").read_text())
    shutil.copytree(SAMPLE / "canaries", folder / "canaries")
    shutil.copy(SAMPLE / "environment.json", folder)
    own, beside = (one.cloud.variables for one in (Job(**job), Job(**job).beside()))
    factor = FACTOR ** (slow(job["sources"], own) - slow(job["reference"], beside))
    write_sides(folder, factor=factor, seed=number)
    for place, code in ((folder, job["sources"]), (folder / "reference", job["reference"])):
        version = (code.get("neutron") or {}).get("version") or "1.0"
        service = {"service": "neutron", "version": version, "source": "wheel", "revision": version}
        (place / "code.json").write_text(json.dumps({"services": [service]}))


@pytest.fixture
def played(monkeypatch):
    """Play the playbooks: no Ansible is started; the real ones and both sides of each are in night/test_reference.py."""
    played = []

    def play(_self, name, *, log, limit_seconds, variables=None, on_step=None):
        played.append(name)
        if name == "hammer":
            hammered(Path(variables["perfci_run_dir"]), len(played))
        if name == played_wrong:
            raise PlaybookFailed(playbook=name, where="anywhere", detail="out of luck", log=log)

    played_wrong = None
    monkeypatch.setattr(Playbooks, "run", play)

    def break_(name):
        nonlocal played_wrong
        played_wrong = name

    return SimpleNamespace(names=played, fail=break_)


@pytest.fixture
def controller(project, monkeypatch, played):
    monkeypatch.setattr(reference, "needed_gib", lambda _: 0.1)  # nothing is deployed
    (project.root / "jobs" / "tiny.yml").write_text(JOB)
    (project.root / "jobs" / "tasks" / "ports.yml.j2").write_text("{}\n")
    environ = {
        "PERFCI_ROOT_DIR": str(project.root),
        "PERFCI_STATE_DIR": str(project.state),
        "PERFCI_LIMITS__FOREIGN_CPU_SHARE": "1",
        "PERFCI_LIMITS__STEAL_SHARE": "1",
    }
    return LabServices(config.load(environ=environ))


def compared(controller, *, draws=6, old=None, new=None, within=0.05):
    return side_by_side(
        controller,
        load_job("tiny", controller.settings.jobs_dir),
        old=old or {},
        new=new or {},
        settings=PairSettings(within=within),
        budget=Budget(draws, 60),
        holder="tester",
        progress=Silent(),
    )


def whole(found):
    (one,) = [one for one in found.findings if one.key.action == TOTAL]
    return one


def test_a_slower_side_is_found_wherever_it_stands(controller):
    found = compared(controller, new={"neutron": Source(version="2.0")})
    assert whole(found).word == "slower"
    assert found.slower
    assert whole(found).reading.log == pytest.approx(math.log(FACTOR), abs=0.01)
    assert found.ended == ""
    folders = run_folders(controller.state.archive)
    assert found.runs == tuple(folder.name for folder in folders)
    jobs = [yaml.safe_load((folder / "job.yml").read_text()) for folder in folders]
    assert len(folders) >= 2
    # Places are changed in every other draw.
    versions = [
        (one["sources"].get("neutron", {}).get("version"), one["reference"]["neutron"].get("version"))
        for one in jobs
    ]
    assert versions == [("2.0", None), (None, "2.0"), ("2.0", None)][: len(versions)]
    document = json.loads((folders[0] / "run.json").read_text())
    assert f"pairs        perfci side-by-side --run {folders[0].name}" in described(document, folders[0], "")
    records = [read_record(folder / "run.json") for folder in folders]
    assert {(one.job, one.purpose) for one in records} == {("tiny-compare", Purpose.COMPARE)}
    assert controller.outbox.status().waiting == 0


def test_a_faster_side_is_no_regression(controller):
    found = compared(controller, old={"neutron": Source(version="2.0")})
    assert whole(found).word == "faster"
    assert not found.slower


def test_the_same_code_is_proven_the_same(controller):
    found = compared(controller)
    assert whole(found).word == "same"
    assert json.loads(json.dumps(found.as_dict()))["timings"][0]["verdict"] == "same"
    assert paired_timings_table(found).rows[0][2] == "same within 5 %"


def test_too_few_draws_leave_it_unknown_and_say_so(controller):
    found = compared(controller, draws=1, within=0.01)
    assert whole(found).word == "unknown"
    assert found.ended == "1 draws were not enough"


def test_draws_that_measure_nothing_end_it(controller, played):
    played.fail("deploy")
    with pytest.raises(NothingPaired, match="out of luck"):
        compared(controller)
    assert played.names[-1] == "teardown"
    assert "hammer" not in played.names


def test_two_clouds_that_do_not_fit_are_not_begun(controller, played, monkeypatch):
    monkeypatch.setattr(reference, "needed_gib", needed_gib)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * 1024**3))
    with pytest.raises(TooLittleMemory, match=r"2\.0 GiB of memory are available") as caught:
        compared(controller)
    assert "cloud.computes" in caught.value.advice
    assert played.names == []


def test_what_two_clouds_need_grows_with_their_services_and_computes(controller):
    job = load_job("tiny", controller.settings.jobs_dir)
    full = job.model_copy(update={"cloud": type(job.cloud)(computes=10)})
    more = job.model_copy(update={"cloud": type(job.cloud)(computes=20)})
    assert needed_gib(job) < needed_gib(full) < needed_gib(more)
    check_room(full, (), available_bytes=int(needed_gib(full) * 1024**3) + 1)


def test_machines_behind_bmcs_carry_no_two_clouds(controller):
    job = load_job("tiny", controller.settings.jobs_dir)
    own, machine = Node("node-0"), Node("node-1", has_bmc=True)
    with pytest.raises(ReferenceElsewhere, match="but this run would use node-1"):
        check_room(job, (own, machine), available_bytes=1024**4)
    assert not carry_two(job, (machine,))


def test_archived_runs_are_judged_again_with_the_same_answer(controller):
    found = compared(controller, new={"neutron": Source(version="2.0")})
    folders = run_folders(controller.state.archive)
    again = from_archive(folders[::-1], PairSettings())
    assert [one.as_dict() for one in again.findings] == [one.as_dict() for one in found.findings]
    strange = {"service": "neutron", "version": "3.0", "source": "wheel", "revision": "3.0"}
    (folders[1] / "code.json").write_text(json.dumps({"services": [strange]}))
    with pytest.raises(NotThesePairs, match=folders[1].name):
        from_archive(folders, PairSettings())
    (folders[0] / "pairs.json").unlink()
    with pytest.raises(NotThesePairs, match="no pairs"):
        from_archive(folders, PairSettings())


def tried(controller, **new):
    job = load_job("tiny", controller.settings.jobs_dir)
    return in_pairs(
        controller, Sides(job, job.model_copy(update=new)), job, holder="tester", progress=Silent()
    )


def test_a_try_in_pairs_says_that_the_change_is_slower(controller):
    found = tried(controller, sources=Sources(neutron=Source(version="2.0")))
    assert whole(found).word == "slower"
    assert found.slower
    assert not found.undecided
    assert whole(found).reading.log == pytest.approx(math.log(FACTOR), abs=0.01)


def test_a_try_in_pairs_is_of_clouds_of_one_shape(controller, played):
    cloud = load_job("tiny", controller.settings.jobs_dir).cloud.model_copy(update={"computes": 3})
    with pytest.raises(ChangeInvalid, match="shape"):
        tried(controller, cloud=cloud)
    assert played.names == []


def test_options_of_one_side_stay_in_their_place(controller):
    job = load_job("tiny", controller.settings.jobs_dir)
    cloud = job.cloud.model_copy(update={"variables": {"neutron_options": {"DEFAULT": {"debug": True}}}})
    found = tried(controller, cloud=cloud)
    assert whole(found).word == "slower"
    jobs = [
        Job(**yaml.safe_load((one / "job.yml").read_text())) for one in run_folders(controller.state.archive)
    ]
    assert len(jobs) >= 2
    assert all("neutron_options" in one.cloud.variables for one in jobs)
    assert not any("neutron_options" in one.beside().cloud.variables for one in jobs)


def test_a_pin_is_moved_after_both_were_measured_in_pairs(controller, project, monkeypatch):
    file = project.root / CONSTRAINTS
    file.parent.mkdir(parents=True)
    file.write_text("nova==1.0\nparts==1.0\n")
    monkeypatch.setattr(bumping, "check", lambda *_: None)  # the real one is in test_pins.py
    job = load_job("tiny", controller.settings.jobs_dir)
    found = bump(controller, "parts", "2.0", job, holder="tester", progress=Silent())
    assert whole(found.compared).word == "slower"
    assert whole(found.compared).reading.log == pytest.approx(math.log(FACTOR), abs=0.01)
    assert "parts==2.0" in file.read_text()
    assert json.loads(json.dumps(found.as_dict()))["compared"]["timings"]


def test_a_try_that_was_cut_short_goes_on_with_its_draws(controller, played):
    sources = Sources(neutron=Source(version="2.0"))
    whole_try = tried(controller, sources=sources)
    folders, begun = run_folders(controller.state.archive), len(played.names)
    shutil.rmtree(folders[-1])
    again = tried(controller, sources=sources)
    assert again.runs[: len(folders) - 1] == tuple(one.name for one in folders[:-1])
    assert whole(again).word == whole(whole_try).word
    assert len(played.names) - begun == begun // len(folders), "one more draw"


def test_nights_are_held_against_the_code_of_the_first_one(controller):
    job = load_job("tiny", controller.settings.jobs_dir).model_copy(
        update={"reference": Reference(accepted=True)}
    )

    def run(version):
        sources = Sources(neutron=Source(version=version))
        tonight = night(
            job.model_copy(update={"sources": sources}),
            controller.settings,
            holder="tester",
            progress=Silent(),
        ).run()
        reference = tonight.run.document["reference"]["services"]
        ratio = next(
            one for one in tonight.judgements if (one.key.action, one.key.metric) == (TOTAL, Metric.RATIO)
        )
        return [one["version"] for one in reference], ratio

    first, ratio = run("1.0")
    assert (first, ratio.location) == (["1.0"], pytest.approx(1.0, abs=0.01))
    second, ratio = run("2.0")
    assert (second, ratio.location) == (["1.0"], pytest.approx(FACTOR, abs=0.01))
