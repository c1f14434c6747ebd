"""A document as plain text: at most 78 columns, except for commands, addresses and logs."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from perfci.alerts.document import FactList, Log, Paragraph, Picture, Steps, Table
from perfci.wording import NBSP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.alerts.document import Block, MailDocument

WIDTH = 78
_LOG_LINE = 300
_INDENT = "    "


def render(document: MailDocument) -> str:
    """Return the text, with line feeds."""
    lines = list(_wrapped(document.verdict))
    if document.page[1]:
        lines += ["", *_block(Steps((document.page,)))]
    for section in document.sections:
        blocks = [block for block in section.blocks if not isinstance(block, Picture)]
        if not blocks:
            continue
        lines += ["", "", section.title, "-" * len(section.title)]
        for number, block in enumerate(blocks):
            lines += [""] * bool(number)
            lines += _block(block)
    lines += ["", "", "-- ", *_wrapped(document.foot)]
    return "\n".join(lines).replace(NBSP, " ") + "\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph(text):
            yield from _wrapped(text)
        case Table():
            yield from _table(block)
        case FactList(items):
            width = max(len(name) for name, _ in items)
            for name, value in items:
                yield from _wrapped(value, first=f"{name:<{width}}  ", rest=" " * (width + 2))
        case Steps(items):
            for number, (meaning, command) in enumerate(items):
                yield from [""] * bool(number)
                yield from _wrapped(meaning)
                yield from (f"{_INDENT}{line}" for line in command.splitlines())
        case Log(source, text):
            yield f"{source}:"
            for line in text.splitlines():
                yield f"  {line[:_LOG_LINE]}".rstrip()
        case Picture():
            return


def _table(table: Table) -> Iterator[str]:
    """Give each row two or three lines: long names of scenarios leave no room for numbers beside them."""
    widths = [
        max(len(cell) for cell in column)
        for column in zip(table.columns, *(row.cells for row in table.rows), strict=True)
    ]

    def aligned(cells: tuple[str, ...]) -> str:
        line = "   ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"{_INDENT}{line}".rstrip()

    yield aligned(table.columns)
    for row in table.rows:
        yield ""
        one_line = f"{row.title}  ({row.subtitle})" if row.subtitle else row.title
        if len(one_line) <= WIDTH:
            yield one_line
        else:
            yield row.title
            yield f"  ({row.subtitle})"
        yield aligned(row.cells)


def _wrapped(text: str, *, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
