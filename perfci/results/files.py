"""Reading a run's files: whatever is wrong with one ends in an error that says where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perfci.results.errors import ResultFileError

Amount = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
"""A quantity: not negative, not NaN, and small enough that sums stay finite."""
Moment = Annotated[float, Field(ge=0, le=8e9, allow_inf_nan=False)]
"""Seconds since the epoch, to the year 2223; nanoseconds of it fit into 64 bits."""
Name = Annotated[str, Field(min_length=1)]

_SHOWN_CHARACTERS = 60
_EXPECTED = {
    "json_invalid": "whole JSON",
    "missing": "it to be there",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
}


class FromFile(BaseModel):
    """A part of a file. Keys that are not named are passed over: newer writers add some."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


Model = TypeVar("Model", bound=BaseModel)


def read_bytes(path: Path, error: type[ResultFileError]) -> bytes:
    """Return what is in a file; raises `error` where it is missing, unreadable or empty."""
    try:
        content = path.read_bytes()
    except OSError as reason:
        raise error(
            path=path, place="file", found=reason.strerror or str(reason), expected="a file that can be read"
        ) from reason
    if not content.strip():
        raise error(path=path, place="file", found="nothing in it", expected="JSON")
    return content


def parse(
    content: bytes, model: type[Model], *, path: Path | str, error: type[ResultFileError], inside: str = ""
) -> Model:
    """Check JSON against a model; raises `error` with the first thing that is wrong.

    `inside` says where in the file the content stands, such as `line 3`.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as reason:
        first = reason.errors(include_url=False, include_context=False)[0]
        steps = place(first["loc"])
        kind, message = first["type"], first["msg"]
        found = (
            message
            if kind == "json_invalid"
            else "missing"
            if kind == "missing"
            else f"got {shown(first['input'])}"
        )
        raise error(
            path=path,
            place=" ".join(part for part in (inside, steps) if part) or "file",
            found=found,
            expected=_EXPECTED.get(kind)
            or message.removeprefix("Input should be ").removeprefix("Value error, "),
        ) from reason


def place(steps: Sequence[int | str]) -> str:
    """Write a path into JSON as people do: `tasks[0].subtasks[1].title`."""
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def shown(value: object) -> str:
    """Return a value as it may stand in a message: on one line, and not long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
