"""Playbooks that are not run: each leaves what the real one left, from the recorded night in tests/data.

`RECORDED` says which files of the archive each playbook writes. A test may let one fail or do more.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfci.runs.ansible.playbook import Playbooks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SAMPLE = Path(__file__).parent / "data" / "archive" / "20261121T052400Z-sample-7c3d"
RECORDED = {
    "deploy": ("code.json", "environment.json"),
    "hammer": ("tasks.json", "rally", "counters", "canaries"),
}


@dataclass
class Recorded:
    """Stands for `Playbooks.run` (`install`): remembers what was played, and plays `instead` of a playbook."""

    played: list[str] = field(default_factory=list)
    nodes: list[tuple[str, ...]] = field(default_factory=list)
    """The machines that each of them was limited to."""
    instead: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    """What a playbook does in place of what was recorded, given the folder of the run."""
    limits: dict[str, float] = field(default_factory=dict)
    """How many seconds each of them was given."""
    sample: Path = SAMPLE
    given: Mapping[str, Any] = field(default_factory=dict)
    """The variables of the playbook that is played."""

    def install(self, monkeypatch: Any) -> Recorded:
        """Let all playbooks be played from here."""
        recorded = self

        def run(
            books: Playbooks,
            name: str,
            *,
            log: Path,
            limit_seconds: float,
            variables: Mapping[str, Any] | None = None,
            on_step: Callable[[str], None] = lambda _: None,
        ) -> None:
            recorded.played.append(name)
            recorded.nodes.append(books.nodes)
            recorded.limits[name] = limit_seconds
            recorded.given = {**books.variables, **(variables or {})}
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a", encoding="utf-8") as output:
                output.write(f"PLAY [{name}]\n")
            folder = log.parents[1]
            recorded.instead.get(name, lambda place: recorded.play(name, place))(folder)

        monkeypatch.setattr(Playbooks, "run", run)
        return self

    def play(self, name: str, folder: Path) -> None:
        """Write what a playbook wrote on the recorded night."""
        for file in RECORDED.get(name, ()):
            source = self.sample / file
            if source.is_dir():
                shutil.copytree(source, folder / file, dirs_exist_ok=True)
            elif source.exists():
                shutil.copy(source, folder / file)


def raising(error: BaseException) -> Callable[[Path], None]:
    """Return a playbook that ends with an error."""

    def play(_folder: Path) -> None:
        raise error

    return play
