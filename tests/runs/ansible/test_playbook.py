"""One playbook: progress, errors and limits, with the real Ansible."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from perfci.runs.ansible.playbook import Interrupted, PlaybookFailed, Playbooks, PlaybookTimeout
from perfci.runs.state.processes import processes_of, reap

pytestmark = pytest.mark.slow


@pytest.fixture
def playbooks(tmp_path):
    def make(text, **variables):
        (tmp_path / "playbooks").mkdir(exist_ok=True)
        (tmp_path / "playbooks" / "try.yml").write_text(text)
        (tmp_path / "hosts.yml").write_text(
            "all: {hosts: {node-0: {ansible_connection: local, ansible_python_interpreter: '{{ ansible_playbook_python }}'}}}\n"
        )
        (tmp_path / "ansible.cfg").write_text(
            "[defaults]\ngathering = explicit\ninterpreter_python = auto_silent\n"
        )
        return Playbooks(
            root=tmp_path,
            inventory=tmp_path / "hosts.yml",
            variables=variables,
            environment={"PERFCI_STATE_DIR": str(tmp_path / "state"), "PERFCI_SERVICE": "deploy"},
        )

    return make


PLAY = "- hosts: all\n  tasks:\n"


def test_steps_are_told_and_the_output_is_kept(playbooks, tmp_path):
    steps = []
    play = playbooks(
        PLAY + "    - name: Say it\n      ansible.builtin.debug: {msg: 'hello {{ who }}'}\n", who="lab"
    )
    play.run("try", log=tmp_path / "logs/try.log", limit_seconds=60, on_step=steps.append)
    assert steps == ["Say it"]
    assert "hello lab" in (tmp_path / "logs/try.log").read_text()
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["try.log"], (
        "variables must not stay on disk"
    )


def test_a_task_that_looks_again_and_again_tells_what_it_sees(playbooks, tmp_path):
    steps = []
    script = f"echo running; echo look >>{tmp_path}/looks; wc -l <{tmp_path}/looks"
    play = playbooks(
        PLAY + f"    - name: Watch\n      ansible.builtin.command: {{argv: [sh, -c, '{script}']}}\n"
        "      register: seen\n      until: seen.stdout_lines[1] == '3'\n      retries: 5\n      delay: 0\n"
    )
    play.run("try", log=tmp_path / "try.log", limit_seconds=60, on_step=steps.append)
    assert steps == ["Watch", "Watch: 1", "Watch: 2"]


def test_a_failure_names_the_task_the_host_and_what_was_said(playbooks, tmp_path):
    play = playbooks(
        PLAY + "    - name: Break\n      ansible.builtin.command: sh -c 'echo out of luck >&2; exit 3'\n"
    )
    with pytest.raises(PlaybookFailed) as caught:
        play.run("try", log=tmp_path / "try.log", limit_seconds=60)
    assert "Break on node-0" in str(caught.value)
    assert "out of luck" in str(caught.value)


def test_a_failed_loop_tells_the_item_that_failed(playbooks, tmp_path):
    play = playbooks(
        PLAY
        + "    - name: Each\n      ansible.builtin.assert:\n        that: item < 2\n        fail_msg: 'item {{ item }}'\n"
        "      loop: [1, 2]\n"
    )
    with pytest.raises(PlaybookFailed, match="item 2"):
        play.run("try", log=tmp_path / "try.log", limit_seconds=60)


HIDDEN = """- hosts: all
  tasks:
    - block:
        - name: Write the secret
          ansible.builtin.copy: {content: "{{ secret }}", dest: /nowhere/at/all}
          no_log: true
      rescue:
        - name: Say why not
          ansible.builtin.fail: {msg: "{{ ansible_failed_result.msg }}"}
