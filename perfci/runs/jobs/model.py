"""The job file: which cloud on how many nodes, which Rally tasks, who is told.

A job is `jobs/<name>.yml`; the tasks it names are templates, `jobs/tasks/<task>.yml.j2`. `load` reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from perfci.errors import UsageError
from perfci.lab.labels import check_expression, matching
from perfci.lab.ledger import Among
from perfci.runs.jobs.clouds import SERVICES, Cloud
from perfci.runs.jobs.fields import NAME_LENGTH, Count, Name, Part, Seconds, Text, Variable
from perfci.runs.jobs.procedures import DbMigration, KnownChange  # noqa: TC001 - pydantic reads annotations
from perfci.runs.jobs.procedures import Name as ProcedureName  # noqa: TC001
from perfci.runs.jobs.schedule import Schedule  # noqa: TC001
from perfci.runs.jobs.sources import Base, Reference, Source, Sources
from perfci.runs.state.digests import digest
from perfci.validation import Address, faults

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfci.lab.ledger import Nodes
    from perfci.lab.model import Node
    from perfci.runs.jobs.cloud_kinds import Kind

DEVSTACK_SECONDS = 3600
"""How long deploying by devstack may take at least, where the job is made for another kind of cloud."""

DATA_PLANE = "dataplane-"
"""How the tasks begin that measure what packets feel."""

NodeCount = Annotated[int, Field(strict=True, ge=1, le=1000)]


def _expression(where: str) -> str:
    """Refuse what is no expression."""
    if where:
        check_expression(where)
    return where


class JobFileInvalid(UsageError):
    """A job file can't be used; `problems` has one line for each mistake."""

    template = "{problems}"
    help = "Correct the job file; docs/jobs.md explains each field."


class NodeChoice(Part):
    """Which nodes the run takes; the same ones every night, as results of other machines are not compared."""

    count: NodeCount = 1
    """How many; left out where `names` are given: all of these."""
    where: Annotated[str, AfterValidator(_expression)] = ""
    """Only nodes for which this is true: `model == "r640"`; of a node's labels, facts and `name`."""
    names: tuple[Text, ...] = ()
    """Only these nodes."""
    spares: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    """How many more to take, as far as they are free: a machine that does not come up is replaced by one."""

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, given: object) -> object:
        """Take a number for the count, and names without a count for all of them."""
        if not isinstance(given, dict):
            return {"count": given}
        if given.get("names") and "count" not in given and isinstance(given["names"], list | tuple):
            spares = given.get("spares", 0)
            return {**given, "count": len(given["names"]) - (spares if isinstance(spares, int) else 0)}
        return given

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.names and self.where:
            msg = "give where or names, not both"
            raise ValueError(msg)
        most = self.count + self.spares
        if len(set(self.names)) != len(self.names) or (self.names and most > len(self.names)):
            msg = f"names: expected at least {most} different ones, got {', '.join(self.names)}"
            raise ValueError(msg)
        return self

    @model_serializer(mode="wrap")
    def _short(self, dump: SerializerFunctionWrapHandler) -> Any:
        """Give just the number where nothing else is said."""
        fields: dict[str, Any] = dump(self)
        if not self.spares:
            del fields["spares"]
        return fields if self.where or self.names or self.spares else self.count

    def of(self, nodes: Iterable[Node], spares: int = 0) -> Nodes:
        """Return what to ask the ledger for, with so many spares. Raises NodesUnmatched."""
        count = self.count + spares
        if self.where:
            return Among(matching(nodes, self.where), count)
        return Among(frozenset(self.names), count) if self.names else count


class StageLimits(Part):
    """How many seconds a stage may take before it is ended and the run has failed."""

    provision: Seconds = 3600
    """Of machines behind BMCs: the image, their boot, its deployment and their start."""
    deploy: Seconds = 1200
    hammer: Seconds = 3600
    collect: Seconds = 300


class Provision(Part):
    """How machines behind BMCs get their system."""

    reimage_every: Annotated[int, Field(strict=True, ge=1, le=1000)] = 8
    """How many clouds re-runs and trials deploy on one image; with 1, each gets a fresh one."""


class Until(Part):
    """When a task of a paired run has enough iterations."""

    precision: Annotated[float, Field(strict=True, gt=0, le=1)]
    """Largest standard error of the ratio of both sides' whole iterations: 0.015 is 1.5 %."""
    most: Count
    """How many iterations are measured at most."""


