"""From power-on to SSH on the virtual lab: seconds for each node, and where they go.

    python benchmarks/provisioning.py [--kind nspawn|qemu] [--nodes 1 4] [--repeats 3]

Brings a virtual lab up, runs playbooks/provision.yml in it as an operator would, reads what it wrote down
of each node, and takes the lab down; for each number of nodes, so often. The nodes' image is built first,
by playbooks/virtual.yml, where it is not there yet. Medians over nodes and repeats. Needs root.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from perfci import config

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


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", choices=["nspawn", "qemu"], default="nspawn")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
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