"""


def test_why_a_task_failed_that_hides_what_it_says_is_told_and_its_secret_is_not(playbooks, tmp_path):
    play = playbooks(HIDDEN, secret="correct-horse")
    with pytest.raises(PlaybookFailed, match=r"Write the secret on node-0: .*/nowhere/at") as caught:
        play.run("try", log=tmp_path / "try.log", limit_seconds=60)
    assert "correct-horse" not in str(caught.value) + (tmp_path / "try.log").read_text()


def test_what_is_ignored_is_no_failure(playbooks, tmp_path):
    play = playbooks(
        PLAY + "    - name: Break\n      ansible.builtin.command: 'false'\n      ignore_errors: true\n"
        "    - name: Break for good\n      ansible.builtin.fail: {msg: second}\n"
    )
    with pytest.raises(PlaybookFailed, match="second"):
        play.run("try", log=tmp_path / "try.log", limit_seconds=60)


def test_a_playbook_that_is_no_playbook_is_an_error(playbooks, tmp_path):
    with pytest.raises(PlaybookFailed, match=r"try.yml"):
        playbooks("- hosts: [\n").run("try", log=tmp_path / "try.log", limit_seconds=60)


HANG = PLAY + "    - name: Hang\n      ansible.builtin.command: sleep 300\n"


def test_a_hanging_task_ends_at_the_limit_and_its_processes_can_be_reaped(playbooks, tmp_path):
    with pytest.raises(PlaybookTimeout, match="Hang"):
        playbooks(HANG).run("try", log=tmp_path / "try.log", limit_seconds=4)
    reap(tmp_path / "state", grace_seconds=1)
    assert processes_of(tmp_path / "state") == []


def test_stop_interrupts_it(playbooks, tmp_path):
    play = playbooks(HANG)
    with pytest.raises(Interrupted):
        play.run(
            "try",
            log=tmp_path / "try.log",
            limit_seconds=60,
            on_step=lambda _: threading.Timer(1, play.stop.set).start(),
        )
    reap(tmp_path / "state", grace_seconds=1)
    assert processes_of(tmp_path / "state") == []


TWO_HOSTS = (
    "all: {hosts: {node-1: {}, node-2: {}, boss: {}}, children: {controller: {hosts: {boss: {}}}}, "
    "vars: {ansible_connection: local, ansible_python_interpreter: '{{ ansible_playbook_python }}'}}\n"
)
TELL = PLAY + (
    "    - ansible.builtin.copy:\n"
    "        content: \"{{ lookup('ansible.builtin.env', 'ENTERED') }}/{{ lookup('ansible.builtin.env', 'PERFCI_RUN') }}\"\n"
    "        dest: '{{ folder }}/{{ inventory_hostname }}'\n"
)


@pytest.fixture
def metal(playbooks, tmp_path):
    """Playbooks for one of two machines, reached through `env` in place of another namespace."""

    def run(name):
        told = tmp_path / "told" / name
        told.mkdir(parents=True)
        books = playbooks(TELL, folder=str(told))
        (tmp_path / "hosts.yml").write_text(TWO_HOSTS)
        (tmp_path / "playbooks" / f"{name}.yml").write_text(TELL)
        books = replace(books, nodes=("node-2",), entering=("env", "ENTERED=yes")).of_run("r1")
        books.run(name, log=tmp_path / "try.log", limit_seconds=60)
        return {path.name: path.read_text() for path in told.iterdir()}

    return run


def test_only_the_runs_own_nodes_are_touched_from_within_their_network(metal):
    assert metal("deploy") == {"node-2": "yes/r1"}


def test_provisioning_also_works_on_the_controller(metal):
    assert metal("provision") == {"boss": "yes/r1", "node-2": "yes/r1"}


def test_what_needs_the_controllers_way_out_stays_outside(metal):
    assert metal("supplies") == {"boss": "/r1", "node-2": "/r1"}


@pytest.mark.parametrize("nodes", [(), ("node-0",)])
def test_a_playbook_that_passes_over_all_nodes_has_failed(playbooks, tmp_path, nodes):
    play = replace(playbooks("- hosts: cloud\n  tasks:\n    - ansible.builtin.debug:\n"), nodes=nodes)
    with pytest.raises(
        PlaybookFailed, match=r"nothing was done: none of (node-0|the inventory) is in a group"
    ):
        play.run("try", log=tmp_path / "try.log", limit_seconds=60)
