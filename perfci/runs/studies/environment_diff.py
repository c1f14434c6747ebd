"""What differs between the environments of two runs, place by place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Difference:
    """One place, as the keys to it with dots between; what is missing on a side is empty there."""

    place: str
    before: str
    after: str


def environment_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Return what differs between the environments of two runs, given their run.json, by place.

    The digests also cover the job; where nothing but that differs, it is named.
    """
    found = tuple(differences(_environment(before), _environment(after)))
    digests = (before["environment"]["digest"], after["environment"]["digest"])
    if not found and digests[0] != digests[1]:
        return (Difference("job", "see job.yml in its folder", "see job.yml in its folder"),)
    return found


def differences(before: object, after: object, place: str = "") -> Iterator[Difference]:
    """Compare two values of JSON. Lists of plain values, such as CPU flags, are compared as sets."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(after, list):
        gone, new = [one for one in before if one not in after], [one for one in after if one not in before]
        both = (gone, new) if gone or new else (before, after)  # only the order differs
        yield Difference(place, *map(_listed, both))
    else:
        yield Difference(place, _told(before), _told(after))


def _environment(document: Mapping[str, Any]) -> dict[str, Any]:
    facts = document["environment"].get("facts")
    return {"facts": facts if isinstance(facts, dict) else {}, "nodes": document.get("nodes", [])}


def _listed(values: Sequence[object]) -> str:
    return ", ".join(_told(value) for value in values)


def _told(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
