"""The second cloud of a paired run: deployed, collected and taken down beside the first one, hammered with it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from perfci import config
from perfci.results.model import Metric, SeriesKey, Validity
from perfci.results.pairs import PairedRun, PairedSeries
from perfci.runs.jobs.model import Job
from perfci.runs.jobs.procedures import PROCEDURES
from perfci.runs.night.measure import StageTimeouts, measure
from perfci.runs.night.recover import recover
from perfci.runs.night.reference import ReferenceCloud, by_pairs, reference_of
from perfci.runs.state import run_folder as work
from perfci.runs.state.processes import processes_of, reap
from perfci.runs.state.progress import Silent
from perfci.runs.state.stages import Stages
from perfci.runs.state.state_folder import StateFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LIMITS = StageTimeouts(provision=30, deploy=30, hammer=30, collect=30, release=30)


@pytest.fixture
def run(project):
    state = StateFolder(project.state)

    def go():
        folder = work.create(state.runs, "r1")
        results = folder.path / "reference"
        results.mkdir()
        books = project.playbooks()
        beside = replace(
            books,
            variables={"side": "reference"},
            environment={**books.environment, "PERFCI_STATE_DIR": str(state.reference)},
        )
        reference = ReferenceCloud(
            playbooks=beside.of_run("r1"),
            variables={"perfci_run_dir": str(results)},
            folder=results,
            plan=results / "plan.json",
            state_dir=state.reference,
            port_base=18000,
            seed=7,
        )
        measured = measure(
            playbooks=replace(books, variables={"side": "new"}),
            stages=Stages(Silent(), folder),
            work=folder,
            state=state,
            limits=LIMITS,
            cloud_variables={},
            plan=folder.path / "plan.json",
            procedure=PROCEDURES["hammer"],
            reference=reference,
        )
        return measured, folder.path

    yield go
    reap(state.reference, grace_seconds=1)


def meeting(project, name):
    """Return a task that ends only where the other side is at it, too."""
    return (
        f"ansible.builtin.shell: touch {project.root}/{name}-{{{{ side }}}}; "
        f"for i in $(seq 200); do [ -e {project.root}/{name}-new -a -e {project.root}/{name}-reference ] && exit 0; "
        "sleep 0.1; done; exit 1"
    )


def test_both_clouds_are_deployed_collected_and_taken_down_at_the_same_time(run, project):
    for name in ("deploy", "collect", "teardown"):
        project.playbook(name, meeting(project, name))
    measured, folder = run()
    assert measured.failure is None
    assert measured.cleanup_errors == []
    assert sorted(project.trace()) == sorted(["setup", "hammer", *2 * ["deploy", "collect", "teardown"]])
    assert (folder / "reference" / "logs" / "deploy.log").exists()


def test_the_hammer_is_told_of_the_reference(run, project):
    project.playbook(
        "hammer",
        f"ansible.builtin.copy: {{content: '{{{{ hammer_reference | to_json }}}}', dest: {project.root}/told}}",
    )
    _, folder = run()
    told = (project.root / "told").read_text()
    for wanted in (
        '"port_base": 18000',
        '"seed": 7',
        str(folder / "reference"),
        str(project.state / "reference"),
    ):
        assert wanted in told


@pytest.mark.parametrize("broken", ["new", "reference"])
def test_where_one_side_can_not_be_deployed_both_are_taken_down(run, project, broken):
    project.playbook("deploy", f"ansible.builtin.fail: {{msg: out of luck}}\n  when: side == '{broken}'")
    measured, _ = run()
    assert measured.failure.stage == "deploy"
    assert "out of luck" in measured.failure.message
    assert project.trace().count("teardown") == 2
    assert "hammer" not in project.trace()


def test_what_the_reference_leaves_running_is_ended(run, project):
    project.playbook(
        "deploy", "ansible.builtin.shell: PERFCI_SERVICE=neutron setsid sleep 600 >/dev/null 2>&1 &"
    )
    measured, _ = run()
    assert "neutron" in measured.cleanup_errors[0]
    for root in StateFolder(project.state).clouds:
        assert processes_of(root) == []


def test_what_a_killed_run_left_of_the_reference_is_ended_by_the_next_start(project):
    state = StateFolder(project.state)
    state.root.mkdir(exist_ok=True)
    project.playbook(
        "deploy", "ansible.builtin.shell: PERFCI_SERVICE=neutron setsid sleep 600 >/dev/null 2>&1 &"
    )
    books = project.playbooks()
    beside = replace(books, environment={**books.environment, "PERFCI_STATE_DIR": str(state.reference)})
    beside.of_run("killed").run("deploy", log=project.root / "log", limit_seconds=30)
    assert processes_of(state.reference) != []
    recover(state)
    assert processes_of(state.reference) == []


def paired(scatter):
    chance = random.Random(1)  # noqa: S311
    key = SeriesKey("lab", "job", "Scenario", "a", "total", Metric.SECONDS)
    new = tuple(chance.gauss(0.0, scatter) for _ in range(30))
    series = PairedSeries(key, (0.0,) * 30, new, (True,) * 30, tuple(map(float, range(30))), 0, 30, 30, 0, 0)
    return PairedRun("run", (series,), (), ())


UNFIT = Validity(valid=False, reasons=("processes outside the lab used 9.0% of the CPU time of node-0",))


def test_on_an_unfit_lab_a_run_is_valid_for_its_pairs_where_they_are_precise():
    assert by_pairs(UNFIT, paired(0.08)) == Validity(valid=True, reasons=UNFIT.reasons, pairs_only=True)
    assert by_pairs(UNFIT, paired(0.8)) == UNFIT
    assert by_pairs(UNFIT, PairedRun("run", (), (), ())) == UNFIT


def test_the_reference_has_variables_of_its_own(project, tmp_path):
    settings = config.load(environ={"PERFCI_STATE_DIR": str(tmp_path / "state")})
    state = StateFolder(settings.state_dir)
    own = {"openstack_code_constraints": "new.txt", "neutron_api_workers": 2}
    job = Job(
        name="tiny",
        cloud={"services": ["keystone"], "variables": own},
        scenarios=({"task": "a", "times": 1},),
        reference={"variables": {"openstack_code_constraints": "old.txt"}},
    )
    folder = work.create(state.runs, "r1")
    beside = reference_of(job, settings, state, folder, project.playbooks()).variables
    assert beside.items() >= {"openstack_code_constraints": "old.txt", "neutron_api_workers": 2}.items()
