"""Every field of the job model stands in docs/jobs.md with its default, and nothing else does."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from perfci.runs.jobs.clouds import Cloud
from perfci.runs.jobs.load import jobs
from perfci.runs.jobs.model import (
    Analysis,
    Confirm,
    Job,
    JobMail,
    NodeChoice,
    Provision,
    Scenario,
    StageLimits,
    Until,
)
from perfci.runs.jobs.procedures import DbMigration, KnownChange, Seeded
from perfci.runs.jobs.schedule import Schedule
from perfci.runs.jobs.sources import Filter, Source

REPOSITORY = Path(__file__).parents[1]
DOCUMENT = (REPOSITORY / "docs" / "jobs.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^\| field \| default \| meaning \|\n\|[-|]+\|\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)
MODELS = (
    Job,
    Cloud,
    Source,
    Filter,
    NodeChoice,
    Provision,
    StageLimits,
    Scenario,
    Until,
    DbMigration,
    Seeded,
    Analysis,
    Confirm,
    KnownChange,
    JobMail,
    Schedule,
)
"""In the order of the document."""
SAID_IN_WORDS = ("empty", "none", "all", "see below", "`mail.to` of the settings")


def rows(model):
    table = TABLES[MODELS.index(model)]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
    return {cell[0].strip("`"): (cell[1], cell[2]) for cell in cells}


def models(model=Job):
    """Return a model and all that its fields are made of."""
    yield model
    for field in model.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from models(part)


def parts(annotation):
    yield annotation
    for one in typing.get_args(annotation):
        yield from parts(one)


def test_every_part_of_a_job_has_its_table():
    # Of `sources`, `reference` and `base` the services are fields: they stand in a sentence.
    assert {one.__name__ for one in models()} - {"Sources", "Reference", "Base"} == {
        one.__name__ for one in MODELS
    }
    assert len(TABLES) == len(MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_is_told_in_the_models_order(model):
    assert list(rows(model)) == list(model.model_fields)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_defaults_are_those_of_the_model(model):
    for name, field in model.model_fields.items():
        told = rows(model)[name][0]
        if field.default is PydanticUndefined:
            assert told == "required", name
        elif told not in SAID_IN_WORDS:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            default = default.model_dump() if isinstance(default, BaseModel) else default
            assert told == f"`{default if isinstance(default, str) else json.dumps(default)}`", name
        else:
            assert not isinstance(field.default, int | float), f"{name} has a value to tell"


def test_every_job_is_listed():
    table = DOCUMENT.partition("## Included jobs")[2].partition("\n### ")[0]
    listed = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \|$", table, re.MULTILINE)
    assert sorted(listed) == sorted(jobs(REPOSITORY / "jobs"))
