"""The engine on Rally's Python API: each task runs in a fork of this process.

Loading Rally and its plugins takes 3.5 seconds, so it is done once. The fork costs milliseconds, and a
task that hangs or dies takes nothing else with it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import yaml
from cloud_inventory import CloudInventory
from hammer_loop import Outcome, TaskCrashed
from rally import api as rally_api
from rally import plugins
from rally.common import objects
from rally.common.db import api as rally_database
from rally.common.db import schema
from rally.env import env_mgr
from rally.exceptions import RallyException
from rally.task import engine as rally_engine
from rally.task import task_cfg
from rally_openstack.common import consts, credential

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

ENVIRONMENT = "perfci"
_PR_SET_PDEATHSIG = 1
_ABORT_GRACE_SECONDS = 45
"""After an abort Rally ends the iterations under way and removes what the task made."""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


# Rally forks its load generators; whoever is killed takes all of them along, so none is ever left over.
os.register_at_fork(after_in_child=_die_with_parent)


class RallyEngine:
    """Runs Rally tasks against one cloud; see hammer_loop.Engine."""

    def __init__(self, cloud: dict[str, Any], *, config: Path, database: Path, log: Path) -> None:
        """Load Rally with a fresh database, which holds the cloud's password: mode 0600."""
        plugins.load()
        database.unlink(missing_ok=True)
        database.touch(mode=0o600)
        log.parent.mkdir(parents=True, exist_ok=True)
        arguments = ["--config-file", str(config), "--log-file", str(log)]
        self._api = rally_api.API(
            config_args=arguments, plugin_paths=[str(Path(__file__).parent / "plugins")], skip_db_check=True
        )
        rally_database.CONF.set_override("connection", f"sqlite:///{database}", "database")
        schema.schema_create()
        specification = access(cloud)
        self._api.deployment.create(config={"existing@openstack": specification}, name=ENVIRONMENT)
        self.inventory = CloudInventory(administrator(specification), cloud["services"])

    def scenario_of(self, task: dict[str, Any]) -> str:
        """Render and check the template."""
        config = self._configuration(task)
        scratch = objects.Task(env_uuid=ENVIRONMENT, temporary=True)
        try:
            # Only the syntax: Rally's semantic check would create users and ask the cloud before each
            # task; what it finds, the task itself finds as well.
            rally_engine.TaskEngine(config, scratch, None).validate(only_syntax=True)
        except Exception as error:
            raise TaskCrashed(f"{task['template']}: {error}") from error
        scenario: str = config.subtasks[0]["workloads"][0]["name"]
        return scenario

    def run(self, task: dict[str, Any]) -> Outcome:
        """Run it in a fork; past its time limit it is aborted, then killed."""
        config = self._configuration(task)
        uuid = self._api.task.create(deployment=ENVIRONMENT)["uuid"]
        rally_database.engine_reset()  # SQLite connections must not be carried through a fork
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        # A task that ends when it is precise enough says how many iterations it has at least.
        least = (task.get("until") or {}).get("least")
        worker = context.Process(target=self._work, args=(config, uuid, sender, least))
        worker.start()
        sender.close()
        try:
            return self._wait(worker, receiver, uuid, task["timeout_seconds"])
        finally:
            _kill_group(worker)
            receiver.close()

    def unreachable(self) -> str | None:
        """Ask keystone for a token as the administrator."""
        health = env_mgr.EnvManager.get(ENVIRONMENT).check_health()
        bad = [str(state["message"]) for state in health.values() if not state["available"]]
        return bad[0] if bad else None

    def _wait(self, worker: BaseProcess, receiver: Connection, uuid: str, limit: float) -> Outcome:
        if not receiver.poll(limit):
            self._abort(uuid)
            receiver.poll(_ABORT_GRACE_SECONDS)
            raise TaskCrashed(f"did not end within {limit} s and was aborted")
        try:
            result = receiver.recv()
        except EOFError:
            worker.join()
            raise TaskCrashed(f"Rally died with exit code {worker.exitcode}; see logs/rally.log") from None
        worker.join(_ABORT_GRACE_SECONDS)
        if isinstance(result, Outcome):
            return result
        raise TaskCrashed(result)

    def _abort(self, uuid: str) -> None:
        try:
            self._api.task.abort(task_uuid=uuid)
        except RallyException as error:
            # It ended in this very moment, or has not begun: then the kill that follows is enough.
            print(f"abort: {error} ", end="", flush=True)

    def _work(self, config: task_cfg.TaskConfig, uuid: str, sender: Connection, least: int | None) -> None:
        os.setpgid(0, 0)
        try:
            environment = env_mgr.EnvManager.get(ENVIRONMENT)
            rally_engine.TaskEngine(config, objects.Task.get(uuid), environment).run()
            sender.send(self._outcome(uuid, least))
        except TaskCrashed as error:
            sender.send(str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, the other tasks go on
            sender.send(f"{type(error).__name__}: {error}")
        finally:
            sender.close()

    def _outcome(self, uuid: str, least: int | None) -> Outcome:
        workload = self._api.task.get(task_id=uuid, detailed=True)["subtasks"][0]["workloads"][0]
        # A runner that loads for a time, such as constant_for_duration, has no number to come to.
        done, wanted = workload["total_iteration_count"], least or workload["runner"].get("times", 1)
        if done < wanted:
            # Rally calls a task finished although its contexts could not be set up.
            raise TaskCrashed(f"only {done} of {wanted} iterations were run: {_why(workload)}")
        exported = self._api.task.export(tasks=[uuid], output_type="json")
        return Outcome(done, workload["failed_iteration_count"], exported["print"])

    def _configuration(self, task: dict[str, Any]) -> task_cfg.TaskConfig:
        try:
            return task_cfg.TaskConfig(render(task["source"], task["variables"]))
        except (TypeError, jinja2.TemplateError, yaml.YAMLError, RallyException) as error:
            # TypeError: an undefined variable given to the filter tojson.
            raise TaskCrashed(f"{task['template']}: {error}") from error


def render(template: str, variables: dict[str, Any]) -> Any:
    """Return a task template's content; an undefined variable is an error."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    return yaml.safe_load(environment.from_string(template).render(variables))


def administrator(specification: dict[str, Any]) -> credential.OpenStackCredential:
    """Return the administrator of a Rally platform specification as Rally's clients want one."""
    rest = {name: value for name, value in specification.items() if name != "admin"}
    return credential.OpenStackCredential(
        **rest, **specification["admin"], permission=consts.EndpointPermission.ADMIN
    )


def access(cloud: dict[str, Any]) -> dict[str, Any]:
    """Return a Rally platform specification from one entry of a clouds.yaml."""
    clouds = yaml.safe_load(Path(cloud["clouds_file"]).read_text(encoding="utf-8"))["clouds"]
    entry = clouds[cloud["name"]]
    auth = entry["auth"]
    names = ("username", "password", "project_name", "user_domain_name", "project_domain_name")
    specification = {
        "auth_url": auth["auth_url"],
        "endpoint_type": entry.get("interface", "public"),
        "https_insecure": not entry.get("verify", True),
        "admin": {name: auth[name] for name in names if name in auth},
    }
    optional = {"region_name": entry.get("region_name"), "https_cacert": entry.get("cacert")}
    return specification | {name: value for name, value in optional.items() if value}


def _why(workload: dict[str, Any]) -> str:
    checks = workload["sla_results"].get("sla", [])
    reasons = [str(check["detail"]) for check in checks if not check["success"]]
    return "; ".join(reasons) or "see logs/rally.log"


def _kill_group(worker: BaseProcess) -> None:
    if worker.pid is None:
        return  # it was never started
    try:
        os.killpg(worker.pid, signal.SIGKILL)
    except ProcessLookupError:
        worker.kill()  # it has ended, or has not yet made a group of its own
    worker.join()
