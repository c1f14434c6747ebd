"""Which machines the runs of a trial left switched on for each other: between two runs nobody holds them.

A process that is killed then can't take them back. So they are written down, each with the process, and struck
out once they were taken back.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from perfci.files import locked, move, write_json
from perfci.lab import owners
from perfci.lab.model import Owner
from perfci.parsing import json_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from perfci.runs.state.state_folder import StateFolder

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SwitchedOn:
    """A machine that a run left on; `owner` is the process of the trial, None: the file does not say."""

    node: str
    run_id: str
    owner: Owner | None

    @property
    def left(self) -> bool:
        """Whether the process that would take it back is gone."""
        return self.owner is None or bool(owners.dead([self.owner]))


class Machines:
    """The machines that are written down, for as long as their file is locked."""

    def __init__(self, path: Path) -> None:
        """Read the file. A damaged one is put aside, and reported. Raises OSError."""
        self._path = path
        self._known: dict[str, Any] = {}
        try:
            found = json_value(path.read_bytes())
        except FileNotFoundError:
            return
        except ValueError as error:
            self._put_aside(str(error))
            return
        if isinstance(found, dict):
            self._known = found
        else:
            self._put_aside("it holds no names of machines")

    def note(self, nodes: Iterable[str], run_id: str) -> None:
        """Write down that a run of this process left these on. Raises OSError."""
        new = {"run": run_id, "owner": asdict(owners.me())}
        self._write({**self._known, **dict.fromkeys(nodes, new)})

    def strike(self, nodes: Iterable[str]) -> None:
        """Strike these out. Raises OSError."""
        gone = set(nodes)
        self._write({name: one for name, one in self._known.items() if name not in gone})

    def left(self) -> tuple[SwitchedOn, ...]:
        """Return those whose process is gone, by name."""
        known = (_read(name, one) for name, one in sorted(self._known.items()))
        return tuple(one for one in known if one.left)

    def _put_aside(self, reason: str) -> None:
        aside = self._path.with_name(f"{self._path.name}.damaged")
        move(self._path, aside)
        _logger.error(
            "%s is damaged (%s) and can't say which machines are on: look at `perfci lab power status --all`",
            aside,
            reason,
        )

    def _write(self, known: dict[str, Any]) -> None:
        if known == self._known:
            return
        if known:
            write_json(self._path, known)
        else:
            self._path.unlink(missing_ok=True)
        self._known = known


@contextmanager
def switched_on(state: StateFolder) -> Iterator[Machines]:
    """Give the machines that are written down; nobody else reads or changes the file until the context ends.

    Raises OSError.
    """
    with locked(state.switched_on.with_suffix(".lock")):
        yield Machines(state.switched_on)


def _read(name: str, written: Any) -> SwitchedOn:
    try:
        return SwitchedOn(name, str(written["run"]), Owner(**written["owner"]))
    except (TypeError, KeyError):
        return SwitchedOn(name, "unknown", None)
