"""Read job files: which there are, and one of them, with everything that is wrong with it at once."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from perfci.errors import UsageError
from perfci.results.model import NOT_JUDGED
from perfci.runs.jobs.job_files import SUFFIXES, job_files
from perfci.runs.jobs.model import Job, JobFileInvalid
from perfci.runs.jobs.variables import known_variables, variable_faults
from perfci.runs.jobs.yaml_lines import NotYamlError, YamlDocument, parse
from perfci.validation import Fault, faults, nearest

TASKS = "tasks"
TASK_SUFFIX = ".yml.j2"


class JobNotFound(UsageError):
    """There is no job file of that name."""

    template = "no job {name!r} in {folder}; {suggestion}"
    help = (
        "`perfci run JOB` takes the name of a file in {folder} without its ending, or a path to a job file."
    )


def jobs(jobs_dir: Path) -> tuple[str, ...]:
    """Return the names of the job files there are, sorted."""
    return tuple(file.stem for file in job_files(jobs_dir))


def tasks(jobs_dir: Path) -> tuple[str, ...]:
    """Return the names of the task templates there are, sorted."""
    return tuple(
        sorted(file.name.removesuffix(TASK_SUFFIX) for file in (jobs_dir / TASKS).glob(f"*{TASK_SUFFIX}"))
    )


def load_job(name_or_path: str | Path, jobs_dir: Path) -> Job:
    """Read a job by its name in `jobs_dir`, or by the path of its file; templates are in `jobs_dir`/tasks.

    Raises JobNotFound and JobFileInvalid.
    """
    file = _find(str(name_or_path), jobs_dir)
    try:
        document = parse(file.read_text(encoding="utf-8"))
    except NotYamlError as error:
        raise JobFileInvalid(problems=f"{file}:{error.line}: not YAML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise JobFileInvalid(problems=f"{file}: can't be read: {reason}") from error
    job, wrong = _validated(document)
    wrong += [*_beside(document, file, tasks(jobs_dir)), *_variables(document, jobs_dir.parent)]
    if job is None or wrong:
        raise JobFileInvalid(problems=_problems(file, document, wrong))
    return job


def _find(name: str, jobs_dir: Path) -> Path:
    if name.endswith(SUFFIXES) or "/" in name:
        if Path(name).is_file():
            return Path(name)
    else:
        for suffix in SUFFIXES:
            if (jobs_dir / f"{name}{suffix}").is_file():
                return jobs_dir / f"{name}{suffix}"
    raise JobNotFound(name=name, folder=jobs_dir, suggestion=nearest(Path(name).stem, jobs(jobs_dir)))


def _validated(document: YamlDocument) -> tuple[Job | None, list[Fault]]:
    try:
        return Job.model_validate(document.data), list(document.repeated)
    except ValidationError as error:
        return None, [*document.repeated, *faults(error, Job)]


def _beside(document: YamlDocument, file: Path, templates: tuple[str, ...]) -> list[Fault]:
    """Find what only the files beside the job file can tell: its own name, and its tasks' templates."""
    data = document.data if isinstance(document.data, dict) else {}
    found = []
    name = data.get("name")
    if isinstance(name, str) and name != file.stem:
        found.append(Fault(("name",), f"expected {file.stem!r}, the file's name, got {name!r}"))
    if isinstance(name, str) and name.endswith(NOT_JUDGED):
        message = f"runs of jobs that end in {', '.join(NOT_JUDGED)} are never judged: name it otherwise"
        found.append(Fault(("name",), message))
    scenarios = data.get("scenarios")
    for index, scenario in enumerate(scenarios if isinstance(scenarios, list) else ()):
        task = scenario.get("task") if isinstance(scenario, dict) else None
        if isinstance(task, str) and task not in templates:
            message = f"no template {TASKS}/{task}{TASK_SUFFIX}; {nearest(task, templates)}"
            found.append(Fault(("scenarios", index, "task"), message))
    return found


def _variables(document: YamlDocument, root: Path) -> list[Fault]:
    """Find what the roles of the project say against the variables for the deploy."""
    found: list[Fault] = []
    for place in ("cloud", "reference"):
        part = document.data.get(place) if isinstance(document.data, dict) else None
        given = part.get("variables") if isinstance(part, dict) else None
        if isinstance(given, dict) and (known := known_variables(root)):
            named = {str(name): value for name, value in given.items()}
            # In a reference, null takes a variable away.
            words = {name: value for name, value in named.items() if place == "cloud" or value is not None}
            found += variable_faults(words, known, place)
    return found


def _problems(file: Path, document: YamlDocument, wrong: list[Fault]) -> str:
    """One line for each fault, in the order of the file."""
    lines = sorted({(document.line(fault.path), fault.place, fault.message) for fault in wrong})
    return "\n".join(
        f"{file}:{line}: {place}: {message}" if place else f"{file}:{line}: {message}"
        for line, place, message in lines
    )
