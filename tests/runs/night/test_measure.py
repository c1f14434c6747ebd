"""The stages on the nodes: each one failing, hanging or leaving processes behind."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import replace

import pytest

from perfci.errors import FailureClass
from perfci.runs.ansible.playbook import Playbooks
from perfci.runs.jobs.procedures import PROCEDURES
from perfci.runs.night.measure import StageTimeouts, measure, service_logs
from perfci.runs.state import run_folder as work
from perfci.runs.state.processes import processes_of
from perfci.runs.state.progress import Silent
from perfci.runs.state.stages import Stages
from perfci.runs.state.state_folder import StateFolder

pytestmark = pytest.mark.slow
LIMITS = StageTimeouts(provision=30, deploy=30, hammer=30, collect=30, release=30)


@pytest.fixture
def run(project):
    def go(limits=LIMITS, nodes=(), procedure=PROCEDURES["hammer"], **more):
        folder = work.create(project.state / "runs", "r1")
        stages = Stages(Silent(), folder)
        measured = measure(
            playbooks=replace(project.playbooks(), nodes=nodes),
            stages=stages,
            work=folder,
            state=StateFolder(project.state),
            limits=limits,
            cloud_variables={},
            plan=folder.path / "plan.json",
            procedure=procedure,
            **more,
        )
        return measured, stages

    return go


def test_all_stages_in_order(run, project):
    measured, stages = run()
    assert measured.failure is None
    assert measured.partial.message.startswith("2 of 7 tasks gave no results")
    assert measured.cleanup_errors == []
    assert [stage.name for stage in stages.done] == ["provision", "deploy", "hammer", "collect", "release"]
    assert project.trace() == ["setup", "deploy", "hammer", "collect", "teardown"]


@pytest.mark.parametrize("broken", ["setup", "deploy", "hammer"])
def test_whatever_fails_the_nodes_are_given_back(run, project, broken):
    project.playbook(broken, "ansible.builtin.fail: {msg: out of luck}")
    measured, _ = run()
    assert "out of luck" in measured.failure.message
    stage = {"setup": "provision"}.get(broken, broken)
    assert measured.failure.stage == stage
    assert measured.failure.help == f"The whole output is in the archive's logs/{stage}.log."
    assert project.trace()[-2:] == ["collect", "teardown"]


@pytest.mark.parametrize(
    ("name", "trace"),
    [
        ("dbmigration", ["setup", "databases", "dbmigration", "collect", "teardown"]),
        ("upgrade", ["setup", "upgrade_code", "deploy", "upgrade", "collect", "teardown"]),
    ],
)
def test_a_procedure_has_playbooks_of_its_own_in_the_same_stages(run, project, name, trace):
    parts = [
        {"slug": "one", "status": "crashed", "error": "no such table"},
        {"slug": "two", "status": "finished"},
    ]
    for playbook in trace[1:-2]:
        project.playbook(playbook)
    text = json.dumps(parts).replace("{", "{{ '{' }}")
    project.playbook(
        name,
        f"ansible.builtin.copy: {{content: {json.dumps(text)}, dest: '{{{{ perfci_run_dir }}}}/phases.json'}}",
    )
    measured, stages = run(procedure=PROCEDURES[name])
    assert project.trace() == trace
    assert [stage.name for stage in stages.done] == ["provision", "deploy", "hammer", "collect", "release"]
    assert measured.failure is None
    assert measured.partial.message == "1 of 2 tasks gave no results\none: crashed: no such table"


MACHINES = ("node-0",)


def test_machines_behind_bmcs_get_a_fresh_system_and_are_taken_back(run, project):
    measured, stages = run(nodes=MACHINES)
    assert measured.failure is None
    assert project.trace() == [
        "supplies", "provision", "setup", "deploy", "hammer", "collect", "teardown", "reclaim",
    ]  # fmt: skip
    assert [stage.name for stage in stages.done][-2:] == ["release", "reclaim"]


def test_spares_take_the_place_of_machines_that_do_not_come_up(run, project, monkeypatch):
    lost = {"stage": "netboot", "reason": "its BMC says off"}
    came = {"node-1": {"failure": lost}, "node-2": {"failure": None}, "node-3": {"failure": None}}
    hosts = ", ".join(f"{name}: {{ansible_connection: local}}" for name in came)
    python = "ansible_python_interpreter: '{{ ansible_playbook_python }}'"
    inventory = project.root / "inventory/embedded/hosts.yml"
    inventory.write_text(f"all: {{hosts: {{{hosts}}}, vars: {{{python}}}}}\n")
    (project.root / "came.json").write_text(json.dumps(came))
    project.playbook(
        "provision",
        "ansible.builtin.assert: {that: provision_least == 2}",
        f"ansible.builtin.command: cp {project.root}/came.json {{{{ provision_record }}}}",
    )
    real, ran = Playbooks.run, []

    def remembered(books, name, **more):
        ran.append((name, books.nodes))
        real(books, name, **more)

    monkeypatch.setattr(Playbooks, "run", remembered)
    rest = ("node-2", "node-3")
    measured, stages = run(nodes=tuple(came), least=2, used=lambda books: replace(books, nodes=rest))
    assert (measured.failure, measured.cleanup_errors) == (None, [])
    assert ran == [
        *((name, tuple(came)) for name in ("supplies", "provision")),
        *((name, rest) for name in ("setup", "deploy", "hammer", "collect", "teardown", "reclaim")),
        ("reclaim", ("node-1",)),
    ]
    assert [stage.name for stage in stages.done][-2:] == ["reclaim", "reclaim lost"]


def test_a_machine_is_taken_back_also_where_its_cloud_can_not_be_taken_down(run, project):
    project.playbook("teardown", "ansible.builtin.fail: {msg: it is dead}")
    project.playbook("reclaim", "ansible.builtin.fail: {msg: its BMC as well}")
    measured, _ = run(nodes=MACHINES)
    assert project.trace()[-2:] == ["teardown", "reclaim"]
    assert ["it is dead" in measured.cleanup_errors[0], "its BMC" in measured.cleanup_errors[1]] == [
        True,
        True,
    ]


def test_what_ansible_leaves_is_ended_without_a_word(run, project):
    project.playbook("deploy", "ansible.builtin.shell: setsid sleep 600 >/dev/null 2>&1 &")
    measured, _ = run()
    assert measured.cleanup_errors == []
    assert processes_of(project.state) == []


def test_another_runs_processes_are_left_alone(run, project):
    marks = {"PERFCI_STATE_DIR": str(project.state), "PERFCI_SERVICE": "rally", "PERFCI_RUN": "r2"}
    with subprocess.Popen(["sleep", "600"], env=marks) as other:
        run()
        assert other.poll() is None
        other.kill()


def test_the_first_error_is_reported_and_later_ones_stand_beside_it(run, project):
    project.playbook("deploy", "ansible.builtin.fail: {msg: the first}")
    project.playbook("collect", "ansible.builtin.fail: {msg: the second}")
    project.playbook("teardown", "ansible.builtin.fail: {msg: the third}")
    measured, _ = run()
    assert "the first" in measured.failure.message
    assert ["second" in measured.cleanup_errors[0], "third" in measured.cleanup_errors[1]] == [True, True]


def test_a_hammer_without_any_task_is_a_failure(run, project):
    project.playbook("hammer")
    measured, _ = run()
    assert (measured.failure.stage, measured.failure.message) == ("hammer", "nothing was measured")


def test_a_hanging_stage_ends_at_its_limit_and_nothing_is_left(run, project):
    project.playbook("hammer", "ansible.builtin.command: sleep 600")
    measured, _ = run(StageTimeouts(provision=30, deploy=30, hammer=4))
    assert measured.failure.stage == "hammer"
    assert "did not end within 4 s" in measured.failure.message
    assert project.trace()[-1] == "teardown"
    assert processes_of(project.state) == []


def test_a_service_that_teardown_forgot_is_ended_and_told(run, project):
    project.playbook(
        "deploy", "ansible.builtin.shell: PERFCI_SERVICE=nova-api setsid sleep 600 >/dev/null 2>&1 &"
    )
    measured, _ = run()
    assert measured.cleanup_errors == ["release: these still ran and were ended: nova-api"]
    assert processes_of(project.state) == []


def test_the_services_logs_say_whose_fault_it_was(run, project):
    project.playbook("deploy", "ansible.builtin.fail: {msg: neutron-api did not answer}")
    log = project.root / "neutron-api.log"
    log.write_text(
        "Traceback (most recent call last):\n"
        '  File "/x/site-packages/neutron/api.py", line 3, in f\nValueError: broken\n'
    )
    project.playbook(
        "collect",
        f"ansible.builtin.command: tar -C {project.root} -czf {{{{ perfci_run_dir }}}}/logs/node-0.tar.gz {log.name}",
    )
    measured, _ = run()
    assert measured.failure.failure_class is FailureClass.PRODUCT
    assert measured.failure.source == "node-0/neutron-api.log"
    assert "ValueError: broken" in measured.failure.excerpt


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    with tarfile.open(tmp_path / "node-0.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("nova-api.log")
        text = b"x" * 300_000 + b"the end"
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    logs, damaged = service_logs(tmp_path)
    assert damaged == []
    assert list(logs) == ["node-0/nova-api.log"]
    assert logs["node-0/nova-api.log"].endswith("the end")
    assert len(logs["node-0/nova-api.log"]) == 200_000
