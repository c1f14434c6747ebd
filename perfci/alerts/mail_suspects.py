"""The part of a regression's mail that names the changes which can have caused it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.alerts.document import Paragraph, Steps
from perfci.wording import counted

if TYPE_CHECKING:
    from perfci.alerts.document import Block
    from perfci.changes.suspects import Suspect

MOST_SHOWN = 8


@dataclass(frozen=True, slots=True)
class SuspectList:
    """The changes between the last good and the first bad run that can matter, most plausible first.

    `remarks` are sentences about the rest. `acquitted`: nothing that the cloud runs changed. `problem`
    says why the changes are not known; empty where they are.
    """

    suspects: tuple[Suspect, ...] = ()
    remarks: tuple[str, ...] = ()
    acquitted: bool = False
    problem: str = ""


def suspect_blocks(found: SuspectList, last_good: str | None, since: str) -> list[Block]:
    """Say who is suspected, with authors and links. What strangers wrote is one line each, to be escaped."""
    if found.problem:
        return [Paragraph(f"perfci does not know which changes came in between: {found.problem}")]
    if found.acquitted:
        return [
            Paragraph(
                "No change in between can have reached the cloud, and no package differs. The code under "
                "test can't be the cause; look at the lab first."
            )
        ]
    shown = found.suspects[:MOST_SHOWN]
    blocks: list[Block] = []
    if shown:
        blocks.append(Paragraph("Changes that can have caused it, the most plausible first:"))
        blocks.append(Steps(tuple((_line(one), one.change.link) for one in shown)))
    else:
        blocks.append(Paragraph("None of the changes in between can have reached the cloud."))
    if more := len(found.suspects) - len(shown):
        blocks.append(Paragraph(f"{counted(more, 'more suspect')}: see the whole list."))
    blocks += [Paragraph(one) for one in found.remarks]
    if last_good is not None:
        blocks.append(Steps((("The whole list:", f"perfci changes {last_good} {since}"),)))
    return blocks


def _line(one: Suspect) -> str:
    author = f" by {one.change.author.name}" if one.change.author else ""
    note = f" ({one.change.note})" if one.change.note else ""
    return f"{one.plausibility:.0%}  {one.change.project}: {one.change.subject}{author}{note}"
