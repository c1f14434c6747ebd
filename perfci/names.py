"""What labs, jobs and runs may be called, and the names of files that are made from that.

One pattern each, checked wherever a name comes in: settings, job files, run.json, ingested archives.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

LAB = r"^[a-z0-9][a-z0-9_-]*$"
JOB = r"^[a-z0-9][a-z0-9-]*$"
RUN_ID = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
"""The id is the name of a folder: no dot, no slash, nothing that a shell or a URL would have to quote."""
LAB_LENGTH = 60
JOB_LENGTH = 60
RUN_ID_LENGTH = 100

Lab = Annotated[str, Field(pattern=LAB, max_length=LAB_LENGTH)]
Job = Annotated[str, Field(pattern=JOB, max_length=JOB_LENGTH)]
RunId = Annotated[str, Field(pattern=RUN_ID, max_length=RUN_ID_LENGTH)]

_OWN_ID = re.compile(r"^(?P<at>\d{8}T\d{6})Z-(?P<job>.+)-[0-9a-f]{4}$")


def is_run_id(name: str) -> bool:
    """Tell whether a text may be the id of a run."""
    return len(name) <= RUN_ID_LENGTH and re.fullmatch(RUN_ID[1:-1], name) is not None


def parts_of(run_id: str) -> tuple[str, str] | None:
    """Return the time (`20261121T041500`, UTC) and the job in an id that perfci made; None for others."""
    found = _OWN_ID.match(run_id)
    return (found["at"], found["job"]) if found else None


def joined(lab: str, job: str) -> str:
    """Return a lab and a job as one word for the name of a file; no two pairs share one.

    Mostly `LAB--JOB`. Where a name itself holds `--`, a dot, which no name holds, tells where the job begins.
    """
    return f"{lab}.{job}" if "--" in lab + job else f"{lab}--{job}"
