"""Code of services as an option names it: `neutron=29.0.1`, `neutron=URL@REF`, `neutron=pinned`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.errors import UsageError
from perfci.runs.jobs.clouds import SERVICES
from perfci.runs.jobs.sources import Source
from perfci.validation import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

PINNED = "pinned"
"""The release in the constraints."""


class CodeOptionInvalid(UsageError):
    """An option does not name a service and its code."""

    template = "{option!r}: {reason}"
    help = "Name a service and its code: `neutron=29.0.1`, `neutron=https://opendev.org/openstack/neutron@master`."


def parse_code(options: Iterable[str]) -> dict[str, Source]:
    """Return the code of each service that is named. Raises CodeOptionInvalid."""
    found: dict[str, Source] = {}
    for option in options:
        service, equals, code = option.partition("=")
        if service not in SERVICES:
            raise CodeOptionInvalid(
                option=option, reason=f"no service {service!r}; {nearest(service, SERVICES)}"
            )
        if not equals or not code:
            raise CodeOptionInvalid(option=option, reason="no code after the service")
        if service in found:
            raise CodeOptionInvalid(option=option, reason=f"{service} is named twice")
        found[service] = _source(option, code)
    return found


def _source(option: str, code: str) -> Source:
    if code == PINNED:
        return Source()
    # A ref may have no @ in front of it; an address may, before its host.
    git, at, ref = code.rpartition("@")
    if at and "/" in git:
        if not ref:
            raise CodeOptionInvalid(option=option, reason="no branch, tag or commit after the @")
        return Source(git=git, ref=ref)
    if "/" in code or at:
        raise CodeOptionInvalid(option=option, reason="a repository needs a branch, tag or commit: URL@REF")
    return Source(version=code)
