"""From a job's list of scenarios to the plan that the hammer carries out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateSyntaxError, meta
from pydantic import BaseModel, ConfigDict, Field

from perfci.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SUFFIX = ".yml.j2"
_GIVEN = frozenset(
    {"times", "concurrency", "warmup", "tenants", "users_per_tenant", "flavor", "image", "image_file"}
)
"""Variables that every template gets without the job naming them under `args`."""


class UnknownTask(UsageError):
    """A job names a Rally task that has no template."""

    template = "scenario {position}: there is no task template {task!r} in {folder}"
    help = "Known tasks: {known}. Correct the name, or add {folder}/{task}.yml.j2."


class BadTaskTemplate(UsageError):
    """A Rally task template is not valid Jinja."""

    template = "{path}, line {line}: {detail}"
    help = "Correct the template; docs: https://jinja.palletsprojects.com/templates/."


class UnknownTaskArgument(UsageError):
    """A job gives a task an argument that its template does not use."""

    template = "scenario {position}: the task {task} does not know the argument {argument!r}"
    help = "It knows: {known}."


class Scenario(BaseModel):
    """One entry of a job's `scenarios`: which Rally task, how often, how many at a time.

    `times` counts measured iterations; `warmup` more are run before them and left out of the results.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    times: int = Field(default=10, ge=1)
    concurrency: int = Field(default=1, ge=1)
    warmup: int = Field(default=0, ge=0)
    tenants: int = Field(default=2, ge=1)
    users_per_tenant: int = Field(default=1, ge=1)
    timeout_seconds: int = Field(default=300, ge=10)
    args: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cloud:
    """How the hammer reaches the cloud, and what it may use there.

    `clouds_file` is a clouds.yaml with an administrator's access under `name`. `flavor` and `image`
    are the names that the deployment's smoke test created; `image_file` is what the image tasks upload.
    """

    clouds_file: Path
    image_file: Path
    name: str = "perfci"
    flavor: str = "m1.nano"
    image: str = "perfci-image"


def make_plan(
    scenarios: Iterable[Scenario], *, templates: Path, output: Path, cloud: Cloud
) -> dict[str, Any]:
    """Return the plan as roles/rally reads it (JSON), in the order of the job.

    `templates` is the folder of the task templates, `output` the run's working folder.
    Raises UnknownTask, UnknownTaskArgument and BadTaskTemplate.
    """
    return {
        "output": str(output),
        "cloud": {"clouds_file": str(cloud.clouds_file), "name": cloud.name},
        "tasks": [_task(n, scenario, templates, cloud) for n, scenario in enumerate(scenarios, 1)],
    }


def _task(position: int, scenario: Scenario, templates: Path, cloud: Cloud) -> dict[str, Any]:
    path = templates / f"{scenario.task}{SUFFIX}"
    if not path.is_file():
        known = ", ".join(sorted(p.name.removesuffix(SUFFIX) for p in templates.glob(f"*{SUFFIX}")))
        raise UnknownTask(position=position, task=scenario.task, folder=templates, known=known or "none")
    _check_arguments(position, scenario, path)
    return {
        "slug": f"{position:02d}-{scenario.task}",
        "task": scenario.task,
        "template": str(path),
        "times": scenario.times,
        "warmup": scenario.warmup,
        "concurrency": scenario.concurrency,
        "timeout_seconds": scenario.timeout_seconds,
        "variables": _variables(scenario, cloud),
    }


def _variables(scenario: Scenario, cloud: Cloud) -> dict[str, Any]:
    return {
        **scenario.args,
        # Rally knows no warm-up: it runs all of them, and the reader of its report drops the first ones.
        "times": scenario.warmup + scenario.times,
        "warmup": scenario.warmup,
        # Rally refuses a concurrency above the number of iterations.
        "concurrency": min(scenario.concurrency, scenario.warmup + scenario.times),
        "tenants": scenario.tenants,
        "users_per_tenant": scenario.users_per_tenant,
        "flavor": cloud.flavor,
        "image": cloud.image,
        "image_file": str(cloud.image_file),
    }


def _check_arguments(position: int, scenario: Scenario, path: Path) -> None:
    known = _template_variables(path) - _GIVEN
    for argument in scenario.args:
        if argument not in known:
            raise UnknownTaskArgument(
                position=position,
                task=scenario.task,
                argument=argument,
                known=", ".join(sorted(known)) or "no arguments",
            )


def _template_variables(path: Path) -> set[str]:
    # Only parsed, never rendered here, so nothing has to be escaped.
    environment = Environment(autoescape=False)  # noqa: S701
    try:
        tree = environment.parse(path.read_text(encoding="utf-8"))
    except TemplateSyntaxError as error:
        raise BadTaskTemplate(path=path, line=error.lineno, detail=error.message) from error
    return meta.find_undeclared_variables(tree)


def read_scenarios(entries: Iterable[Mapping[str, Any]]) -> list[Scenario]:
    """Return checked scenarios from the entries of a job file; raises pydantic's ValidationError."""
    return [Scenario.model_validate(dict(entry)) for entry in entries]
