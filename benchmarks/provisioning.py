"""From power-on to SSH on the virtual lab: seconds for each node, and where they go.

    python benchmarks/provisioning.py [--kind nspawn|qemu] [--nodes 1 4] [--repeats 3]
    python benchmarks/provisioning.py --kind null --nodes 20 200 [--hung 1]

Brings a virtual lab up, runs playbooks/provision.yml in it as an operator would, reads what it wrote down
of each node, and takes the lab down; for each number of nodes, so often. The nodes' image is built first,
by playbooks/virtual.yml, where it is not there yet. Medians over nodes and repeats. Needs root.

With `--kind null` there are no machines (null_nodes.py says what answers for them), and what is left is the
work of the controller: seconds of each play, CPU seconds and memory of Ansible, and the longest tasks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from statistics import median
from typing import IO, Any

import null_nodes

from perfci import config
from perfci.lab.virtual import lab, site
from perfci.lab.virtual.folders import LabFolder
from perfci.lab.virtual.plan import MachineKind, Plan

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent
PHASES = {
    "BMC, firmware, DHCP, kernel, ramdisk": ("", "ramdisk"),
    "choosing and preparing the disk": ("ramdisk", "image"),
    "image over HTTP to the disk": ("image", "verify"),
    "verifying, keys": ("verify", "deployed"),
    "boot from disk to SSH": ("deployed", "ssh"),
}
"""Each from one report of a node to another."""


def run(*command: str | Path) -> str:
    """Run a command of the checkout; return what it printed. Ends the program, with that, if it fails."""
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command[0]}: {done.stdout}{done.stderr}")
    return done.stdout


def provision(kind: str, nodes: int) -> tuple[float, list[dict[str, float]]]:
    """Provision a new lab; return the seconds of the playbook, and of each node those until each report."""
    state = config.load(environ={"PERFCI_ROOT_DIR": str(ROOT)}).state_dir
    up = json.loads(
        run(PROGRAMS / "perfci", "virtual", "up", "--nodes", str(nodes), "--kind", kind, "--json")
    )
    try:
        began = time.monotonic()
        inside = ("nsenter", f"--net=/run/netns/{up['namespace']}")
        run(*inside, PROGRAMS / "ansible-playbook", "-i", "inventory/virtual", "playbooks/provision.yml")
        took = time.monotonic() - began
        return took, [until(json.loads(file.read_text())) for file in (state / "provision").glob("*.json")]
    finally:
        run(PROGRAMS / "perfci", "virtual", "down")


def until(result: dict[str, Any]) -> dict[str, float]:
    """Return seconds from the order to power on until each report of a node, and until SSH answered."""
    reports = {report["step"]: report["time"] for report in result["reports"]}
    # The wait for the ramdisk counts from the order on, so it tells when that was.
    ordered = reports["ramdisk"] - result["seconds"]["netboot"]
    found = {step: at - ordered for step, at in reports.items()}
    return {"": 0.0, **found, "ssh": result["seconds"]["ssh"]}


# --- without machines --------------------------------------------------------------------------------

NETWORK = IPv4Network("10.91.0.0/16")
HUNG_SECONDS = 60
"""The deadline of a machine that never reports, in place of ten minutes."""
HEADING = re.compile(r"^(PLAY|TASK) \[(.*)\] \*+$")
SHOWN_TASKS = 12
MEMORY_EVERY_SECONDS = 1.0


@dataclass
class Timing:
    """Where the seconds of a playbook went."""

    plays: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    tasks: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    whole: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0
    failed: bool = False

    def follow(self, output: IO[str], log: IO[str]) -> None:
        """Read what a playbook prints until its end, with the time at which it does."""
        play = task = ""
        before = time.monotonic()
        for line in output:
            log.write(line)
            found = HEADING.match(line)
            if not found and not line.startswith("PLAY RECAP"):
                continue
            now = time.monotonic()
            self.plays[play] += now - before
            self.tasks[f"{play}: {task}"] += now - before
            before = now
            if found and found[1] == "PLAY":
                play, task = found[2], ""
            elif found:
                # Long lists of names are the same task.
                task = re.sub(r"node-[0-9]+(, node-[0-9]+)*", "...", found[2])


def watch_memory(process: subprocess.Popen[str], timing: Timing) -> None:
    """Keep the most memory that a command and its children had at one time, until it ends."""
    while process.poll() is None:
        timing.memory = max(timing.memory, null_nodes.mebibytes(process.pid))
        time.sleep(MEMORY_EVERY_SECONDS)


def project_in(folder: Path, checkout: Path) -> Path:
    """Copy what a playbook needs of a checkout, with an inventory of its own."""
    project = folder / "project"
    project.mkdir()
    shutil.copy(checkout / "ansible.cfg", project)
    for name in ("playbooks", "plugins", "roles"):
        shutil.copytree(checkout / name, project / name)
    shutil.copytree(checkout / "inventory" / "virtual", project / "inventory" / "virtual")
    (project / "inventory" / "virtual" / "hosts.yml").unlink(missing_ok=True)
    return project


def without_machines(nodes: int, hung: int, checkout: Path, variables: list[str]) -> Timing:
    """Provision machines that are none; return what it cost the controller."""
    images = config.load(environ={"PERFCI_ROOT_DIR": str(ROOT)}).state_dir / "images"
    with tempfile.TemporaryDirectory(prefix="perfci-null-") as name:
        scratch = Path(name)
        project, state = project_in(scratch, checkout), scratch / "state"
        status = lab.up(Plan(project, state, MachineKind.NULL, nodes, NETWORK))
        try:
            null_nodes.furnish(status, NETWORK)
            null_nodes.write_inventory(project, status, NETWORK)
            image = max(images.glob("os-*/root.tar.gz"), key=lambda file: file.stat().st_mtime)
            keys = LabFolder.of(state).root / "ssh"
            with null_nodes.shared_system(status, keys, image, scratch):
                silent = [f"node-{number}" for number in range(1, hung + 1)]
                with null_nodes.ramdisks(status, state, silent):
                    least = [
                        "-e",
                        f"provision_least={nodes - hung}",
                        "-e",
                        f"provision_boot_seconds={HUNG_SECONDS}",
                    ]
                    given = [word for one in variables for word in ("-e", one)]
                    words = ["-e", f"os_image_folder={images}", *least, *given]
                    return timed(status["namespace"], project, state, words)
        finally:
            lab.down(state, project)


def timed(namespace: str, project: Path, state: Path, words: list[str]) -> Timing:
    """Run provision.yml in a lab's network."""
    command = [
        *site.entering(namespace),
        *(str(PROGRAMS / "ansible-playbook"), "-i", "inventory/virtual", "playbooks/provision.yml", *words),
    ]
    environment = {**os.environ, "PERFCI_STATE_DIR": str(state), "ANSIBLE_HOME": str(state / "ansible")}
    environment["ANSIBLE_CONFIG"] = str(project / "ansible.cfg")
    environment["PATH"] = f"{PROGRAMS}{os.pathsep}{environment['PATH']}"
    timing = Timing()
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    with (
        (ROOT / "state" / "provisioning.log").open("w") as log,
        subprocess.Popen(
            command,
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        threading.Thread(target=watch_memory, args=(process, timing), daemon=True).start()
        assert process.stdout is not None  # noqa: S101 - it was asked for
        timing.follow(process.stdout, log)
    timing.whole = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    timing.cpu = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    timing.failed = process.returncode != 0
    return timing


def print_without_machines(found: dict[int, Timing]) -> None:
    """Print a table of plays by numbers of nodes, and what took longest with most nodes."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"load averages at the end: {load}")
    print(f"| seconds, nodes: | {' | '.join(map(str, found))} |")
    print("|" + "---|" * (1 + len(found)))
    for play in dict.fromkeys(play for timing in found.values() for play in timing.plays):
        cells = [f"{timing.plays.get(play, 0):.1f}" for timing in found.values()]
        print(f"| {play or 'start'} | {' | '.join(cells)} |")
    for title, of in (
        ("all", "whole"),
        ("CPU seconds of Ansible", "cpu"),
        ("memory of Ansible, MiB", "memory"),
    ):
        print(f"| {title} | {' | '.join(f'{getattr(timing, of):.0f}' for timing in found.values())} |")
    most = found[max(found)]
    print(f"\nThe longest tasks with {max(found)} nodes:")
    for task, seconds in sorted(most.tasks.items(), key=lambda one: -one[1])[:SHOWN_TASKS]:
        print(f"{seconds:8.1f} s  {task}")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", choices=["nspawn", "qemu", "null"], default="nspawn")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hung", type=int, default=0, help="null: so many machines never report")
    parser.add_argument(
        "--checkout", type=Path, default=ROOT, help="null: whose playbooks and roles are measured"
    )
    parser.add_argument("--variable", action="append", default=[], help="null: given to the playbook by -e")
    options = parser.parse_args()
    if options.kind == "null":
        given = (options.hung, options.checkout, options.variable)
        found = {nodes: without_machines(nodes, *given) for nodes in options.nodes}
        print_without_machines(found)
        sys.exit(any(timing.failed for timing in found.values()))
    run(PROGRAMS / "ansible-playbook", "playbooks/virtual.yml")
    print(f"| nodes | playbook | power-on to SSH | {' | '.join(PHASES)} |")
    print("|" + "---|" * (3 + len(PHASES)))
    for nodes in options.nodes:
        runs = [provision(options.kind, nodes) for _ in range(options.repeats)]
        seen = [one for _, each in runs for one in each]
        parts = [f"{median(one[end] - one[begin] for one in seen):.1f}" for begin, end in PHASES.values()]
        whole, ssh = median(took for took, _ in runs), median(one["ssh"] for one in seen)
        print(f"| {nodes} {options.kind} | {whole:.1f} | {ssh:.1f} | {' | '.join(parts)} |", flush=True)


if __name__ == "__main__":
    main()
