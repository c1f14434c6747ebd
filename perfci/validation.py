"""What is wrong with a file that a person wrote, said so that the person can mend it.

Turns pydantic's errors into places (`scenarios[2].times`) and sentences (`expected a whole number
from 1 to 100000, got 'forty'`). What was expected is read from the model's JSON schema, so that it
can't differ from what is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel, ValidationError

_TYPE_NAMES = {
    "string": "text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a mapping (key: value)",
    "array": "a list",
    "null": "nothing",
}
_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a mapping",
}
SHOWN_CHARACTERS = 60
MAIL_ADDRESS = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+"
"""Addresses that every mail server can carry."""
MAIL_DOMAIN = r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$"
Address = Annotated[str, Field(pattern=f"^{MAIL_ADDRESS}$", examples=["team@example.org"])]

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where in the document, and a sentence about it."""

    path: Path
    message: str

    @property
    def place(self) -> str:
        """The path as people write it: `scenarios[2].times`; empty for the whole document."""
        return place(self.path)


def place(path: Path) -> str:
    """Return a path as people write it: `scenarios[2].times`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'times'?`, or which names there are where none is near."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "nothing is known here"


def quote_it(value: object) -> str:
    """Return why a value that is no text can't be used as one: what was written is lost (`000000` became 0).

    The value itself is not repeated: it may be part of a secret.
    """
    kind = _KINDS.get(type(value), type(value).__name__)
    return (
        f"quote it: without quotes it is read as {kind}, and what was written is changed "
        """(YAML: "0123"; INI: '"0123"')"""
    )


def faults(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """Return everything that pydantic found wrong, in its order; values of secrets are never shown."""
    schema = model.model_json_schema()
    return [_fault(dict(item), schema) for item in error.errors(include_url=False)]


def _fault(item: dict[str, Any], schema: dict[str, Any]) -> Fault:
    path: Path = tuple(item["loc"])
    node = _node(schema, path)
    if item["type"] == "extra_forbidden":
        parent = _node(schema, path[:-1])
        return Fault(path, f"unknown key; {nearest(str(path[-1]), parent.get('properties', {}))}")
    if item["type"] == "missing":
        return Fault(path, f"missing: expected {_expected(node, schema)}")
    if item["type"] in {"value_error", "assertion_error"}:
        return Fault(path, str(item["ctx"]["error"]))
    return Fault(path, f"expected {_expected(node, schema)}, got {_got(item['input'], node)}")


def _got(value: object, node: dict[str, Any]) -> str:
    if node.get("format") == "password":
        return "something else"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _node(schema: dict[str, Any], path: Path) -> dict[str, Any]:
    """Walk a JSON schema along a path; empty where the path leaves it."""
    node = _plain(schema, schema)
    for part in path:
        step = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
        if step is None:
            step = node.get("additionalProperties")
        if not isinstance(step, dict):
            return {}
        node = _plain(step, schema)
    return node


def _plain(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow `$ref`, and of `X or nothing` take X."""
    if "anyOf" in node:
        some = [option for option in node["anyOf"] if option.get("type") != "null"]
        if len(some) == 1:
            return _plain(some[0], schema)
    if "$ref" in node:
        found: dict[str, Any] = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        return found
    return node


def _expected(node: dict[str, Any], schema: dict[str, Any]) -> str:
    """Say in words what a schema accepts."""
    if "enum" in node or "const" in node:
        return " or ".join(repr(value) for value in node.get("enum", [node.get("const")]))
    kind = node.get("type", "")
    if kind == "array" and isinstance(node.get("items"), dict):
        inner = _expected(_plain(node["items"], schema), schema)
        least = f" of at least {node['minItems']}" if node.get("minItems") else ""
        return f"a list{least}, each {inner}"
    words = _TYPE_NAMES.get(kind, "another value")
    if "examples" in node:
        words = f"{words} such as {node['examples'][0]!r}"
    elif "pattern" in node:
        words += f" of the form {node['pattern']}"
    elif node.get("minLength"):
        words += " that is not empty"
    return words + _range(node)


def _range(node: dict[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if "exclusiveMinimum" in node:
        upper = "" if high is None else f" and at most {high}"
        return f" above {node['exclusiveMinimum']}{upper}"
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return "" if high is None else f" of at most {high}"
