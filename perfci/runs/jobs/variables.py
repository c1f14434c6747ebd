"""Ansible variables that a job sets for the deploy, checked against what the roles say of them.

Ansible checks a role's specification only at the entry point that has one, and unknown variables nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from perfci.validation import Fault, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

OWN_FIELDS = {
    "cloud_kind": "cloud.kind",
    "cloud_services": "cloud.services",
    "cloud_virt": "cloud.virt",
    "fake_compute_count": "cloud.computes",
    "openstack_sources": "sources",
    "neutron_api_filters": "sources.neutron.filters",
}
"""Variables that a field of the job gives, which would win in silence."""
_OF_THE_LAB = frozenset({"provision", "netboot", "site_services", "deploy_ramdisk", "virtual_lab", "perfci"})
"""What these prefixes stand for belongs to the lab: no job may say whose machines are wiped, or where."""
_WORDS = {
    "str": "text",
    "path": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping (key: value)",
}
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}
_TEMPLATE = "{{"


@dataclass(frozen=True, slots=True)
class Specification:
    """What a role says of one variable: Ansible's name of the type (`raw`: any), and of a list's elements."""

    kind: str = "raw"
    elements: str = "raw"
    choices: tuple[Any, ...] = ()


def variable_faults(
    given: Mapping[str, Any], known: Mapping[str, Specification], place: str = "cloud"
) -> Iterator[Fault]:
    """Give what is wrong with the variables of a job: unknown names, wrong types, values that are no choice.

    A text with `{{` is a template: what it will be is not known here. `place` is the field that has them.
    """
    for name, value in given.items():
        path = (place, "variables", name)
        if name in OWN_FIELDS:
            yield Fault(path, f"set {OWN_FIELDS[name]} in its place, which overrides it")
        elif _of_the_lab(name):
            yield Fault(path, "it is a variable of the lab, which its inventory sets")
        elif name not in known:
            yield Fault(path, f"no role has this variable; {_near(name, known)}")
        elif message := _wrong(value, known[name]):
            yield Fault(path, message)


def _near(name: str, known: Mapping[str, Specification]) -> str:
    """Return the nearest name; where none is near, those of the same role, or where they all stand."""
    possible = [one for one in known if not _of_the_lab(one)]
    if get_close_matches(name, possible, n=1, cutoff=0.6):
        return nearest(name, possible)
    role = name.partition("_")[0]
    alike = [one for one in possible if one.startswith(f"{role}_")]
    return nearest(name, alike) if alike else "roles/*/defaults/main.yml have all of them"


def _of_the_lab(name: str) -> bool:
    return name.startswith(tuple(f"{prefix}_" for prefix in _OF_THE_LAB))


def _wrong(value: Any, wanted: Specification) -> str:
    """Return what is wrong with a value, empty where nothing is."""
    if isinstance(value, str) and _TEMPLATE in value:
        return ""
    if not _is(value, wanted.kind):
        return f"expected {_words(wanted)}, got {value!r}"
    if wanted.kind == "list" and not all(_is(one, wanted.elements) for one in value):
        wrong = next(one for one in value if not _is(one, wanted.elements))
        return f"expected {_words(wanted)}, got {wrong!r} in it"
    chosen = value if wanted.kind == "list" else [value]
    if wanted.choices and not all(one in wanted.choices or _TEMPLATE in str(one) for one in chosen):
        return f"expected {' or '.join(map(repr, wanted.choices))}, got {value!r}"
    return ""


def _is(value: Any, kind: str) -> bool:
    types = _TYPES.get(kind)
    if types is None or (isinstance(value, str) and _TEMPLATE in value):
        return True
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _words(wanted: Specification) -> str:
    words = _WORDS.get(wanted.kind, "another value")
    return f"{words}, each {_WORDS[wanted.elements]}" if wanted.elements in _WORDS else words


@cache
def known_variables(root: Path) -> dict[str, Specification]:
    """Return the variables that a job may set: those of all roles' entry points, and of kinds of clouds.

    `root` is the project's folder; without roles in it, nothing is known.
    """
    found: dict[str, Specification] = {}
    for file in sorted(root.glob("playbooks/group_vars/*.yml")):
        found |= {name: _of_value(value) for name, value in (_read(file) or {}).items()}
    for file in sorted(root.glob("roles/*/meta/argument_specs.yml")):
        for entry in _read(file)["argument_specs"].values():
            for name, option in (entry.get("options") or {}).items():
                kind = option.get("type", "str")
                choices = tuple(option.get("choices") or ())
                found[name] = Specification(kind, option.get("elements", "raw"), choices)
    return found


def _of_value(value: Any) -> Specification:
    """Return what a variable without a specification is by the value that it has."""
    if isinstance(value, str):  # mostly a template
        return Specification()
    kinds = {bool: "bool", int: "int", float: "float", list: "list", dict: "dict"}
    return Specification(kinds.get(type(value), "raw"))


def _read(file: Path) -> Any:
    # The roles' files together take the loader in Python half a second.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(file.read_text(encoding="utf-8"), loader)  # noqa: S506, TID251 - both are safe; our own roles
