"""Ansible module: can this machine carry the lab? Changes nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab_processes import environment_of, pids

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DOCUMENTATION = r"""
module: lab_preflight
short_description: Can this machine carry the lab?
description:
  - Looks at everything before it fails, so that all problems are told at once. Changes nothing.
options:
  state_dir: {description: The state folder., type: path, required: true}
  distributions: {description: Supported ones., type: list, elements: str, default: []}
  memory_gib: {description: Memory that must be available., type: float, default: 0}
  disk_gib: {description: Free space that the state folder's file system must have., type: float, default: 0}
  ports: {description: TCP ports that must be free or ours, by the service that needs them., type: dict, default: {}}
  address: {description: Address that these ports are on., type: str, default: 127.0.0.1}
author: [perfci]
"""
EXAMPLES = r"""
- lab_preflight: {state_dir: /srv/perfci/state, ports: {mariadb: 17306}}
"""
RETURN = r"""
problems: {description: What is wrong and how to fix it., returned: always, type: list}
"""
GIB = 1024**3
SOCKET_PATH_BYTES = 85
"""Longest state folder: Linux allows 107 bytes for the path of a socket, and names below it need some."""
LISTEN = "0A"


def distribution() -> str:
    """Return the distribution and its version, such as `debian 12`."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return "unknown"
    fields = dict(line.partition("=")[::2] for line in lines if "=" in line)
    return " ".join(fields.get(name, "").strip("\"'") for name in ("ID", "VERSION_ID")).strip()


def available_memory() -> int:
    """Return the bytes of memory that programs can have."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def free_disk(folder: Path) -> int:
    """Return the free bytes of the file system that a folder is on, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def taken(address: str, port: int) -> bool:
    """Say whether something listens on a port, on this address or on all."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return True
    return False


def holders(port: int) -> list[int]:
    """Return the processes that listen on a port; those of other users can't be seen by everybody."""
    inodes = set(_listening(port))
    return [pid for pid in pids() if inodes & set(_sockets(pid))]


def _listening(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{fields[9]}]"


def _sockets(pid: int) -> Iterator[str]:
    folder = Path("/proc") / str(pid) / "fd"
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            yield os.readlink(entry.path)  # noqa: PTH115 - a link to no path


def port_problems(ports: Mapping[str, int], address: str, state_dir: str) -> Iterator[str]:
    """Say for each port that somebody else holds who it is."""
    for service, port in ports.items():
        if not taken(address, int(port)):
            continue
        found = holders(int(port))
        marks = {os.path.realpath(environment_of(pid).get("PERFCI_STATE_DIR") or "/") for pid in found}
        if marks == {os.path.realpath(state_dir)}:
            continue
        who = ", ".join(f"{name(pid)} (process {pid})" for pid in found) or "a process of another user"
        yield (
            f"port {port} on {address}, which {service} needs, is taken by {who}: "
            "stop that, or set perfci_port_base to move all ports of the lab"
        )


def name(pid: int) -> str:
    """Return the name of a process."""
    try:
        return (Path("/proc") / str(pid) / "comm").read_text().strip()
    except OSError:
        return "?"


def machine_problems(
    state_dir: Path, distributions: list[str], memory_gib: float, disk_gib: float
) -> Iterator[str]:
    """Say what the machine lacks."""
    found = distribution()
    if distributions and found not in distributions:
        yield f"the distribution is {found!r}; supported: {', '.join(distributions)}: use a machine with one of these"
    if available_memory() < memory_gib * GIB:
        yield (
            f"{available_memory() / GIB:.1f} GiB of memory are available, {memory_gib:g} are needed: end other programs, "
            "or use a larger machine"
        )
    if free_disk(state_dir) < disk_gib * GIB:
        yield (
            f"the file system of {state_dir} has {free_disk(state_dir) / GIB:.1f} GiB free, {disk_gib:g} are needed: "
            "free some, or set perfci_state_dir to a folder elsewhere"
        )
    if len(os.fsencode(state_dir)) > SOCKET_PATH_BYTES or any(c.isspace() for c in str(state_dir)):
        yield (
            f"the path {state_dir} has white space or is longer than {SOCKET_PATH_BYTES} bytes, which sockets below it "
            "can't have: set perfci_state_dir to another folder"
        )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_dir": {"type": "path", "required": True},
            "distributions": {"type": "list", "elements": "str", "default": []},
            "memory_gib": {"type": "float", "default": 0},
            "disk_gib": {"type": "float", "default": 0},
            "ports": {"type": "dict", "default": {}},
            "address": {"type": "str", "default": "127.0.0.1"},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    problems = [
        *machine_problems(
            Path(wanted["state_dir"]), wanted["distributions"], wanted["memory_gib"], wanted["disk_gib"]
        ),
        *port_problems(wanted["ports"], wanted["address"], wanted["state_dir"]),
    ]
    if problems:
        module.fail_json(
            msg="This machine can't carry the lab:\n- " + "\n- ".join(problems), problems=problems
        )
    module.exit_json(problems=[])


if __name__ == "__main__":
    main()
