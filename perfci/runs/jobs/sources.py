"""Where the code of a cloud comes from, service by service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, JsonValue, model_validator

from perfci.runs.jobs.clouds import SERVICES
from perfci.runs.jobs.fields import Name, Part, Text, Variable

if TYPE_CHECKING:
    from collections.abc import Mapping


class Filter(Part):
    """A WSGI filter that is put in front of a service's API: a change of the code under test."""

    name: Name
    """How the change is called in reports."""
    source: Text
    """Python file, relative to the project's folder."""
    factory: Annotated[str, Field(pattern=r"^\w+:\w+$")]
    """`module:function` in that file, as paste.filter_factory wants it."""


class Source(Part):
    """Where the code of one service comes from: a release, or a git revision with patches on top.

    Empty is the release in the constraints.
    """

    version: Text | None = None
    """Version of the release on PyPI."""
    git: Text | None = None
    """URL or path of a git repository."""
    ref: Text | None = None
    """Branch, tag, Gerrit ref or commit in that repository."""
    patches: tuple[Text, ...] = ()
    """Patch files to apply on top, in this order."""
    filters: tuple[Filter, ...] = ()
    """Filters in front of its API, the first one outermost; only neutron's API takes some."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.version is not None and self.git is not None:
            msg = "expected either version, or git with ref"
            raise ValueError(msg)
        if (self.git is None) != (self.ref is None):
            msg = "git and ref belong together"
            raise ValueError(msg)
        return self


class Sources(Part):
    """Code under test by service; a service left out is the release in the constraints, or that of `all`."""

    all: Text | None = None
    """One moment for all services that are not named: a branch, date or step of openstack/openstack."""
    keystone: Source | None = None
    placement: Source | None = None
    glance: Source | None = None
    nova: Source | None = None
    neutron: Source | None = None

    @model_validator(mode="after")
    def _filters_of_neutron(self) -> Self:
        for service in ("keystone", "placement", "glance", "nova"):
            source = getattr(self, service)
            if source is not None and source.filters:
                msg = f"{service}: only neutron takes filters"
                raise ValueError(msg)
        return self


class Base(Sources):
    """Code by service, and the packages around it."""

    constraints: Text | None = None
    """File with the versions of all packages, relative to the project's folder; left out: the lab's."""

    def over(self, sources: Sources) -> Sources:
        """Return these sources with those that are named here in their place."""
        named: dict[str, Any] = {
            name: getattr(self, name) for name in SERVICES if getattr(self, name) is not None
        }
        return sources.model_copy(update=named)


class Reference(Base):
    """Code of the cloud beside the code under test."""

    accepted: bool = False
    """Whether it is the code that was last accepted, which each night works out; what is named beside this is
    what it found.
    """
    variables: dict[Variable, JsonValue] = Field(default={})
    """Ansible variables for its deploy, over those of `cloud.variables`; null takes one of them away."""

    @model_validator(mode="before")
    @classmethod
    def _word(cls, given: object) -> object:
        """Take the word `accepted`."""
        return {"accepted": True} if given == "accepted" else given

    @classmethod
    def of(
        cls,
        sources: Sources,
        *,
        accepted: bool = False,
        constraints: str | None = None,
        variables: Mapping[str, JsonValue] | None = None,
    ) -> Self:
        """Return the reference that has exactly these sources, whatever is beside it."""
        named: dict[str, Any] = {name: getattr(sources, name) or Source() for name in SERVICES}
        around = {"constraints": constraints, "variables": variables or {}}
        return cls.model_validate({**named, **around, "all": sources.all, "accepted": accepted})
