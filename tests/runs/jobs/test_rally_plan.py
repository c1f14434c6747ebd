"""The plan that a job's scenarios become."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfci.runs.jobs.model import Scenario
from perfci.runs.jobs.rally_plan import (
    BadTaskTemplate,
    CloudAccess,
    MissingTaskArgument,
    UnknownTaskArgument,
    make_plan,
)

CLOUD = CloudAccess(clouds_file=Path("/state/clouds.yaml"), image_file=Path("/state/rally/image.raw"))


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    ports = "{{ times }} {{ tenants }} {{ ports_per_network | default(5) }}"
    (tmp_path / "neutron-ports.yml.j2").write_text(ports)
    (tmp_path / "glance.yml.j2").write_text("{{ times }} {{ image_file }}")
    return tmp_path


def plan_of(templates: Path, *scenarios: dict, paired: bool = False) -> dict:
    entries = [{"times": 10, **scenario} for scenario in scenarios]
    return make_plan(entries, templates=templates, output=Path("/state/runs/7"), cloud=CLOUD, paired=paired)


def test_tasks_keep_the_order_of_the_job_and_get_numbered_slugs(templates: Path) -> None:
    plan = plan_of(templates, {"task": "neutron-ports"}, {"task": "glance"}, {"task": "neutron-ports"})
    assert [task["slug"] for task in plan["tasks"]] == ["01-neutron-ports", "02-glance", "03-neutron-ports"]
    assert plan["output"] == "/state/runs/7"
    assert plan["cloud"] == {
        "clouds_file": "/state/clouds.yaml",
        "name": "perfci",
        "services": ["keystone", "placement", "glance", "nova", "neutron"],
    }


def test_the_plan_holds_the_templates_text(templates: Path) -> None:
    (task,) = plan_of(templates, {"task": "glance"})["tasks"]
    assert task["source"] == "{{ times }} {{ image_file }}"
    assert task["template"] == str(templates / "glance.yml.j2")


def test_rally_runs_warm_ups_beside_the_measured_iterations(templates: Path) -> None:
    (task,) = plan_of(templates, {"task": "glance", "times": 40, "warmup": 4, "concurrency": 2})["tasks"]
    assert (task["times"], task["warmup"], task["concurrency"]) == (40, 4, 2)
    assert task["variables"]["times"] == 44
    assert task["variables"]["warmup"] == 4


def test_a_paired_run_goes_on_until_it_is_precise_and_any_other_measures_its_times(templates: Path) -> None:
    scenario = {"task": "glance", "times": 20, "warmup": 5, "until": {"precision": 0.015, "most": 300}}
    (task,) = plan_of(templates, scenario, paired=True)["tasks"]
    assert task["variables"]["times"] == 305
    assert task["until"] == {"precision": 0.015, "warmup": 5, "least": 25}
    (task,) = plan_of(templates, scenario)["tasks"]
    assert task["variables"]["times"] == 25
    assert "until" not in task


def test_concurrency_never_exceeds_the_iterations(templates: Path) -> None:
    (task,) = plan_of(templates, {"task": "glance", "times": 1, "warmup": 1, "concurrency": 8})["tasks"]
    assert task["concurrency"] == task["variables"]["concurrency"] == 2


def test_arguments_and_the_cloud_reach_the_template(templates: Path) -> None:
    entry = {"task": "neutron-ports", "args": {"ports_per_network": 7, "tenants": 3}}
    variables = plan_of(templates, entry)["tasks"][0]["variables"]
    assert variables["ports_per_network"] == 7
    assert variables["tenants"] == 3
    assert variables["users_per_tenant"] == 1
    assert variables["flavor"] == "m1.nano"
    assert variables["image_file"] == "/state/rally/image.raw"


def test_a_scenario_of_a_job_file_makes_a_plan_of_json(templates: Path) -> None:
    scenario = Scenario(task="glance", times=3).model_dump(mode="json")
    plan = plan_of(templates, scenario)
    assert json.loads(json.dumps(plan)) == plan
    assert plan["tasks"][0]["timeout_seconds"] == Scenario(task="glance", times=3).timeout_seconds


def test_a_misspelt_argument_is_refused(templates: Path) -> None:
    with pytest.raises(UnknownTaskArgument, match="port_per_network") as caught:
        plan_of(templates, {"task": "glance"}, {"task": "neutron-ports", "args": {"port_per_network": 7}})
    assert "scenarios[1]" in str(caught.value)
    assert "ports_per_network" in caught.value.advice
    assert caught.value.exit_code == 2


def test_an_argument_cannot_replace_what_the_plan_sets(templates: Path) -> None:
    with pytest.raises(UnknownTaskArgument, match="times"):
        plan_of(templates, {"task": "glance", "args": {"times": 1}})


def test_a_broken_template_is_named_with_its_line(templates: Path) -> None:
    (templates / "broken.yml.j2").write_text("a: 1\nb: {{ times\n")
    with pytest.raises(BadTaskTemplate, match=r"broken\.yml\.j2:2"):
        plan_of(templates, {"task": "broken"})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ times }}: [", "makes no YAML"),
        ("a: {{ times }}\n b: 1", "makes no YAML"),
        ("{{ '[' * 5000 }}", "makes no YAML: nested too deeply"),
        ("{{ 10 // ports | default(0) }}", "can't be filled in: ZeroDivisionError"),
        ("{{ 10 }}" + "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested too deeply"),
    ],
    ids=["cut", "indented", "deep", "zero", "parentheses"],
)
def test_a_template_that_can_give_no_task_is_refused_before_the_night(
    templates: Path, source: str, words: str
) -> None:
    (templates / "sample.yml.j2").write_text(source)
    with pytest.raises(BadTaskTemplate, match=words):
        plan_of(templates, {"task": "sample"})


def test_a_missing_template_is_named(templates: Path) -> None:
    with pytest.raises(BadTaskTemplate, match=r"nova\.yml\.j2"):
        plan_of(templates, {"task": "nova"})


@pytest.mark.parametrize(
    "source",
    [
        '{% set disk = disk or "^tiny" %}{{ times }} {{ disk }}',
        "{{ times }} {{ disk }}",
        "{{ times }} {{ disk | tojson }}",
        "{{ times }}{% if disk %}x{% endif %}",
        "{{ times }} {{ disk.name }}",
    ],
)
def test_a_variable_that_nothing_gives_is_refused_before_the_night(templates: Path, source: str) -> None:
    (templates / "sample.yml.j2").write_text(source)
    with pytest.raises(
        MissingTaskArgument, match=r"scenarios\[0\]: the task sample .*\n*(disk|Undefined)"
    ) as caught:
        plan_of(templates, {"task": "sample"})
    assert "{{ ports | default(5) }}" in caught.value.advice
    given = {"name": "x"} if "name" in source else "x"
    assert plan_of(templates, {"task": "sample", "args": {"disk": given}})["tasks"]
