"""The Rally task templates: they render to YAML, and Rally accepts them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, StrictUndefined, UndefinedError

from perfci.runs.jobs.rally_plan import CloudAccess, make_plan

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "jobs" / "tasks"
RALLY_FILES = ROOT / "roles" / "rally" / "files"
TASKS = sorted(path.name.removesuffix(".yml.j2") for path in TEMPLATES.glob("*.yml.j2"))
CLOUD = CloudAccess(clouds_file=Path("clouds.yaml"), image_file=Path(__file__))

CHECK = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from hammer_loop import TaskCrashed
from hammer_rally import RallyEngine
folder = Path(sys.argv[2])
plan = json.loads((folder / "plan.json").read_text())
engine = RallyEngine(plan["cloud"], config=folder / "rally.conf", database=folder / "rally.db", log=folder / "rally.log")
found = {}
for task in plan["tasks"]:
    try:
        found[task["slug"]] = engine.scenario_of(task)
    except TaskCrashed as error:
        found[task["slug"]] = f"refused: {error}"
print(json.dumps(found))
"""


def plan_of(*scenarios: dict[str, Any], templates: Path = TEMPLATES, output: Path = Path()) -> dict[str, Any]:
    entries = [{"times": 4, "warmup": 1, "concurrency": 2, **scenario} for scenario in scenarios]
    return make_plan(entries, templates=templates, output=output, cloud=CLOUD)


def render(task: dict[str, Any]) -> dict[str, Any]:
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701
    return yaml.safe_load(environment.from_string(task["source"]).render(task["variables"]))


@pytest.mark.parametrize("name", TASKS)
def test_every_template_is_one_workload_with_users_of_its_own(name: str) -> None:
    (task,) = plan_of({"task": name})["tasks"]
    content = render(task)
    assert content["version"] == 2
    (subtask,) = content["subtasks"]
    (workload,) = subtask["workloads"]
    assert workload["runner"] == {"constant": {"times": 5, "concurrency": 2}}
    assert workload["contexts"]["users"] == {
        "tenants": 2,
        "users_per_tenant": 1,
        "user_choice_method": "round_robin",  # Rally's default draws a tenant, and so the length of its lists
    }
    assert list(workload["scenario"]) == [subtask["title"]]


def test_a_template_without_its_variables_is_an_error() -> None:
    (task,) = plan_of({"task": "nova-boot-and-delete-server"})["tasks"]
    del task["variables"]["concurrency"]
    with pytest.raises(UndefinedError, match="concurrency"):
        render(task)


def test_arguments_arrive_in_the_scenario() -> None:
    (task,) = plan_of({"task": "largeops-boot-and-delete-storm", "args": {"servers": 200}})["tasks"]
    (scenario,) = render(task)["subtasks"][0]["workloads"][0]["scenario"].values()
    assert scenario["servers"] == 200
    assert scenario["flavor"] == {"name": "m1.nano"}


def ask_rally(python: Path, folder: Path, plan: dict[str, Any]) -> dict[str, str]:
    auth = {
        "auth_url": "http://127.0.0.1:9/v3",
        "username": "admin",
        "password": "x",
        "project_name": "admin",
    }
    plan["cloud"]["clouds_file"] = str(folder / "clouds.yaml")
    (folder / "clouds.yaml").write_text(json.dumps({"clouds": {"perfci": {"auth": auth}}}))
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "rally.conf").write_text("[DEFAULT]\nuse_stderr = false\n")
    command = [str(python), "-c", CHECK, str(RALLY_FILES), str(folder)]
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rally_accepts_all_templates_and_refuses_wrong_ones(rally_python: Path, tmp_path: Path) -> None:
    templates = tmp_path / "tasks"
    shutil.copytree(TEMPLATES, templates)
    good = (TEMPLATES / "neutron-create-and-list-ports.yml.j2").read_text()
    (templates / "bad-scenario.yml.j2").write_text(
        good.replace("create_and_list_ports", "create_and_lose_ports")
    )
    (templates / "bad-argument.yml.j2").write_text(good.replace("ports_per_network:", "ports_per_net:"))
    (templates / "bad-context.yml.j2").write_text(good.replace("quotas:", "quotes:"))
    bad = ["bad-scenario", "bad-argument", "bad-context"]
    plan = plan_of(*({"task": name} for name in [*TASKS, *bad]), templates=templates, output=tmp_path)
    answers = ask_rally(rally_python, tmp_path, plan)
    refused = {slug.partition("-")[2] for slug, answer in answers.items() if answer.startswith("refused")}
    assert refused == set(bad)
    images = next(slug for slug in answers if slug.endswith("-glance-create-and-delete-image"))
    assert answers[images] == "GlanceImages.create_and_delete_image"
