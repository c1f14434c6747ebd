"""Ansible module: run services under a supervisord of our own."""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import socket
import subprocess
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab_processes import alive, reap, targets

DOCUMENTATION = r"""
module: supervise
short_description: Run services under a supervisord of our own
description:
  - One supervisord for each group of services, started once and detached, with its socket, its
    configuration and its pid file under the state folder.
options:
  state: {description: What is wanted., type: str, choices: [started, stopped], default: started}
  state_dir: {description: The state folder., type: path, required: true}
  group: {description: Name of the group., type: str, required: true}
  run:
    description: >-
      Id of the run that the services belong to. Without one they are the controller's, which outlive all runs.
    type: str
    default: ''
  supervisord: {description: The program., type: str, default: supervisord}
  units: {description: "Services with name, command, environment, stop_seconds", type: list, elements: dict, default: []}
  start_seconds: {description: A service that ends earlier counts as crashed at its start., type: int, default: 60}
  start_retries: {description: How often such a service is started again., type: int, default: 3}
  log_bytes: {description: Size at which a log is rotated., type: int, default: 20000000}
  grace_seconds: {description: "On stop, seconds between TERM and KILL for what the supervisor left", type: float, default: 5}
  keep: {description: Services that a stop leaves alone., type: list, elements: str, default: []}
  only: {description: "On stop, end these services and nothing else; empty: all", type: list, elements: str, default: []}
attributes:
  check_mode:
    support: full
    details: Services count as started or ended as far as can be told without doing it.
  diff_mode:
    support: full
author: [perfci]
"""
EXAMPLES = r"""
- supervise:
    state_dir: /srv/perfci/state
    group: cloud
    units: [{name: memcached, command: [memcached, -p, '17211']}]
"""
RETURN = r"""
services: {description: What was started or ended., returned: always, type: list}
"""
RPC_SECONDS = 60
UP_SECONDS = 20
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=RPC_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # Kept where the base class looks for what it has to close.
        self._connection = host, _Connection(self.path)
        return self._connection[1]

    def single_request(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().single_request(*arguments, **options)
        finally:
            self.close()


class Supervisor:
    """One supervisord, reached through its socket."""

    def __init__(self, state_dir: str, group: str) -> None:
        self.state_dir, self.group = state_dir, group
        self.folder = Path(state_dir) / "services" / group
        self.socket = Path(state_dir) / "run" / f"{group}.sock"
        self.rpc: Any = xmlrpc.client.ServerProxy(
            "http://localhost", transport=_Transport(str(self.socket))
        ).supervisor

    def answers(self) -> bool:
        """Say whether supervisord runs and is not about to end."""
        try:
            return bool(self.rpc.getState()["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def launch(self, program: str, run: str) -> None:
        """Start supervisord; it detaches itself. Its environment is ours alone, whoever starts it."""
        self.socket.unlink(missing_ok=True)
        environment = {
            "PATH": PATH,
            "HOME": self.state_dir,
            "LANG": "C.UTF-8",
            **marks(self.state_dir, "supervisord", run),
        }
        subprocess.run(
            [program, "-c", str(self.folder / "supervisord.conf")],
            env=environment,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        deadline = time.monotonic() + UP_SECONDS
        while not self.answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"supervisord did not answer at {self.socket} within {UP_SECONDS} s")
            time.sleep(0.05)

    def start(self, names: list[str]) -> list[str]:
        """Start those of these services that do not run; restart those whose definition changed."""
        ((added, changed, removed),) = self.rpc.reloadConfig()
        for name in [*removed, *changed]:
            self.rpc.stopProcessGroup(name)
            self.rpc.removeProcessGroup(name)
        for name in [*added, *changed]:
            self.rpc.addProcessGroup(name)
        running = {
            p["name"] for p in self.rpc.getAllProcessInfo() if p["statename"] in {"RUNNING", "STARTING"}
        }
        started = [name for name in names if name not in running]
        for name in started:
            self.rpc.startProcess(name, False)  # noqa: FBT003
        return started

    def stop_some(self, names: set[str]) -> None:
        """Stop some services at the same time; the others, and supervisord, go on."""
        for name in names:
            with contextlib.suppress(xmlrpc.client.Fault):  # it has ended by itself
                self.rpc.stopProcess(name, False)  # noqa: FBT003
        deadline = time.monotonic() + RPC_SECONDS
        while any(p["name"] in names and p["pid"] for p in self.rpc.getAllProcessInfo()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{', '.join(sorted(names))} did not all end within {RPC_SECONDS} s")
            time.sleep(0.05)

    def forget(self, names: set[str]) -> None:
        """Remove the definitions of services that are stopped: those of the next deployment are its own."""
        for path in (self.folder / "conf.d").glob("*.ini"):
            if path.stem in names:
                path.unlink()
        ((_, _, removed),) = self.rpc.reloadConfig()
        for name in removed:
            self.rpc.removeProcessGroup(name)

    def stop(self) -> None:
        """Stop all services at the same time, then supervisord itself."""
        with contextlib.suppress(OSError, http.client.HTTPException, xmlrpc.client.Error):
            pid = self.rpc.getPID()
            self.rpc.stopAllProcesses()
            self.rpc.shutdown()
            deadline = time.monotonic() + UP_SECONDS
            while alive(pid) and time.monotonic() < deadline:
                time.sleep(0.05)


def marks(state_dir: str, service: str, run: str) -> dict[str, str]:
    """Return the environment by which a process is known as the lab's."""
    found = {"PERFCI_STATE_DIR": state_dir, "PERFCI_SERVICE": service}
    return {**found, "PERFCI_RUN": run} if run else found


def main_section(supervisor: Supervisor, logs: Path) -> str:
    """Return supervisord's own configuration."""
    return f"""[unix_http_server]
file = {supervisor.socket}
chmod = 0700
[supervisord]
logfile = {logs}/supervisord-{supervisor.group}.log
logfile_maxbytes = 5MB
logfile_backups = 1
pidfile = {supervisor.folder}/supervisord.pid
directory = {supervisor.state_dir}
childlogdir = {logs}
identifier = perfci-{supervisor.group}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl = unix://{supervisor.socket}
[include]
files = {supervisor.folder}/conf.d/*.ini
"""


def unit_section(unit: dict[str, Any], state_dir: str, logs: Path, params: dict[str, Any]) -> str:
    """Return the definition of one service."""
    name = unit["name"]
    environment = {
        **(unit.get("environment") or {}),
        **marks(state_dir, name, params["run"]),
        # Without this, setproctitle overwrites the environment in /proc that these are read from.
        "SPT_NOENV": "1",
    }
    pairs = ",".join(f'{key}="{_escape(str(value))}"' for key, value in environment.items())
    # supervisord gives its children a pipe for stdin; nothing may wait for input there.
    command = shlex.join(["/bin/sh", "-c", 'exec "$@" </dev/null', "sh", *map(str, unit["command"])])
    return f"""[program:{name}]
command = {_escape(command)}
environment = {pairs}
autostart = false
autorestart = true
startsecs = {params["start_seconds"]}
startretries = {params["start_retries"]}
stopwaitsecs = {unit.get("stop_seconds", 5)}
killasgroup = true
redirect_stderr = true
stdout_logfile = {logs}/{name}.log
stdout_logfile_maxbytes = {params["log_bytes"]}
stdout_logfile_backups = 2
"""


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def write(path: Path, content: str) -> None:
    """Write a file that may hold secrets."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as target:
        target.write(content)


def started(params: dict[str, Any]) -> list[str]:
    """Bring the units up; return those that were not running."""
    state_dir, units = params["state_dir"], params["units"]
    supervisor, logs = Supervisor(state_dir, params["group"]), Path(state_dir) / "logs"
    for folder in (logs, supervisor.socket.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write(supervisor.folder / "supervisord.conf", main_section(supervisor, logs))
    known = {path.stem for path in (supervisor.folder / "conf.d").glob("*.ini")}
    for unit in units:
        if unit["name"] not in known:  # its log begins with its deployment
            for log in logs.glob(f"{unit['name']}.log*"):
                log.unlink()
        path = supervisor.folder / "conf.d" / f"{unit['name']}.ini"
        write(path, unit_section(unit, state_dir, logs, params))
    names = [unit["name"] for unit in units]
    if not supervisor.answers():
        # What a killed supervisord left running would hold the ports.
        reap(state_dir, only=names, grace_seconds=params["grace_seconds"])
        supervisor.launch(params["supervisord"], params["run"])
    return supervisor.start(names)


def to_start(params: dict[str, Any]) -> list[str]:
    """Return the units that `started` would start: those that don't run, or that are defined differently."""
    supervisor, logs = Supervisor(params["state_dir"], params["group"]), Path(params["state_dir"]) / "logs"
    running = set()
    if supervisor.answers():
        states = supervisor.rpc.getAllProcessInfo()
        running = {one["name"] for one in states if one["statename"] in {"RUNNING", "STARTING"}}
    found = []
    for unit in params["units"]:
        file = supervisor.folder / "conf.d" / f"{unit['name']}.ini"
        text = unit_section(unit, params["state_dir"], logs, params)
        if unit["name"] not in running or not file.exists() or file.read_text() != text:
            found.append(unit["name"])
    return found


def to_stop(params: dict[str, Any]) -> list[str]:
    """Return what `stopped` would end."""
    choice = {"only": params["only"]} if params["only"] else {"keep": params["keep"]}
    return sorted(set(targets(params["state_dir"], run=params["run"], **choice).values()) - {"supervisord"})


def stopped(params: dict[str, Any]) -> list[str]:
    """End everything of the state folder but what is to be kept; return what was ended."""
    supervisor = Supervisor(params["state_dir"], params["group"])
    if params["only"]:
        return stopped_some(supervisor, params)
    running = []
    if supervisor.answers():
        running = [p["name"] for p in supervisor.rpc.getAllProcessInfo() if p["pid"]]
        supervisor.stop()
    left = reap(
        params["state_dir"], run=params["run"], keep=params["keep"], grace_seconds=params["grace_seconds"]
    )
    # Units of the next deployment are its own.
    for path in (supervisor.folder / "conf.d").glob("*.ini"):
        path.unlink()
    supervisor.socket.unlink(missing_ok=True)
    return sorted({*running, *left})


def stopped_some(supervisor: Supervisor, params: dict[str, Any]) -> list[str]:
    """End some services, and what is left of them; return what was ended."""
    names, ended = set(params["only"]), set()
    if supervisor.answers():
        ended = {p["name"] for p in supervisor.rpc.getAllProcessInfo() if p["pid"] and p["name"] in names}
        supervisor.stop_some(ended)
        supervisor.forget(names)
    left = reap(
        params["state_dir"], run=params["run"], only=params["only"], grace_seconds=params["grace_seconds"]
    )
    return sorted({*ended, *left})


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
            "state_dir": {"type": "path", "required": True},
            "group": {"type": "str", "required": True},
            "run": {"type": "str", "default": ""},
            "supervisord": {"type": "str", "default": "supervisord"},
            "units": {"type": "list", "elements": "dict", "default": []},
            "start_seconds": {"type": "int", "default": 60},
            "start_retries": {"type": "int", "default": 3},
            "log_bytes": {"type": "int", "default": 20_000_000},
            "grace_seconds": {"type": "float", "default": 5},
            "keep": {"type": "list", "elements": "str", "default": []},
            "only": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    starts = module.params["state"] == "started"
    try:
        act = (to_start if starts else to_stop) if module.check_mode else (started if starts else stopped)
        services = act(module.params)
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"supervisord did not start: {error.stdout}{error.stderr}")
    except (OSError, xmlrpc.client.Error) as error:
        module.fail_json(msg=f"supervisord of the group {module.params['group']}: {error}")
    after = "".join(f"{name}: {module.params['state']}\n" for name in services)
    module.exit_json(changed=bool(services), services=services, diff={"before": "", "after": after})


if __name__ == "__main__":
    main()
