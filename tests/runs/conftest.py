"""A project whose playbooks are tiny, so that the pipeline can be seen failing in every way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from perfci.runs.ansible.playbook import Playbooks
from perfci.runs.state.processes import processes_of, reap

SAMPLE = Path(__file__).parents[1] / "data" / "archive" / "20261121T052400Z-sample-7c3d"
STAGES = (
    "setup",
    "deploy",
    "hammer",
    "collect",
    "teardown",
    "controller",
    "supplies",
    "provision",
    "reclaim",
)


@dataclass
class Project:
    """A root folder with playbooks that only leave a trace, until a test changes one."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state"

    def trace(self) -> list[str]:
        path = self.root / "trace"
        return path.read_text().split() if path.exists() else []

    def playbook(self, name: str, *tasks: str) -> None:
        """Let a playbook leave its trace and then do these tasks (YAML, one task each)."""
        lines = [
            f"- ansible.builtin.shell: echo {name} >> {self.root}/trace",
            *(f"- {task}" for task in tasks),
        ]
        body = "\n".join("    " + line.replace("\n", "\n      ") for line in lines)
        (self.root / "playbooks" / f"{name}.yml").write_text(f"- hosts: all\n  tasks:\n{body}\n")

    def hammer(self) -> None:
        """Let the hammer leave what it left on a real cloud, after its trace."""
        self.playbook("hammer", f"ansible.builtin.shell: cp -r {SAMPLE}/* {{{{ perfci_run_dir }}}}/")

    def playbooks(self) -> Playbooks:
        return Playbooks(
            root=self.root,
            inventory=self.root / "inventory" / "embedded",
            variables={},
            environment={"PERFCI_STATE_DIR": str(self.state), "PERFCI_SERVICE": "deploy"},
        )


@pytest.fixture
def project(tmp_path):
    for folder in ("playbooks", "inventory/embedded", "jobs/tasks", "state"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "inventory/embedded/hosts.yml").write_text(
        "all:\n  hosts: {node-0: {ansible_connection: local, "
        "ansible_python_interpreter: '{{ ansible_playbook_python }}'}}\n"
        "  children: {cloud: {hosts: {node-0: }}}\n"
    )
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\ngathering = explicit\n[connection]\npipelining = True\n"
    )
    made = Project(tmp_path)
    for name in STAGES:
        made.playbook(name)
    made.hammer()
    yield made
    reap(made.state, grace_seconds=1)
    assert processes_of(made.state) == []