class Scenario(Part):
    """One Rally task."""

    task: Name
    """Name of the template in jobs/tasks."""
    times: Count
    """How many iterations are measured; in a paired run with `until` at least so many."""
    until: Until | None = None
    """In a paired run: go on until the pairs are precise enough. Other runs measure `times`."""
    concurrency: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    """How many iterations run at a time."""
    warmup: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 0
    """How many iterations run before and are left out."""
    args: dict[Variable, JsonValue] = Field(default={})
    """Variables of the template."""
    timeout_seconds: Seconds = 600
    """How long the whole task may take, in seconds."""
    clean: Annotated[bool, Field(strict=True)] = True
    """Whether what it leaves in the cloud is listed, counted and removed; only for the last one not."""

    @property
    def shape(self) -> dict[str, Any]:
        """What makes two measurements of this task comparable."""
        without = {"timeout_seconds", "clean"} | ({"until"} if self.until is None else set())
        return self.model_dump(mode="json", exclude=without)

    @model_validator(mode="after")
    def _until_is_more(self) -> Self:
        if self.until is not None and self.until.most < self.times:
            msg = f"until.most: {self.until.most} is less than times, {self.times}"
            raise ValueError(msg)
        return self


class Confirm(Part):
    """How far a change is looked into by running the last good and the new code again, in turns."""

    enabled: Annotated[bool, Field(strict=True)] = True
    """Whether there are re-runs at all."""
    most_runs: Annotated[int, Field(strict=True, ge=1, le=200)] = 24
    """How many re-runs one night may take, each with a fresh deployment."""
    most_minutes: Annotated[int, Field(strict=True, ge=1, le=1440)] = 60
    """How many minutes they may take, as far as the night still holds its nodes."""


class Analysis(Part):
    """How the results are judged."""

    baseline_runs: Annotated[int, Field(strict=True, ge=3, le=100)] = 8
    """How many runs a baseline needs."""
    minimum_effect: Annotated[float, Field(strict=True, ge=0, le=10)] = 0.05
    """The smallest relative change that is worth a mail: 0.05 is 5 %."""
    confirm: Confirm = Confirm()
    bisect: Annotated[bool, Field(strict=True)] = False
    """Whether `perfci bisect --due` looks for the change behind a confirmed regression, in free time."""


def check_devstack(job: Job) -> None:
    """Raise ValueError for what a cloud of the kind devstack can't have."""
    for scenario in job.scenarios:
        if scenario.task.startswith(DATA_PLANE):
            msg = f"scenarios: {scenario.task} needs a data plane, and devstack's is not measured"
            raise ValueError(msg)
    if job.procedure != "hammer":
        msg = f"procedure: {job.procedure} is not for devstack"
        raise ValueError(msg)
    if len(set(job.cloud.services)) < len(SERVICES):
        msg = "cloud.services: devstack has all of them"
        raise ValueError(msg)
    for service in SERVICES:
        source: Source | None = getattr(job.sources, service)
        if source is not None and (source.git is None or source.patches or source.filters):
            msg = f"sources.{service}: devstack takes git and ref alone"
            raise ValueError(msg)


class JobMail(Part):
    """Who gets mail about this job, in place of `mail.to` of the settings."""

    to: Annotated[tuple[Address, ...], Field(min_length=1)]


