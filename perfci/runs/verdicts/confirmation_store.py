"""What re-runs have shown, kept from night to night in the controller's database.

Later verdicts depend on it (`verdict.judge`, `screen.Screen`), so it is no index of the archive and is not
made anew: the answers are those of the settings and of the histories of that night.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

# Needed at run time: answers are read back from JSON by their types.
from perfci.analysis.types import Confirmation  # noqa: TC001
from perfci.database.schema import confirmation, confirmation_round
from perfci.errors import LabError
from perfci.parsing import json_value
from perfci.results.model import SeriesKey  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.database.engine import Database


class ConfirmationsUnreadable(LabError):
    """The results of a run's re-runs are damaged in the database."""

    template = "the results of the re-runs for {run_id} can't be read: {reason}"
    help = 'Bring the database back from its backup: see "The database" in docs/operator.md.'


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


_ANSWER = TypeAdapter(Answer)


def write_answers(database: Database, run_id: str, answers: Sequence[Answer]) -> None:
    """Keep what was found out about a run's suspects, in the place of what was found out before."""
    rows = [
        {"run_id": run_id, "position": position, "document": _document(answer)}
        for position, answer in enumerate(answers)
    ]
    with database.transaction() as connection:
        connection.execute(confirmation_round.delete().where(confirmation_round.c.run_id == run_id))
        connection.execute(confirmation_round.insert().values(run_id=run_id))
        if rows:
            connection.execute(confirmation.insert(), rows)


def read_answers(database: Database, run_ids: Sequence[str]) -> tuple[Answer, ...]:
    """Return what was found out about these runs, in their order. Raises ConfirmationsUnreadable."""
    wanted = (
        sa.select(confirmation)
        .where(confirmation.c.run_id.in_(run_ids))
        .order_by(confirmation.c.run_id, confirmation.c.position)
    )
    with database.reading() as connection:
        rows = connection.execute(wanted).all()
    found = {
        run_id: [_answer(run_id, row.document) for row in same]
        for run_id, same in groupby(rows, key=lambda row: str(row.run_id))
    }
    return tuple(answer for run_id in run_ids for answer in found.get(run_id, ()))


def has_asked(database: Database, run_id: str) -> bool:
    """Tell whether re-runs were asked about a run's suspects."""
    wanted = sa.select(confirmation_round.c.run_id).where(confirmation_round.c.run_id == run_id)
    with database.reading() as connection:
        return connection.scalar(wanted) is not None


def by_series(answers: Sequence[Answer]) -> Mapping[tuple[SeriesKey, str], Confirmation]:
    """Return the confirmations by series and the run that asked."""
    return {(answer.key, answer.confirmation.asked): answer.confirmation for answer in answers}


def _document(answer: Answer) -> str:
    return json.dumps(_ANSWER.dump_python(answer, mode="json"))


def _answer(run_id: str, document: str) -> Answer:
    try:
        return _ANSWER.validate_python(json_value(document))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "answer"
        raise ConfirmationsUnreadable(run_id=run_id, reason=f"{where}: {first['msg']}") from error
    except ValueError as error:
        raise ConfirmationsUnreadable(run_id=run_id, reason=f"not JSON: {error}") from error
