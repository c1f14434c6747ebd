"""What the parts of a job file have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from perfci import names

NAME_LENGTH = names.JOB_LENGTH

Text = Annotated[str, Field(min_length=1)]
Name = names.Job
Count = Annotated[int, Field(strict=True, ge=1, le=100_000)]
Seconds = Annotated[int, Field(strict=True, ge=1, le=86_400)]
Variable = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]


class Part(BaseModel):
    """A part of a job file: nothing unknown in it, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
