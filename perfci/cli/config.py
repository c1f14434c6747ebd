"""`perfci config`: which settings hold, and which there are."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer

from perfci.cli.access import settings_for
from perfci.cli.output import Json, errors_reported, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

app = typer.Typer(
    no_args_is_help=True, help="Settings: show those in effect, or an example with all of them."
)

HEADER = """\
# Every setting of perfci with its default. Copy to perfci.toml and keep what you change.
# The environment wins over this file: PERFCI_MAIL__TRANSPORT=smtp, PERFCI_MAIL__SMTP__HOST=mx.example.org.
# Relative paths start at this file's folder. Write no secrets here: name a file that holds one,
# or set it in the environment.

"""


@app.command()
def show(as_json: Json = False) -> None:
    """Show the settings in effect; secrets appear as ********."""
    with errors_reported(as_json=as_json):
        shown = settings_for().shown()
        if as_json:
            print_json(shown)
        else:
            print_table(("setting", "value"), _rows(shown), empty="")


@app.command()
def example() -> None:
    """Print a settings file with every setting, its meaning and its default."""
    sys.stdout.write(example_text())


def example_text() -> str:
    """Return the text of docs/perfci.example.toml, made from the settings themselves."""
    from perfci import config

    return HEADER + "".join(_section(config.Settings, ()))


def _section(model: type[BaseModel], names: tuple[str, ...]) -> Iterator[str]:
    """Write the settings of a section, then its sections; a default that means `left out` is a comment."""
    from pydantic import BaseModel

    from perfci.config import PREFIX

    if names:
        yield f"\n# {(model.__doc__ or '').strip()}\n[{'.'.join(names)}]\n"
    inner = []
    meanings = _meanings(model)
    for key, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            inner.append((key, info.annotation))
            continue
        yield "".join(f"# {line.strip()}\n" for line in meanings.get(key, "").splitlines())
        if "SecretStr" in str(info.annotation):
            yield f"# {PREFIX}{'__'.join((*names, key)).upper()}\n"
        elif info.is_required() or info.default is None:
            yield f"# {key} =\n"
        else:
            yield f"{key} = {json.dumps(info.default)}\n"
    for key, section in inner:
        yield from _section(section, (*names, key))


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstring below each field of a section.

    Pydantic can read them, but then does so whenever a command starts, which takes it a tenth of a second.
    """
    classes = (
        node for node in ast.walk(ast.parse(inspect.getsource(model))) if isinstance(node, ast.ClassDef)
    )
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(next(classes).body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _rows(shown: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in shown.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return ", ".join(value) if isinstance(value, list) else str(value)
