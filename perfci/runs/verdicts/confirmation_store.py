"""What re-runs have shown, kept from night to night: one file for each run that asked.

Later verdicts depend on it (`verdict.judge`, `screen.Screen`), so it is no index of the archive and is not
made anew: the answers are those of the settings and of the histories of that night.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

# Needed at run time: answers are read back from JSON by their types.
from perfci.analysis.types import Confirmation  # noqa: TC001
from perfci.errors import LabError
from perfci.results.model import SeriesKey  # noqa: TC001
from perfci.runs.state.run_folder import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FORMAT = 1


class ConfirmationsUnreadable(LabError):
    """A file with what re-runs have shown can't be read or is damaged."""

    template = "{file}: {reason}"
    help = (
        "Put back a copy of the file, or move it away: perfci then asks again what the re-runs of that "
        "night have answered."
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found out about one series.

    `old` and `new` are the log locations of the re-runs that the confirmation counts, `log_factors` the log
    Bayes factors of `confirm.STEPS`; all are empty where nothing was run.
    """

    key: SeriesKey
    confirmation: Confirmation
    old: tuple[float, ...] = ()
    new: tuple[float, ...] = ()
    log_factors: tuple[float, ...] = ()


_ANSWERS = TypeAdapter(tuple[Answer, ...])


def write_answers(folder: Path, run_id: str, answers: Sequence[Answer]) -> None:
    """Keep what was found out about a run's suspects, in the place of what was found out before."""
    folder.mkdir(parents=True, exist_ok=True)
    content = _ANSWERS.dump_python(tuple(answers), mode="json")
    write_json(answers_file(folder, run_id), {"format": FORMAT, "answers": content})


def read_answers(folder: Path, run_ids: Sequence[str]) -> tuple[Answer, ...]:
    """Return what was found out about these runs, in their order. Raises ConfirmationsUnreadable."""
    return tuple(answer for run_id in run_ids for answer in _read(answers_file(folder, run_id)))


def by_series(answers: Sequence[Answer]) -> Mapping[tuple[SeriesKey, str], Confirmation]:
    """Return the confirmations by series and the run that asked."""
    return {(answer.key, answer.confirmation.asked): answer.confirmation for answer in answers}


def answers_file(folder: Path, run_id: str) -> Path:
    """Return where the answers about a run's suspects are kept."""
    return folder / f"{run_id}.json"


def _read(file: Path) -> tuple[Answer, ...]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfirmationsUnreadable(file=file, reason=error.strerror) from error
    except ValueError as error:
        raise ConfirmationsUnreadable(file=file, reason=f"not JSON: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ConfirmationsUnreadable(file=file, reason=f"expected format {FORMAT}, found {found}")
    try:
        return _ANSWERS.validate_python(content.get("answers"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "answers"
        raise ConfirmationsUnreadable(file=file, reason=f"{where}: {first['msg']}") from error
