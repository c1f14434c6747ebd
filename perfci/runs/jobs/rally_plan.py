"""From a job's scenarios to the plan that the hammer carries out (roles/rally/files/hammer.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, meta

from perfci.errors import UsageError
from perfci.parsing import NotReadable, yaml_value
from perfci.runs.jobs.clouds import SERVICES
from perfci.runs.jobs.load import TASK_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_ISOLATION: dict[str, Any] = {"tenants": 2, "users_per_tenant": 1}
"""Tenants and users that Rally makes for a task; a job may set others under `args`."""
_GIVEN = frozenset({"times", "concurrency", "warmup", "flavor", "image", "image_file"})
"""Variables that every template gets and that a job can't set under `args`."""


class BadTaskTemplate(UsageError):
    """A Rally task template can't be read or is not valid Jinja."""

    template = "{path}:{line}: {detail}"
    help = "Correct the template; jobs/tasks/keystone-authenticate.yml.j2 is a small one to compare with."


class UnknownTaskArgument(UsageError):
    """A job gives a task an argument that its template does not use."""

    template = "scenarios[{index}].args: the task {task} does not know {argument!r}"
    help = "It knows: {known}."


class MissingTaskArgument(UsageError):
    """A task template uses a variable that is not set."""

    template = "scenarios[{index}]: the task {task} ({path}): {reason}"
    help = (
        "Set it under args of the scenario, or write a default into the template: "
        "{{{{ ports | default(5) }}}}. Rally's own samples say x = x or 5, which needs x."
    )


@dataclass(frozen=True, slots=True)
class CloudAccess:
    """How the hammer reaches the cloud, and what it uses there.

    `clouds_file` is a clouds.yaml with an administrator's access under `name`. `flavor` and `image`
    are the names that the deployment made; `image_file` is what the image tasks upload (the role
    writes it). `services` are those that were deployed.
    """

    clouds_file: Path
    image_file: Path
    services: tuple[str, ...] = SERVICES
    name: str = "perfci"
    flavor: str = "m1.nano"
    image: str = "perfci-image"


def make_plan(
    scenarios: Iterable[Mapping[str, Any]],
    *,
    templates: Path,
    output: Path,
    cloud: CloudAccess,
    paired: bool = False,
) -> dict[str, Any]:
    """Return the plan, ready for JSON, with the tasks in the order given.

    It holds the templates' text, so that the archive has it and a node needs no more than the plan; its
    paths are the controller's. `scenarios` are the entries of a checked job: task, times, and where they
    differ from their defaults concurrency, warmup, timeout_seconds, clean, args, and until, which counts only
    where the run is `paired`. `templates` is the folder of the task templates, `output` the run's working
    folder. Raises UnknownTaskArgument, MissingTaskArgument and BadTaskTemplate.
    """
    return {
        "output": str(output),
        "cloud": {
            "clouds_file": str(cloud.clouds_file),
            "name": cloud.name,
            "services": list(cloud.services),
        },
        "tasks": [
            _task(index, scenario, templates, cloud, paired=paired)
            for index, scenario in enumerate(scenarios)
        ],
    }


def _task(
    index: int, scenario: Mapping[str, Any], templates: Path, cloud: CloudAccess, *, paired: bool
) -> dict[str, Any]:
    name = scenario["task"]
    path = templates / f"{name}{TASK_SUFFIX}"
    source = _read(path)
    arguments = dict(scenario.get("args", {}))
    _check_arguments(index, name, arguments, known=_variables_of(source, path) - _GIVEN)
    times, warmup = scenario["times"], scenario.get("warmup", 0)
    until = scenario.get("until") if paired else None
    most = until["most"] if until else times
    # Rally refuses a concurrency above the number of iterations.
    concurrency = min(scenario.get("concurrency", 1), warmup + times)
    variables = {
        **_ISOLATION,
        **arguments,
        # Rally knows no warm-up: it runs all of them, and the reader of its report drops the first ones.
        "times": warmup + most,
        "warmup": warmup,
        "concurrency": concurrency,
        "flavor": cloud.flavor,
        "image": cloud.image,
        "image_file": str(cloud.image_file),
    }
    _check_complete(index, name, path, source, variables)
    return {
        "slug": f"{index + 1:02d}-{name}",
        "task": name,
        "template": str(path),
        "source": source,
        "times": times,
        "warmup": warmup,
        "concurrency": concurrency,
        "timeout_seconds": scenario.get("timeout_seconds", 600),
        "clean": scenario.get("clean", True),
        "variables": variables,
        **(
            {"until": {"precision": until["precision"], "warmup": warmup, "least": warmup + times}}
            if until
            else {}
        ),
    }


def _check_arguments(index: int, task: str, arguments: Iterable[str], *, known: set[str]) -> None:
    for argument in arguments:
        if argument not in known:
            choices = ", ".join(sorted(known)) or "no arguments"
            raise UnknownTaskArgument(index=index, task=task, argument=argument, known=choices)


def _check_complete(index: int, task: str, path: Path, source: str, variables: Mapping[str, Any]) -> None:
    """Fill the template in as the hammer does, so that what is missing shows before a cloud is deployed."""
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701 - it becomes YAML
    try:
        yaml_value(environment.from_string(source).render(variables))
    except (UndefinedError, TypeError) as error:  # TypeError: the filter tojson of what is not defined
        raise MissingTaskArgument(index=index, task=task, path=path, reason=error) from error
    except TemplateError as error:
        raise BadTaskTemplate(path=path, line=getattr(error, "lineno", 1), detail=str(error)) from error
    except NotReadable as error:
        detail = f"with these arguments it makes no YAML: {error}"
        raise BadTaskTemplate(path=path, line=1, detail=detail) from error
    except (ArithmeticError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # What is computed in it: `{{ 10 // ports }}` without ports, say.
        detail = f"with these arguments it can't be filled in: {type(error).__name__}: {error}"
        raise BadTaskTemplate(path=path, line=1, detail=detail) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadTaskTemplate(path=path, line=1, detail=f"can't be read: {error}") from error


def _variables_of(source: str, path: Path) -> set[str]:
    # Only parsed, never rendered here, so nothing has to be escaped.
    environment = Environment(autoescape=False)  # noqa: S701
    try:
        return meta.find_undeclared_variables(environment.parse(source))
    except TemplateSyntaxError as error:
        raise BadTaskTemplate(path=path, line=error.lineno, detail=error.message) from error
    except RecursionError as error:
        raise BadTaskTemplate(path=path, line=1, detail="nested too deeply") from error