class Job(Part):
    """A job file."""

    name: Name
    """The file's name without its ending."""
    description: str = ""
    """One sentence for people."""
    cloud: Cloud = Cloud()
    sources: Sources = Sources()
    nodes: NodeChoice = NodeChoice()
    """Which nodes the run takes: a number, or a mapping."""
    provision: Provision = Provision()
    limits: StageLimits = StageLimits()
    procedure: ProcedureName = "hammer"
    """What is measured: Rally's tasks (`hammer`), an upgrade, or the migrations of databases."""
    scenarios: tuple[Scenario, ...] = ()
    """Rally's tasks, in the order in which they run."""
    base: Base | None = None
    """The code that an upgrade begins with, service by service; it ends with that of `sources`."""
    dbmigration: DbMigration | None = None
    """The databases to migrate."""
    reference: Reference | None = None
    """Code of a second cloud that is deployed beside that of `sources`, and hammered in lock-step with it. A
    service that it does not name is that of `sources`: `{}` is the same code on both sides. The word
    `accepted` is the code that was last accepted."""
    analysis: Analysis = Analysis()
    exceptions: tuple[KnownChange, ...] = ()
    """Changes that are known, each with its bug: they are not told again."""
    mail: JobMail | None = None
    schedule: Schedule | None = None
    """When `perfci tick` starts a night of it; left out: only when somebody does."""

    @field_validator("scenarios")
    @classmethod
    def _different(cls, scenarios: tuple[Scenario, ...]) -> tuple[Scenario, ...]:
        """Two that are the same would write into one series."""
        for index, scenario in enumerate(scenarios):
            first = next(i for i, other in enumerate(scenarios) if other.shape == scenario.shape)
            if first != index:
                same = f"item {index} ({scenario.task}) is the same as item {first}"
                msg = f"{same}: change its args, or raise times there"
                raise ValueError(msg)
        for index, scenario in enumerate(scenarios[:-1]):
            if not scenario.clean:
                msg = f"item {index} ({scenario.task}): only the last one may leave things (clean: false)"
                raise ValueError(msg)
        return scenarios

    @model_validator(mode="after")
    def _enough_nodes(self) -> Self:
        self.cloud.check_nodes(self.nodes.count)
        return self

    @model_validator(mode="after")
    def _fits_its_procedure(self) -> Self:
        needs = {"hammer": "scenarios", "upgrade": "base", "dbmigration": "dbmigration"}
        for procedure, field in needs.items():
            given = bool(getattr(self, field))
            if given != (procedure == self.procedure):
                said = "missing" if not given else f"only with procedure: {procedure}"
                msg = f"{field}: {said} (procedure: {self.procedure})"
                raise ValueError(msg)
        if self.procedure == "upgrade" and "nova" not in self.cloud.services:
            msg = "cloud.services: an upgrade needs a whole cloud, with nova"
            raise ValueError(msg)
        if self.procedure == "upgrade" and self.cloud.virt != "fake":
            msg = f"cloud.virt: an upgrade needs a cloud with the fake driver, got {self.cloud.virt!r}"
            raise ValueError(msg)
        if self.base is not None and self.base.neutron is not None and self.base.neutron.filters:
            msg = "base: filters are a change of the target: put them into sources"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _has_room_for_a_reference(self) -> Self:
        if self.reference is not None and (self.cloud.kind != "embedded" or self.procedure != "hammer"):
            msg = "reference: only an embedded cloud with the procedure hammer can have one"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _sources_of_devstack(self) -> Self:
        if self.cloud.kind == "devstack":
            check_devstack(self)
        return self

    def beside(self) -> Job:
        """Return the job of its reference: the same cloud, with the other code and its own variables. Call it
        only where there is one.
        """
        if self.reference is None:
            raise ValueError("a job without a reference has nothing beside it")
        both = {**self.cloud.variables, **self.reference.variables}
        variables = {name: value for name, value in both.items() if value is not None}
        return self.model_copy(
            update={
                "reference": None,
                "sources": self.reference.over(self.sources),
                "cloud": self.cloud.model_copy(update={"variables": variables}),
            }
        )

    @property
    def has_parts(self) -> bool:
        """Whether its nodes play different parts of the cloud, which stand in an inventory of the run."""
        return self.cloud.kind == "multinode" or (self.cloud.kind == "devstack" and self.nodes.count > 1)

    def on(self, kind: Kind) -> Job:
        """Return the job on a cloud of another kind, with series of its own. Raises JobFileInvalid.

        devstack takes long: its stages get the time that they need at least.
        """
        if kind == self.cloud.kind:
            return self
        data = self.resolved()
        name = f"{self.name[: NAME_LENGTH - len(kind) - 1]}-{kind}"
        limits = data["limits"] | (
            {"deploy": max(self.limits.deploy, DEVSTACK_SECONDS)} if kind == "devstack" else {}
        )
        try:
            return Job.model_validate(
                data | {"name": name, "cloud": data["cloud"] | {"kind": kind}, "limits": limits}
            )
        except ValidationError as error:
            raise JobFileInvalid(problems="\n".join(fault.message for fault in faults(error, Job))) from error

    def resolved(self) -> dict[str, Any]:
        """Return the whole job with its defaults, as the archive's job.yml has it; loads as a job again."""
        resolved: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return resolved

    @property
    def job_digest(self) -> str:
        """12 hex digits over what the job measures and on which cloud, for the environment digest.

        The code under test (sources), descriptions, provision, limits, analysis and mail are not part of it.
        """
        parts: dict[str, Any] = {
            "cloud": self.cloud.shape,
            "nodes": self.nodes.count,
            "scenarios": [scenario.shape for scenario in self.scenarios],
        }
        for name in ("base", "dbmigration"):  # a job of Rally's tasks keeps the digest that it always had
            if (value := getattr(self, name)) is not None:
                parts[name] = value.model_dump(mode="json")
        if self.reference is not None:  # a second cloud takes its share of the machine, whatever its code is
            parts["sides"] = 2
        return digest(parts)
