"""What moved between two archived runs: code under test, packages, the rest of the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfci.results.record import record_from_dict
from perfci.runs.studies.environment_diff import environment_differences
from perfci.runs.studies.pins import SERVICES, normal
from perfci.wording import revision_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perfci.results.model import ServiceRevision

CODE, PACKAGE, ENVIRONMENT = "code", "package", "environment"


@dataclass(frozen=True, slots=True)
class Moved:
    """One thing that differs: what kind of thing, its name, what it was and is; empty: it was not there."""

    what: str
    name: str
    before: str
    after: str

    @property
    def place(self) -> str:
        """Kind and name in one: `code.neutron`; a place of the environment as it is."""
        return self.name if self.what == ENVIRONMENT else f"{self.what}.{self.name}"


def moves(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Moved, ...]:
    """Return what moved between two runs, given their run.json.

    Packages are those of the services' own environment; the services themselves stand under `code`.
    """
    environment = environment_differences(before, after)
    return (
        *_code(before, after),
        *_packages(before.get("versions", {}), after.get("versions", {})),
        *(Moved(ENVIRONMENT, one.place, one.before, one.after) for one in environment),
    )


def _code(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Moved]:
    old, new = _services(before), _services(after)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield Moved(CODE, name, _revision(old.get(name)), _revision(new.get(name)))


def _services(document: Mapping[str, Any]) -> dict[str, ServiceRevision]:
    return {one.service: one for one in record_from_dict(document).code.services}


def _revision(service: ServiceRevision | None) -> str:
    return revision_name(service) if service is not None else ""


def _packages(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Moved]:
    old, new = ({normal(name): version for name, version in one.items()} for one in (before, after))
    for name in sorted((old.keys() | new.keys()) - set(SERVICES)):
        if old.get(name) != new.get(name):
            yield Moved(PACKAGE, name, old.get(name, ""), new.get(name, ""))
